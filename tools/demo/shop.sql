-- The demo's shop: about 500 MB of mixed, realistic tables. Variable `part`: schema, people, orders, events, files.
\set ON_ERROR_STOP on
set synchronous_commit = off;
set jit = off;

\if :is_schema
create table customer (
  id int primary key, name text not null, email text not null, city text not null, since date not null, notes jsonb);
create table product (id int primary key, name text not null, price numeric(10, 2) not null, description text not null);
create table orders (
  id bigint primary key, customer int not null, placed_at timestamptz not null, status text not null, total numeric(12, 2) not null);
create table order_item (
  orders bigint not null, line int not null, product int not null, quantity int not null, price numeric(10, 2) not null,
  primary key (orders, line));
create table event (
  id bigint primary key, at timestamptz not null, customer int, kind text not null, detail jsonb not null);
create table invoice_file (id int primary key, name text not null, content bytea not null);
alter table invoice_file alter content set storage external;
-- Every write of every client, numbered by the client: what the proof counts.
create table ledger (client int, number bigint, written_at timestamptz not null default clock_timestamp(), primary key (client, number));
create table word (id int primary key, text text not null);
insert into word
select i, substr(translate(md5('w' || i), '0123456789', 'aeioulnrst'), 1, 2 + (hashint4(i) & 2147483647) % 8) from generate_series(0, 2047) i;
\endif

\if :is_people
insert into customer
select i, initcap(a.text) || ' ' || initcap(b.text), a.text || '.' || b.text || i || '@example.org',
       (array['Sapporo', 'Sendai', 'Tokyo', 'Yokohama', 'Nagoya', 'Kyoto', 'Osaka', 'Fukuoka'])[1 + (hashint4(i) & 7)],
       date '2015-01-01' + (hashint4(i * 3) & 4095),
       case when i % 3 = 0 then jsonb_build_object('phone', md5('p' || i), 'vip', i % 17 = 0, 'tags', jsonb_build_array(b.text)) end
from generate_series(1, 150000) i
join word a on a.id = (hashint4(i * 5) & 2047) join word b on b.id = (hashint4(i * 7) & 2047);
create index customer_email on customer (email);
insert into product
select i, initcap(a.text) || ' ' || b.text, (hashint4(i) & 65535) / 100.0,
       (select string_agg(w.text, ' ') from generate_series(1, 40) j join word w on w.id = (hashint4(i * 100 + j) & 2047))
from generate_series(1, 5000) i
join word a on a.id = (hashint4(i * 5) & 2047) join word b on b.id = (hashint4(i * 7) & 2047);
\endif

\if :is_orders
insert into orders
select i, 1 + (hashint8(i) & 2147483647) % 150000, timestamptz '2025-01-01 00:00+00' + i * interval '55 seconds',
       (array['paid', 'sent', 'delivered', 'returned'])[1 + (hashint8(i * 3) & 3)], (hashint8(i * 5) & 1048575) / 100.0
from generate_series(1, 600000) i;
create index orders_customer on orders (customer, placed_at);
insert into order_item
select o, l, 1 + (hashint8(o * 7 + l) & 2147483647) % 5000, 1 + (hashint8(o * 11 + l) & 3), (hashint8(o * 13 + l) & 65535) / 100.0
from generate_series(1, 600000::bigint) o, generate_series(1, 3) l
where l <= 1 + (hashint8(o) & 2);
\endif

\if :is_events
insert into event
select i, timestamptz '2026-01-01 00:00+00' + i * interval '19 seconds', 1 + (hashint8(i * 3) & 2147483647) % 150000,
       (array['view', 'search', 'cart', 'login'])[1 + (hashint8(i) & 3)],
       jsonb_build_object('path', '/shop/' || a.text || '/' || b.text, 'session', md5((i / 9)::text), 'ms', hashint8(i * 7) & 1023,
                          'agent', 'browser/' || (hashint8(i * 11) & 31))
from generate_series(1, 700000::bigint) i
join word a on a.id = (hashint8(i * 5) & 2047) join word b on b.id = (hashint8(i * 7) & 2047);
create index event_customer on event (customer, at);
\endif

\if :is_files
insert into invoice_file
select i, 'invoice-' || i || '.pdf',
       (select string_agg(sha512(int4send(i) || int4send(j)), '') from generate_series(1, 400 + (hashint4(i) & 255)) j)
from generate_series(1, 2000) i;
\endif
analyze;
