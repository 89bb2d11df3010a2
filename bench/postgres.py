"""./dev bench postgres: full snapshot, restore and WAL push beside pg_basebackup and pgBackRest, in one run.

The same checksummed cluster of mixed data for all, two workers each, encryption and zstd on where a contender has it,
fsync everywhere. The order rotates from repetition to repetition and the machine settles before every run; figures are
medians. Writes docs/benchmarks.md unless --quick or --only is given.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from cluster import SEGMENT_BYTES, Cluster, as_server, as_server_at_once  # noqa: E402
from contenders import WORKERS, BaseBackup, BaseBackupCompressed, Kuramori, PgBackRest  # noqa: E402
from measure import Cost, folder_bytes, machine_line, median, run, settle, tree_cpu  # noqa: E402
from report import write_report  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent


def scratch_folder():
    """A folder the server's user can reach: the checkout's build/bench, or one below /var/tmp."""
    if os.environ.get("KURAMORI_BENCH_DIR"):
        return pathlib.Path(os.environ["KURAMORI_BENCH_DIR"]).resolve()
    folder = ROOT / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    if subprocess.run(as_server(["test", "-x", folder])).returncode != 0:
        folder = pathlib.Path("/var/tmp/kuramori-bench")
    return folder


def note(text):
    print(text, file=sys.stderr, flush=True)


class Bench:
    def __init__(self, cluster, contenders, repetitions):
        self.cluster, self.contenders, self.repetitions = cluster, contenders, repetitions
        self.figures = {}  # {(what, contender): [Cost…]}

    def keep(self, what, contender, cost):
        self.figures.setdefault((what, contender.name), []).append(cost)
        size = f", {cost.bytes / 1e6:.1f} MB" if cost.bytes else ""
        note(f"  {what:10} {contender.name:20} {cost}{size}")

    def rotated(self, repetition):
        shift = repetition % len(self.contenders)
        return self.contenders[shift:] + self.contenders[:shift]

    def start_stop_alone(self):
        """What PostgreSQL itself spends in pg_backup_start and pg_backup_stop: nobody can be faster."""
        self.cluster.archive_with("exit 0")
        settle(self.cluster.folder)
        before, begin = tree_cpu(self.cluster.server.pid), time.monotonic()
        self.cluster.psql("-c", "select pg_backup_start('bench', true)", "-c", "select 1 from pg_backup_stop(false)", database="postgres")
        wall = time.monotonic() - begin
        cost = Cost(wall, tree_cpu(self.cluster.server.pid) - before, 0)
        self.figures.setdefault(("start_stop", "server"), []).append(cost)

    def one_backup(self, contender):
        contender.prepare()
        self.cluster.archive_with(contender.archive_line())
        settle(self.cluster.folder)
        self.cluster.sql("select 1")  # the catalog's pages a new connection needs
        before = tree_cpu(self.cluster.server.pid)
        cost = contender.backup()
        # Server-side work counts too: pg_basebackup reads through the server.
        cost.server_cpu = tree_cpu(self.cluster.server.pid) - before
        cost.bytes = contender.repository_bytes()
        self.keep("snapshot", contender, cost)

    def one_restore(self, contender):
        contender.prepare_restore()
        settle(self.cluster.folder)
        cost = contender.restore()
        cost.bytes = folder_bytes(contender.target)
        self.keep("restore", contender, cost)
        contender.clean_restore()

    def push_one(self, contender, segment):
        """Seconds of CPU."""
        process = subprocess.Popen([str(word) for word in contender.push(segment)], cwd=self.cluster.data, **as_server_at_once())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError(f"{contender.name} could not push {segment}")
        return usage.ru_utime + usage.ru_stime

    def pushes(self, contender, kind, segments):
        contender.prepare()
        contender.know_the_cluster()
        settle(self.cluster.folder, 1)
        for segment in segments:  # what the server wrote a moment ago is in the page cache
            segment.read_bytes()
        first, *segments = segments
        self.push_one(contender, first)  # a server's archiver calls the same program all day long
        before = contender.wal_bytes()
        begin = time.monotonic()
        cpu = sum(self.push_one(contender, segment) for segment in segments)
        wall = time.monotonic() - begin
        cost = Cost(wall / len(segments), cpu / len(segments), 0)
        cost.bytes = (contender.wal_bytes() - before) / len(segments)
        self.keep(f"push {kind}", contender, cost)

    def run(self):
        self.cluster.archive_with("exit 0")
        for repetition in range(self.repetitions):
            note(f"repetition {repetition + 1} of {self.repetitions}")
            self.start_stop_alone()
            for contender in self.rotated(repetition):
                self.one_backup(contender)
            self.cluster.archive_with("exit 0")
            for contender in self.rotated(repetition + 1):
                self.one_restore(contender)
            for kind in ("load", "images"):
                segments = sorted((self.cluster.wal_kept / kind).iterdir())[:20]
                for contender in self.rotated(repetition):
                    if hasattr(contender, "push"):
                        self.pushes(contender, kind, segments)


def random_page(cluster, folder):
    """Microseconds of a random page out of a cached pack, by the micro benchmark, on the cluster's own pages."""
    program = ROOT / "build" / "release" / "bin" / "random_page"
    if not program.exists():
        return None
    place = folder / "random_page"
    place.mkdir(parents=True, exist_ok=True)
    try:
        return json.loads(subprocess.run([program, "--json", *cluster.sample(place), place], check=True, capture_output=True, text=True).stdout)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def versions():
    first = lambda *words: subprocess.run(words, capture_output=True, text=True).stdout.strip().splitlines()[0]  # noqa: E731
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return {"pg": first("/usr/lib/postgresql/15/bin/postgres", "--version"), "pgbackrest": first("pgbackrest", "version"), "commit": commit}


def main():
    parser = argparse.ArgumentParser(prog="./dev bench postgres")
    parser.add_argument("--quick", action="store_true", help="400 MB and 3 repetitions; writes no document")
    parser.add_argument("--repetitions", type=int)
    parser.add_argument("--only", help="contenders, by comma")
    parser.add_argument("--scale", type=float, help="1 is about 4 GB")
    parser.add_argument("--raw", help="also write every figure to this file (JSON)")
    choice = parser.parse_args()
    scale = choice.scale or (0.1 if choice.quick else 1.0)
    repetitions = choice.repetitions or (3 if choice.quick else 5)

    folder = scratch_folder()
    folder.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(folder, scale)
    cluster.start()
    try:
        contenders = [PgBackRest(cluster), BaseBackup(cluster), BaseBackupCompressed(cluster)]
        if (ROOT / "build" / "kuramori").exists():
            contenders.insert(0, Kuramori(cluster, ROOT / "build"))
        if choice.only:
            contenders = [contender for contender in contenders if contender.name in choice.only.split(",")]
        bench = Bench(cluster, contenders, repetitions)
        size = folder_bytes(cluster.data, but=("pg_wal",))
        note(f"{machine_line()}; a cluster of {size / 1e9:.2f} GB; {WORKERS} workers each")
        bench.run()
        page = random_page(cluster, folder)
    finally:
        cluster.stop()
        for name in ("contenders", "restored"):
            shutil.rmtree(folder / name, ignore_errors=True)
    if choice.raw:
        raw = {f"{what}/{name}": [vars(cost) for cost in costs] for (what, name), costs in bench.figures.items()}
        pathlib.Path(choice.raw).write_text(json.dumps(raw, default=str, indent=1))
    text = write_report(bench.figures, contenders, page, machine_line(), versions(), size, repetitions)
    print(text)
    if not choice.quick and not choice.only:
        (ROOT / "docs" / "benchmarks.md").write_text(text)


if __name__ == "__main__":
    main()
