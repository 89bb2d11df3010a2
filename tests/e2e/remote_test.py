"""A server whose files are not this machine's: snapshots by BASE_BACKUP over the replication protocol. What comes of one is what
comes of a capture on the host, page by page; the next stores what changed; a line that is cut leaves nothing."""

import random
import shutil
import socket
import subprocess
import threading
import time
import unittest

import harness
from changes_test import HISTORY_SETTINGS, SEED, Snapshots

SECONDS_MAX = 120
EDGE = (13, 15, 18)  # of the older framing one, and of the newer; all with --all


class Wire:
    """A line to a server's socket that can be cut after so many bytes of an answer."""

    def __init__(self, server):
        self.server, self.cut_after = server, None
        self.folder = harness.new_folder()
        self.path = self.folder / ".s.PGSQL.5432"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.path.chmod(0o777)
        self.listener.listen(16)
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def connect(self, user="postgres"):
        return f"host={self.folder} port=5432 user={user} dbname=postgres"

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(str(self.server.socket / ".s.PGSQL.5432"))
            threading.Thread(target=self._pass, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, True), daemon=True).start()

    def _pass(self, source, target, is_answer):
        passed = 0
        try:
            while data := source.recv(65536):
                target.sendall(data)
                passed += len(data)
                if is_answer and self.cut_after is not None and passed > self.cut_after:
                    self.cuts += 1
                    break
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()


class Remote(Snapshots):
    def remotely(self, way="replication"):
        text = self.config.read_text()
        for word in ("replication", "host", "auto"):
            text = text.replace(f"    capture: {word}\n", "")
        self.config.write_text(text.replace("    kind: postgres\n", f"    kind: postgres\n    capture: {way}\n"))

    def role(self, server):
        """With the rights that docs/postgres.md names, and no others."""
        server.sql("create role kuramori login replication",
                   "grant pg_read_all_settings to kuramori" if server.major < 14 else "grant pg_read_all_settings, pg_read_all_data to kuramori",
                   "grant execute on function pg_create_restore_point(text), pg_switch_wal() to kuramori")
        self.config.write_text(self.config.read_text().replace("user=postgres", "user=kuramori"))

    def equal_to_the_hosts(self, major):
        """Nobody writes between two snapshots, one from the host and one over the wire: each restored file is the same."""
        server = self.server(major, settings=["wal_keep_size = '256MB'"] + (["allow_in_place_tablespaces = on"] if major >= 15 else []))
        space = harness.new_folder(self.folder)
        server.sql(f"create tablespace space location '{space}'", "create table here as select i, repeat(md5(i::text), 3) from generate_series(1, 9000) i",
                   "create table there tablespace space as select i from generate_series(1, 5000) i", "create index on there (i)",
                   "create unlogged table scratch as select 1 one", "create table empty ()")
        if major >= 15:
            server.sql("create tablespace inside location ''")
            server.sql("create table within tablespace inside as select generate_series(1, 2000) i")
        server.sql("vacuum freeze", "checkpoint")
        host, _ = self.backup("--full")
        self.assertFalse(host["over_replication"])
        self.remotely()
        wire, _ = self.backup("--full")
        self.assertTrue(wire["over_replication"])
        one, other = self.restored(host), self.restored(wire)
        self.assert_same_pages(one, other, self.start_of(host), f"PostgreSQL {major}")
        names = [{path.relative_to(data).as_posix() for path in data.rglob("*")} - {"backup_label.old"} for data in (one, other)]
        self.assertEqual(names[0] ^ names[1], set())
        for path in ("PG_VERSION", "postgresql.conf", "pg_hba.conf", "global/pg_filenode.map"):
            self.assertEqual((one / path).read_bytes(), (other / path).read_bytes(), path)
            self.assertEqual((one / path).stat().st_mode, (other / path).stat().st_mode, path)
        # Nothing happened: nothing of a relation is stored again.
        third, _ = self.backup()
        self.assertEqual((third["changes"], third["base"]), ("wal", wire["id"]))
        self.assertLess(third["pages_stored"], 60)
        again = self.adopt(other, major)
        self.assertEqual(again.sql("select (select count(*) from here), (select count(*) from there)"), "9000|5000")

    def history_over_the_wire(self, major, rounds, steps, seed):
        """Also over the wire a snapshot that leaves pages to the one before holds what a full one, of the host, holds (P22, P27)."""
        server = self.server(major, settings=HISTORY_SETTINGS)
        self.remotely()

        def full():
            self.remotely("host")
            snapshot, _ = self.backup("--full")
            self.remotely()
            return snapshot

        self.history_of_snapshots(server, major, rounds, steps, seed, full)

    def test_the_main_job_from_elsewhere_with_the_least_rights(self):
        server = self.server(15)
        server.sql("create table entry (id bigint primary key, text text)", "insert into entry select i, md5(i::text) from generate_series(1, 5000) i")
        self.role(server)
        self.remotely()
        self.backup()
        stop = threading.Event()

        def write():
            number = 5000
            while not stop.is_set():
                number += 1
                server.sql(f"insert into entry values ({number}, md5('{number}'))", f"update entry set text = 'x' where id = {number // 2}")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            snapshot, outcome = self.backup()
        finally:
            stop.set()
            writer.join()
        self.assertEqual((snapshot["changes"], snapshot["changes_contradicted"]), ("wal", False), outcome)
        self.assertGreater(snapshot["pages_unchanged"], 0, outcome)
        self.assertEqual(snapshot["broken_pages"], [], outcome)
        wanted = server.sql("select count(*), sum(hashtext(text)::bigint) from entry")
        time.sleep(0.05)
        moment = server.sql("select clock_timestamp()")
        time.sleep(0.05)
        server.sql("delete from entry")
        server.switch_wal()
        server.kill()
        shutil.rmtree(server.data)
        target = self.folder / "restored"
        self.kuramori("restore", "db", "--to", target, "--at", moment + ":00" if moment[-3] in "+-" else moment)
        self.assertEqual(self.adopt(target, 15).sql("select count(*), sum(hashtext(text)::bigint) from entry"), wanted)
        self.kuramori("drill", "db")
        self.assertTrue(any(each["proof"] for each in self.snapshots()))
        self.kuramori("vault", "scrub", "here")

    def test_a_line_that_is_cut_leaves_no_snapshot_and_the_next_run_makes_one(self):
        server = self.server(17)
        server.sql("create table entry as select i, repeat(md5(i::text), 4) from generate_series(1, 60000) i", "vacuum freeze entry")
        wire = Wire(server)
        self.addCleanup(wire.close)
        self.config.write_text(self.config.read_text().replace(server.connect(), wire.connect()))
        self.remotely()
        wire.cut_after = 4 << 20  # in the middle of the archive: the cluster is larger
        cut = self.kuramori("backup", "db", status=1)
        self.assertGreater(wire.cuts, 0)
        self.assertIn("snapshot", cut.err, cut)
        self.assertEqual(self.snapshots(), [])
        deadline = time.monotonic() + SECONDS_MAX
        while server.sql("select count(*) from pg_replication_slots") != "0":  # the server notices by and by
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        wire.cut_after = None
        whole, _ = self.backup()
        wire.cut_after = 4 << 20
        self.kuramori("backup", "db", status=1)
        wire.cut_after = None
        self.assertEqual([each["id"] for each in self.snapshots()], [whole["id"]])
        # What the cut one left behind is built on by nobody: the next one builds on the whole one.
        after, _ = self.backup()
        self.assertEqual(after["base"], whole["id"])
        self.assertLess(after["pages_stored"], 200)
        self.restored(after)

    def test_wal_is_taken_over_the_wire_where_nobody_archives(self):
        server = harness.Server(self.folder, 16, ["archive_mode = off"])
        self.servers.append(server)
        self.configure(server)
        self.kuramori("vault", "init", "here")
        server.start()
        self.remotely()
        server.sql("create table entry as select i from generate_series(1, 9000) i")
        first, outcome = self.backup()
        self.assertGreater(first["wal_segments_added"], 0, outcome)
        server.sql("insert into entry select generate_series(1, 100)")
        second, outcome = self.backup()
        self.assertEqual((second["changes"], second["base"]), ("wal", first["id"]), outcome)
        again = self.adopt(self.restored(second), 16)
        self.assertEqual(again.sql("select count(*) from entry"), "9100")

    def test_a_broken_page_is_named_and_holds_the_one_before_P3(self):
        server = self.server(15)
        server.sql("create table entry as select i, md5(i::text) from generate_series(1, 9000) i", "checkpoint")
        self.remotely()
        good, _ = self.backup()
        path = server.sql("select pg_relation_filepath('entry')")
        server.stop()
        with open(server.data / path, "r+b") as file:
            file.seek(3 * 8192 + 4000)
            file.write(b"rotten")
        server.start()
        outcome = self.kuramori("backup", "db", "--json", status=3)
        snapshot = outcome.json()["snapshot"]
        self.assertEqual([(page["path"], page["page"]) for page in snapshot["broken_pages"]], [(path, 3)], outcome)
        self.assertEqual(snapshot["held"], [good["id"]], outcome)

    def from_elsewhere(self, server, *words, status=0):
        """The program where the server's folder is not to be seen."""
        command = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', server.folder,
                   *harness.as_server([self.programs / "kuramori", "--config", self.config, *words])]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              timeout=harness.COMMAND_SECONDS_MAX, env=harness.environment(), cwd="/")
        outcome = harness.Outcome(words, done.returncode, done.stdout, done.stderr)
        if status is not None:
            self.assertEqual(done.returncode, status, outcome)
        return outcome

    @unittest.skipUnless(harness.is_root(), "only root hides a folder")
    def test_another_hosts_files_are_asked_for_without_being_told_to(self):
        server = harness.Server(harness.new_folder(), 18, ["archive_mode = off"])
        self.servers.append(server)
        self.configure(server)
        self.kuramori("vault", "init", "here")
        server.start()
        self.role(server)
        outcome = self.from_elsewhere(server, "backup", "db", "--json")
        self.assertTrue(outcome.json()["snapshot"]["over_replication"], outcome)
        self.remotely("host")
        self.assert_refused(self.from_elsewhere(server, "backup", "db", status=5), "is not on this machine", "capture: replication")
        # What doctor asks for is what is needed from there: no files, but a replication connection.
        self.remotely()
        about = {finding["about"] for finding in self.from_elsewhere(server, "doctor", "db", "--json", status=None).json()["findings"]}
        self.assertFalse(about & {"data_directory", "replication", "role"}, about)
        server.sql("alter role kuramori noreplication")
        self.assert_refused(self.from_elsewhere(server, "backup", "db", status=1), "kuramori", "ALTER ROLE")


def add(major):
    setattr(Remote, f"test_a_snapshot_over_the_wire_is_the_hosts_page_by_page_{major}", lambda self: self.equal_to_the_hosts(major))
    if harness.ALL:
        setattr(Remote, f"test_what_is_left_to_the_one_before_is_right_{major}", lambda self: self.history_over_the_wire(major, 5, 30, SEED))


for each in harness.MAJORS if harness.ALL else EDGE:
    add(each)
if not harness.ALL:
    setattr(Remote, "test_what_is_left_to_the_one_before_is_right", lambda self: self.history_over_the_wire(random.Random(SEED).choice([15, 18]), 1, 12, SEED))

del Snapshots  # its tests are not ours

if __name__ == "__main__":
    harness.main()
