"""The main job on every supported major: snapshot, changes, WAL, the accident, restore to a moment, drill."""

import shutil
import time

import harness


class RoundTrip(harness.Case):
    def round_trip(self, major):
        server = self.server(major)
        server.sql("create table entry (id bigint primary key, text text, at timestamptz default clock_timestamp())",
                   "insert into entry (id, text) select i, md5(i::text) from generate_series(1, 5000) i",
                   "create unlogged table scratch as select generate_series(1, 100) id",
                   "create table plain (id int)")
        backup = self.kuramori("backup", "db", "--json").json()
        server.sql("insert into entry (id, text) select i, md5(i::text) from generate_series(5001, 6000) i",
                   "update entry set text = 'changed' where id % 10 = 0", "vacuum entry",
                   "insert into plain values (1)")
        # The first snapshot builds on nothing, the second on it; both are complete.
        self.kuramori("backup", "db")
        server.sql("delete from entry where id <= 100")
        wanted = server.sql("select count(*), sum(hashtext(text)::bigint) from entry")
        time.sleep(0.05)
        moment = server.sql("select clock_timestamp()")
        time.sleep(0.05)
        server.sql("delete from entry", "drop table plain")
        server.switch_wal()
        server.kill()
        shutil.rmtree(server.data)

        target = self.folder / "restored"
        self.kuramori("restore", "db", "--to", target, "--at", moment + ":00" if moment[-3] in "+-" else moment)
        restored = self.adopt(target, major)
        self.assertEqual(restored.sql("select count(*), sum(hashtext(text)::bigint) from entry"), wanted)
        self.assertEqual(restored.sql("select id from plain"), "1")
        self.assertEqual(restored.sql("select count(*) from scratch"), "0")  # unlogged: by its init fork
        self.assertEqual(restored.sql("show archive_mode"), "off")  # never into its parent's history
        self.assertEqual(restored.sql("select count(*) from entry where text = 'changed'"), "590")
        restored.stop()

        # The older snapshot too, and the proof.
        older = self.folder / "older"
        self.kuramori("restore", f"db@{backup['snapshot']['id']}", "--to", older)
        first = self.adopt(older, major)
        self.assertEqual(first.sql("select count(*) from entry"), "5000")
        first.stop()
        self.kuramori("drill", "db")
        self.assertTrue(any(snapshot["proof"] for snapshot in self.snapshots()))


def add(major):
    setattr(RoundTrip, f"test_postgresql_{major}", lambda self: self.round_trip(major))


for each in harness.MAJORS:
    add(each)

if __name__ == "__main__":
    harness.main()
