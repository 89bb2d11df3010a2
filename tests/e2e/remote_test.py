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
SUMMARIES = ["summarize_wal = on"]  # from 17 on
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

    def backup(self, *words, env=None):
        outcome = self.kuramori("backup", "db", "--json", *words, env=env)
        snapshot = outcome.json()["snapshot"]
        self.sent.append(snapshot["sent"])
        return snapshot, outcome

    def setUp(self):
        super().setUp()
        self.sent = []  # by each snapshot

    def history_over_the_wire(self, major, rounds, steps, seed, summaries=False):
        """Also over the wire a snapshot that leaves pages to the one before holds what a full one, of the host, holds (P22, P27).
        With WAL summaries the server sends no more than what changed."""
        server = self.server(major, settings=HISTORY_SETTINGS + (SUMMARIES if summaries else []))
        self.remotely()

        def full():
            self.remotely("host")
            snapshot, _ = self.backup("--full")
            self.remotely()
            return snapshot

        _, about = self.history_of_snapshots(server, major, rounds, steps, seed, full)
        # The first over the wire, then by turns one over it and one of the host.
        self.assertTrue(self.sent[0].startswith("everything: "), about)
        for sent in self.sent[1::2]:
            self.assertEqual(sent, "changes") if summaries else self.assertTrue(sent.startswith("everything: "), sent)
        self.assertEqual(set(self.sent[2::2]), {""}, about)

    def under_load(self, major, rounds, seed):
        """Changes alone, sent while all that can happen to a relation happens; what comes of them and the WAL is what the server has."""
        server = self.server(major, settings=[*HISTORY_SETTINGS, *SUMMARIES, "autovacuum = on", "autovacuum_naptime = 1", "wal_compression = on"])
        server.sql("create table account (id int primary key, text text, sum int) with (fillfactor = 60)",
                   "insert into account select i, repeat(md5(i::text), 8), 0 from generate_series(1, 40000) i",
                   "create table staging (id int, text text)", "create index on staging (id)", "create unlogged table scratch as select 1 one")
        self.remotely()
        self.backup()
        stop = threading.Event()

        def work(number):
            roll = random.Random(seed * 10 + number)
            works = [
                lambda: f"update account set text = md5(random()::text), sum = sum + 1 where id % 400 = {roll.randrange(400)}",
                lambda: f"begin; update account set sum = sum - 1 where id = {roll.randint(1, 40000)}; rollback",
                lambda: f"insert into staging select i, repeat('x', 300) from generate_series(1, {roll.randint(1, 3000)}) i",
                lambda: f"copy staging from program 'seq -f %.0f,copied 1 {roll.randint(1, 9000)}' csv",
                lambda: f"delete from staging where ctid > '({roll.randint(0, 300)},0)'",
                lambda: "vacuum staging", lambda: "vacuum account", lambda: "truncate staging", lambda: "reindex table staging",
                lambda: "vacuum full staging", lambda: "checkpoint", lambda: "create table if not exists more as select 1",
                lambda: "drop table if exists more",
            ]
            while not stop.is_set():
                server.sql(roll.choice(works)(), check=False)  # a deadlock is no failure

        count = "select (select count(*)::text || sum(hashtext(text)) || sum(sum) from account) || ' ' || (select count(*)::text || sum(id) from staging)"
        for round_ in range(rounds):
            stop.clear()
            workers = [threading.Thread(target=work, args=(round_ * 3 + number,)) for number in range(3)]
            for each in workers:
                each.start()
            try:
                time.sleep(2)
                for _ in range(2):
                    last, outcome = self.backup()
                    self.assertFalse(last["changes_contradicted"], outcome)
            finally:
                stop.set()
                for each in workers:
                    each.join()
            wanted = server.sql(count)
            time.sleep(0.05)
            moment = server.sql("set timezone = 'UTC'", "select clock_timestamp()::text")
            time.sleep(0.05)
            server.sql("insert into scratch values (1)", "create table after as select 1", "drop table after")
            server.switch_wal()
            target = self.folder / f"restored-{round_}"
            self.kuramori("restore", "db", "--to", target, "--at", moment + ":00")
            again = self.adopt(target, major)
            about = f"seed {seed}, round {round_}, sent {self.sent}\n{outcome}"
            self.assertEqual(again.sql(count), wanted, about)
            again.sql("create extension amcheck",
                      "select bt_index_check(c.oid, true) from pg_class c join pg_index i on i.indexrelid = c.oid join pg_am a on a.oid = c.relam "
                      "where a.amname = 'btree' and c.relpersistence = 'p' and i.indisvalid")
            self.assertEqual(again.sql("select c.relname, v.* from pg_class c, lateral verify_heapam(c.oid) v "
                                       "where c.relkind in ('r', 't', 'm') and c.relpersistence = 'p'"), "", about)
            again.kill()
            shutil.rmtree(target)
        self.assertIn("changes", self.sent, str(outcome))

    def test_the_main_job_from_elsewhere_with_the_least_rights(self):
        server = self.server(18, settings=SUMMARIES)
        server.sql("create table entry (id bigint primary key, text text)", "insert into entry select i, md5(i::text) from generate_series(1, 5000) i")
        self.role(server)
        self.remotely()
        # A key that opens no tree: this machine remembers the names of the files.
        writer, state = self.folder / "writer.key", {"KURAMORI_STATE": self.folder / "state"}
        self.kuramori("vault", "key", "new", "here", "--role", "writer", "--name", "db1", "--to", writer)
        owners = self.config.read_text()
        self.config.write_text(owners.replace(str(self.key), str(writer)))
        self.backup(env=state)
        stop = threading.Event()

        def write():
            number = 5000
            while not stop.is_set():
                number += 1
                server.sql(f"insert into entry values ({number}, md5('{number}'))", f"update entry set text = 'x' where id = {number // 2}")

        work = threading.Thread(target=write)
        work.start()
        try:
            snapshot, outcome = self.backup(env=state)
        finally:
            stop.set()
            work.join()
        self.config.write_text(owners)
        self.assertEqual((snapshot["sent"], snapshot["changes"], snapshot["changes_contradicted"]), ("changes", "wal", False), outcome)
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
        self.assertEqual(self.adopt(target, 18).sql("select count(*), sum(hashtext(text)::bigint) from entry"), wanted)
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

    def summarize(self, server, wanted):
        server.sql(f"alter system set summarize_wal = {wanted}", "select pg_reload_conf()")
        deadline = time.monotonic() + SECONDS_MAX
        while server.sql("show summarize_wal") != wanted:
            self.assertLess(time.monotonic(), deadline)

    def lose_summaries(self, server):
        """Since the last snapshot, and the WAL that they could be made of on the server."""
        self.summarize(server, "off")
        deadline = time.monotonic() + SECONDS_MAX
        while server.sql("select count(*) from pg_stat_activity where backend_type = 'walsummarizer'") != "0":
            self.assertLess(time.monotonic(), deadline)
        segment = server.data / "pg_wal" / server.sql("select pg_walfile_name(pg_current_wal_insert_lsn())")
        server.sql("insert into entry values (1, 'x')")
        server.switch_wal()
        while segment.exists():
            self.assertLess(time.monotonic(), deadline)
            server.sql("insert into entry values (2, 'x')", "delete from entry where i = 2 and text = 'x'", "checkpoint")
        for path in (server.data / "pg_wal" / "summaries").iterdir():
            path.unlink()
        self.summarize(server, "on")

    def wide(self, server):
        """A table that makes up most of the cluster, and that nobody vacuums behind our back."""
        server.sql("create table wide (id int, text text) with (autovacuum_enabled = off)",
                   "insert into wide select i, repeat(md5(i::text), 30) from generate_series(1, 30000) i", "vacuum freeze wide", "checkpoint")

    def plant_a_wrong_summary(self, server, since):
        """In place of what tells of the changes since: a summary of nothing, under its name."""
        deadline = time.monotonic() + SECONDS_MAX
        server.sql("checkpoint")
        end = int(server.sql("select redo_lsn - '0/0' from pg_control_checkpoint()"))
        while int(server.sql("select max(end_lsn) - '0/0' from pg_available_wal_summaries()")) < end:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        files = sorted((server.data / "pg_wal" / "summaries").iterdir())
        quiet = min(files, key=lambda path: path.stat().st_size).read_bytes()
        for path in files:
            if int(path.name[24:40], 16) > since:
                path.write_bytes(quiet)

    def test_P24_only_what_changed_is_sent_and_the_snapshot_stands_alone(self):
        server = self.server(18, settings=SUMMARIES)
        self.wide(server)
        self.remotely()
        self.config.write_text(self.config.read_text().replace("    window: 14d\n", ""))  # nothing stays as its base
        first, outcome = self.backup("--keep", "1s")
        self.assertEqual(first["sent"], "everything: there is no snapshot to build on", outcome)
        server.sql("update wide set text = md5(text) where id % 5000 = 7", "create table fresh as select generate_series(1, 3000) i")
        second, outcome = self.backup("--keep", "1s")
        self.assertEqual((second["sent"], second["changes"], second["base"]), ("changes", "wal", first["id"]), outcome)
        # Maps, a sample of whole files, what is no relation; and of `wide` some pages.
        self.assertLess(second["bytes_read"] * 3, first["bytes_read"], outcome)
        self.assertLess(second["pages_stored"], 400, outcome)
        self.assertGreaterEqual(second["pages_sampled"], 900, outcome)
        self.assertIn("over the replication protocol, changes", self.kuramori("backup", "db", "--keep", "1s").out)
        server.sql("update wide set text = 'third' where id % 5000 = 8")
        third, outcome = self.backup()
        self.assertEqual(third["sent"], "changes", outcome)
        wanted = server.sql("select count(*), sum(hashtext(text)::bigint), (select sum(i) from fresh) from wide")
        # Whatever it was built on is gone.
        deadline = time.monotonic() + SECONDS_MAX
        while [each["id"] for each in self.snapshots()] != [third["id"]]:
            self.assertLess(time.monotonic(), deadline)
            self.kuramori("prune")
        self.kuramori("vault", "collect", "here", "--share-max", "100")
        again = self.adopt(self.restored(third), 18)
        self.assertEqual(again.sql("select count(*), sum(hashtext(text)::bigint), (select sum(i) from fresh) from wide"), wanted)
        again.kill()
        # Of a server that leaves out what changed nothing is believed.
        server.sql("checkpoint", "checkpoint", "update wide set text = 'other' where id % 5000 = 9")
        self.plant_a_wrong_summary(server, self.start_of(third))
        fourth, outcome = self.backup()
        self.assertTrue(fourth["changes_contradicted"], outcome)
        self.assert_refused(outcome, "ALARM: the server's WAL summaries do not tell all that changed", "does not send it")
        self.assertTrue(fourth["sent"].startswith("everything: the server's WAL summaries"), outcome)
        self.assertEqual((fourth["pages_unchanged"], fourth["base"]), (0, ""), outcome)

    def test_where_the_server_cannot_tell_everything_is_sent_and_it_says_why(self):
        server = self.server(17, settings=SUMMARIES)
        server.sql("create table entry as select i, ''::text as text from generate_series(1, 9000) i")
        self.remotely()
        first, _ = self.backup()
        # Its summaries are gone: nothing is left out that nobody vouches for, and what the WAL tells is stored.
        self.lose_summaries(server)
        second, outcome = self.backup()
        self.assertTrue(second["sent"].startswith("everything: WAL summaries are required"), outcome)
        self.assertIn("asked for everything", outcome.err, outcome)
        self.assertEqual((second["changes"], second["base"]), ("wal", first["id"]), outcome)
        self.assertLess(second["pages_stored"], 200, outcome)
        third, outcome = self.backup()
        self.assertEqual(third["sent"], "changes", outcome)
        # Of changes that nothing of ours confirms no snapshot is made.
        server.sql("insert into entry values (3, 'x')")
        server.switch_wal()
        at = self.start_of(third) // (16 << 20) * (16 << 20)
        one = next(path for path in (self.vault / "wal").rglob("*.seg.*") if path.name.startswith(f"{at:016x}-"))
        other = one.with_name(one.name[:-1] + ("1" if one.name[-1] == "0" else "0"))
        self.assertFalse(other.exists())
        shutil.copy2(one, other)  # as if two servers had written this timeline
        self.give(other)
        fourth, outcome = self.backup()
        self.assertRegex(fourth["sent"], "^everything: .*with two contents", outcome)
        self.assertRegex(fourth["changes"], "^whole: .*with two contents", outcome)
        self.assertFalse(fourth["changes_contradicted"], outcome)
        self.summarize(server, "off")
        fifth, outcome = self.backup()
        self.assertEqual(fifth["sent"], "everything: summarize_wal is off", outcome)
        self.assertIn("ALTER SYSTEM SET summarize_wal = on", self.kuramori("doctor", "db", status=None).out)
        self.assertEqual(self.adopt(self.restored(fifth), 17).sql("select count(*) from entry"), "9002")

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
for each in (17, 18) if harness.ALL else ():
    setattr(Remote, f"test_changes_are_sent_under_load_{each}", lambda self, major=each: self.under_load(major, 4, SEED))
    setattr(Remote, f"test_P22_P27_what_the_server_says_changed_is_what_did_{each}", lambda self, major=each: self.history_over_the_wire(major, 6, 40, SEED, summaries=True))
if not harness.ALL:
    # Of a server that sends everything, or one that sends what changed.
    setattr(Remote, "test_P22_P27_what_is_left_to_the_one_before_is_right",
            lambda self, major=random.Random(SEED).choice([15, 17, 18]): self.history_over_the_wire(major, 1, 12, SEED, summaries=major >= 17))

del Snapshots  # its tests are not ours

if __name__ == "__main__":
    harness.main()
