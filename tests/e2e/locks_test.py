"""Object Lock: everything locked from the first second, what is needed locked on, and nothing that stops working because
a delete is denied. On a real S3 store, with a raw client that looks at what the store really holds."""

import datetime
import time

import harness
import places

DAY = 86400


class Locks(harness.Case):
    place_kind = "locked"

    def setUp(self):
        super().setUp()
        self.s3, self.bucket = self.place.s3, self.place.bucket

    def database(self, keep="all: 14d", window="14d"):
        server = self.server(initdb=["--wal-segsize=1"])
        text = self.config.read_text().replace("keep: { all: 14d }", f"keep: {{ {keep} }}").replace("window: 14d", f"window: {window}")
        self.config.write_text(text)
        server.sql("create table item (id bigint primary key, text text)", "insert into item select i, md5(i::text) from generate_series(1, 2000) i")
        return server

    def backup(self, *words):
        return self.kuramori("backup", "db", "--json", *words).json()["snapshot"]["id"]

    def names(self, *prefixes):
        return [name for prefix in prefixes for name, _ in self.place.objects(prefix)]

    def locked_seconds(self, name):
        """How long the store will still refuse to delete it; 0: it is not locked."""
        held = self.s3.retention(self.bucket, "vault/" + name)
        if held is None:
            return 0
        self.assertEqual(held[0], "COMPLIANCE", name)
        until = datetime.datetime.fromisoformat(held[1].split(".")[0].rstrip("Z") + "+00:00")
        return (until - datetime.datetime.now(datetime.timezone.utc)).total_seconds()

    def on_hold(self):
        return {name for name in self.names("packs/", "maps/", "live/", "wal/") if self.s3.legal_hold(self.bucket, "vault/" + name)}

    def restored(self, snapshot):
        target = self.folder / f"restored-{snapshot}-{time.monotonic_ns()}"
        self.kuramori("restore", f"db@{snapshot}", "--to", target)
        copy = self.adopt(target)
        found = copy.sql("select count(*), sum(hashtext(text)::bigint) from item")
        copy.stop()
        return found

    def test_locked_from_the_first_second_and_on_to_what_was_promised_V22(self):
        server = self.database()
        self.backup()
        server.switch_wal()
        for name in self.names(""):
            if not name.startswith("probe/"):
                self.assertGreater(self.locked_seconds(name), DAY - 600, name)
        # Whoever holds the store's own keys cannot delete a version either.
        victim = self.names("packs/")[0]
        for key, version, _, _ in self.s3.versions(self.bucket, "vault/" + victim):
            self.assertEqual(self.s3.delete(self.bucket, key, version).status, 403)
            self.assertNotEqual(self.s3.set_retention(self.bucket, key, "2030-01-01T00:00:00Z", mode="GOVERNANCE", version=version, bypass=True).status, 200)
        # Fourteen days were promised, one is locked: the keeper's run makes up for it, blind.
        needed = self.names("packs/", "maps/", "live/")
        self.assertLess(max(self.locked_seconds(name) for name in needed), 2 * DAY)
        self.assertIn("extended", self.kuramori("prune").err)
        for name in needed:
            self.assertGreater(self.locked_seconds(name), 14 * DAY - 600, name)
        # A second run finds nothing to do.
        self.assertIn(" 0 extended", self.kuramori("vault", "collect", "here").err)
        # Kept longer by hand: no plan promises that, so nobody's locks follow blindly (V20).
        latest = self.snapshots()[-1]["id"]
        self.kuramori("extend", latest, "--keep", "100y")
        self.assertIn("longer than any plan promises", self.kuramori("prune").err)
        self.assertLess(max(self.locked_seconds(name) for name in self.names("")), 15 * DAY)

    def test_everything_goes_on_where_deletes_are_denied_V21(self):
        server = self.database(keep="all: 2s, last: 2", window="1s")
        made = []
        for number in range(3):
            server.sql(f"insert into item select i, md5('{number} ' || i) from generate_series({number * 3000 + 3000}, {number * 3000 + 5999}) i",
                       "update item set text = md5(text)", "vacuum item")
            made.append(self.backup("--full"))
            server.switch_wal()
        wanted = server.sql("select count(*), sum(hashtext(text)::bigint) from item")
        time.sleep(2.2)  # what was promised is over
        self.kuramori("prune")
        self.assertEqual([snapshot["id"] for snapshot in self.snapshots()], made[1:])
        before = self.names("packs/")
        for _ in range(2):
            collected = self.kuramori("vault", "collect", "here")
            self.assertIn("it is retained until", collected.out)
        self.assertEqual(self.names("packs/"), before)
        self.kuramori("vault", "scrub", "here")
        self.assertEqual(self.restored(made[2]), wanted)
        self.backup()

    def test_a_snapshot_is_built_only_on_what_is_locked_long_enough_V22(self):
        server = self.database()
        locked = self.config.read_text()
        self.config.write_text(locked.replace(f"lock: {places.LOCK}, ", ""))
        base = self.backup()
        self.config.write_text(locked)
        server.sql("update item set text = 'changed' where id = 1")
        outcome = self.kuramori("backup", "db")
        self.assertIn("is not locked", outcome.out)
        self.assertIn("a full one", outcome.out)
        server.sql("update item set text = 'changed' where id = 2")
        self.assertNotIn("a full one", self.kuramori("backup", "db").out)
        self.kuramori("restore", f"db@{base}", "--to", self.folder / "base")

    def test_holds_are_the_stores_too(self):
        server = self.database()
        first = self.backup()
        server.sql("update item set text = 'changed' where id = 1")
        second = self.backup()
        self.kuramori("hold", "add", first, "--name", "audit")
        one = self.on_hold()
        self.assertTrue(any(name.startswith("packs/") for name in one))
        self.kuramori("hold", "add", second, "--name", "court")
        both = self.on_hold()
        self.assertLess(one, both)
        # What the second needs of the first stays on hold.
        self.kuramori("hold", "remove", first, "--name", "audit")
        left = self.on_hold()
        self.assertTrue(left & one, "the second builds on the first")
        self.assertLess(left, both)
        self.kuramori("hold", "remove", second, "--name", "court")
        self.assertEqual(self.on_hold(), set())

    def test_what_the_lock_cannot_serve_is_named(self):
        self.server(init=False)
        said = self.kuramori("vault", "init", "here").err
        self.assertIn("keep reaches 14d, lock: 1d does not", said)


if __name__ == "__main__":
    harness.main()
