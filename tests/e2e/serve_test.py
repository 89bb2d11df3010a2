"""The daemon's socket: WAL pushed and fetched through `kuramori serve`, and what happens when it is not there, dies, or
is asked by somebody who should not."""

import contextlib
import copy
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import harness

class Daemon:
    """A running `kuramori serve`; its words are in a file."""

    def __init__(self, case, *words, env=None, socket_path=None):
        self.socket = socket_path or case.folder / "socket"
        self.log = case.folder / f"daemon{len(case.daemons)}.log"
        command = [case.programs / "kuramori", "--config", case.config, "serve", "--socket", self.socket, *words]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(harness.as_server(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=harness.environment(**(env or {})), cwd="/")
        case.daemons.append(self)

    def ready(self):
        deadline = time.monotonic() + harness.START_SECONDS_MAX
        while "listening on" not in self.text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the daemon does not listen:\n{self.text()}")
            time.sleep(0.01)
        return self

    def text(self):
        return self.log.read_text(errors="replace")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(harness.START_SECONDS_MAX)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


_clusters = {}  # by segments: made once, copied for each test


class ServeCase(harness.Case):
    in_memory = True

    def setUp(self):
        self.daemons = []
        super().setUp()

    def tearDown(self):
        for daemon in self.daemons:
            daemon.kill()
        super().tearDown()

    def daemon(self, *words, **options):
        return Daemon(self, *words, **options).ready()

    def cluster(self, segments):
        """A stopped server whose `segments` finished segments are ready and were archived by nobody."""
        if segments not in _clusters:
            # archive_command fails: whatever the archiver does and when, its files stay ready.
            server = harness.Server(harness.memory_folder(), 15, ["archive_mode = on", "archive_command = 'false'"], ["--wal-segsize=1"])
            server.start()
            server.sql("create table entry (id int, text text)")
            for n in range(segments):
                server.sql(f"insert into entry select i, md5(i::text) from generate_series({n * 1000}, {n * 1000 + 999}) i",
                           "select pg_switch_wal()")
            server.stop()
            _clusters[segments] = server
        server = copy.copy(_clusters[segments])
        server.data = self.folder / "data"
        subprocess.run(["cp", "-a", _clusters[segments].data, server.data], check=True)
        self.configure(server)
        self.kuramori("vault", "init", "here")
        return server

    def ready_names(self, server):
        return sorted(path.stem for path in (server.data / "pg_wal" / "archive_status").iterdir() if path.suffix == ".ready")

    def push(self, server, name, daemon=None, status=0, program="kuramori-wal", **options):
        if not (self.programs / program).exists():
            program = "kuramori"
        words = ["wal", "push", *(["--socket", daemon.socket] if daemon else []), "--resource", "db", f"pg_wal/{name}"]
        return self.kuramori(*words, status=status, program=program, cwd=server.data, **options)

    def get(self, name, to, daemon=None, status=0, program="kuramori-wal", resource="db", **options):
        if not (self.programs / program).exists():
            program = "kuramori"
        words = ["wal", "get", *(["--socket", daemon.socket] if daemon else []), "--resource", resource, name, to]
        return self.kuramori(*words, status=status, program=program, cwd=self.folder, **options)

    def archived(self):
        """Whole segments in the vault, by file name."""
        found = []
        for name, _ in self.place.objects("wal/"):
            match = re.match(r"wal/[^/]+/([0-9a-f]{8})/([0-9a-f]{16})-[0-9a-f]{16}\.(\w+)", name)
            if match and match.group(3).startswith("s"):
                start = int(match.group(2), 16) >> 20
                found.append(f"{match.group(1).upper()}{start // 4096:08X}{start % 4096:08X}")
        return sorted(found)


class Push(ServeCase):
    def test_segments_are_stored_ahead_and_each_is_durable_when_it_is_said_P28_P42(self):
        server = self.cluster(6)
        names = self.ready_names(server)
        self.assertGreaterEqual(len(names), 6)
        daemon = self.daemon()
        self.push(server, names[0], daemon)
        self.assertIn(names[0], self.archived())
        # Those behind it are stored although nobody has asked for them yet: every one that is ready, and no other.
        deadline = time.monotonic() + harness.START_SECONDS_MAX
        while self.archived() != names and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertEqual(self.archived(), names)
        for name in names[1:]:
            self.assertEqual(self.push(server, name, daemon).err, "")
        # What is in the vault is what lies there.
        for name in names:
            self.get(name, self.folder / "got")
            self.assertEqual((self.folder / "got").read_bytes(), (server.data / "pg_wal" / name).read_bytes())
        # One that was stored ahead and has other bytes when it is asked for: its identity tells, it is pushed again, and
        # refused as what it is (P31). A name alone would have passed for archived.
        again = server.data / "pg_wal" / names[2]
        with open(again, "r+b") as file:
            file.seek(500_000)
            file.write(b"something else")
        outcome = self.push(server, names[2], daemon, status=5)
        self.assert_refused(outcome, "already archived with other content")
        self.assertEqual(daemon.stop(), 0)
        self.assertFalse(daemon.socket.exists())

    def test_what_was_stored_ahead_and_changed_before_it_is_asked_for_is_not_taken_for_archived_P31_P42(self):
        server = self.cluster(6)
        names = self.ready_names(server)
        daemon = self.daemon()
        time_of = server.data / "pg_wal" / names[1]
        self.push(server, names[0], daemon)
        deadline = time.monotonic() + harness.START_SECONDS_MAX
        while names[1] not in self.archived() and time.monotonic() < deadline:
            time.sleep(0.02)
        # Same name, size and modification time; a recycled file would look so.
        before = os.stat(time_of)
        with open(time_of, "r+b") as file:
            file.seek(500_000)
            file.write(b"something else")
        os.utime(time_of, ns=(before.st_atime_ns, before.st_mtime_ns))
        self.assert_refused(self.push(server, names[1], daemon, status=5), "already archived with other content")
        # A file under another's name.
        shutil.copyfile(server.data / "pg_wal" / names[0], server.data / "pg_wal" / names[2])
        self.assert_refused(self.push(server, names[2], daemon, status=4), "holds WAL of timeline 1 from")

    def test_another_cluster_is_refused_through_the_daemon_too_P40(self):
        server = self.cluster(6)
        daemon = self.daemon()
        name = self.ready_names(server)[0]
        self.push(server, name, daemon)
        strange = self.folder / "strange"
        (strange / "global").mkdir(parents=True)
        (strange / "pg_wal").mkdir()
        subprocess.run(harness.as_server([server.bin / "initdb", "-D", self.folder / "new", "-U", "postgres", "-A", "trust", "--wal-segsize=1", "--no-sync"]),
                       check=True, stdout=subprocess.DEVNULL, env=harness.environment(), cwd="/")
        first = next(path.name for path in (self.folder / "new" / "pg_wal").iterdir() if path.is_file())
        outcome = self.kuramori("wal", "push", "--socket", daemon.socket, "--resource", "db", f"pg_wal/{first}", status=5,
                                cwd=self.folder / "new")
        self.assert_refused(outcome, "this server is")
        # Their segment under our control file.
        shutil.copy(server.data / "global" / "pg_control", strange / "global" / "pg_control")
        shutil.copy(self.folder / "new" / "pg_wal" / first, strange / "pg_wal" / first)
        for path in strange.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        outcome = self.kuramori("wal", "push", "--socket", daemon.socket, "--resource", "db", f"pg_wal/{first}", status=5, cwd=strange)
        self.assert_refused(outcome, "belongs to another cluster")

    def test_a_daemon_that_dies_at_any_moment_leaves_no_false_success_P28(self):
        server = self.cluster(6)
        names = self.ready_names(server)
        counted = self.folder / "calls"
        daemon = self.daemon(env={"KURAMORI_TEST_COUNT_STORE_CALLS": counted})
        self.push(server, names[0], daemon)
        daemon.stop()
        calls = int(counted.read_text())
        shutil.copytree(self.vault, self.folder / "fresh")
        calls_tried = range(2, calls, max(1, calls // (40 if harness.ALL else 4)))
        died = 0
        for call in calls_tried:
            shutil.rmtree(self.vault)
            shutil.rmtree(self.folder / "fresh" / "wal", ignore_errors=True)
            shutil.copytree(self.folder / "fresh", self.vault)
            subprocess.run(["chown", "-R", "--reference", self.folder, self.vault], check=True)
            fragile = Daemon(self, env={"KURAMORI_TEST_KILL_AT_STORE_CALL": call})
            deadline = time.monotonic() + harness.START_SECONDS_MAX
            while "listening on" not in fragile.text() and fragile.process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            # The client does it itself.
            self.push(server, names[0], fragile)
            self.assertIn(names[0], self.archived())
            died += fragile.process.poll() is not None
            # And one that cannot do it itself says so.
            fragile.kill()
            self.push(server, names[1], fragile, status=2, env={"KURAMORI_KEY_FILE": self.folder / "no such key"})
        self.assertGreater(died, 0)

    def test_a_key_that_is_taken_back_archives_no_more_through_a_daemon_that_was_there_before(self):
        server = self.cluster(6)
        names = self.ready_names(server)
        self.kuramori("--key-file", self.key, "wal", "push", "--resource", "db", f"pg_wal/{names[0]}", cwd=server.data)
        writer = self.folder / "writer.key"
        self.kuramori("vault", "key", "new", "here", "--role", "writer", "--name", "host", "--to", writer)
        self.config.write_text(self.config.read_text().replace(str(self.key), str(writer)))
        daemon = self.daemon()
        self.push(server, names[1], daemon)
        self.kuramori("--key-file", self.key, "vault", "key", "revoke", "here", "host", "--yes")
        self.assert_refused(self.push(server, names[5], daemon, status=5), "was revoked")

    def test_a_file_that_does_not_fit_its_name_is_not_archived_P34_P35(self):
        server = self.cluster(6)
        daemon = self.daemon()
        history = server.data / "pg_wal" / "0000000B.history"
        history.write_text("10\t0/3000000\tno recovery target specified\n")
        history.chmod(0o644)
        self.push(server, history.name, daemon)
        self.push(server, history.name, daemon)
        history.write_text("9\t0/3000000\tno recovery target specified\n")
        self.assert_refused(self.push(server, history.name, daemon, status=5), "already archived with other content")
        self.push(server, "nothing of the kind", daemon, status=1)


def unnamed_segments(pid):
    """Inodes of the files a process holds that have the size of a segment and no name."""
    found = set()
    try:
        for descriptor in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            try:
                if os.readlink(descriptor).endswith("(deleted)") and os.stat(descriptor).st_size == 1 << 20:
                    found.add(os.stat(descriptor).st_ino)
            except FileNotFoundError:
                pass  # closed meanwhile
    except FileNotFoundError:
        pass  # it ended
    return found


def processes_with(word):
    """Process ids by a word of their command line."""
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and os.fsencode(str(word)) in (folder / "cmdline").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def kill_all(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.kill(pid, signal.SIGKILL)


class Get(ServeCase):
    def archived_cluster(self):
        server = self.cluster(6)
        names = self.ready_names(server)
        daemon = self.daemon()
        for name in names:
            self.push(server, name, daemon)
        daemon.stop()
        return server, names

    def bytes_of(self, server, name):
        return (server.data / "pg_wal" / name).read_bytes()

    def object_of(self, name):
        """The segment's file in the vault."""
        start = (int(name[8:16], 16) * 4096 + int(name[16:], 16)) << 20
        found = list((self.vault / "wal").glob(f"*/{int(name[:8], 16):08x}/{start:016x}-*.seg.*"))
        self.assertEqual(len(found), 1, found)
        return found[0]

    def test_what_is_fetched_ahead_is_right_and_the_end_is_the_end_P42_P44(self):
        server, names = self.archived_cluster()
        daemon = self.daemon()
        got = self.folder / "got"
        for name in names:
            self.assertEqual(self.get(name, got, daemon).err, "")
            self.assertEqual(got.read_bytes(), self.bytes_of(server, name))
        beyond = names[-1][:16] + f"{int(names[-1][16:], 16) + 1:08X}"
        self.get(beyond, self.folder / "none", daemon, status=1)
        self.assertFalse((self.folder / "none").exists())
        self.get("00000002.history", self.folder / "none", daemon, status=1)
        # A standby that waits at the end: what is archived later is found, by the same daemon.
        shutil.copyfile(server.data / "pg_wal" / names[-1], server.data / "pg_wal" / beyond)
        with open(server.data / "pg_wal" / beyond, "r+b") as file:  # its first page says where it lies
            start = int(beyond[16:], 16) << 20
            file.seek(8)
            file.write(start.to_bytes(8, "little"))
        self.push(server, beyond, daemon)
        self.get(beyond, got, daemon)
        self.assertEqual(got.read_bytes(), self.bytes_of(server, beyond))

    def test_what_is_fetched_ahead_lies_in_a_file_without_a_name_until_it_is_asked_for_P42(self):
        server, names = self.archived_cluster()
        daemon = self.daemon()
        got = self.folder / "got"
        self.get(names[0], got, daemon)

        deadline = time.monotonic() + harness.START_SECONDS_MAX
        while len(unnamed_segments(daemon.process.pid)) < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
        ahead = unnamed_segments(daemon.process.pid)
        self.assertEqual(len(ahead), 4)  # as many as the client brought
        self.get(names[1], got, daemon)
        self.assertIn(got.stat().st_ino, ahead)
        self.assertEqual(got.read_bytes(), self.bytes_of(server, names[1]))
        self.assertEqual(got.stat().st_nlink, 1)
        # Another filesystem's client gets the bytes, not that file.
        with tempfile.TemporaryDirectory(dir="/var/tmp") as elsewhere:
            os.chmod(elsewhere, 0o777)
            self.get(names[2], pathlib.Path(elsewhere) / "got", daemon)
            self.assertEqual((pathlib.Path(elsewhere) / "got").read_bytes(), self.bytes_of(server, names[2]))
            self.assertEqual(os.listdir(elsewhere), ["got"])
        # A daemon that is killed leaves nothing behind, and the next segment comes without it.
        daemon.kill()
        self.get(names[3], got, daemon)
        self.assertEqual(got.read_bytes(), self.bytes_of(server, names[3]))
        self.assertEqual([path.name for path in self.folder.iterdir() if path.name.startswith("got")], ["got"])

    def test_recovery_without_a_daemon_makes_its_own_which_ends_after_it_P42(self):
        server, names = self.archived_cluster()
        folder = self.folder / "recovering" / "pg_wal"
        folder.mkdir(parents=True)
        harness.give_to_server(folder)
        own, target = folder / "kuramori.get", folder / "RECOVERYXLOG"
        self.addCleanup(lambda: kill_all(processes_with(own)))
        self.assertEqual(self.get(names[0], target, env={"KURAMORI_SERVE_IDLE": 60}).err, "")
        self.assertEqual(target.read_bytes(), self.bytes_of(server, names[0]))
        # Asked again until it listens, knows where recovery is, and has something ready.
        ahead, deadline = set(), time.monotonic() + harness.START_SECONDS_MAX
        while not ahead and time.monotonic() < deadline:
            self.get(names[1], target, env={"KURAMORI_SERVE_IDLE": 60})
            ahead = set().union(*map(unnamed_segments, processes_with(own)))
        self.assertTrue(ahead)
        self.assertEqual(target.read_bytes(), self.bytes_of(server, names[1]))
        self.get(names[2], target)
        self.assertEqual(target.read_bytes(), self.bytes_of(server, names[2]))
        self.assertEqual(sorted(os.listdir(folder)), ["RECOVERYXLOG", "kuramori.get", "kuramori.get.lock"])
        # Killed, it leaves nothing but its names. The next segment comes without it, and makes another, which ends by itself
        # and takes the socket away: nobody else would.
        while alive := processes_with(own):  # one that was begun meanwhile takes the lock when the first is gone
            kill_all(alive)
            time.sleep(0.05)
        self.assertTrue(own.is_socket())
        self.get(names[3], target, env={"KURAMORI_SERVE_IDLE": 1})
        self.assertEqual(target.read_bytes(), self.bytes_of(server, names[3]))
        deadline = time.monotonic() + harness.START_SECONDS_MAX
        while (own.exists() or processes_with(own)) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(sorted(os.listdir(folder)), ["RECOVERYXLOG", "kuramori.get.lock"])
        # Whoever wants none has none.
        self.get(names[4], target, env={"KURAMORI_SOCKET": "off"})
        self.assertEqual(processes_with(own), [])
        self.assertFalse(own.exists())

    def test_a_hole_stops_the_server_also_when_the_daemon_fetched_around_it_P44(self):
        server, names = self.archived_cluster()
        self.object_of(names[2]).unlink()
        daemon = self.daemon()
        for name in names[:2]:
            self.get(name, self.folder / "got", daemon)
        outcome = self.get(names[2], self.folder / "none", daemon, status=200)
        self.assertIn("a hole in the archive", outcome.err)
        # Damage is no end either.
        damaged = self.object_of(names[4])
        content = bytearray(damaged.read_bytes())
        content[len(content) // 2] ^= 1
        damaged.chmod(0o644)
        damaged.write_bytes(content)
        self.get(names[3], self.folder / "got", daemon)
        self.get(names[4], self.folder / "none", daemon, status=200)
        self.assertFalse((self.folder / "none").exists())

    def test_an_outage_stops_the_server_and_its_end_does_not_need_a_new_daemon_P44(self):
        server, names = self.archived_cluster()
        daemon = self.daemon()
        self.get(names[0], self.folder / "got", daemon)
        away = self.folder / "away"
        self.vault.rename(away)
        beyond = names[-1][:16] + f"{int(names[-1][16:], 16) + 1:08X}"
        for name in (beyond, "00000002.history"):
            outcome = self.get(name, self.folder / "none", daemon, status=200)
            self.assertNotIn("the daemon was not of use", outcome.err)
        # The daemon gone as well: the client alone says the same.
        daemon.kill()
        self.get(beyond, self.folder / "none", daemon, status=200)
        again = Daemon(self)
        deadline = time.monotonic() + harness.START_SECONDS_MAX
        while "listening on" not in again.text() and time.monotonic() < deadline:
            time.sleep(0.01)
        self.get(names[1], self.folder / "none", again, status=200)
        away.rename(self.vault)
        self.get(names[1], self.folder / "got", again)
        self.assertEqual((self.folder / "got").read_bytes(), self.bytes_of(server, names[1]))
        self.get(beyond, self.folder / "none", again, status=1)

    def test_a_server_recovers_through_the_daemon_and_does_not_promote_over_an_outage_P43_P44(self):
        server = harness.Server(self.folder, 15, ["archive_mode = on", f"archive_command = '{self.programs}/kuramori-wal push "
                                                  f"--socket {self.folder}/socket --resource db %p'"], ["--wal-segsize=1"])
        self.servers.append(server)
        self.configure(server)
        self.kuramori("vault", "init", "here")
        daemon = self.daemon()
        server.start()
        server.sql("create table entry (id int, text text)")
        self.kuramori("backup", "db")
        for n in range(8):
            server.sql(f"insert into entry select i, md5(i::text) from generate_series({n * 5000}, {n * 5000 + 4999}) i")
        server.switch_wal()
        # Another timeline behind it (P43): its first segments hold what the parent's last ones hold.
        target = self.folder / "restored"
        self.kuramori("restore", "db", "--to", target, "--latest", "--continue")
        server.stop()
        child = harness.Server(self.folder, 15, data=target)
        self.servers.append(child)
        child.start("-c", f"archive_command={self.programs}/kuramori-wal push --socket {self.folder}/socket --resource db %p")
        child.await_promoted()
        child.sql("insert into entry select i, md5(i::text) from generate_series(40000, 44999) i")
        child.switch_wal()
        child.stop()
        # A standby of that history, fed by the daemon alone: its own client has no key.
        standby = self.folder / "standby"
        self.kuramori("restore", "db", "--to", standby, "--latest", "--standby")
        command = f"{self.programs}/kuramori-wal get --socket {self.folder}/socket --resource db %f %p"
        follower = harness.Server(self.folder, 15, data=standby)
        self.servers.append(follower)
        follower.start("-c", f"restore_command={command}", "-c", "hot_standby=on", "-c", "archive_mode=off")
        deadline = time.monotonic() + harness.START_SECONDS_MAX
        while follower.value("select count(*) from entry") != "45000":
            self.assertLess(time.monotonic(), deadline, follower.log_text())
            time.sleep(0.05)
        self.assertEqual(follower.value("select pg_is_in_recovery()"), "t")
        follower.stop()
        # Told to recover to its end and to be a server of its own then: with the vault away it must stop, not promote.
        (standby / "standby.signal").rename(standby / "recovery.signal")
        away = self.folder / "away"
        self.vault.rename(away)
        orphan = harness.Server(self.folder, 15, data=standby)
        self.servers.append(orphan)
        orphan.launch("-c", f"restore_command={command}", "-c", "archive_mode=off")
        self.assertNotEqual(orphan.process.wait(harness.START_SECONDS_MAX), 0)
        self.assertTrue((standby / "recovery.signal").exists())
        away.rename(self.vault)
        orphan.start("-c", f"restore_command={command}", "-c", "archive_mode=off")
        orphan.await_promoted()
        self.assertEqual(orphan.value("select count(*) from entry"), "45000")
        self.assertNotIn("was not of use", daemon.text())


class Socket(ServeCase):
    def setUp(self):
        super().setUp()
        self.server_ = self.cluster(6)
        self.names = self.ready_names(self.server_)

    def test_no_daemon_a_left_over_and_a_second_one(self):
        # None: the work is done all the same.
        nowhere = type("Nowhere", (), {"socket": self.folder / "nowhere"})
        self.push(self.server_, self.names[0], nowhere)
        daemon = self.daemon()
        second = Daemon(self, socket_path=daemon.socket)
        self.assertEqual(second.process.wait(harness.START_SECONDS_MAX), 5)
        self.assertIn("another process listens on", second.text())
        daemon.kill()
        # The left-over socket: a client goes on alone, a new daemon takes its place.
        self.assertTrue(daemon.socket.exists())
        self.push(self.server_, self.names[0], daemon)
        third = self.daemon()
        self.push(self.server_, self.names[1], third)
        self.assertEqual(self.archived()[:2], self.names[:2])
        self.assertEqual(third.stop(), 0)
        # No socket, and nothing to be removed.
        (self.folder / "a file").write_text("mine")
        harness.give_to_server(self.folder / "a file")
        fourth = Daemon(self, socket_path=self.folder / "a file")
        self.assertEqual(fourth.process.wait(harness.START_SECONDS_MAX), 5)
        self.assertEqual((self.folder / "a file").read_text(), "mine")

    def test_malformed_slow_and_strange_requests_hurt_nobody(self):
        daemon = self.daemon()
        silent = [self.connect(daemon) for _ in range(20)]
        for text in (b"", b"x", b"KRMS", b"KRMS\x01\x00", b"KRMS\x01\x00\x08\x07", b"KRMS\x02\x00\x08\x01", b"KRMS\x01\x00" + b"\xff" * 5000,
                     b"KRMS\x01\x00\x08\x01\x12\x02ab", b"KRMS\x01\x00\x08\x02\x1a\x02db", b"A" * 60000):
            peer = self.connect(daemon)
            peer.send(text)
            peer.settimeout(harness.START_SECONDS_MAX)
            if text:
                self.assertTrue(peer.recv(70000).startswith(b"KRMS\x01\x00"), text[:20])
            peer.close()
        # More descriptors than a message may have, and one that is no file.
        many = self.connect(daemon)
        read_end, write_end = os.pipe()
        socket.send_fds(many, [b"KRMS\x01\x00\x08\x01\x12\x02ab"], [read_end] * 60)
        many.settimeout(harness.START_SECONDS_MAX)
        many.recv(70000)
        control = (self.server_.data / "global" / "pg_control").read_bytes()[:8192]
        body = b"\x08\x01\x12\x18" + self.names[0].encode() + b"\x1a\x02db\x3a\x80\x40" + control
        pipe = self.connect(daemon)
        socket.send_fds(pipe, [b"KRMS\x01\x00" + body], [read_end])
        pipe.settimeout(harness.START_SECONDS_MAX)
        self.assertIn(b"is no file", pipe.recv(70000))
        os.close(read_end)
        os.close(write_end)
        # Meanwhile others are served, by the daemon itself.
        self.assertEqual(self.push(self.server_, self.names[0], daemon, env={"KURAMORI_KEY_FILE": self.key}).err, "")
        open_files = len(list(pathlib.Path(f"/proc/{daemon.process.pid}/fd").iterdir()))
        self.assertLess(open_files, 80)
        for peer in silent:
            peer.close()

    def connect(self, daemon):
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        peer.connect(str(daemon.socket))
        return peer

    def test_a_foreign_user_is_refused_and_another_configuration_is_not_served(self):
        daemon = self.daemon()
        self.assertEqual(daemon.socket.stat().st_mode & 0o777, 0o660)
        if harness.is_root():
            daemon.socket.chmod(0o666)  # the mode would have kept them out: the daemon does too
            code = ("import socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(sys.argv[1]); "
                    "s.settimeout(60); print(s.recv(70000))")
            done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", code, daemon.socket],
                                  capture_output=True, text=True, timeout=harness.COMMAND_SECONDS_MAX)
            self.assertIn("may not use this socket", done.stdout, done.stderr)
        other = self.folder / "other.yaml"
        other.write_text(self.config.read_text())
        other.chmod(0o644)
        outcome = self.kuramori("--config", other, "wal", "push", "--socket", daemon.socket, f"pg_wal/{self.names[0]}", config=False,
                                cwd=self.server_.data)
        self.assertIn("does not serve that vault", outcome.err)
        self.assertEqual(self.archived()[:1], self.names[:1])

    def test_a_request_to_stop_lets_who_waits_have_his_answer(self):
        counted = self.folder / "calls"
        daemon = self.daemon(env={"KURAMORI_TEST_COUNT_STORE_CALLS": counted})
        daemon.stop()
        opening = int(counted.read_text())
        daemon = self.daemon(env={"KURAMORI_TEST_STOP_AT_STORE_CALL": opening + 3})
        client = threading.Thread(target=self.push, args=(self.server_, self.names[0], daemon))
        client.start()
        self.assertTrue(harness.stands_still(daemon.process))
        daemon.process.send_signal(signal.SIGTERM)
        daemon.process.send_signal(signal.SIGCONT)
        client.join()
        self.assertEqual(daemon.process.wait(harness.START_SECONDS_MAX), 0)
        self.assertIn(self.names[0], self.archived())

    def test_the_service_manager_is_told(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind("\0kuramori-serve-test-%d" % os.getpid())
            manager.settimeout(harness.START_SECONDS_MAX)
            daemon = self.daemon(env={"NOTIFY_SOCKET": "@kuramori-serve-test-%d" % os.getpid()})
            self.assertEqual(manager.recv(100), b"READY=1")
            daemon.stop()
            self.assertEqual(manager.recv(100), b"STOPPING=1")


if __name__ == "__main__":
    harness.main()
