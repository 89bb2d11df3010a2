"""./dev bench incremental: what a snapshot of a few changed pages costs, beside pgBackRest, pg_basebackup, restic and borg.

One cluster of PostgreSQL 17 and one change for all: random rows are updated until the wanted part of the pages has a new
LSN, then everybody makes a snapshot of it, and another of no change at all. The order rotates, the machine settles before
every run, figures are medians. Parts (--only): change, cost, size, restore. Each keeps its figures in --raw, and what is there
becomes docs/benchmarks-incremental.md and its plot, unless --quick.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from contenders import WORKERS  # noqa: E402
from incremental_cluster import ChangingCluster  # noqa: E402
from incremental_contenders import BaseBackup, Borg, Kuramori, PgBackRest, Restic, push_now  # noqa: E402
from incremental_report import write_report  # noqa: E402
from measure import folder_bytes, machine_line, median, settle  # noqa: E402
from postgres import ROOT, note, scratch_folder  # noqa: E402

PARTS = ("change", "cost", "size", "restore")
PART_OF_PAGES = 0.01
CURVE = (0.001, 0.1, 0.5)  # beside 0 and PART_OF_PAGES, which are in every run
SIZES_GB = "1,2,4,8"
SIZE_CHANGE = 10 << 20  # the same in every size: 1 % of the smallest
SIZE_SCALE = 0.05  # of the data that changes there; the rest is one large table
INCREMENTALS = 200
SETTLE_SECONDS = 1


class Bench:
    def __init__(self, cluster, contenders):
        self.cluster, self.contenders = cluster, contenders
        self.archivers = [contender for contender in contenders if hasattr(contender, "push")]
        self.pushed = set()  # (contender, segment)

    def archive_to_all(self):
        lines = [" ".join(str(word) for word in contender.push('"$1"')) for contender in self.archivers]
        self.cluster.archive_with("\n".join(f"{line} || exit 1" for line in lines) or "exit 0")

    def archive_to(self, contender):
        """While one is measured nobody else's archive takes part; what comes then is pushed into theirs afterwards."""
        self.cluster.archive_with(contender.archive_line() if contender in self.archivers else "exit 0")
        self.before = {path.name for path in self.cluster.waiting() if self.is_done(path)}

    def is_done(self, path):
        return (path.parent / "archive_status" / f"{path.name}.done").exists()

    def catch_up(self, contender):
        self.cluster._await_archiver()
        for path in self.cluster.waiting():
            if path.name in self.before or not self.is_done(path):
                continue
            for other in self.archivers:
                if other is not contender:
                    push_now(other, path)

    def full(self, contender):
        contender.prepare()
        self.cluster.archive_with(contender.archive_line() if contender in self.archivers else "exit 0")
        cost = contender.full()
        note(f"  {'full':12} {contender.name:14} {cost}, {contender.repository_bytes() / 1e6:.0f} MB")

    def begin(self):
        """A full snapshot of each."""
        before = {path.name for path in self.cluster.waiting()}
        self.cluster.archive_with("exit 0")
        self.cluster.archive_all()
        for contender in self.contenders:
            self.full(contender)
            self.cluster._await_archiver()
        # Their archives begin with their full backups: what came while the others made theirs is everybody's from here on.
        for contender in self.archivers:
            for path in self.cluster.waiting():
                if path.name not in before and self.is_done(path):
                    push_now(contender, path)
        self.archive_to_all()
        self.cluster.archive_all()

    def rotated(self, repetition):
        shift = repetition % len(self.contenders)
        return self.contenders[shift:] + self.contenders[:shift]

    def one(self, contender, what):
        self.archive_to(contender)
        settle(self.cluster.folder, SETTLE_SECONDS, trim=False)
        self.cluster.sql("select 1")  # the catalog's pages a new connection needs
        before = contender.repository_bytes()
        cost = contender.incremental()
        added = contender.repository_bytes() - before
        self.catch_up(contender)
        self.archive_to_all()
        figure = {"wall": cost.wall, "cpu": cost.cpu, "memory": cost.memory, "added": added, "kernel_read": cost.read}
        if hasattr(cost, "said"):
            figure |= {"relation_read": cost.said["relation_bytes_read"], "stored": cost.said["pages_stored"] * 8192,
                       "sampled": cost.said["pages_sampled"], "all_read": cost.said["bytes_read"]}
        if what:
            note(f"  {what:12} {contender.name:14} {cost}, {added / 1e6:.1f} MB added" +
                 (f", {figure['relation_read'] / 1e6:.1f} MB of relations read" if "relation_read" in figure else ""))
        return figure

    def start_stop(self):
        self.archive_to_all()
        settle(self.cluster.folder, SETTLE_SECONDS, trim=False)
        self.cluster.sql("select 1")
        seconds = self.cluster.start_stop_alone()
        self.cluster._await_archiver()
        return {"wall": seconds}

    def change(self, part):
        changed = self.cluster.change(part if part > 1 else part * self.cluster.relation_bytes())
        note(f"  {changed / 1e6:.1f} MB of pages changed")
        return changed


def add(figures, what, name, figure, changed):
    figures.setdefault(what, {}).setdefault(name, []).append(figure | {"changed": changed})


def measure_change(bench, repetitions, figures):
    """1 % of the pages, and nothing at all."""
    for repetition in range(repetitions):
        note(f"repetition {repetition + 1} of {repetitions}")
        add(figures, "start_stop", "server", bench.start_stop(), 0)
        for what, part in (("1 %", PART_OF_PAGES), ("nothing", 0)):
            changed = bench.change(part)
            for contender in bench.rotated(repetition):
                add(figures, what, contender.name, bench.one(contender, what), changed)


def measure_cost(bench, repetitions, figures, keep):
    """Cost against the changed part; kept point by point, since the last ones take long."""
    for part in CURVE:
        for repetition in range(repetitions):
            changed = bench.change(part)
            for contender in bench.rotated(repetition):
                add(figures, f"{part:g}", contender.name, bench.one(contender, f"{part * 100:g} %"), changed)
        keep("cost", figures)


def measure_size(folder, sizes, wanted, repetitions, server, programs, figures):
    """The same change in ever larger clusters."""
    cluster = ChangingCluster(folder, SIZE_SCALE, server)
    cluster.data = folder / "grown-17"
    cluster.start()
    change = SIZE_CHANGE * min(1, sizes[0])
    try:
        for size in sizes:
            cluster.archive_with("exit 0")
            cluster.grow_to(size * 1e9)
            contenders = [Kuramori(cluster, ROOT / "build"), PgBackRest(cluster, programs), BaseBackup(cluster)]
            bench = Bench(cluster, [contender for contender in contenders if not wanted or contender.name in wanted])
            note(f"a cluster of {cluster.relation_bytes() / 1e9:.2f} GB")
            bench.begin()
            bench.change(change)
            for contender in bench.contenders:
                bench.one(contender, None)
            for repetition in range(repetitions):
                add(figures, f"{size:g}", "server", bench.start_stop(), cluster.relation_bytes())
                changed = bench.change(change)
                for contender in bench.rotated(repetition):
                    figure = bench.one(contender, f"{size:g} GB") | {"really_changed": changed}
                    add(figures, f"{size:g}", contender.name, figure, cluster.relation_bytes())
            cluster.archive_with("exit 0")
            for contender in bench.contenders:
                shutil.rmtree(contender.place, ignore_errors=True)
    finally:
        cluster.stop()
        shutil.rmtree(cluster.data, ignore_errors=True)


def measure_restore(cluster, incrementals, repetitions, figures):
    """The newest of many incremental snapshots, and a full one of the same state."""
    chain, full = Kuramori(cluster, ROOT / "build"), Kuramori(cluster, ROOT / "build")
    for contender, name in ((chain, "kuramori-chain"), (full, "kuramori-full")):
        contender.name = name
        contender.place = cluster.folder / "contenders" / name
        contender.repository = contender.place / "repository"
        contender.target = cluster.folder / "restored" / name
        contender.prepare()
    cluster.archive_with(chain.archive_line())
    chain.full()
    for number in range(incrementals):
        cluster._update(40)
        chain.incremental()
        if number % 20 == 19:
            note(f"  {number + 1} incremental snapshots")
    cluster.archive_with(full.archive_line())
    full.full()
    cluster._await_archiver()
    cluster.archive_with("exit 0")
    for repetition in range(repetitions):
        for contender in (chain, full) if repetition % 2 == 0 else (full, chain):
            contender.prepare_restore()
            settle(cluster.folder)
            cost = contender.restore()
            contender.clean_restore()
            note(f"  restore      {contender.name:14} {cost}")
            add(figures, "restore", contender.name, {"wall": cost.wall, "cpu": cost.cpu, "memory": cost.memory, "incrementals": incrementals}, 0)
    for contender in (chain, full):
        shutil.rmtree(contender.place, ignore_errors=True)


def versions(server, programs):
    def first(*words):
        return subprocess.run([str(word) for word in words], capture_output=True, text=True).stdout.strip().splitlines()[0]

    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return {"pg": first(server / "postgres", "--version"), "pgbackrest": first(programs / "pgbackrest", "version"),
            "restic": " ".join(first(programs / "restic", "version").split()[:2]), "borg": first(programs / "borg", "--version"), "commit": commit}


def main():
    parser = argparse.ArgumentParser(prog="./dev bench incremental")
    parser.add_argument("--quick", action="store_true", help="300 MB, 2 repetitions, 10 incrementals; writes no document")
    parser.add_argument("--repetitions", type=int)
    parser.add_argument("--cost-repetitions", type=int, default=3, help="of the part cost")
    parser.add_argument("--scale", type=float, help="1 is about 4 GB")
    parser.add_argument("--only", help=f"parts, by comma: {', '.join(PARTS)}; the others' figures are those of --raw")
    parser.add_argument("--contenders", help="by comma")
    parser.add_argument("--sizes", default=SIZES_GB, help="GB, of the part size")
    parser.add_argument("--raw", help="where the figures are kept (JSON)")
    choice = parser.parse_args()
    scale = choice.scale or (0.05 if choice.quick else 1.0)
    repetitions = choice.repetitions or (2 if choice.quick else 5)
    parts = choice.only.split(",") if choice.only else PARTS

    def tool(*words):
        return pathlib.Path(subprocess.run([ROOT / "tools" / words[0], *words[1:]], check=True, capture_output=True, text=True).stdout.strip())

    server, programs = tool("test_postgres.sh", "bin", "17"), tool("bench_contenders.sh", "bin")
    folder = scratch_folder()
    folder.mkdir(parents=True, exist_ok=True)
    raw = pathlib.Path(choice.raw or folder / ("incremental-quick.json" if choice.quick else "incremental.json"))
    figures = json.loads(raw.read_text()) if choice.only and raw.exists() else {}

    def keep(part, found):
        figures[part] = found
        figures["about"] = {"machine": machine_line(), "versions": versions(server, programs)}
        raw.write_text(json.dumps(figures, indent=1))

    if set(parts) & {"change", "cost", "restore"}:
        cluster = ChangingCluster(folder, scale, server)
        cluster.start()
        try:
            contenders = [Kuramori(cluster, ROOT / "build"), PgBackRest(cluster, programs), BaseBackup(cluster), Restic(cluster, programs), Borg(cluster, programs)]
            if choice.contenders:
                contenders = [contender for contender in contenders if contender.name in choice.contenders.split(",")]
            size = cluster.relation_bytes()
            note(f"{machine_line()}; relations of {size / 1e9:.2f} GB; {WORKERS} workers each")
            if set(parts) & {"change", "cost"}:
                bench = Bench(cluster, contenders)
                bench.begin()
                # One that is not counted: hints, empty pages of the indexes and the like settle.
                bench.change(PART_OF_PAGES)
                for contender in contenders:
                    bench.one(contender, None)
                if "change" in parts:
                    found = {"bytes": size, "scale": scale}
                    measure_change(bench, repetitions, found)
                    keep("change", found)
                if "cost" in parts:
                    found = {}
                    measure_cost(bench, min(repetitions, choice.cost_repetitions), found, keep)
                cluster.archive_with("exit 0")
                for contender in contenders:
                    shutil.rmtree(contender.place, ignore_errors=True)
            if "restore" in parts:
                found = {}
                measure_restore(cluster, 10 if choice.quick else INCREMENTALS, repetitions, found)
                keep("restore", found)
        finally:
            cluster.stop()
            for name in ("contenders", "restored"):
                shutil.rmtree(folder / name, ignore_errors=True)
            if "cost" in parts:  # half of it was changed: the next run begins with a new one
                shutil.rmtree(cluster.data, ignore_errors=True)
    if "size" in parts:
        found = {}
        sizes = (0.5, 1) if choice.quick else [float(size) for size in choice.sizes.split(",")]
        measure_size(folder, sizes, choice.contenders, repetitions, server, programs, found)
        keep("size", found)
    text, plots = write_report(figures)
    print(text)
    if not choice.quick and "change" in figures:
        (ROOT / "docs" / "benchmarks-incremental.md").write_text(text)
        for name, content in plots.items():
            (ROOT / "docs" / name).write_text(content)


if __name__ == "__main__":
    main()
