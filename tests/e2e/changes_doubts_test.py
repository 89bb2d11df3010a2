"""A snapshot whose WAL does not tell all that changed says so, and reads more; and what it reads when the WAL does."""

import struct
import subprocess
import threading
import time
import unittest

import harness
from changes_test import PAGE, Snapshots, lsn_of, relation_pages


class Doubts(Snapshots):
    def fill(self, checksums=True, settings=(), rows=20000):
        server = self.server(15, settings=settings)
        if not checksums:
            server.stop()
            subprocess.run(harness.as_server([server.bin / "pg_checksums", "--disable", "-D", server.data]), check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=harness.environment(), cwd="/")
            server.start()
        server.sql("create table entry (id int primary key, text text) with (fillfactor = 50)",
                   f"insert into entry select i, repeat('x', 200) from generate_series(1, {rows}) i", "checkpoint")
        return server

    @staticmethod
    def has_visibility(server):
        return server.sql("select count(*) from pg_available_extensions where name = 'pg_visibility'") == "1"

    def assert_as_a_full_one(self, snapshot, hints=True):
        full, _ = self.backup("--full")
        self.assert_same_pages(self.restored(snapshot), self.restored(full), self.start_of(snapshot), snapshot, hints)

    def lose_a_segment(self, server):
        """In the middle of what comes after the last snapshot, from the vault and from the server."""
        server.sql("update entry set text = 'one' where id % 5 = 0")
        segment = server.sql("select pg_walfile_name(pg_current_wal_insert_lsn())")
        at = int(server.sql("select pg_current_wal_insert_lsn() - '0/0'")) // (16 << 20) * (16 << 20)
        server.switch_wal()
        server.sql("update entry set text = 'two' where id % 7 = 0")
        server.switch_wal()
        server.sql("checkpoint", "checkpoint")
        self.assertFalse((server.data / "pg_wal" / segment).exists())
        lost = [path for path in (self.vault / "wal").rglob("*.seg.*") if path.name.startswith(f"{at:016x}-")]
        self.assertEqual(len(lost), 1, segment)
        lost[0].unlink()
        return segment

    def test_a_hole_is_named_and_page_lsns_tell_P22(self):
        server = self.fill()
        self.backup()
        segment = self.lose_a_segment(server)
        snapshot, outcome = self.backup()
        self.assertRegex(snapshot["changes"], f"^page LSNs: .*{segment}.*cannot be read in pg_wal")
        self.assert_refused(outcome, "the WAL does not tell what changed", segment, "its LSN tells")
        self.assertGreater(snapshot["pages_unchanged"], 0)
        self.assertIn("page LSNs", self.kuramori("show", snapshot["id"]).out)
        # The one after it stands on both, and the WAL tells again.
        server.sql("update entry set text = 'three' where id % 9 = 0")
        again, _ = self.backup()
        self.assertEqual(again["changes"], "wal", again)
        self.assert_as_a_full_one(again)

    def test_where_page_lsns_do_not_tell_all_is_read_P22_P26(self):
        """Without checksums and wal_log_hints a page becomes all-visible and keeps its LSN: a visibility map beside the page
        of before would make index-only scans count what is not there."""
        server = self.fill(checksums=False, rows=5000)
        self.backup()
        server.sql("vacuum entry")
        before, _ = self.backup()
        self.assertEqual(before["changes"], "wal")
        self.assert_as_a_full_one(before, hints=False)
        segment = self.lose_a_segment(server)
        snapshot, outcome = self.backup()
        self.assertRegex(snapshot["changes"], f"^whole: .*{segment}.*wal_log_hints")
        self.assert_refused(outcome, "everything is read")
        self.assertEqual(snapshot["pages_unchanged"], 0)

    def test_wal_level_minimal_in_between_is_named_P22(self):
        server = self.fill()
        self.backup()
        server.stop()
        server.start("-c", "wal_level=minimal", "-c", "max_wal_senders=0", "-c", "archive_mode=off")
        server.sql("begin; create table unlogged_in_wal as select generate_series(1, 5000) id; commit",
                   "update entry set text = 'minimal' where id % 11 = 0")
        server.stop()
        server.start()
        snapshot, outcome = self.backup()
        self.assertRegex(snapshot["changes"], "^page LSNs: wal_level was minimal between [0-9A-F]+/[0-9A-F]+ and ")
        self.assert_as_a_full_one(snapshot)

    def set_back(self, server, kept):
        """The disks as they were then, in the same files."""
        for path in list(server.data.rglob("*")):
            if path.is_file() and path not in kept:
                path.unlink()
        for path, content in kept.items():
            if path.name == "postmaster.pid":
                continue
            if not path.exists():
                path.touch()
                harness.give_to_server(path)
                path.chmod(0o600)
            with open(path, "r+b") as file:  # the same inode
                file.truncate(len(content))
                file.write(content)

    def lives_on_and_is_set_back(self, segments):
        server = self.fill()
        self.backup()
        server.stop()
        kept = {path: path.read_bytes() for path in server.data.rglob("*") if path.is_file()}
        server.start()
        for _ in range(segments):
            server.sql("update entry set text = 'the one history' where id % 3 = 0")
            server.switch_wal()
        server.stop()
        self.set_back(server, kept)
        server.start()
        return server

    @unittest.skipUnless(harness.ALL, "with ./dev test --all")
    def test_another_history_under_the_same_names_is_found_out(self):
        """The cluster's disks are set back to an hour ago: files, LSNs and timeline are the same, the WAL is not."""
        server = self.lives_on_and_is_set_back(1)
        server.sql("update entry set text = 'the other history' where id % 3 = 1", "select pg_switch_wal()",
                   "update entry set text = 'and more' where id % 30 = 1")
        snapshot, _ = self.backup()
        self.assertRegex(snapshot["changes"], "^whole: .*(not the one in pg_wal|two contents)")

    def test_a_snapshot_never_rests_on_the_wal_of_another_history_P40(self):
        """Set back further than the archive reaches: what it would need is there by name, and is another history's."""
        server = self.lives_on_and_is_set_back(4)
        server.sql("update entry set text = 'the other history' where id % 3 = 1")
        for words in ((), ("--full",)):
            outcome = self.kuramori("backup", "db", *words, status=5)
            self.assert_refused(outcome, "another history", "set back by its disks", "promote")
        self.assertEqual(len(self.snapshots()), 1)
        # As it was told.
        server.stop()
        (server.data / "standby.signal").touch()
        harness.give_to_server(server.data / "standby.signal")
        server.start()
        server.sql("select pg_promote()")
        server.await_promoted()
        snapshot, _ = self.backup()
        self.assertEqual(self.adopt(self.restored(snapshot)).sql("select count(*) from entry where text = 'the other history'"), "6667")

    def test_a_change_the_wal_does_not_tell_of_is_found_out_P24(self):
        """Pages that change with no record in the WAL, as if a record had been lost on the way into the set."""
        server = self.fill(checksums=False, settings=["wal_log_hints = on"])
        path = server.data / server.sql("select pg_relation_filepath('entry')")
        server.sql("vacuum entry")  # hint bits are logged: counting rows is not to log them
        first, _ = self.backup()
        server.sql("checkpoint", "update entry set text = 'told' where id = 1")
        server.stop()
        lsn = self.start_of(first) + 8
        planted = 0
        with open(path, "r+b") as file:
            pages = path.stat().st_size // PAGE
            for page in range(pages // 2, pages, 3):
                file.seek(page * PAGE)
                file.write(struct.pack("<II", lsn >> 32, lsn & 0xffffffff))
                planted += 1
        server.start()
        snapshot, outcome = self.backup()
        unchanged = first["size_bytes"] // PAGE  # about
        missed = 1.0
        for drawn in range(1000):
            missed *= max(0.0, 1 - planted / (unchanged - drawn))
        print(f"{planted} of about {unchanged} pages: found with probability {1 - missed:.12f}", flush=True)
        self.assertLess(missed, 1e-12)
        self.assertTrue(snapshot["changes_contradicted"], outcome)
        self.assertRegex(snapshot["changes"], "^page LSNs: a page changed at [0-9A-F]+/[0-9A-F]+ without a record")
        self.assert_refused(outcome, "ALARM", "kuramori backup --full")
        self.assertEqual(self.kuramori("show", snapshot["id"], "--json").json()["snapshot"]["facts"]["postgres.changes_contradicted"], "yes")
        self.assert_as_a_full_one(snapshot)

    def test_what_is_read_and_stored_follows_what_changed_and_index_only_scans_count_right(self):
        server = self.fill(rows=100000)
        server.sql("vacuum (freeze) entry", "checkpoint")
        self.backup()
        quiet, _ = self.backup()  # what is always read, and the sample
        server.sql("update entry set text = 'new' where id % 97 = 0")
        snapshot, outcome = self.backup()
        self.assertEqual(snapshot["changes"], "wal", outcome)
        start, before = self.start_of(snapshot), self.start_of(quiet)
        changed = sum(before < lsn_of(content[at:at + 8]) <= start
                      for path, content in relation_pages(server.data).items() if "_" not in path.rpartition("/")[2]
                      for at in range(0, len(content), PAGE))
        self.assertGreater(changed, 800)
        read = snapshot["relation_bytes_read"] - quiet["relation_bytes_read"]
        stored = snapshot["pages_stored"] - quiet["pages_stored"]
        print(f"{changed} pages changed: read {read / PAGE / changed:.3f}, stored {stored / changed:.3f} times as many", flush=True)
        self.assertLessEqual(read, 1.05 * changed * PAGE)
        self.assertLessEqual(stored, 1.05 * changed)
        self.assertGreaterEqual(stored, 0.8 * changed)
        self.assertLessEqual(quiet["pages_sampled"], 1000)
        self.assertLess(quiet["pages_stored"], 100)  # maps that are as they were are not stored again

        # What became of the visibility map: an index-only scan believes it.
        server.sql("delete from entry where id % 2 = 0")
        last, _ = self.backup()
        self.assertEqual(last["changes"], "wal")
        restored = self.adopt(self.restored(last), 15)
        count = "set enable_seqscan = off; set enable_bitmapscan = off; {}select count(*) from entry where id > 0"
        self.assertIn("Index Only Scan", restored.sql(count.format("explain ")))
        self.assertEqual(restored.sql(count.format("")), "50000")
        if self.has_visibility(restored):
            self.assertEqual(restored.sql("create extension if not exists pg_visibility", "select count(*) from pg_check_visible('entry')"), "0")

    def test_a_standby_with_little_to_do_and_its_promotion_P25(self):
        primary = self.server(15, initdb=["--wal-segsize=1"])
        primary.sql("create table entry (id int primary key)", "insert into entry select generate_series(1, 5000)")
        data = self.folder / "standby"
        subprocess.run(harness.as_server([primary.bin / "pg_basebackup", "-d", primary.connect(), "-D", data, "-R", "-X", "stream",
                                          "--checkpoint=fast"]), check=True, env=harness.environment(), cwd="/")
        standby = harness.Server(self.folder, 15, data=data)
        self.servers.append(standby)
        standby.start("-c", "archive_mode=off", "-c", "hot_standby=on", "-c", "wal_keep_size=1GB")
        self.configure(standby)
        stop = threading.Event()

        def end_segments():  # or the last segment of a standby's snapshot never becomes whole
            while not stop.wait(0.3):
                primary.sql("select pg_logical_emit_message(true, 'a', 'b')", "select pg_switch_wal()")

        ending = threading.Thread(target=end_segments)
        ending.start()
        try:
            first, _ = self.backup()
            idle, _ = self.backup()
            self.assertEqual(self.start_of(idle), self.start_of(first))  # no checkpoint came between
            self.assertEqual(idle["changes"], "wal", idle)
            primary.sql("insert into entry select generate_series(5001, 9000)", "delete from entry where id % 2 = 0", "checkpoint")
            lsn = primary.sql("select pg_current_wal_flush_lsn()")
            deadline = time.monotonic() + harness.START_SECONDS_MAX
            while standby.sql(f"select pg_last_wal_replay_lsn() >= '{lsn}'") != "t":
                self.assertLess(time.monotonic(), deadline, standby.log_text())
                time.sleep(0.02)
            standby.sql("checkpoint")  # a restartpoint
            busy, outcome = self.backup()
            self.assertGreater(self.start_of(busy), self.start_of(idle))
            self.assertEqual(busy["changes"], "wal", outcome)
        finally:
            stop.set()
            ending.join()
        target = self.folder / "restored"
        self.kuramori("restore", "db", "--to", target, "--latest")
        restored = self.adopt(target, 15)
        self.assertEqual(restored.sql("select count(*) from entry"), "4500")
        restored.stop()
        primary.stop()
        standby.sql("select pg_promote()")
        standby.await_promoted()
        standby.sql("insert into entry values (1000000)", "checkpoint")
        promoted, _ = self.backup()
        self.assertEqual(promoted["changes"], "whole: the timeline changed from 1 to 2")


del Snapshots

if __name__ == "__main__":
    harness.main()
