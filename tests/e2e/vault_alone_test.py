"""A vault and a key are enough: nothing of the lost machine, no configuration, and not even this program."""

import pathlib
import shutil
import subprocess

import harness

READER = pathlib.Path(__file__).resolve().parent.parent / "format" / "reader.py"


class VaultAlone(harness.Case):
    def test_the_lost_machine_is_not_needed_and_takes_nothing_with_it_S7_S8_S3_D7_K3(self):
        """S7: nothing is ever removed from the archive because it is gone elsewhere. S8: restore_command needs no path of
        the lost machine. S3: what comes out is a data directory that starts. D7: the window is shown. K3: restore of the
        latest, with its WAL, is one command."""
        server = self.server(15, initdb=["--wal-segsize=1"])
        server.sql("create table entry (id bigint primary key)", "insert into entry select generate_series(1, 1000)")
        self.kuramori("backup", "db")
        server.sql("insert into entry select generate_series(1001, 2000)")
        server.switch_wal()
        server.kill()
        before = sorted(path.name for path in self.vault.rglob("*.seg.*"))
        self.assertTrue(before)
        # The machine is lost: its data, its configuration, its programs but ours.
        shutil.rmtree(server.data)
        self.config.unlink()
        given = ["--vault", self.vault, "--key-file", self.key]
        self.assertEqual(sorted(path.name for path in self.vault.rglob("*.seg.*")), before)
        window = self.kuramori(*given, "window", "db", "--json", config=False).json()
        self.assertTrue(window)
        target = self.folder / "restored"
        self.kuramori(*given, "restore", "db", "--latest", "--to", target, config=False)
        restored = self.adopt(target)
        self.assertEqual(restored.sql("select count(*) from entry"), "2000")
        log = restored.log_text()
        self.assertNotIn(str(server.data), log)
        restored.stop()
        self.assertEqual(sorted(path.name for path in self.vault.rglob("*.seg.*")), before)
        self.kuramori(*given, "drill", "db", config=False)

    def test_the_second_reader_brings_back_the_same_bytes(self):
        """tests/format/reader.py shares no code with the program and was written from docs/vault-format.md alone."""
        server = self.server(15, initdb=["--wal-segsize=1"])
        server.sql("create table entry (id bigint primary key, text text)",
                   "insert into entry select i, md5(i::text) from generate_series(1, 20000) i", "checkpoint")
        self.kuramori("backup", "db")
        server.sql("update entry set text = 'changed' where id % 50 = 0", "delete from entry where id < 100", "vacuum entry", "checkpoint")
        self.kuramori("backup", "db")
        server.stop()
        snapshot = self.snapshots()[-1]["id"]
        ours, theirs = self.folder / "ours", self.folder / "theirs"
        self.kuramori("restore", f"db@{snapshot}", "--to", ours)
        done = subprocess.run(["/usr/bin/python3", READER, self.vault, self.key, "restore", snapshot, theirs], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        one, other = harness.relation_files(ours), harness.relation_files(theirs)
        self.assertTrue(len(one) > 500, len(one))
        self.assertEqual(harness.differing(one, other), [])

    def test_wal_level_minimal_in_between_loses_nothing_P8(self):
        """What minimal WAL leaves out is in new files, and new files are read whole."""
        server = self.server(15, initdb=["--wal-segsize=1"])
        server.sql("create table entry as select i id, md5(i::text) t from generate_series(1, 5000) i", "create table other (id int)")
        self.kuramori("backup", "db")
        server.stop()
        server.start("-c", "wal_level=minimal", "-c", "max_wal_senders=0", "-c", "archive_mode=off")
        self.assertEqual(self.kuramori("backup", "db", status=None).status != 0, True)  # P54: refused in words
        server.sql("begin; truncate other; insert into other select generate_series(1, 3000); create table fresh as select generate_series(1, 2000) id; commit",
                   "update entry set t = 'changed' where id % 7 = 0", "checkpoint")
        server.stop()
        server.start()
        self.kuramori("backup", "db")
        wanted = server.sql("select count(*), sum(hashtext(t)::bigint) from entry", "select count(*) from other", "select count(*) from fresh")
        server.stop()
        target = self.folder / "restored"
        self.kuramori("restore", "db@latest", "--to", target)
        restored = self.adopt(target)
        self.assertEqual(restored.sql("select count(*), sum(hashtext(t)::bigint) from entry", "select count(*) from other",
                                      "select count(*) from fresh"), wanted)
        restored.sql("create extension amcheck")
        restored.sql("select verify_heapam('entry'), verify_heapam('other'), verify_heapam('fresh')")


if __name__ == "__main__":
    harness.main()
