"""What a drill must not reach: the original's files, also where only the WAL names them."""

import subprocess
import time

import harness


class DrillReach(harness.Case):
    def make_place(self, name):
        place = self.folder / name
        subprocess.run(harness.as_server(["mkdir", place]), check=True)
        return place

    def test_a_tablespace_that_the_wal_makes_does_not_lead_to_the_live_one_P48(self):
        server = self.server(15)
        server.sql("create table entry (id bigint primary key)", "insert into entry select generate_series(1, 1000)")
        self.kuramori("backup", "db")
        place = self.make_place("place")
        server.sql(f"create tablespace aside location '{place}'", "create table there (id bigint) tablespace aside",
                   "insert into there select generate_series(1, 1000)")
        time.sleep(0.05)
        moment = server.sql("select clock_timestamp()")
        time.sleep(0.05)
        server.sql("insert into there select generate_series(1001, 9000)", "checkpoint")
        server.switch_wal()
        server.stop()
        before = harness.relation_files(place, ["."])
        self.assertTrue(before)
        outcome = self.kuramori("drill", "db", "--at", moment + ":00" if moment[-3] in "+-" else moment, status=None)
        self.assertEqual(harness.differing(before, harness.relation_files(place, ["."])), [], outcome)
        self.assertNotEqual(outcome.status, 0, "it cannot have been proven: the tablespace's place was not to be reached")
        # A restore beside it is refused before anything can be started: replay has no other place for it.
        target = self.folder / "target"
        refused = self.kuramori("restore", "db", "--to", target, "--latest", status=5)
        self.assert_refused(refused, str(place))
        self.assertFalse((target / "global" / "pg_control").exists())
        self.assertEqual(harness.differing(before, harness.relation_files(place, ["."])), [])
        server.start()
        self.assertEqual(server.sql("select count(*) from there"), "9000")

    def test_a_drill_that_compared_nothing_is_not_proven(self):
        """L5, S32: a server that opens proves no row; a partial result is named and exits 3."""
        server = self.server(15, plan="""    drill:
      counts: [public.absent]
""")
        server.sql("create table entry (id bigint primary key)", "insert into entry select generate_series(1, 1000)")
        self.kuramori("backup", "db")
        outcome = self.kuramori("drill", "db", status=3)
        self.assertIn("NOT PROVEN", outcome.out)
        self.assertIn("uncounted", outcome.out)
        self.assertNotIn("passed", " ".join(line for line in outcome.out.splitlines() if line.startswith("table ")))


if __name__ == "__main__":
    harness.main()
