"""Patroni runs the servers, and `wal stream` follows it: a primary that is gone, one that is switched on purpose, and a slot
that Patroni removes (P36, P38). Two nodes and one etcd, each a machine of its own as far as addresses go."""

import base64
import contextlib
import http.client
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import time

import harness
import stream_test

# Below the range that outgoing connections take theirs from. With an address of its own each test meets no other.
POSTGRES, REST, ETCD, ETCD_PEERS = 25432, 28008, 22379, 22380
MAJOR = 15
SCOPE = "orders"


class Machine:
    """Processes of one folder: whatever they start stays in it, so that none is left when the machine is gone."""

    def __init__(self, case, name, address):
        self.case, self.name, self.address = case, name, address
        self.folder = case.folder / name
        self.folder.mkdir()
        harness.give_to_server(self.folder)
        self.log = case.folder / f"{name}.log"
        self.process = None
        case.servers.append(self)
        harness._servers.append(self)

    def launch(self, *command):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(harness.as_server(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=harness.environment(), cwd=self.folder)

    def pids(self):
        """What works in the folder: PostgreSQL outlives Patroni, and is no child of it."""
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if pathlib.Path(os.readlink(path / "cwd")).is_relative_to(os.path.realpath(self.folder)):
                    yield int(path.name)

    def kill(self):
        """As if the power were off. Patroni first: it would start PostgreSQL again."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
        deadline = time.monotonic() + stream_test.SECONDS_MAX
        while pids := list(self.pids()):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            assert time.monotonic() < deadline, f"{self.name} does not end: {pids}"
            time.sleep(0.01)

    def log_text(self):
        return self.log.read_text(errors="replace")[-3000:]


class Etcd(Machine):
    def start(self):
        clients, peers = f"http://{self.address}:{ETCD}", f"http://{self.address}:{ETCD_PEERS}"
        self.launch("/usr/bin/etcd", "--data-dir", self.folder / "data", "--listen-client-urls", clients, "--advertise-client-urls", clients,
                    "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}")
        self.case.await_true(self.answers, "etcd does not answer")
        return self

    def answers(self):
        with contextlib.suppress(OSError), socket.create_connection((self.address, ETCD), timeout=1):
            return True
        return False


class Node(Machine):
    """One Patroni with the server it keeps."""

    def __init__(self, case, name, address, slots):
        super().__init__(case, name, address)
        # A socket's path must stay below 108 bytes.
        self.socket = harness.new_folder()
        self.data = self.folder / "data"
        self.config = self.folder / "patroni.yml"
        # Patience as Patroni has it by default: a slow machine must not fail over by itself. It looks more often.
        self.config.write_text(json.dumps({
            "scope": SCOPE, "name": name,
            "restapi": {"listen": f"{address}:{REST}", "connect_address": f"{address}:{REST}"},
            "etcd3": {"host": f"{case.etcd.address}:{ETCD}"},
            "bootstrap": {
                "dcs": {"ttl": 30, "loop_wait": 1, "retry_timeout": 10, "maximum_lag_on_failover": 1048576, "slots": slots,
                        "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": {
                            "wal_level": "replica", "wal_log_hints": "on", "fsync": "off", "autovacuum": "off", "archive_mode": "off",
                            "wal_keep_size": "16MB", "min_wal_size": "32MB", "max_wal_size": "64MB"}}},
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums", "no-sync"],
                "pg_hba": ["local all all trust", "local replication all trust", "host all all 127.0.0.0/8 trust",
                           "host replication all 127.0.0.0/8 trust"]},
            "postgresql": {
                "listen": f"{address}:{POSTGRES}", "connect_address": f"{address}:{POSTGRES}", "data_dir": str(self.data),
                "bin_dir": str(harness.bin_folder(MAJOR)), "pgpass": f"{self.folder}/pgpass",
                "parameters": {"unix_socket_directories": str(self.socket)},
                "authentication": {"superuser": {"username": "postgres", "password": "p"},
                                   "replication": {"username": "repl", "password": "p"},
                                   "rewind": {"username": "rewind", "password": "p"}}},
            "watchdog": {"mode": "off"}}))
        harness.give_to_server(self.config)

    def start(self):
        self.launch("/usr/bin/patroni", self.config)
        return self

    def ask(self, method, path, body=None):
        """Status and document of Patroni's own interface; no status where it is not there."""
        line = http.client.HTTPConnection(self.address, REST, timeout=10)
        try:
            line.request(method, path, body=json.dumps(body) if body is not None else None, headers={"Content-Type": "application/json"})
            answer = line.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text.startswith(b"{") else None
        except (OSError, http.client.HTTPException):
            return None, None
        finally:
            line.close()

    def is_(self, role):
        return self.ask("GET", f"/{role}")[0] == 200

    def last_looked(self):
        """When it last compared what is with what should be."""
        return self.ask("GET", "/patroni")[1]["dcs_last_seen"]

    def connect(self, database="postgres", user="postgres"):
        return f"host={self.socket} port={POSTGRES} user={user} dbname={database}"

    sql = harness.Server.sql

    def takes_writes(self):
        return self.is_("primary") and self.sql("select pg_is_in_recovery()", check=False) == "f"

    def is_followed_by(self, other):
        return other.is_("replica") and self.sql(f"select state from pg_stat_replication where application_name = '{other.name}'",
                                                 check=False) == "streaming"


class PatroniCase(stream_test.StreamCase):
    in_memory = True

    def begin(self, nodes, slots):
        """A cluster, and its first snapshot. `slots`: what Patroni is told of replication slots."""
        network = f"127.{random.randrange(1, 255)}.{random.randrange(1, 255)}"
        self.etcd = Etcd(self, "etcd", f"{network}.1").start()
        self.nodes = [Node(self, f"n{i + 1}", f"{network}.{i + 2}", slots).start() for i in range(nodes)]
        self.await_true(lambda: any(node.takes_writes() for node in self.nodes), "no primary")
        primary = next(node for node in self.nodes if node.is_("primary"))
        others = [node for node in self.nodes if node is not primary]
        self.await_true(lambda: all(primary.is_followed_by(other) for other in others), "no replica")
        hosts = ",".join(node.address for node in self.nodes)
        self.configure(primary)
        self.config.write_text(self.config.read_text().replace(
            primary.connect(), f"host={hosts} port={POSTGRES} target_session_attrs=read-write user=postgres dbname=postgres"))
        self.kuramori("vault", "init", "here")
        primary.sql("create table acked (id bigint primary key, filler text)", "create table big (id bigint, filler text)")
        self.kuramori("backup", "db")
        return primary, *others

    def await_true(self, true_of, what):
        deadline = time.monotonic() + stream_test.SECONDS_MAX
        while not true_of():
            logs = "\n".join(machine.log_text() for machine in self.servers) if time.monotonic() > deadline else ""
            self.assertLess(time.monotonic(), deadline, f"{what}\n{logs}")
            time.sleep(0.05)

    def await_slot(self, node, there):
        wanted = "1" if there else "0"
        self.await_true(lambda: node.sql(f"select count(*) from pg_replication_slots where slot_name = '{stream_test.NAME}'") == wanted,
                        f"{wanted} slots are awaited")


class Failover(PatroniCase):
    def let_lease_expire(self):
        """What etcd does `ttl` after it last heard of the leader: only the waiting is left out."""
        line = http.client.HTTPConnection(self.etcd.address, ETCD, timeout=stream_test.SECONDS_MAX)
        key = base64.b64encode(f"/service/{SCOPE}/leader".encode()).decode()
        line.request("POST", "/v3/kv/deleterange", json.dumps({"key": key}))
        self.assertEqual(json.loads(line.getresponse().read()).get("deleted"), "1")
        line.close()

    def await_followed(self, stream, timeline):
        stream.await_that(lambda: stream.lines[-1].get("timeline") == timeline, "it does not follow")

    def switch(self, leader, candidate):
        """On purpose. The candidate is judged by what it last said of itself, and may be turned down at first."""
        def is_done():
            done = subprocess.run(["/usr/bin/patronictl", "-c", leader.config, "switchover", SCOPE, "--master", leader.name, "--candidate",
                                   candidate.name, "--force"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  env=harness.environment(), timeout=stream_test.SECONDS_MAX)
            return "Successfully switched over" in done.stdout or candidate.takes_writes()
        self.await_true(is_done, "no switchover")
        self.await_true(candidate.takes_writes, "no switchover")

    def test_a_lost_primary_and_a_switchover_are_followed_without_a_gap_P36(self):
        first, second = self.begin(2, {stream_test.NAME: {"type": "physical"}})
        stream = stream_test.Stream(self).await_streaming()
        writer = stream_test.Writer(first)
        self.await_watched(first, stream)
        writer.await_count(100, stream)
        # Killed at work. Which of the two has received more, the stream or the other node, nobody knows.
        first.kill()
        writer.end()
        self.let_lease_expire()
        self.await_true(second.takes_writes, "no new primary")
        self.await_followed(stream, 2)
        writers = [stream_test.Writer(second)]
        writers[0].await_count(100, stream)
        # The lost one comes back as a replica (pg_rewind): on a machine with much to do only while nobody writes faster
        # than it replays. Then it is made the primary again on purpose, under a writer.
        writers[0].end()
        first.start()
        self.await_true(lambda: second.is_followed_by(first), "the lost node does not come back")
        writers.append(stream_test.Writer(second))
        writers[1].await_count(100, stream)
        self.switch(second, first)
        writers[1].end()
        self.await_followed(stream, 3)
        writers.append(stream_test.Writer(first))
        writers[2].await_count(100, stream)
        writers[2].end()
        self.await_alone_but_for_patroni(first)
        self.await_flushed(first, stream)
        self.await_slot(first, there=True)
        self.assertEqual(stream.end(), 0, stream.err)
        self.assertEqual(self.gaps(), [])
        first.sql("checkpoint")  # before the first one after a promotion a backup asks to be run again
        self.kuramori("backup", "db")
        wanted = first.sql("select id from acked order by id")
        for machine in (first, second, self.etcd):
            machine.kill()
        self.kuramori("vault", "scrub", "here")
        restored = self.restored(MAJOR).sql("select id from acked order by id")
        self.assertEqual(restored, wanted)
        # Nothing that was committed since the failover is lost to it, or to the switchover.
        self.assertLessEqual({number for writer in writers for number in writer.acknowledged}, {int(line) for line in restored.split()})

    def await_alone_but_for_patroni(self, node):
        """A row that was on its way when its writer ended is committed or not."""
        self.await_true(lambda: node.sql("select count(*) from pg_stat_activity where query like 'insert into acked%'") == "0", "a writer works")


class Slots(PatroniCase):
    def tell(self, node, slots):
        status, _ = node.ask("PATCH", "/config", {"slots": slots})
        self.assertEqual(status, 200)

    def stream_once(self):
        return self.kuramori("--json", "wal", "stream", "db", "--once").documents()[-1]["durable"]

    def turn_over(self, node):
        node.sql("insert into big values (0)", "select pg_switch_wal()", "checkpoint")

    def test_a_slot_that_patroni_removes_is_made_anew_or_what_is_missing_is_said_P38(self):
        [node] = self.begin(1, None)
        stream = stream_test.Stream(self).await_streaming()
        node.sql("insert into acked select generate_series(1, 100)")
        self.await_flushed(node, stream)
        # Away for a moment, and Patroni starts anew: it removes the slot that it was not told of. The WAL is still there.
        stream.process.send_signal(signal.SIGSTOP)
        node.sql(f"select pg_terminate_backend(pid) from pg_stat_replication where application_name = '{stream_test.NAME}'")
        node.process.kill()
        node.process.wait()
        node.start()
        self.await_slot(node, there=False)
        node.sql("insert into acked select generate_series(101, 200)")
        stream.process.send_signal(signal.SIGCONT)
        stream.await_note("is made anew")
        self.await_flushed(node, stream)
        self.assertEqual(stream.end(), 0, stream.err)
        self.assertEqual(self.gaps(), [])

        # Told of it, Patroni makes it itself, and lets it be; it keeps what the server would have removed.
        self.tell(node, {stream_test.NAME: {"type": "physical"}})
        self.await_slot(node, there=True)
        frontier = self.stream_once()
        needed = node.data / "pg_wal" / node.sql(f"select pg_walfile_name('{frontier}'::pg_lsn + 1)")
        for _ in range(6):
            self.turn_over(node)
        looked = node.last_looked()
        self.await_true(lambda: node.last_looked() > looked + 1, "Patroni does not look")
        self.await_slot(node, there=True)
        self.assertTrue(needed.exists())
        node.sql("insert into acked values (201)")
        frontier = self.stream_once()
        self.assertEqual(self.gaps(), [])

        # Not told of it any more, and away for long: what is missing is said, every time, and never passed over.
        self.tell(node, None)
        self.await_slot(node, there=False)
        needed = node.data / "pg_wal" / node.sql(f"select pg_walfile_name('{frontier}'::pg_lsn + 1)")
        node.sql("insert into acked values (202)")
        self.await_true(lambda: self.turn_over(node) or not needed.exists(), "WAL is not removed")
        for _ in range(2):
            refused = self.kuramori("wal", "stream", "db", "--once", status=5)
            self.assert_refused(refused, "has removed WAL that is not archived", "--from-here")
        for machine in (node, self.etcd):
            machine.kill()
        self.assertEqual(self.restored(MAJOR).sql("select count(*), max(id) from acked"), "201|201")


if __name__ == "__main__":
    harness.main()
