"""A snapshot that reads only the pages which the WAL says changed: what it holds is what a full one holds (over random
histories), and whenever the WAL does not tell all it says so and finds out otherwise.

KURAMORI_TEST_SEED names a history; without, each run takes another and prints it."""

import os
import random
import shutil
import struct
import time

import harness

PAGE = 8192
HISTORY_SETTINGS = ["max_prepared_transactions = 5", "wal_keep_size = '1GB'"]
SEED = int(os.environ.get("KURAMORI_TEST_SEED", "0")) or int(time.time())


def relation_pages(data):
    """{path: bytes} of every relation file, those of tablespaces too."""
    found = {}
    for folder in [data / "global", *(data / "base").iterdir(), *(data / "pg_tblspc").glob("*/PG_*/*")]:
        for path in folder.iterdir():
            if path.name[0].isdigit():
                found[path.relative_to(data).as_posix()] = path.read_bytes()
    return found


def lsn_of(page):
    high, low = struct.unpack_from("<II", page)
    return high << 32 | low


def firm(page):
    """What no server changes in a page's header without a record."""
    lsn, _, flags, lower, upper = struct.unpack_from("<QHHHH", page)
    return lsn, flags & 4, lower, upper


def is_spgist(page):
    """Of such an index the first page caches which others had room last; no record tells of that, and nothing hangs on it."""
    return page[-2:] == b"\x82\xff"


class History:
    """Random work on a server, by seed: everything that changes relation files in a way of its own."""

    def __init__(self, server, folder, seed):
        self.server, self.random, self.made, self.databases = server, random.Random(seed), 0, []
        self.space = harness.new_folder(folder)
        self.tables = []
        server.sql(f"create tablespace space location '{self.space}'")

    def table(self):
        return self.random.choice(self.tables)

    def make(self):
        self.made += 1
        name = f"t{self.made}"
        kind = self.random.choice(["", "", "unlogged "])
        where = self.random.choice(["", "", " tablespace space"])
        self.server.sql(f"create {kind}table {name} (id bigint, text text, place point default point(random(), random()), "
                        f"words int[] default '{{1,2,3}}') with (fillfactor = 70){where}")
        self.tables.append(name)
        return [f"insert into {name} (id, text) select i, repeat(md5(i::text), 3) from generate_series(1, {self.random.randint(1, 3000)}) i"]

    def index(self):
        self.made += 1
        how = self.random.choice(["btree (id)", "hash (id)", "gin (words)", "gist (place)", "spgist (place)", "brin (id)", "btree (text, id)"])
        return [f"create index i{self.made} on {self.table()} using {how}"]

    def database(self):
        version = self.server.major
        if self.databases and self.random.random() < 0.5:
            name, oid = self.databases.pop(self.random.randrange(len(self.databases)))
            # The same folder, and in it the same file numbers, as soon as it is made again.
            again = f"create database {name} oid = {oid} strategy = {self.random.choice(['wal_log', 'file_copy'])}"
            if version >= 15 and self.random.random() < 0.6:
                self.databases.append((name, oid))
                return [f"drop database {name}", again]
            return [f"drop database {name}"]
        self.made += 1
        name = f"d{self.made}"
        how = f" strategy = {self.random.choice(['wal_log', 'file_copy'])}" if version >= 15 else ""
        self.server.sql(f"create database {name}{how}")
        self.databases.append((name, self.server.sql(f"select oid from pg_database where datname = '{name}'")))
        return []

    def step(self):
        roll = self.random
        if not self.tables or roll.random() < 0.12:
            return self.make()
        name = self.table()
        part = roll.randint(2, 40)
        works = [
            lambda: [f"insert into {name} (id, text) select i, repeat(md5(i::text), 5) from generate_series(1, {roll.randint(1, 5000)}) i"],
            lambda: [f"update {name} set text = md5(random()::text) where id % {part} = 0"],
            lambda: [f"delete from {name} where id % {part} = 0"],
            lambda: [f"delete from {name} where id > {roll.randint(1, 3000)}", f"vacuum {name}"],  # cut at the end
            lambda: [f"vacuum (freeze) {name}"],
            lambda: [f"vacuum full {name}"],
            lambda: [f"truncate {name}", f"insert into {name} (id, text) select i, 'again' from generate_series(1, 500) i"],
            lambda: [f"begin; truncate {name}; insert into {name} (id, text) select i, 'b' from generate_series(1, 900) i; commit"],
            lambda: [f"begin; truncate {name}; insert into {name} (id, text) select i, 'b' from generate_series(1, 900) i; rollback"],
            lambda: (self.tables.remove(name), [f"drop table {name}"])[1],
            lambda: [f"alter table {name} set {roll.choice(['logged', 'unlogged'])}"],
            lambda: [f"alter table {name} set tablespace {roll.choice(['space', 'pg_default'])}"],
            lambda: [f"alter table {name} alter id type {roll.choice(['bigint', 'numeric'])}"],
            lambda: [f"reindex table {name}"],
            lambda: [f"select count(*) from {name}"],  # hint bits alone
            lambda: ["checkpoint"],
            lambda: ["select pg_switch_wal()"],
            lambda: ["vacuum"],
            lambda: ["vacuum full pg_class", "reindex table pg_class"],
            self.index, self.index, self.database,
        ]
        return roll.choice(works)()

    def may_crash(self):
        # 13 and 14 do not come up again with an unlogged table in a tablespace ("could not create file: File exists").
        return self.server.major >= 15 or self.server.sql("select count(*) from pg_class where relpersistence = 'u' and reltablespace <> 0") == "0"

    def run(self, steps):
        done = []
        for _ in range(steps):
            queries = self.step()
            done += queries
            self.server.sql(*queries)
            if self.random.random() < 0.03 and self.may_crash():
                done.append("kill -9")
                self.server.kill()
                self.server.start()
        return done


class Snapshots(harness.Case):
    in_memory = True

    def backup(self, *words):
        outcome = self.kuramori("backup", "db", "--json", *words)
        return outcome.json()["snapshot"], outcome

    def start_of(self, snapshot):
        return int(self.kuramori("show", snapshot["id"], "--json").json()["snapshot"]["facts"]["postgres.start_lsn"])

    def restored(self, snapshot):
        target = self.folder / f"restored-{snapshot['id']}"
        self.kuramori("restore", f"db@{snapshot['id']}", "--to", target)
        return target

    def assert_same_pages(self, one, other, start, about, hints=True):
        """Of two snapshots taken one right after the other: a page may differ only if something touched it after the first
        one's start, and then redo brings it to the same state. Where hint bits are not logged they may differ everywhere
        (hints=False): then LSN, all-visible, and bounds are compared."""
        ours, theirs = relation_pages(one), relation_pages(other)
        wrong = sorted(ours.keys() ^ theirs.keys())
        for path in ours.keys() & theirs.keys():
            if ours[path] == theirs[path]:
                continue
            if len(ours[path]) != len(theirs[path]):
                wrong.append(f"{path}: {len(ours[path])} and {len(theirs[path])} bytes")
                continue
            for at in range(0, len(ours[path]), PAGE):
                page = theirs[path][at:at + PAGE]
                mine = ours[path][at:at + PAGE]
                same = mine == page if hints and not (at == 0 and is_spgist(page)) else firm(mine) == firm(page)
                if not same and lsn_of(page) <= start:
                    wrong.append(f"{path} page {at // PAGE}: {lsn_of(mine):X}, full {lsn_of(page):X}, start {start:X}")
        self.assertEqual(wrong, [], about)

    def history_of_snapshots(self, server, major, rounds, steps, seed, full):
        """Over random histories, what a snapshot that leaves pages to the one before holds is what a full one holds, and the server
        that comes of it has what the first one has: `full` takes it. Returns that server, and what it is about."""
        history = History(server, self.folder, seed)
        self.backup()
        done = []
        for round_ in range(rounds):
            done += history.run(steps)
            snapshot, outcome = self.backup()
            about = f"seed {seed}, PostgreSQL {major}, round {round_}:\n" + "\n".join(done) + str(outcome)
            self.assertEqual(snapshot["changes"], "wal", about)
            self.assertGreater(snapshot["pages_unchanged"], 0, about)
            one, other = self.restored(snapshot), self.restored(full())
            self.assert_same_pages(one, other, self.start_of(snapshot), about)
            shutil.rmtree(other)
            if round_ + 1 < rounds:
                shutil.rmtree(one)
        count = "select " + (" || ' ' || ".join(f"(select count(*)::text || sum(length(text)) from {name})" for name in logged(server, history)) or "''")
        wanted = server.sql(count)
        again = self.adopt(one, major)
        self.assertEqual(again.sql(count), wanted, about)
        return again, about


class Changes(Snapshots):
    def equality(self, major, rounds, steps, seed):
        server = self.server(major, settings=HISTORY_SETTINGS)
        again, about = self.history_of_snapshots(server, major, rounds, steps, seed, lambda: self.backup("--full")[0])
        again.sql("create extension amcheck",
                  "select bt_index_check(c.oid, true) from pg_class c join pg_index i on i.indexrelid = c.oid "
                  "join pg_am a on a.oid = c.relam where a.amname = 'btree' and c.relpersistence = 'p' and i.indisvalid")
        if major >= 14:
            self.assertEqual(again.sql("select c.relname, v.* from pg_class c, lateral verify_heapam(c.oid) v "
                                       "where c.relkind in ('r', 't', 'm') and c.relpersistence = 'p'"), "", about)


class Maps(Snapshots):
    MAPS = 60

    def maps(self, data):
        return {path: content for path, content in relation_pages(data).items() if path.endswith(("_vm", "_fsm"))}

    def await_later_than(self, *files):
        """Until a second has passed since the last write to any of them, by their own times."""
        newest = max(path.stat().st_mtime for path in files)
        while time.time() < newest + 1:
            time.sleep(0.05)

    def test_P26_maps_are_read_of_relations_that_a_record_mentions_and_of_no_other(self):
        server = self.server(harness.MAJORS[-1], settings=["autovacuum = off", "wal_keep_size = '1GB'"])
        server.sql(*[query for number in range(self.MAPS) for query in (f"create table m{number} (id int primary key, text text)",
                                                                        f"insert into m{number} select i, md5(i::text) from generate_series(1, 700) i")],
                   "vacuum", "checkpoint")
        size = sum(map(len, self.maps(server.data).values()))
        self.assertGreater(size, 2 << 20)
        self.await_later_than(*(server.data / path for path in self.maps(server.data)))
        self.backup()
        server.sql("delete from m7 where id > 300", "vacuum m7", "update m8 set text = 'other' where id = 5")
        snapshot, outcome = self.backup()
        self.assertEqual(snapshot["changes"], "wal", str(outcome))
        self.assertLess(snapshot["relation_bytes_read"], 512 * snapshot["pages_sampled"] + size // 4, str(outcome))
        full, _ = self.backup("--full")
        one, other = self.restored(snapshot), self.restored(full)
        self.assertEqual(self.maps(one).keys(), self.maps(other).keys())
        self.assert_same_pages(one, other, self.start_of(snapshot), "maps")
        # Of what was left to the base, a base that was left to its own base gives the same.
        server.sql("delete from m9 where id % 2 = 0", "vacuum m9")
        third, outcome = self.backup()
        self.assertLess(third["relation_bytes_read"], 512 * third["pages_sampled"] + size // 4, str(outcome))
        again = self.adopt(self.restored(third), harness.MAJORS[-1])
        again.sql("create extension pg_visibility")
        self.assertEqual(again.sql("select count(*) from pg_class c, lateral pg_check_visible(c.oid) where c.relname like 'm%' and c.relkind = 'r'"), "0")
        self.assertEqual(again.sql("set enable_seqscan = off; set enable_bitmapscan = off; "
                                   "select (select count(id) from m7) || ' ' || (select count(id) from m8) || ' ' || (select count(id) from m9)"), "300 700 350")

    def test_P26_a_map_that_was_cut_by_hand_is_read_though_its_table_was_not_touched(self):
        server = self.server(harness.MAJORS[-1], settings=["autovacuum = off", "wal_keep_size = '1GB'"])
        server.sql("create extension pg_visibility", "create table cut (id int)", "insert into cut select generate_series(1, 5000)", "vacuum cut", "checkpoint")
        path = server.data / (server.sql("select pg_relation_filepath('cut')") + "_vm")
        self.await_later_than(path)
        self.backup()
        server.sql("select pg_truncate_visibility_map('cut')")
        snapshot, outcome = self.backup()
        self.assertEqual(snapshot["changes"], "wal", str(outcome))
        again = self.adopt(self.restored(snapshot), harness.MAJORS[-1])
        self.assertEqual(again.sql("select count(*) from pg_visibility_map('cut') where all_visible"), "0")


def logged(server, history):
    names = ",".join(f"'{name}'" for name in history.tables) or "''"
    found = server.sql(f"select relname from pg_class where relname in ({names}) and relpersistence = 'p' order by 1")
    return found.split()


def add_equality(major, rounds, steps, seeds):
    def test(self):
        for seed in seeds:
            with self.subTest(seed=seed):
                try:
                    self.equality(major, rounds, steps, seed)
                finally:
                    self.tearDown()
                    self.setUp()
    setattr(Changes, f"test_P23_a_snapshot_by_the_wal_is_what_a_full_one_is_{major}", test)


if harness.ALL:
    for each in harness.MAJORS:
        add_equality(each, 6, 40, range(SEED, SEED + 5))
else:
    add_equality(13 if SEED % 2 else 18, 2, 12, [SEED])
    add_equality(15, 2, 12, [SEED])

if __name__ == "__main__":
    harness.main()
