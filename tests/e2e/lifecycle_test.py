"""A vault through its life: many snapshots of a database that changes in every way a database does, retention that does
what its dry run says, holds, and space that comes back."""

import re
import shutil
import time

import harness

# What a person sees of every snapshot (interface.md).
FIELDS = {"id", "resource", "vault", "time", "size_bytes", "added_bytes", "keep_until", "holds", "proof"}

# One step an "hour": everything that moves files about under a backup that stores only what changed.
STEPS = (
    ("create table", ["create table item (id bigint primary key, text text)",
                      "insert into item select i, md5(i::text) from generate_series(1, 3000) i"]),
    ("update some", ["update item set text = 'updated ' || id where id % 37 = 0"]),
    ("delete and vacuum", ["delete from item where id % 5 = 0", "vacuum item"]),
    ("truncate and fill again", ["truncate item", "insert into item select i, 'again ' || i from generate_series(1, 500) i"]),
    ("vacuum full", ["update item set text = text || '.'", "vacuum full item"]),
    ("drop, and the name again", ["drop table item", "create table item (id bigint primary key, text text)",
                                  "insert into item select i, 'another ' || i from generate_series(1, 2000) i"]),
    ("to unlogged and back", ["alter table item set unlogged", "update item set text = 'unlogged' where id = 1",
                              "alter table item set logged"]),
    ("into a tablespace", ["alter table item set tablespace space", "update item set text = 'moved' where id = 2"]),
    ("a database elsewhere", ["create database far tablespace space"]),
    ("rewritten type, new index", ["alter table item alter id type numeric", "create index on item (text)",
                                   "insert into item select i, 'numeric' from generate_series(5001, 5300) i"]),
    ("a database by file copy", ["create database twin template postgres", "alter table item set tablespace pg_default"]),
    ("other databases go", ["drop database twin", "drop database far", "cluster item using item_pkey", "reindex table item"]),
    ("truncated by vacuum, and extended", ["delete from item where id > 100", "vacuum item",
                                           "insert into item select i, 'extended ' || i from generate_series(101, 1500) i"]),
)
CONTENT = "select count(*), coalesce(sum(hashtext(id::text || text)::bigint), 0), min(text), max(text) from item"


class Lifecycle(harness.Case):
    in_memory = True

    def test_every_snapshot_of_a_changing_database_comes_back_as_it_was_P6_P7_P9_P53(self):
        server = self.server(initdb=["--wal-segsize=1"])
        space = self.folder / "space"
        space.mkdir()
        harness.give_to_server(space)
        server.sql(f"create tablespace space location '{space}'")
        wanted, added = {}, []
        for name, statements in STEPS:
            server.sql(*statements)
            made = self.kuramori("backup", "db", "--label", name, "--json").json()["snapshot"]["id"]
            wanted[made] = (name, server.sql(CONTENT), server.sql("select string_agg(datname, ',' order by datname) from pg_database"))
        listed = self.snapshots()
        self.assertEqual([snapshot["id"] for snapshot in listed], list(wanted))
        for snapshot in listed:
            self.assertLessEqual(FIELDS, snapshot.keys())
            self.assertEqual((snapshot["resource"], snapshot["vault"], snapshot["proof"]), ("db", "here", None))
            self.assertEqual(snapshot["holds"], [f"label:{snapshot['label']}"])  # until the next of its label
            self.assertRegex(snapshot["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
            added.append(snapshot["added_bytes"])
        # Cost follows change: none of the later ones adds what the first did.
        self.assertLess(max(added[1:]), added[0] / 2, added)
        self.kuramori("vault", "scrub", "here")
        server.stop()
        for number, (made, (name, content, databases)) in enumerate(wanted.items()):
            with self.subTest(name):
                target = self.folder / f"restored{number}"
                self.kuramori("restore", f"db@{made}", "--to", target)
                copy = self.adopt(target)
                self.assertEqual(copy.sql(CONTENT), content)
                self.assertEqual(copy.sql("set enable_seqscan = off; " + CONTENT), content)  # through its indexes too
                self.assertEqual(copy.sql("select string_agg(datname, ',' order by datname) from pg_database"), databases)
                for database in set(databases.split(",")) - {"template0"}:
                    self.assertGreater(int(copy.sql("select sum(pg_relation_size(oid)) from pg_class", database=database)), 1 << 20)
                copy.sql("create extension amcheck", "select bt_index_check(i.indexrelid, true) from pg_index i join pg_class c "
                         "on c.oid = i.indexrelid where c.relam = 403 and c.relpersistence = 'p'")
                copy.stop()
                for left in self.folder.glob(f"restored{number}*"):
                    shutil.rmtree(left) if left.is_dir() else left.unlink()

    def packs_bytes(self):
        return sum(size for _, size in self.place.objects("packs/"))

    def pruned_lines(self, outcome):
        """{id: "keep" or "drop"} of a table of `prune`."""
        found = {}
        for line in outcome.out.splitlines():
            words = re.match(r"^(\w+)\s+([0-9a-f]{16})\b", line)
            if words:
                found[words[2]] = words[1]
        return found

    def test_prune_does_what_its_dry_run_says_and_collect_frees_it_P57_P58_P59_V26(self):
        server = self.server(initdb=["--wal-segsize=1"])
        # No window: what is due is due by its own promise alone.
        self.config.write_text(self.config.read_text().replace("    window: 14d\n", "    window: 1s\n").replace("all: 14d", "all: 2s, last: 1"))
        server.sql("create table item (id bigint primary key, text text)")
        made = []
        for number in range(6):
            server.sql(f"insert into item select i, md5('{number} ' || i) from generate_series({number * 3000 + 1}, {number * 3000 + 3000}) i",
                       "update item set text = md5(text)", "vacuum item")
            words = ["--keep", "1h"] if number == 2 else []
            made.append(self.kuramori("backup", "db", *words, "--json").json()["snapshot"]["id"])
            server.switch_wal()
            if number == 1:
                self.kuramori("drill", "db")  # the only one that is proven
        self.kuramori("hold", "add", made[0], "--name", "audit")
        self.kuramori("extend", made[3], "--keep", "2h")
        self.assertEqual(self.kuramori("extend", made[3], "--keep", "1s", status=None).status, 5)  # never shortened
        time.sleep(3.2)
        listed = {snapshot["id"]: snapshot for snapshot in self.snapshots()}
        self.assertIn("audit", str(listed[made[0]]["holds"]))
        self.assertIsNotNone(listed[made[1]]["proof"])
        # Held, last proven, kept by --keep, extended, newest: they stay. One may go.
        dry = self.kuramori("prune", "--dry-run")
        said = self.pruned_lines(dry)
        self.assertEqual(set(said), set(made), dry)
        self.assertEqual([snapshot for snapshot in made if said[snapshot] != "keep"], [made[4]], dry)
        self.assertEqual([snapshot["id"] for snapshot in self.snapshots()], made)  # it was dry
        done = self.kuramori("prune")
        self.assertEqual(self.pruned_lines(done), said, done)
        left = [snapshot for snapshot in made if snapshot != made[4]]
        self.assertEqual([snapshot["id"] for snapshot in self.snapshots()], left)
        self.kuramori("restore", f"db@{made[4]}", "--to", self.folder / "no", status=2)
        before = self.packs_bytes()
        self.kuramori("vault", "collect", "here", "--dry-run")
        self.assertEqual(self.packs_bytes(), before)
        self.kuramori("vault", "collect", "here")
        self.assertLess(self.packs_bytes(), before)
        self.kuramori("vault", "scrub", "here")
        # The hold goes, and with it what it held; the promise of the newest and of the proven stands.
        self.kuramori("hold", "remove", made[0], "--name", "audit")
        self.kuramori("hold", "remove", made[0], "--name", "audit", status=2)
        self.kuramori("prune")
        left.remove(made[0])
        self.assertEqual([snapshot["id"] for snapshot in self.snapshots()], left)
        before = self.packs_bytes()
        self.kuramori("vault", "collect", "here")
        self.assertLessEqual(self.packs_bytes(), before)
        self.kuramori("vault", "scrub", "here")
        # All that stay are whole though what they were built on has gone.
        for number, snapshot in enumerate(left):
            target = self.folder / f"restored{number}"
            self.kuramori("restore", f"db@{snapshot}", "--to", target)
            copy = self.adopt(target)
            self.assertEqual(copy.sql("select count(*) from item"), str((made.index(snapshot) + 1) * 3000))
            copy.stop()
        self.kuramori("restore", "db", "--to", self.folder / "latest", "--latest")
        # Pruned and collected twice is once.
        self.kuramori("prune")
        self.kuramori("vault", "collect", "here")
        self.assertEqual([snapshot["id"] for snapshot in self.snapshots()], left)


if __name__ == "__main__":
    harness.main()
