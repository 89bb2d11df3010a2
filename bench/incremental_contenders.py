"""What ./dev bench incremental measures side by side: who can make a snapshot of what changed since the last one."""

import json
import subprocess

import contenders
from cluster import as_server, as_server_at_once
from contenders import PASSPHRASE, WORKERS
from measure import folder_bytes, run

SAMPLE_SECONDS = 0.1  # of memory: looking at all processes costs what a short run would feel
# Of a data directory, what nobody needs: WAL is apart.
NOT_COPIED = ("pg_wal/*", "postmaster.pid", "pg_stat_tmp/*", "pg_replslot/*")


def push_now(contender, segment):
    """A segment into one contender's archive, as the archiver would."""
    process = subprocess.run([str(word) for word in contender.push(segment)], cwd=contender.cluster.data, capture_output=True, text=True, **as_server_at_once())
    if process.returncode != 0:
        raise RuntimeError(f"{contender.name} could not push {segment}: {process.stdout}{process.stderr}")


class Seldom:
    def measured_seldom(self, *words):
        return run(self.command(*words), sample_seconds=SAMPLE_SECONDS)


class Kuramori(Seldom, contenders.Kuramori):
    def full(self):
        return self.measured_seldom(*self.words("backup", "bench", "--full", "--quiet"))

    def incremental(self):
        cost = self.measured_seldom(*self.words("backup", "bench", "--json"))
        cost.said = next(said["snapshot"] for said in map(json.loads, cost.output.splitlines()) if said["schema"] == "kuramori/backup/1")
        if cost.said["changes"] != "wal":
            raise RuntimeError(f"this was no incremental of changed blocks: {cost.said['changes']}")
        return cost


class PgBackRest(Seldom, contenders.PgBackRest):
    title = "pgBackRest 2.55, block incremental"
    more_options = ("repo1-block=y",)

    def __init__(self, cluster, programs):
        super().__init__(cluster)
        self.program = programs / "pgbackrest"

    def full(self):
        return self.measured_seldom(*self.words("--type=full", "backup"))

    def incremental(self):
        return self.measured_seldom(*self.words("--type=incr", "backup"))


class BaseBackup(Seldom, contenders.Contender):
    name = "pg_basebackup"
    title = "pg_basebackup 17, incremental, zstd"

    def prepare(self):
        super().prepare()
        self.number = 0

    def _one(self, *options):
        target = self.repository / f"{self.number + 1}"
        cost = self.measured_seldom(self.cluster.bin / "pg_basebackup", "-d", self.cluster.connect(), "-D", target, "-X", "stream", "-c", "fast", "-Ft",
                             f"--compress=client-zstd:level=3,workers={WORKERS}", *options)
        self.number += 1
        (target / "pg_wal.tar").unlink()
        return cost

    def full(self):
        return self._one()

    def incremental(self):
        return self._one(f"--incremental={self.repository / str(self.number) / 'backup_manifest'}")


class _Files(Seldom, contenders.Contender):
    """A copier of files, between pg_backup_start and pg_backup_stop."""

    encrypts = True

    def _one(self):
        script = self.place / "backup.sql"
        script.write_text(f"select pg_backup_start('bench', true);\n\\! {self.line()}\n"
                          "\\if :SHELL_ERROR\n\\warn failed\nselect 1/0;\n\\endif\nselect 1 from pg_backup_stop(false);\n")
        return self.measured_seldom(self.cluster.bin / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-f", script, self.cluster.connect())

    full = incremental = _one

    def line(self):
        raise NotImplementedError


class Restic(_Files):
    name = "restic"
    title = "restic"

    def __init__(self, cluster, programs):
        super().__init__(cluster)
        self.program = programs / "restic"

    def words(self, *words):
        return " ".join(["env", f"RESTIC_PASSWORD='{PASSPHRASE}'", f"GOMAXPROCS={WORKERS}", str(self.program), "-q", "-r", str(self.repository),
                         "--cache-dir", str(self.place / "cache"), *words])

    def prepare(self):
        super().prepare()
        run(as_server(["sh", "-c", self.words("init")]), cwd="/")

    def line(self):
        leave = " ".join(f"--exclude '{self.cluster.data}/{name}'" for name in NOT_COPIED)
        return self.words("backup", f"--read-concurrency={WORKERS}", leave, str(self.cluster.data))


class Borg(_Files):
    name = "borg"
    title = "borg"

    def __init__(self, cluster, programs):
        super().__init__(cluster)
        self.program = programs / "borg"

    def words(self, *words):
        return " ".join(["env", f"BORG_PASSPHRASE='{PASSPHRASE}'", f"BORG_BASE_DIR={self.place}/base", str(self.program), *words])

    def prepare(self):
        super().prepare()
        self.number = 0
        run(as_server(["sh", "-c", self.words("init", "-e", "repokey-blake2", str(self.repository))]), cwd="/")

    def line(self):
        self.number += 1
        leave = " ".join(f"--exclude 'sh:{str(self.cluster.data)[1:]}/{name}'" for name in NOT_COPIED)
        return self.words("create", "--compression", "zstd,3", leave, f"{self.repository}::{self.number}", str(self.cluster.data))
