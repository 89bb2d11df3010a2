-- The mixed cluster of ./dev bench postgres. Every value comes from hashes of row numbers: the same bytes every time.
-- Variables: part (words, documents, events, attachments, small), rows.
\set ON_ERROR_STOP on
set synchronous_commit = off;
set max_parallel_workers_per_gather = 0;
set jit = off;
-- Each of these queries looks a few rows up for each of very many: by the index, never by a hash of the whole table.
set enable_hashjoin = off;
set enable_mergejoin = off;
set enable_seqscan = off;
set enable_bitmapscan = off;

\if :is_words
-- Language-like text: few words often, many seldom; a million phrases of them, so many that
-- hardly one comes twice within a compressor's window, as in what people write.
create table word (id int primary key, text text not null);
insert into word
select i, substr(translate(md5('w' || i), '0123456789', 'aeioulnrst'), 1, 2 + (hashint4(i) & 2147483647) % 8)
from generate_series(0, 19999) i;
create table phrase (id int primary key, text text not null);
insert into phrase
select s, (select string_agg(w.text, ' ' order by j)
           from generate_series(1, 4 + (hashint4(s) & 3)) j
           join word w on w.id = floor(20000 * power(((hashint8(s * 31::bigint + j) & 1048575) / 1048576.0::float8), 3.5))::int)
from generate_series(0, 999999) s;
vacuum analyze word, phrase;
\endif

\if :is_documents
-- Wide rows of text and jsonb, as an application keeps them.
create table document (
  id bigint primary key, tenant int not null, title text not null, body text not null, meta jsonb not null,
  created_at timestamptz not null, updated_at timestamptz not null);
insert into document
select i, (hashint8(i) & 65535) % 500,
       (select string_agg(p.text, ' ') from generate_series(1, 1) j join phrase p on p.id = (hashint8(i * 7 + j) & 2147483647) % 1000000),
       (select string_agg(p.text, case when j % 3 = 0 then '. ' else ' ' end)
        from generate_series(1, 20 + (hashint8(i) & 31)::int) j join phrase p on p.id = (hashint8(i * 128 + j) & 2147483647) % 1000000),
       jsonb_build_object(
         'author', (select text from word where id = (hashint8(i * 7) & 4095)) || '.' ||
                   (select text from word where id = (hashint8(i * 11) & 4095)) || '@example.org',
         'token', md5('t' || i), 'rating', round((hashint8(i * 13) & 65535) / 6553.6, 2), 'views', hashint8(i * 17) & 1048575,
         'tags', jsonb_build_array((select text from word where id = (hashint8(i * 19) & 255)),
                                   (select text from word where id = (hashint8(i * 23) & 255))),
         'published', hashint8(i) % 3 = 0),
       timestamptz '2024-01-01 00:00+00' + i * interval '11 seconds' + (hashint8(i) & 1023) * interval '1 ms',
       timestamptz '2025-01-01 00:00+00' + (hashint8(i * 29) & 33554431) * interval '1 second'
from generate_series(1, :rows) i;
create index document_tenant on document (tenant, created_at);
vacuum analyze document;
\endif

\if :is_events
-- Narrow rows with indexes in three orders.
create table event (
  id bigint primary key, at timestamptz not null, kind text not null, user_id int not null, session uuid not null,
  amount numeric(12, 2), detail jsonb);
insert into event
select i, timestamptz '2025-01-01 00:00+00' + i * interval '1.7 seconds' + (hashint8(i) & 1023) * interval '1 ms',
       (array['view', 'click', 'search', 'login', 'purchase', 'refund', 'share', 'logout'])[1 + (hashint8(i) & 7)],
       (hashint8(i * 3) & 2147483647) % 200000,
       md5('s' || (i / 12 + (hashint8(i) & 31)))::uuid,
       case when hashint8(i) & 7 in (4, 5) then (hashint8(i * 5) & 1048575) / 100.0 end,
       case when hashint8(i) & 3 = 0
            then jsonb_build_object('path', '/shop/' || ((hashint8(i * 7) & 4095)), 'ms', hashint8(i * 11) & 2047,
                                    'agent', 'client/' || (hashint8(i * 13) & 15)) end
from generate_series(1, :rows) i;
create index event_user on event (user_id, at);
create index event_session on event (session);
create index event_kind on event (kind, at);
vacuum analyze event;
\endif

\if :is_attachments
-- What does not compress: already compressed pictures, sealed blobs. 24 to 56 KiB each.
create table attachment (id bigint primary key, name text not null, content bytea not null);
alter table attachment alter content set storage external;
insert into attachment
select i, 'picture-' || i || '.jpg',
       (select string_agg(sha512(int8send(i) || int4send(j)), '' order by j)
        from generate_series(1, 384 + (hashint8(i) & 511)::int) j)
from generate_series(1, :rows) i;
vacuum analyze attachment;
\endif

\if :is_small
-- Many small tables, as every product grows them.
select format('create table setting_%s (key text primary key, value text, changed timestamptz)', n),
       format('insert into setting_%s select ''key-'' || i, md5(i::text), timestamptz ''2025-06-01 00:00+00'' + i * interval ''1 min'' '
              'from generate_series(1, %s) i', n, 5 + (hashint4(n) & 255))
from generate_series(1, :rows) n \gexec
analyze;
\endif
