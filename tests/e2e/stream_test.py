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

import harness

# Long enough for a machine with much else to do; nothing waits for it to pass.
SECONDS_MAX = 120
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
        self.await_that(lambda: self.lines and self.lines[-1]["state"] == "streaming", "not streaming")
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
        self.server, self.acknowledged = server, []
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
                self.process.stdin.write(f"insert into {self.table} values ({number}, repeat('x', {number * 37 % 900})) returning id;\n")
                self.process.stdin.flush()
                # psql prints the row when the commit has been acknowledged: it is its own transaction.
                line = self.process.stdout.readline()
                if not line:
                    return
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

    def destroy(self, server):
        for pid in [server.process.pid, *self.children(server.process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        server.process.wait()
        if server in harness._servers:
            harness._servers.remove(server)
        server.process = None
        shutil.rmtree(server.data)

    @staticmethod
    def children(pid):
        path = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
        return [int(word) for word in path.read_text().split()]

    def restored(self, major=15, *words, name="restored"):
        target = self.folder / name
        self.kuramori("restore", "db", "--to", target, *(words or ("--latest",)))
        return self.adopt(target, major)

    def wal(self):
        return self.kuramori("wal", "show", "db", "--json").json()


class EndToEnd(StreamCase):
    in_memory = True

    def test_what_was_acknowledged_is_there_after_the_primary_is_destroyed_P39(self):
        server = self.streaming_server()
        stream = Stream(self).await_streaming()
        self.await_synchronous(server, stream)
        self.kuramori("backup", "db")
        writer = Writer(server)
        writer.await_count(100, stream)
        self.destroy(server)
        writer.end()
        self.assertEqual(stream.end(), 0, stream.err)
        server = self.restored()
        there = {int(line) for line in server.sql("select id from acked").split()}
        self.assertEqual(set(writer.acknowledged) - there, set())


if __name__ == "__main__":
    harness.main()
