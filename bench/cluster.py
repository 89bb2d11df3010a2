"""The cluster the benchmarks run on: made once, kept in the scratch folder, the same bytes every time."""

import os
import pathlib
import pwd
import shutil
import subprocess
import time

BIN = pathlib.Path("/usr/lib/postgresql/15/bin")
HERE = pathlib.Path(__file__).resolve().parent
PORT = 5532
SEGMENT_BYTES = 16 * 2**20
# Rows at scale 1 (about 4 GB with indexes) by part; pgbench scale last.
ROWS = {"documents": 700_000, "events": 4_400_000, "attachments": 15_500, "small": 400}
PGBENCH_SCALE = 56
VERSION = "6"  # of the recipe: another one makes the cluster anew


def as_server(command):
    """PostgreSQL refuses to run as root; so do we, then, in its place."""
    if os.geteuid() != 0:
        return [str(word) for word in command]
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "env", "HOME=/nonexistent",
            *[str(word) for word in command]]


def as_server_at_once():
    """The same for subprocess, with no other program in between: where a process's start is part of the measure."""
    if os.geteuid() != 0:
        return {}
    return {"user": "postgres", "group": "postgres", "extra_groups": [], "env": {"HOME": "/nonexistent", "PATH": "/usr/bin:/bin"}}


def give_to_server(path):
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(path, user.pw_uid, user.pw_gid)


class Cluster:
    kind = "cluster"
    settings = ""  # more of them

    def __init__(self, folder, scale, server=BIN):
        self.folder = pathlib.Path(folder)
        self.scale = scale
        self.bin = pathlib.Path(server)  # of the server; its clients here are BIN's
        self.data = self.folder / f"{self.kind}-{scale:g}"
        self.socket = self.folder / "socket"
        self.wal_kept = self.folder / f"wal-{scale:g}"
        # Which archiver the server's archive_command runs; the bench writes a new one before each run.
        # pgBackRest insists on finding its name in the command.
        self.archiver = self.folder / "archive-with-pgbackrest-or-another"
        self.server = None

    def connect(self, database="postgres"):
        return f"host={self.socket} port={PORT} user=postgres dbname={database}"

    def psql(self, *arguments, database="bench"):
        command = as_server([BIN / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", *arguments, self.connect(database)])
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def sql(self, query, database="bench"):
        return self.psql("-c", query, database=database)

    def archive_with(self, line):
        """`line` is a shell command with $1 = the segment's path."""
        new = self.archiver.with_suffix(".new")
        new.write_text(f"#!/bin/sh\n{line}\n")
        new.chmod(0o755)
        new.rename(self.archiver)

    def start(self):
        for folder in (self.folder, self.socket, self.wal_kept):
            folder.mkdir(parents=True, exist_ok=True)
            give_to_server(folder)
        self.archive_with("exit 0")
        marker = self.data / "bench_version"
        if not marker.exists() or marker.read_text() != VERSION:
            self._make()
            marker.write_text(VERSION)
        else:
            self._run()
        self.sql("select 1")

    def stop(self):
        if self.server and self.server.poll() is None:
            self.server.terminate()  # smart: nobody is connected; finishes by a shutdown checkpoint
            self.server.wait(120)
        self.server = None

    def _run(self, *options):
        if (self.data / "postmaster.pid").exists():
            subprocess.run(as_server([self.bin / "pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop"]), capture_output=True)
        log = open(self.folder / "server.log", "ab")
        self.server = subprocess.Popen(as_server([self.bin / "postgres", "-D", self.data, "-c", f"archive_command={self.archiver} %p", *options]), stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while True:
            ready = subprocess.run(as_server([BIN / "pg_isready", "-q", "-h", self.socket, "-p", str(PORT)]))
            if ready.returncode == 0:
                return
            if self.server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start; see {self.folder}/server.log")
            time.sleep(0.05)

    def _make(self):
        print(f"making a cluster of about {4 * self.scale:.1f} GB in {self.data} (once)", flush=True)
        shutil.rmtree(self.data, ignore_errors=True)
        subprocess.run(as_server([self.bin / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-k", "-E", "UTF8",
                                  "--locale=C.UTF-8"]), check=True, stdout=subprocess.DEVNULL)
        with open(self.data / "postgresql.conf", "a") as settings:
            settings.write(f"""
listen_addresses = ''
unix_socket_directories = '{self.socket}'
port = {PORT}
fsync = on
wal_level = replica
archive_mode = on
shared_buffers = 512MB
maintenance_work_mem = 256MB
max_wal_size = 4GB
checkpoint_timeout = 1h
autovacuum = off
log_min_messages = warning
{self.settings}
""")
        self._run()
        self.sql("create database bench", database="postgres")
        self._part("words", 0)
        # Two at a time: two cores.
        halves = [["documents", "small"], ["events", "attachments"]]
        workers = [subprocess.Popen(["/usr/bin/python3", __file__, str(self.folder), str(self.scale), *half]) for half in halves]
        if any(worker.wait() != 0 for worker in workers):
            raise RuntimeError("filling the cluster failed")
        scale = max(1, round(PGBENCH_SCALE * self.scale))
        tool = as_server([BIN / "pgbench", "-h", self.socket, "-p", str(PORT), "-U", "postgres"])
        subprocess.run([*tool, "-i", "-q", "-s", str(scale), "bench"], check=True, capture_output=True)
        self._collect_wal(tool)
        self.sql("checkpoint")

    def _part(self, part, rows):
        switches = [word for name in ("words", "documents", "events", "attachments", "small")
                    for word in ("-v", f"is_{name}={'on' if name == part else 'off'}")]
        self.psql(*switches, "-v", f"rows={rows}", "-f", str(HERE / "cluster.sql"))

    def sample(self, folder, stretch_bytes=8 * 2**20, sample_bytes=512 * 2**20):
        """A file of pages taken evenly from all relations of the cluster, in stretches, so that frames are as they are in
        a real pack. Returns the arguments that name it."""
        files = sorted(path for path in (self.data / "base").rglob("*") if path.is_file() and path.name.split(".")[0].isdigit())
        every = max(1, sum(path.stat().st_size for path in files) // sample_bytes)
        sample, offset = folder / "sample", 0
        with open(sample, "wb") as out:
            for path in files:
                with open(path, "rb") as relation:
                    size = path.stat().st_size
                    while offset < size:
                        relation.seek(offset)
                        out.write(relation.read(min(stretch_bytes, size - offset)))
                        offset += stretch_bytes * every
                    offset -= (size + stretch_bytes - 1) // stretch_bytes * stretch_bytes
        return ["--file", str(sample)]

    def _collect_wal(self, tool):
        """Real segments of two types: of a load (rows and index entries), and of small updates right after a
        checkpoint (whole page images). They age the tables as well."""
        archived = self.folder / "segments"
        for name in ("load", "images"):
            shutil.rmtree(archived, ignore_errors=True)
            archived.mkdir()
            give_to_server(archived)
            self.sql("checkpoint; select pg_switch_wal()")
            self._await_archiver()
            self.archive_with(f'cp "$1" "{archived}/"')
            if name == "load":
                self.sql("insert into event select i + 100000000, timestamptz '2026-01-01 00:00+00' + i * interval '1 second', 'load', "
                         "(hashint8(i) & 65535)::int, md5(i::text)::uuid, i / 100.0, null "
                         f"from generate_series(1, {round(1_000_000 * max(self.scale, 0.3))}) i")
            else:
                subprocess.run([*tool, "-n", "-c", "2", "-t", str(round(24_000 * max(self.scale, 0.3))), "--random-seed=7", "bench"],
                               check=True, capture_output=True)
            self.sql("select pg_switch_wal()")
            self._await_archiver()
            self.archive_with("exit 0")
            keep = self.wal_kept / name
            shutil.rmtree(keep, ignore_errors=True)
            keep.mkdir(parents=True)
            # Neither the first nor the last: those are not full.
            for segment in sorted(path for path in archived.iterdir() if len(path.name) == 24)[1:-1]:
                shutil.copy2(segment, keep)
                give_to_server(keep / segment.name)
            give_to_server(keep)
        shutil.rmtree(archived, ignore_errors=True)

    def _await_archiver(self):
        """Until no segment waits."""
        status = self.data / "pg_wal" / "archive_status"
        while any(path.suffix == ".ready" for path in status.iterdir()):
            time.sleep(0.1)


if __name__ == "__main__":
    import sys
    cluster = Cluster(sys.argv[1], float(sys.argv[2]))
    for name in sys.argv[3:]:
        cluster._part(name, round(ROWS[name] * cluster.scale))
