"""`kuramori wal stream`: WAL from a replication slot into the vault, and nothing acknowledged that is not there."""

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import threading
import time
import unittest

import jsonschema

import harness

# Long enough for a machine with much else to do; nothing waits for it to pass.
SECONDS_MAX = 120
long_form = unittest.skipUnless(harness.ALL, "a long form")
NAME = "kuramori_db"  # of slot and standby, unless told otherwise


class Stream:
    """The program, streaming, and what it says."""

    def __init__(self, case, *words, env=None):
        self.case, self.lines, self.err = case, [], []
        command = [case.programs / "kuramori", "--config", case.config, "--json", "wal", "stream", "db", *words]
        self.process = subprocess.Popen(harness.as_server(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        stdin=subprocess.DEVNULL, env=harness.environment(**(env or {})), cwd="/")
        self.readers = [threading.Thread(target=self._read, args=(self.process.stdout, self.lines), daemon=True),
                        threading.Thread(target=self._read, args=(self.process.stderr, self.err), daemon=True)]
        for reader in self.readers:
            reader.start()
        case.streams.append(self)

    @staticmethod
    def _read(pipe, into):
        for line in pipe:
            into.append(json.loads(line))

    def await_that(self, true_of, what):
        deadline = time.monotonic() + SECONDS_MAX
        while not true_of():
            self.case.assertIsNone(self.process.poll(), f"{what}: the stream ended: {self.lines[-3:]} {self.err[-5:]}")
            self.case.assertLess(time.monotonic(), deadline, f"{what}: {self.lines[-3:]} {self.err[-5:]}")
            time.sleep(0.02)

    def await_streaming(self):
        self.await_that(lambda: self.lines and self.lines[-1].get("state") == "streaming", "not streaming")
        return self

    def await_note(self, text):
        self.await_that(lambda: any(text in line.get("text", "") for line in list(self.err)), f"no word of {text}")

    def end(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(SECONDS_MAX)
        for reader in self.readers:
            reader.join(SECONDS_MAX)
        self.process.stdout.close()
        self.process.stderr.close()
        self.case.streams.remove(self)
        return status

    def kill(self):
        return self.end(signal.SIGKILL)


class Writer:
    """Commits one row after the other and remembers which were acknowledged."""

    def __init__(self, server, table="acked"):
        self.server, self.acknowledged, self.seconds = server, [], []
        self.process = subprocess.Popen([f"{harness.CLIENT}/psql", "-XqAt", "-v", "ON_ERROR_STOP=1", server.connect()],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                        env=harness.environment())
        self.table = table
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        with contextlib.suppress(OSError):
            number = int(self.server.sql(f"select coalesce(max(id), 0) from {self.table}"))
            while True:
                number += 1
                began = time.monotonic()
                self.process.stdin.write(f"insert into {self.table} values ({number}, repeat('x', {number * 37 % 900})) returning id;\n")
                self.process.stdin.flush()
                # psql prints the row when the commit has been acknowledged: it is its own transaction.
                line = self.process.stdout.readline()
                if not line:
                    return
                self.seconds.append(time.monotonic() - began)
                self.acknowledged.append(int(line))

    def await_count(self, count, stream=None):
        deadline = time.monotonic() + SECONDS_MAX
        while len(self.acknowledged) < count:
            if time.monotonic() > deadline or not self.thread.is_alive():
                raise AssertionError(f"{len(self.acknowledged)} of {count} commits: {stream.err[-5:] if stream else ''}")
            time.sleep(0.005)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.thread.join(SECONDS_MAX)
        with contextlib.suppress(BrokenPipeError):  # a line that was being written as it ended
            self.process.stdin.close()
        self.process.stdout.close()


class StreamCase(harness.Case):
    def setUp(self):
        super().setUp()
        self.streams = []

    def tearDown(self):
        for stream in list(self.streams):
            stream.kill()
        super().tearDown()

    def streaming_server(self, major=15, settings=(), initdb=()):
        """Nothing is archived but by the stream."""
        server = harness.Server(self.folder, major, ["archive_mode = off", *settings], initdb)
        self.servers.append(server)
        self.configure(server)
        self.kuramori("vault", "init", "here")
        server.start()
        server.sql("create table acked (id bigint primary key, filler text)", "create table big (id bigint, filler text)")
        return server

    def configure(self, server, plan=""):
        super().configure(server, plan)
        self.config.write_text(self.config.read_text().replace("wal: archive", "wal: stream"))

    def await_synchronous(self, server, stream):
        server.sql(f"alter system set synchronous_standby_names = 'ANY 1 ({NAME})'", "select pg_reload_conf()")
        stream.await_that(lambda: server.sql(f"select count(*) from pg_stat_replication where application_name = '{NAME}' "
                                             "and sync_state in ('quorum', 'sync')") == "1", "not synchronous")

    def await_flushed(self, server, stream):
        """All that is committed now is acknowledged as durable."""
        lsn = server.sql("select pg_current_wal_flush_lsn()")
        stream.await_that(lambda: server.sql(f"select count(*) from pg_stat_replication where application_name = '{NAME}' "
                                             f"and flush_lsn >= '{lsn}'") == "1", "not flushed")
        return lsn

    def await_watched(self, server, stream):
        """The stream knows what its slot keeps, and so whether anybody waits for it: it asks for both at once."""
        stream.await_that(lambda: server.sql("insert into big values (0)") or stream.lines[-1]["slot_bytes"], "no word of its slot")

    def await_alone(self, server):
        """No client is connected any more."""
        others = "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
        deadline = time.monotonic() + SECONDS_MAX
        while server.sql(others) != "0":
            self.assertLess(time.monotonic(), deadline, "a client is still connected")
            time.sleep(0.02)

    def destroy(self, server):
        for pid in [server.process.pid, *self.children(server.process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        server.process.wait()
        if server in harness._servers:
            harness._servers.remove(server)
        server.process = None
        shutil.rmtree(server.data)

    def freeze(self, server):
        """It takes connections, as far as the kernel does that, and answers nothing more."""
        for pid in [server.process.pid, *self.children(server.process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    @staticmethod
    def children(pid):
        path = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
        return [int(word) for word in path.read_text().split()]

    def restored(self, major=15, *words, name="restored"):
        target = self.folder / name
        self.kuramori("restore", "db", "--to", target, *(words or ("--latest",)))
        return self.adopt(target, major)

    def gaps(self):
        shown = self.kuramori("wal", "show", "db", "--json", status=None).json()
        return [gap for timeline in shown["timelines"] for gap in timeline["gaps"]]


class EndToEnd(StreamCase):
    in_memory = True

    def one_disaster(self, major=15, commits=100):
        server = self.streaming_server(major)
        stream = Stream(self).await_streaming()
        self.await_synchronous(server, stream)
        self.kuramori("backup", "db")
        writer = Writer(server)
        writer.await_count(commits, stream)
        self.destroy(server)
        writer.end()
        self.assertEqual(stream.end(), 0, stream.err)
        schema = json.loads((harness.ROOT / "docs/schema/stream.schema.json").read_text())
        for line in stream.lines:
            jsonschema.validate(line, schema)
        self.assertEqual(stream.lines[-1]["state"], "ended")
        server = self.restored(major)
        there = {int(line) for line in server.sql("select id from acked").split()}
        self.assertEqual(set(writer.acknowledged) - there, set())
        self.kuramori("vault", "scrub", "here")
        server.kill()
        return writer

    def test_what_was_acknowledged_is_there_after_the_primary_is_destroyed_P39(self):
        writer = self.one_disaster()
        times = sorted(writer.seconds)
        print(f"\n    {len(times)} synchronous commits: median {times[len(times) // 2] * 1000:.1f} ms, "
              f"p99 {times[len(times) * 99 // 100] * 1000:.1f} ms", flush=True)

    @long_form
    def test_a_hundred_primaries_are_destroyed_and_no_acknowledged_commit_is_lost_P39(self):
        for number in range(100):
            with self.subTest(number):
                self.one_disaster(harness.MAJORS[number % len(harness.MAJORS)], random.randrange(20, 400))
                for folder in ("vault", "data", "restored"):
                    shutil.rmtree(self.folder / folder, ignore_errors=True)
                self.key.unlink()

    def test_it_is_killed_again_and_again_and_leaves_no_gap_P38(self):
        server = self.streaming_server()
        self.kuramori("backup", "db")
        writer = Writer(server)
        for number in range(10 if harness.ALL else 2):
            stream = Stream(self).await_streaming()
            # Enough for several segments, so that it dies in all kinds of moments.
            server.sql("insert into big select g, repeat('y', 400) from generate_series(1, 40000) g")
            writer.await_count(len(writer.acknowledged) + 20 + 30 * (number % 5))
            stream.kill()
        writer.end()
        self.await_alone(server)  # its last row may still be on the way to a commit
        self.kuramori("wal", "stream", "db", "--once")
        self.assertEqual(self.gaps(), [])
        wanted = server.sql("select count(*), sum(id) from acked"), server.sql("select count(*) from big")
        self.kuramori("vault", "scrub", "here")
        self.destroy(server)
        server = self.restored()
        self.assertEqual((server.sql("select count(*), sum(id) from acked"), server.sql("select count(*) from big")), wanted)

    @long_form
    def test_parts_alone_make_a_moment_in_mid_segment_restorable(self):
        server = self.streaming_server()
        self.kuramori("backup", "db")
        stream = Stream(self).await_streaming()
        server.sql("insert into acked select generate_series(1, 1000)")
        lsn = self.await_flushed(server, stream)
        server.sql("insert into acked select generate_series(1001, 2000)")
        self.await_flushed(server, stream)
        self.assertEqual(stream.end(), 0, stream.err)
        kinds = [path.suffixes[-2] for path in (self.vault / "wal").rglob("*") if path.is_file()]
        self.assertGreaterEqual(kinds.count(".part"), 2, kinds)
        window = self.kuramori("window", "db", "--json").json()
        self.assertEqual(window["resource"], "db", window)
        self.assertEqual(self.restored(15, "--lsn", lsn).sql("select count(*) from acked"), "1000")
        # A second vault gets the parts as it gets segments.
        self.kuramori("vault", "init", self.folder / "twin", "--key-file", self.key, config=False)
        self.kuramori("copy", "db", "--to", self.folder / "twin", "--key-file", self.key)
        target = self.folder / "from_twin"
        self.kuramori("restore", "db", "--to", target, "--latest", "--vault", self.folder / "twin", "--key-file", self.key, config=False)
        self.assertEqual(self.adopt(target, 15).sql("select count(*) from acked"), "2000")


    def test_a_snapshot_reads_what_the_streamed_wal_says_and_no_more(self):
        server = self.streaming_server(settings=["wal_keep_size = 0", "min_wal_size = 32MB", "max_wal_size = 64MB"])
        self.kuramori("backup", "db")
        stream = Stream(self).await_streaming()
        first = server.sql("select pg_walfile_name(pg_current_wal_insert_lsn())")
        for begin in (1, 101):
            server.sql(f"insert into acked select generate_series({begin}, {begin + 99})",
                       "insert into big select g, repeat('z', 400) from generate_series(1, 15000) g")
        # The server has no more of it, so that nothing but what was streamed can say what changed.
        deadline = time.monotonic() + SECONDS_MAX
        while (server.data / "pg_wal" / first).exists():
            self.assertLess(time.monotonic(), deadline, sorted(os.listdir(server.data / "pg_wal")))
            server.sql("insert into big values (0)", "select pg_switch_wal()", "checkpoint")
        self.await_flushed(server, stream)
        self.assertEqual(stream.end(), 0, stream.err)
        second = self.kuramori("backup", "db", "--json").json()["snapshot"]
        self.assertEqual(second["changes"], "wal", second)
        self.assertFalse(second["changes_contradicted"], second)
        self.assertEqual(self.restored(15, name="second").sql("select (select count(*) from acked), (select count(*) from big where id > 0)"),
                         "200|30000")


    @long_form
    def test_an_archiver_beside_it_is_no_second_server_P31(self):
        server = self.server()
        server.sql("create table big (id bigint, filler text)")
        self.kuramori("backup", "db")
        stream = Stream(self).await_streaming()
        for _ in range(3):
            server.sql("insert into big select g, repeat('z', 400) from generate_series(1, 30000) g", "select pg_switch_wal()", "checkpoint")
        server.switch_wal()
        self.await_flushed(server, stream)
        self.assertEqual(stream.end(), 0, stream.err)
        self.assertEqual(server.sql("select failed_count from pg_stat_archiver"), "0", server.log_text())
        self.kuramori("vault", "scrub", "here")
        self.destroy(server)
        self.assertEqual(self.restored().sql("select count(*) from big"), "90000")


class Holes(StreamCase):
    in_memory = True

    def drop_slot(self, server):
        """The server may notice a little later than we that nobody reads it any more."""
        deadline = time.monotonic() + SECONDS_MAX
        while server.sql(f"select active from pg_replication_slots where slot_name = '{NAME}'") != "f":
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        server.sql(f"select pg_drop_replication_slot('{NAME}')")

    def at_boundary(self, server):
        """Archived up to the exact end of a segment: the server may write a record of its own at any time."""
        for _ in range(50):
            server.sql("create table if not exists filler (a int)", "insert into filler values (1)", "select pg_switch_wal()")
            done = self.kuramori("--json", "wal", "stream", "db", "--once").documents()[-1]
            low = int(done["durable"].split("/")[1], 16)
            if low % (16 << 20) == 0:
                return done["durable"]
        self.fail("the server never stands at a segment's end")

    def test_it_refuses_to_go_on_past_a_hole_also_at_an_exact_boundary_P37_P38(self):
        server = self.streaming_server(settings=["wal_keep_size = 0", "min_wal_size = 32MB", "max_wal_size = 64MB"])
        self.kuramori("backup", "db")
        frontier = self.at_boundary(server)
        self.drop_slot(server)
        first = server.sql(f"select pg_walfile_name('{frontier}'::pg_lsn + 1)")
        deadline = time.monotonic() + SECONDS_MAX
        server.sql("insert into filler values (1)", "select pg_switch_wal()")  # now there is such a segment
        while (server.data / "pg_wal" / first).exists():
            self.assertLess(time.monotonic(), deadline)
            server.sql("insert into filler values (1)", "select pg_switch_wal()", "checkpoint")
        # The slot is made anew, above the frontier. What lies between is gone.
        refused = self.kuramori("wal", "stream", "db", "--once", status=5)
        self.assert_refused(refused, "has removed WAL that is not archived", frontier, "--from-here")
        self.kuramori("wal", "stream", "db", "--once", status=5)
        # Told to, it leaves the hole in plain sight, and goes on from there ever after.
        self.kuramori("wal", "stream", "db", "--once", "--from-here")
        self.assertEqual(len(self.gaps()), 1)
        server.sql("insert into acked values (1)")
        self.kuramori("wal", "stream", "db", "--once")
        # The next snapshot knows that there was one, and does without what the WAL would have told.
        made = self.kuramori("backup", "db", "--json").json()["snapshot"]
        self.assertRegex(made["changes"], "^page LSNs: .*cannot be read in pg_wal")
        server.sql("insert into acked values (2)")
        self.kuramori("wal", "stream", "db", "--once")
        self.assertEqual(len(self.gaps()), 1)
        self.assertEqual(self.restored().sql("select count(*) from acked"), "2")

    def test_what_is_not_allowed_is_said_in_words(self):
        server = self.streaming_server()
        server.sql("create role weak login")
        text = self.config.read_text()
        self.config.write_text(text.replace("user=postgres", "user=weak"))
        self.assert_refused(self.kuramori("wal", "stream", "db", "--once", status=1), "REPLICATION")
        self.config.write_text(text)
        self.assert_refused(self.kuramori("wal", "stream", "db", "--slot", "Größe", status=2), "--slot NAME")
        server.stop()
        server.start("-c", "max_replication_slots=0")
        self.assert_refused(self.kuramori("wal", "stream", "db", "--once", status=1), "max_replication_slots")
        server.stop()
        server.start("-c", "max_wal_senders=0", "-c", "wal_level=minimal")
        self.assert_refused(self.kuramori("wal", "stream", "db", "--once", status=1), "max_wal_senders")


class Outages(StreamCase):
    in_memory = True

    def test_the_server_restarts_and_the_vault_is_away_and_nothing_is_skipped_P41(self):
        server = self.streaming_server()
        self.kuramori("backup", "db")
        stream = Stream(self, "--slot-warn", "32MiB").await_streaming()
        server.sql("insert into acked select generate_series(1, 100)")
        server.stop()  # waits for the stream to have everything
        stream.await_note("trying again")
        server.start()
        stream.await_note("connected again")
        server.sql("insert into acked select generate_series(101, 200)")
        self.await_flushed(server, stream)

        # The vault refuses: nothing is acknowledged, memory is bounded, the server keeps what is too much.
        folders = [path for path in (self.vault / "wal").rglob("*") if path.is_dir()]
        for folder in folders:
            folder.chmod(0o500)
        server.sql("insert into big select g, repeat('z', 800) from generate_series(1, 100000) g")
        stream.await_note("cannot be stored")
        kept = "select pg_wal_lsn_diff(sent_lsn, flush_lsn) from pg_stat_replication"
        stream.await_that(lambda: int(server.sql(kept) or 0) > 60 << 20, "it does not fill its memory")
        stream.await_note("keeps")  # the slot, and how much
        resident = int(next(line for line in pathlib.Path(f"/proc/{stream.process.pid}/status").read_text().splitlines()
                            if line.startswith("VmRSS")).split()[1])
        self.assertLess(resident, 192 << 10, "KiB")
        for folder in folders:
            folder.chmod(0o700)
        stream.await_note("answers again")
        self.await_flushed(server, stream)
        self.assertEqual(stream.end(), 0, stream.err)
        self.assertEqual(self.gaps(), [])
        self.destroy(server)
        self.assertEqual(self.restored().sql("select (select count(*) from acked), (select count(*) from big)"), "200|100000")

    def test_it_can_be_stopped_while_the_server_hangs_P36(self):
        server = self.streaming_server()
        stream = Stream(self).await_streaming()
        server.sql("insert into acked values (1)")
        self.await_flushed(server, stream)
        self.freeze(server)
        # It says something every second, and asks for its slot every two: now it waits for an answer.
        lines = len(stream.lines)
        stream.await_that(lambda: len(stream.lines) > lines + 4, "no word")
        self.assertEqual(stream.end(), 0, stream.err)
        self.destroy(server)

    @long_form
    def test_commits_are_durable_within_the_flush_interval_under_load(self):
        server = self.streaming_server()
        stream = Stream(self).await_streaming()
        writer = Writer(server)
        writer.await_count(1000 if not harness.ALL else 20000, stream)
        writer.end()
        self.await_flushed(server, stream)
        self.assertEqual(stream.end(), 0, stream.err)
        rpo = sorted(line["rpo_seconds"] for line in stream.lines if line["rpo_seconds"] is not None)
        print(f"\n    any byte durable after {stream.lines[-1]['slowest_seconds']:.2f} s at most; RPO at most {rpo[-1]:.2f} s", flush=True)


class Timelines(StreamCase):
    in_memory = True

    def standby_of(self, primary, name="standby"):
        data = self.folder / name
        subprocess.run(harness.as_server([primary.bin / "pg_basebackup", "-d", primary.connect(), "-D", data, "-R", "-X", "stream",
                                          "--checkpoint=fast"]), check=True, env=harness.environment(), cwd="/")
        server = harness.Server(self.folder, primary.major, data=data)
        self.servers.append(server)
        return server.start("-c", "hot_standby=on")

    def await_replay(self, primary, standby):
        lsn = primary.sql("select pg_current_wal_flush_lsn()")
        deadline = time.monotonic() + SECONDS_MAX
        while standby.sql(f"select pg_last_wal_replay_lsn() >= '{lsn}'") != "t":
            self.assertLess(time.monotonic(), deadline, standby.log_text())
            time.sleep(0.02)

    def reset_to_timeline(self, server, timeline):
        server.stop()
        name = f"{timeline:08X}0000000000000010"
        (server.data / "pg_wal" / f"{timeline:08X}.history").write_text(f"{timeline - 1}\t0/10000000\tby hand\n")
        harness.give_to_server(server.data / "pg_wal" / f"{timeline:08X}.history")
        subprocess.run(harness.as_server([server.bin / "pg_resetwal", "-l", name, "-D", server.data]), check=True,
                       stdout=subprocess.DEVNULL, env=harness.environment(), cwd="/")
        server.start()

    def test_a_standby_is_promoted_and_the_stream_follows_history_first_P32_P34_P52(self):
        primary = self.streaming_server()
        self.reset_to_timeline(primary, 9)
        standby = self.standby_of(primary)
        self.kuramori("backup", "db")
        self.configure(standby)
        stream = Stream(self).await_streaming()
        primary.sql("insert into acked select generate_series(1, 100)")
        self.await_replay(primary, standby)
        self.destroy(primary)
        standby.sql("select pg_promote()")
        standby.await_promoted()
        stream.await_that(lambda: stream.lines[-1]["timeline"] == 10, "it does not follow")
        standby.sql("insert into acked select generate_series(101, 200)")
        self.await_flushed(standby, stream)
        self.assertEqual(stream.end(), 0, stream.err)
        files = [path for path in (self.vault / "wal").rglob("*") if path.is_file()]
        history = next(path for path in files if ".history." in path.name and "0000000a" in str(path).lower())
        first = min((path for path in files if "/0000000a/" in str(path).lower() and ".history." not in path.name),
                    key=lambda path: path.stat().st_mtime_ns)
        self.assertLessEqual(history.stat().st_mtime_ns, first.stat().st_mtime_ns)
        self.kuramori("vault", "scrub", "here")
        self.assertEqual(self.restored().sql("select count(*) from acked"), "200")

    def test_of_several_hosts_the_new_primary_is_followed_after_a_failover_P36(self):
        primary = self.streaming_server()
        standby = self.standby_of(primary)
        text = self.config.read_text()
        both = f"host={primary.socket},{standby.socket} port=5432,5432 user=postgres dbname=postgres target_session_attrs=read-write"
        self.config.write_text(text.replace(primary.connect(), both))
        self.kuramori("backup", "db")
        stream = Stream(self).await_streaming()
        primary.sql("insert into acked select generate_series(1, 100)")
        primary.stop()  # in order: both have all of it
        standby.sql("select pg_promote()")
        standby.await_promoted()
        stream.await_that(lambda: stream.lines[-1]["timeline"] == 2, "it does not follow")
        standby.sql("insert into acked select generate_series(101, 200)")
        self.await_flushed(standby, stream)
        self.assertEqual(stream.end(), 0, stream.err)
        self.assertEqual(self.gaps(), [])
        self.assertEqual(self.restored().sql("select count(*) from acked"), "200")

    def lose_with_a_tail(self, synchronous):
        """The primary is gone, and the standby that is promoted never received what the stream did."""
        primary = self.streaming_server()
        standby = self.standby_of(primary)
        both = f"host={primary.socket},{standby.socket} port=5432,5432 user=postgres dbname=postgres target_session_attrs=read-write"
        self.config.write_text(self.config.read_text().replace(primary.connect(), both))
        self.kuramori("backup", "db")
        stream = Stream(self).await_streaming()
        if synchronous:
            self.await_synchronous(primary, stream)
        primary.sql("insert into acked select generate_series(1, 100)")
        self.await_watched(primary, stream)
        self.await_replay(primary, standby)
        standby.sql("alter system set primary_conninfo = ''", "select pg_reload_conf()")
        stream.await_that(lambda: primary.sql("select count(*) from pg_stat_replication") == "1", "the standby still follows")
        primary.sql("insert into acked select generate_series(101, 200)")
        self.await_flushed(primary, stream)
        self.destroy(primary)
        standby.sql("select pg_promote()")
        standby.await_promoted()
        return standby, stream

    def test_what_only_an_asynchronous_stream_has_does_not_stop_it_P36(self):
        standby, stream = self.lose_with_a_tail(synchronous=False)
        stream.await_that(lambda: stream.lines[-1].get("timeline") == 2, "it does not follow")
        standby.sql("insert into acked values (1000)")
        self.await_flushed(standby, stream)
        stream.await_note("never received the last")
        self.assertEqual(stream.end(), 0, stream.err)
        self.assertEqual(self.gaps(), [])
        # The next run finds its way as well, and both ends are there to be looked at.
        self.kuramori("wal", "stream", "db", "--once")
        self.kuramori("vault", "scrub", "here")
        self.assertEqual(self.restored(15, "--latest", "--timeline", "1", name="old").sql("select count(*) from acked"), "200")
        self.assertEqual(self.restored().sql("select count(*), max(id) from acked"), "101|1000")

    def test_what_only_a_synchronous_stream_has_stops_it_P36(self):
        _, stream = self.lose_with_a_tail(synchronous=True)
        self.assertEqual(stream.process.wait(SECONDS_MAX), 5)
        stream.end()
        refused = stream.lines[-1]["error"]
        self.assertIn("does not contain what is archived", refused["what"])
        self.assertIn("--timeline 1", refused["next"])

    @long_form
    def test_a_primary_that_hangs_is_left_for_the_one_that_was_promoted_P36(self):
        primary = self.streaming_server()
        standby = self.standby_of(primary)
        both = f"host={primary.socket},{standby.socket} port=5432,5432 user=postgres dbname=postgres target_session_attrs=read-write"
        self.config.write_text(self.config.read_text().replace(primary.connect(), both))
        self.kuramori("backup", "db")
        stream = Stream(self).await_streaming()
        primary.sql("insert into acked select generate_series(1, 100)")
        self.await_watched(primary, stream)
        self.await_replay(primary, standby)
        self.freeze(primary)
        standby.sql("select pg_promote()")
        standby.await_promoted()
        stream.await_note("the server is silent")  # for a minute
        stream.await_that(lambda: stream.lines[-1].get("timeline") == 2, "it does not follow")
        standby.sql("insert into acked select generate_series(101, 200)")
        self.await_flushed(standby, stream)
        self.assertEqual(stream.end(), 0, stream.err)
        self.assertEqual(self.gaps(), [])
        self.destroy(primary)
        self.assertEqual(self.restored().sql("select count(*) from acked"), "200")

    @long_form
    def test_a_new_primary_without_what_is_archived_is_refused(self):
        primary = self.streaming_server()
        self.kuramori("backup", "db")
        standby = self.standby_of(primary)
        self.await_replay(primary, standby)
        standby.sql("alter system set primary_conninfo = ''", "select pg_reload_conf()")
        deadline = time.monotonic() + SECONDS_MAX
        while primary.sql("select count(*) from pg_stat_replication") != "0":
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        primary.sql("insert into acked select generate_series(1, 100)")
        self.kuramori("wal", "stream", "db", "--once")
        self.destroy(primary)
        standby.sql("select pg_promote()")
        standby.await_promoted()
        self.configure(standby)
        refused = self.kuramori("wal", "stream", "db", "--once", status=5)
        self.assert_refused(refused, "does not contain what is archived", "--timeline 1", "--from-here")
        # Nothing of it is kept: "the latest" is still what the old primary had acknowledged.
        shown = self.kuramori("wal", "show", "db", "--json").json()
        self.assertEqual([line["timeline"] for line in shown["timelines"]], [1])
        standby.sql("insert into acked values (1000)")
        self.kuramori("wal", "stream", "db", "--once", "--from-here")
        self.kuramori("wal", "stream", "db", "--once")
        self.assertEqual(self.restored(15, "--latest", "--timeline", "1", name="old").sql("select count(*) from acked"), "100")
        self.assertEqual(self.restored(15, "--latest", "--timeline", "2", name="new").sql("select count(*) from acked"), "1")


@long_form
class Majors(StreamCase):
    in_memory = True

    def test_every_major_streams_segments_and_parts(self):
        for major in harness.MAJORS:
            for size in (16,) if major != 18 else (1, 16, 64):
                with self.subTest(major=major, size=size):
                    server = self.streaming_server(major, initdb=[f"--wal-segsize={size}"])
                    self.kuramori("backup", "db")
                    stream = Stream(self).await_streaming()
                    server.sql("insert into big select g, repeat('z', 800) from generate_series(1, 100000) g")
                    self.await_flushed(server, stream)
                    self.assertEqual(stream.end(), 0, stream.err)
                    self.destroy(server)
                    server = self.restored(major)
                    self.assertEqual(server.sql("select count(*) from big"), "100000")
                    server.kill()
                    for folder in ("vault", "data", "restored"):
                        shutil.rmtree(self.folder / folder, ignore_errors=True)
                    self.key.unlink()


if __name__ == "__main__":
    harness.main()
