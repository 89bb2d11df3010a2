"""./dev bench bucket: a bucket copied to another store, beside rclone sync, in one run.

Two Ceph gateways on this machine, in memory: what they take themselves is part of every figure, and the same for both. Three passes
each: everything, nothing changed, one object in a hundred changed. Requests are counted from the gateways' own logs. The order
rotates; figures are medians. rclone compares by checksum and lists whole (--checksum --fast-list), its way of the fewest requests.
Writes docs/benchmarks-bucket.md unless --quick is given.
"""

import argparse
import concurrent.futures
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
import rgw  # noqa: E402
from measure import machine_line, median, run  # noqa: E402

PARALLEL = 8
SEED = 5
PASSES = ("everything", "nothing changed", "1 % changed")
CHANGED_SHARE = 100


def note(text):
    print(text, file=sys.stderr, flush=True)


def own_environment():
    """Without what the caller's own S3 programs are told."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}


def answered(cluster):
    """Requests the gateway answered so far."""
    with open(cluster.folder / "client.rgw.log", "rb") as log:
        return sum(line.count(b" beast: ") for line in log)


class Source:
    def __init__(self, cluster, count):
        self.cluster, self.count = cluster, count
        self.user = cluster.user()
        self.bucket = self.user.bucket(versioned=True)
        self.round = 0
        self.fill(range(count))

    def fill(self, numbers):
        """0.2 to 16 KiB each, a hundred a folder."""
        self.round += 1
        blob = random.Random(SEED).randbytes(1 << 20)

        def put(number):
            rng = random.Random(number * 1000 + self.round)
            size = int(200 * 80 ** rng.random())
            start = rng.randrange(len(blob) - size)
            self.user.s3.put(self.bucket, f"data/{number // 100:04d}/{number:06d}", b"%d %d\n" % (number, self.round) + blob[start:start + size]).expect(200)
        with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(put, numbers))

    def change(self):
        self.fill(random.Random(self.round).sample(range(self.count), self.count // CHANGED_SHARE))


class Kuramori:
    name = "kuramori"

    def __init__(self, program, folder):
        self.program, self.folder = program, folder

    def command(self, source, target, bucket):
        state = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        keys = {}
        for name, user in (("from", source.user), ("to", target)):
            for what, value in (("access", user.access), ("secret", user.secret)):
                keys[name, what] = state / f"{name}-{what}"
                keys[name, what].write_text(value)
        config = state / "kuramori.yaml"
        config.write_text(f"""resources:
  data:
    kind: bucket
    at: s3://{source.bucket}/data
    endpoint: {source.cluster.endpoint}
    credentials: {{ access_key_file: {keys['from', 'access']}, secret_key_file: {keys['from', 'secret']} }}
    limits: {{ processes: {PARALLEL} }}
    replicate:
      to: s3://{bucket}/data
      endpoint: {target.cluster.endpoint}
      credentials: {{ access_key_file: {keys['to', 'access']}, secret_key_file: {keys['to', 'secret']} }}
""")
        return ([str(self.program), "--config", str(config), "--json", "replicate", "data", "--once"],
                {**own_environment(), "KURAMORI_STATE": str(state)})


class Rclone:
    name = "rclone"

    def command(self, source, target, bucket):
        environment = own_environment()
        for name, user, cluster in (("FROM", source.user, source.cluster), ("TO", target, target.cluster)):
            environment |= {f"RCLONE_CONFIG_{name}_TYPE": "s3", f"RCLONE_CONFIG_{name}_PROVIDER": "Ceph",
                            f"RCLONE_CONFIG_{name}_ENDPOINT": cluster.endpoint, f"RCLONE_CONFIG_{name}_ACCESS_KEY_ID": user.access,
                            f"RCLONE_CONFIG_{name}_SECRET_ACCESS_KEY": user.secret}
        return (["rclone", "sync", f"FROM:{source.bucket}/data", f"TO:{bucket}/data", "--checksum", "--fast-list", "--config", "/dev/null",
                 "--transfers", str(PARALLEL), "--checkers", str(PARALLEL), "--s3-no-check-bucket"], environment)


def check(source, target, bucket):
    """Every object is there, in its size."""
    mine, theirs = source.user.s3.list(source.bucket, "data/"), target.s3.list(bucket, "data/")
    if mine != theirs:
        raise SystemExit(f"the copy has {len(theirs)} objects, the source {len(mine)}, or sizes differ")


def measure(contenders, source, far, repetitions):
    figures = {}
    for repetition in range(repetitions):
        order = contenders[repetition % len(contenders):] + contenders[:repetition % len(contenders)]
        target = far.user()
        buckets = {one.name: target.bucket(versioned=True) for one in order}
        runs = {one.name: one.command(source, target, buckets[one.name]) for one in order}
        for what in PASSES:
            if what == PASSES[2]:
                source.change()
            for one in order:
                command, environment = runs[one.name]
                before = answered(source.cluster) + answered(far)
                cost = run(command, env=environment)
                cost.requests = answered(source.cluster) + answered(far) - before
                figures.setdefault((what, one.name), []).append(cost)
                note(f"  {what:16} {one.name:10} {cost}, {cost.requests} requests")
        for one in order:
            check(source, target, buckets[one.name])
    return figures


def write(figures, names, count, repetitions, remark):
    version = subprocess.run(["rclone", "version"], capture_output=True, text=True).stdout.split("\n")[0]
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    lines = ["# Benchmarks: a bucket and its copy", "",
             f"Written by `./dev bench bucket --count {count} --repetitions {repetitions}`; run it on your own machine and compare.", "",
             f"- **Machine**: {machine_line()}. Both stores — Ceph's gateways, in memory, over HTTP — run on the same processors.{remark}",
             f"- **Data**: {count:,} objects of 0.2 to 16 KiB, both buckets versioned.",
             f"- **Software**: kuramori at {commit}; {version}.",
             f"- **Rules**: {PARALLEL} at once each; rclone with `--checksum --fast-list`. Requests by the gateways' own logs. "
             f"{'One run' if repetitions == 1 else f'Medians of {repetitions}'}. rclone copies objects and their type; kuramori also their versions, metadata and tags.", "",
             "| pass | | wall s | CPU s | memory MiB | requests |", "|---|---|---|---|---|---|"]
    for what in PASSES:
        for name in names:
            costs = figures[what, name]
            lines.append(f"| {what} | {name} | **{median([c.wall for c in costs]):.2f}** | {median([c.cpu for c in costs]):.2f} | "
                         f"{max(c.memory for c in costs) / 2**20:.0f} | {median([c.requests for c in costs]):.0f} |")
    lines += ["", "| | measured |", "|---|---|"]
    for what in PASSES:
        ours, theirs = ([c.wall for c in figures[what, name]] for name in names)
        lines.append(f"| {what}: speed against rclone | {median(theirs) / median(ours):.2f}× |")
    (ROOT / "docs" / "benchmarks-bucket.md").write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(prog="./dev bench bucket")
    parser.add_argument("--quick", action="store_true", help="2,000 objects, once; writes no document")
    parser.add_argument("--count", type=int, default=100_000, help="objects")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--remark", default="", help="of the machine, for the document: what else it was doing")
    options = parser.parse_args()
    if options.quick:
        options.count, options.repetitions = 2_000, 1
    folder = pathlib.Path(tempfile.mkdtemp(prefix="kuramori-bench-"))
    near, far = rgw.RgwCluster(), rgw.RgwCluster()
    try:
        note(f"filling a bucket with {options.count} objects")
        source = Source(near, options.count)
        contenders = [Kuramori(ROOT / "build" / "release" / "bin" / "kuramori", folder), Rclone()]
        figures = measure(contenders, source, far, options.repetitions)
        if not options.quick:
            write(figures, [one.name for one in contenders], options.count, options.repetitions, f" {options.remark}" if options.remark else "")
    finally:
        for cluster in (near, far):
            cluster.remove()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
