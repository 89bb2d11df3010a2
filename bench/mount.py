"""./dev bench mount: a snapshot looked into, beside restic's mount and the restored files, in one run.

A tree of 200,000 small files and one large file that half compresses. Each question is asked of a mount made anew, with nothing of it in the
kernel's cache; the order rotates; figures are medians. The part "Measured" of docs/mount.md is written from it, unless --quick.
"""

import argparse
import os
import pathlib
import random
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from files import Kuramori, Restic, make_small  # noqa: E402
from contenders import PASSPHRASE  # noqa: E402
from measure import machine_line, median  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
SEED = 5
PIECE = 4096
READS = 2000
MOUNT_SECONDS_MAX = 60


def make_tree(folder, scale):
    make_small(folder / "small", scale)
    rng = random.Random(SEED)
    with open(folder / "large", "wb") as file:
        for number in range(max(8, int(400 * scale))):
            file.write(rng.randbytes(1 << 20) if number % 2 else rng.randbytes(1 << 16) * 16)


class Mounted:
    """A contender's newest snapshot, mounted; `root` is the tree in it."""

    def __init__(self, contender, tree, place):
        self.at = place / "mnt"
        self.at.mkdir(exist_ok=True)
        begun = time.perf_counter()
        if contender.name == "kuramori":
            command = [str(ROOT / "build" / "kuramori"), "--config", str(contender.place / "kuramori.yaml"), "mount", "tree@latest", str(self.at)]
            self.root = self.at
        else:
            command = [str(contender.program), "-q", "-r", str(contender.repository), "--cache-dir", str(contender.place / "cache"), "mount", str(self.at)]
            self.root = self.at / "snapshots" / "latest" / str(tree).lstrip("/")
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        env={**os.environ, "RESTIC_PASSWORD": PASSPHRASE, "KURAMORI_STATE": str(contender.place / "state")})
        while True:
            try:
                with open(self.root / "large", "rb") as file:
                    file.read(1)
                break
            except OSError:
                if time.perf_counter() - begun > MOUNT_SECONDS_MAX or self.process.poll() is not None:
                    raise SystemExit(f"bench mount: {contender.name} does not mount")
                time.sleep(0.002)
        self.first_byte = time.perf_counter() - begun

    def peak(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def end(self):
        self.process.terminate()
        self.process.wait(30)


def timed(work):
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def find(root):
    """Every name and size, as find -printf %s does."""
    subprocess.run(["find", root / "small", "-printf", "%s\n"], stdout=subprocess.DEVNULL, check=True)


def read_all(path):
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def read_here_and_there(path):
    file = os.open(path, os.O_RDONLY)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
    pieces = os.fstat(file).st_size // PIECE
    rng, took = random.Random(SEED), []
    for _ in range(READS):
        at = rng.randrange(pieces) * PIECE
        took.append(timed(lambda: os.pread(file, PIECE, at)))
    os.close(file)
    return sorted(took)


def measure(contender, tree, place):
    found = {}
    mounted = Mounted(contender, tree, place)
    found["first"] = mounted.first_byte
    found["find"] = timed(lambda: find(mounted.root))
    found["memory"] = mounted.peak()
    mounted.end()
    mounted = Mounted(contender, tree, place)
    size = (mounted.root / "large").stat().st_size
    found["sequential"] = size / timed(lambda: read_all(mounted.root / "large")) / 1e6
    found["memory"] = max(found["memory"], mounted.peak())
    mounted.end()
    mounted = Mounted(contender, tree, place)
    took = read_here_and_there(mounted.root / "large")
    found["p50"], found["p99"] = took[len(took) // 2] * 1e6, took[len(took) * 99 // 100] * 1e6
    mounted.end()
    return found


def drop_caches():
    os.sync()
    try:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        pass  # the same for everybody then


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the data, one round, nothing written")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    scale, rounds = (0.05, 1) if arguments.quick else (1, arguments.rounds)
    place = pathlib.Path(os.environ.get("KURAMORI_BENCH_DIR", "/var/tmp/kuramori-bench")) / "mount"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    programs = pathlib.Path(subprocess.run([ROOT / "tools" / "bench_contenders.sh", "bin"], check=True, capture_output=True, text=True).stdout.strip())
    tree = place / "tree"
    tree.mkdir()
    make_tree(tree, scale)
    contenders = [Kuramori(place), Restic(place, programs)]
    for contender in contenders:
        contender.prepare_for(tree)
        contender.backup(tree)
    results = {contender.name: [] for contender in contenders}
    plain = []
    for number in range(rounds):
        for contender in contenders[number % 2:] + contenders[:number % 2]:
            drop_caches()
            results[contender.name].append(measure(contender, tree, place))
        drop_caches()
        took = timed(lambda: find(tree))
        plain.append({"find": took, "sequential": (tree / "large").stat().st_size / timed(lambda: read_all(tree / "large")) / 1e6})
        drop_caches()
        took = read_here_and_there(tree / "large")
        plain[-1].update(p50=took[len(took) // 2] * 1e6, p99=took[len(took) * 99 // 100] * 1e6)
    of = lambda rows, what: median([row[what] for row in rows])
    ours, theirs = results["kuramori"], results["restic"]
    lines = [f"Medians of {rounds}, {machine_line()}. `./dev bench mount` measures it: 200,000 small files and one of 400 MiB, in a vault that is a folder.", "",
             "| | kuramori | restic's mount | ratio | the files themselves |", "|---|---|---|---|---|"]
    for what, title, form, better in (("first", "from the command to the first byte, s", "{:.2f}", "less"), ("find", "`find` over all, with sizes, s", "{:.2f}", "less"),
                                      ("sequential", "the large file in order, MB/s", "{:.0f}", "more"), ("p50", "4 KiB of it, anywhere: half of the reads within, µs", "{:.0f}", "less"),
                                      ("p99", "99 of 100 within, µs", "{:.0f}", "less"), ("memory", "most memory held, MiB", "{:.0f}", "less")):
        unit = 2**20 if what == "memory" else 1
        a, b = of(ours, what) / unit, of(theirs, what) / unit
        ratio = b / a if better == "less" else a / b
        there = form.format(of(plain, what)) if what in plain[0] else ""
        lines.append(f"| {title} | {form.format(a)} | {form.format(b)} | {ratio:.1f} × | {there} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if not arguments.quick:
        document = ROOT / "docs" / "mount.md"
        document.write_text(document.read_text().split("Medians of")[0] + text)
    shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
