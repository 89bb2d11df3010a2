"""Traps of a restore: an interrupted --delta gone on with by somebody who forgot the word, odd paths, options without effect."""

import shutil
import signal
import subprocess
import threading

import harness


class RestoreTraps(harness.Case):
    def test_what_the_older_state_had_more_of_does_not_stay_P19_P47(self):
        server = self.server(15, initdb=["--wal-segsize=1"])
        server.sql("create table entry (id bigint, text text)",
                   "insert into entry select i, md5(i::text) from generate_series(1, 1000) i")
        first = self.kuramori("backup", "db", "--json").json()["snapshot"]["id"]
        # A longer file, one more database, one more table.
        server.sql("insert into entry select i, md5(i::text) from generate_series(1001, 50000) i")
        server.sql("create database another")
        server.sql("create table more as select 1 as n")
        server.stop()
        fresh, target = self.folder / "fresh", self.folder / "target"
        self.kuramori("restore", f"db@{first}", "--to", fresh)
        subprocess.run(["cp", "-a", server.data, target], check=True)

        counted = self.folder / "calls"
        twin = self.folder / "twin"
        subprocess.run(["cp", "-a", server.data, twin], check=True)
        self.kuramori("restore", f"db@{first}", "--delta", "--to", twin, env={"KURAMORI_TEST_COUNT_STORE_CALLS": counted})
        self.assertEqual(harness.differing(harness.relation_files(fresh), harness.relation_files(twin)), [])
        calls = int(counted.read_text())
        interrupted = 0
        for call in range(calls - 2, 0, -5):
            shutil.rmtree(target)
            subprocess.run(["cp", "-a", server.data, target], check=True)
            outcome = self.kuramori("restore", f"db@{first}", "--delta", "--to", target, status=None,
                                    env={"KURAMORI_TEST_KILL_AT_STORE_CALL": call})
            # One call more or less: it may have ended by itself.
            self.assertIn(outcome.status, (0, -signal.SIGKILL), outcome)
            if (target / "global" / "pg_control").exists():
                continue
            again = self.kuramori("restore", f"db@{first}", "--to", target, status=None)
            self.assertIn(again.status, (0, 5), again)
            if again.status == 0:
                self.assertEqual(harness.differing(harness.relation_files(fresh), harness.relation_files(target)), [])
            interrupted += 1
            if interrupted == 2:
                break
        self.assertGreater(interrupted, 0)

    def test_odd_paths_reach_the_restore_command_whole_P18(self):
        server = self.server(15, initdb=["--wal-segsize=1"])
        server.sql("create table entry (id int)")
        self.kuramori("backup", "db")
        server.sql("insert into entry values (1)")
        server.switch_wal()
        server.stop()
        odd = self.folder / "it's 100%free, %p and all"
        self.kuramori("restore", "db", "--to", odd, "--latest")
        self.assertEqual(self.adopt(odd).sql("select count(*) from entry"), "1")
        # What would have no effect is not taken.
        for words in (["--latest", "--action", "pause"], ["--exclusive"], ["--name", "x", "--exclusive"], ["--port", "5433"],
                      ["--estimate", "--start"], ["--estimate", "--salvage-wal", server.data]):
            self.kuramori("restore", "db", "--to", self.folder / "unused", *words, status=2)

    def test_a_tablespace_made_while_the_capture_begins_is_left_to_redo_P16(self):
        server = self.server(15, initdb=["--wal-segsize=1"])
        places, count = self.folder / "places", 200
        subprocess.run(harness.as_server(["mkdir", "-p", *[places / str(n) for n in range(count)]]), check=True)
        make = "".join(f"create tablespace t{n} location '{places}/{n}';\ncreate table x{n} tablespace t{n} as select 1 as n;\n"
                       for n in range(count))
        maker = subprocess.Popen([f"{harness.CLIENT}/psql", "-Xq", server.connect()], stdin=subprocess.PIPE, text=True)
        feeder = threading.Thread(target=lambda: (maker.stdin.write(make), maker.stdin.close()))
        feeder.start()
        self.kuramori("backup", "db")
        feeder.join()
        maker.wait()
        target = self.folder / "target"
        # Refused beside the original, whose folders replay would use (P48); the files are there already.
        self.kuramori("restore", "db", "--to", target, status=None)
        # Replay of CREATE TABLESPACE stumbles over a folder in place of a link.
        self.assertEqual([path.name for path in (target / "pg_tblspc").iterdir() if not path.is_symlink()], [])

    def test_a_page_that_stays_broken_holds_the_last_good_copy_and_no_other_P3(self):
        server = self.server(15, initdb=["--wal-segsize=1"])
        server.sql("create table entry as select generate_series(1, 10000) n")
        server.sql("vacuum entry", "checkpoint")
        good = self.kuramori("backup", "db", "--json").json()["snapshot"]["id"]
        server.sql("checkpoint")
        with open(server.data / server.sql("select pg_relation_filepath('entry')"), "r+b") as file:
            file.seek(3 * 8192 + 4000)
            byte = file.read(1)[0]
            file.seek(3 * 8192 + 4000)
            file.write(bytes([byte ^ 1]))
        held = []
        for _ in range(3):
            snapshot = self.kuramori("backup", "db", "--full", "--json", status=3).json()["snapshot"]
            self.assertEqual(len(snapshot["broken_pages"]), 1)
            held += snapshot["held"]
        self.assertEqual(held, [good])


if __name__ == "__main__":
    harness.main()
