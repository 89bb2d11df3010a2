"""./dev bench s3: full snapshot and restore in a real S3 store, beside pgBackRest, in one run.

One Ceph gateway on this machine, over TLS, in memory, for all: what it takes itself is part of every figure, and the
same for everybody. Beside both stands what it takes of raw parallel transfers of as many bytes, and Kuramori again
through a line that delays each request by 50 ms, and through the same line without the delay: what the line itself takes of the
two processors (it opens TLS and closes it again) is no distance. The order rotates; figures are medians. Writes
docs/benchmarks-s3.md unless --quick is given.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
import raw_s3  # noqa: E402
import rgw  # noqa: E402
import slow_proxy  # noqa: E402
from cluster import Cluster, give_to_server  # noqa: E402
from contenders import WORKERS, Kuramori, PgBackRest, fresh_folder  # noqa: E402
from measure import Cost, folder_bytes, machine_line, median, run, settle  # noqa: E402
from postgres import note, scratch_folder, versions  # noqa: E402

DELAY_MS = 50
RAW_PARALLEL = 8
RAW_OBJECT_BYTES = 16 << 20
REQUEST = re.compile(r'beast: \S+ \S+ - \S+ \[[^]]*\] "(\w+) (\S+) HTTP')


class Site:
    """The store, seen directly or through a line. A bucket a run: gone with it."""

    def __init__(self, cluster, line=None):
        self.cluster, self.line = cluster, line
        self.endpoint = (line or cluster).endpoint
        self.user = cluster.user()
        self.bucket = None

    def fresh_bucket(self):
        self.drop()
        self.bucket = self.user.bucket()
        return self.bucket

    def drop(self):
        """So that the store's memory holds one repository at a time."""
        if self.bucket is None:
            return
        with concurrent.futures.ThreadPoolExecutor(RAW_PARALLEL) as pool:
            list(pool.map(lambda key: self.user.s3.delete(self.bucket, key), self.user.s3.keys(self.bucket)))
        self.bucket = None
        # The gateway frees what was deleted hours later unless told: it would fill up, and slow down before.
        subprocess.run(["radosgw-admin", "gc", "process", "--include-all"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "CEPH_CONF": str(self.cluster.folder / "ceph.conf")})

    def bytes(self, but=()):
        return sum(size for key, size in self.user.s3.list(self.bucket) if not any(part in key for part in but))

    def requests(self):
        return len(REQUEST.findall((self.cluster.folder / "client.rgw.log").read_text(errors="replace")))


class KuramoriS3(Kuramori):
    def __init__(self, cluster, programs, site, name="kuramori", title="kuramori"):
        self.name, self.title, self.site = name, title, site
        super().__init__(cluster, programs)

    def prepare(self):
        fresh_folder(self.place)
        bucket = self.site.fresh_bucket()
        for key, text in (("access", self.site.user.access), ("secret", self.site.user.secret)):
            (self.place / key).write_text(text + "\n")
            (self.place / key).chmod(0o600)
            give_to_server(self.place / key)
        shutil.copy2(self.site.cluster.ca, self.place / "ca.pem")
        (self.place / "ca.pem").chmod(0o644)
        self.options = self.place / "kuramori.yaml"
        self.options.write_text(f"""vaults:
  bench:
    at: "s3://{bucket}/vault"
    endpoint: "{self.site.endpoint}"
    region: {raw_s3.REGION}
    ca_file: {self.place}/ca.pem
    credentials: {{ access_key_file: {self.place}/access, secret_key_file: {self.place}/secret }}
    site: here
    key_file: {self.place}/owner.key
resources:
  bench:
    kind: postgres
    connect: "{self.cluster.connect('postgres')}"
    limits: {{ processes: {WORKERS} }}
plans:
  bench:
    resources: [bench]
    vault: bench
    schedule: "0 3 * * *"
    timezone: UTC
    wal: archive
    window: 14d
    keep: {{ all: 14d }}
    drill: {{ schedule: "0 5 1 * *", counts: off }}
""")
        run(self.command(*self.words("vault", "init", "bench")), env={"PATH": "/usr/bin:/bin", "KURAMORI_STATE": str(self.place / "state")})

    def archive_line(self):
        return " ".join(str(word) for word in self.words("wal", "push", "--resource", "bench")) + ' "$1"'

    def repository_bytes(self):
        return self.site.bytes(but=("/wal/",))


class PgBackRestS3(PgBackRest):
    def __init__(self, cluster, site):
        self.site = site
        super().__init__(cluster)

    def prepare(self):
        self.site.fresh_bucket()
        super().prepare()

    def repository_options(self):
        shutil.copy2(self.site.cluster.ca, self.place / "ca.pem")
        (self.place / "ca.pem").chmod(0o644)
        return ["repo1-type=s3", "repo1-path=/repository", f"repo1-s3-bucket={self.site.bucket}", "repo1-s3-endpoint=localhost",
                f"repo1-storage-port={urllib.parse.urlsplit(self.site.endpoint).port}", f"repo1-s3-region={raw_s3.REGION}",
                "repo1-s3-uri-style=path", f"repo1-s3-key={self.site.user.access}", f"repo1-s3-key-secret={self.site.user.secret}",
                f"repo1-storage-ca-file={self.place}/ca.pem"]

    def repository_bytes(self):
        return self.site.bytes(but=("/archive/",))


def raw_transfers(site, total):
    """Seconds to put and to get as many bytes in objects of 16 MiB, several at once, by curl: what the store itself takes."""
    bucket = site.fresh_bucket()
    objects = max(RAW_PARALLEL, total // RAW_OBJECT_BYTES)
    body = pathlib.Path(site.cluster.folder) / "raw-body"
    body.write_bytes(os.urandom(RAW_OBJECT_BYTES))

    def transfer(puts):
        def one(share):
            client = raw_s3.Client(site.endpoint, site.user.access, site.user.secret, site.cluster.ca)
            for number in range(share, objects, RAW_PARALLEL):
                if puts:
                    client.put(bucket, f"raw/{number}", content).expect(200)
                else:
                    client.get(bucket, f"raw/{number}").expect(200)
            client.close()

        content = body.read_bytes()
        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(RAW_PARALLEL) as pool:
            list(pool.map(one, range(RAW_PARALLEL)))
        return (time.monotonic() - begin) * total / (objects * RAW_OBJECT_BYTES)

    try:
        return transfer(True), transfer(False)
    finally:
        body.unlink()


class Bench:
    def __init__(self, cluster, contenders, raw_site, repetitions):
        self.cluster, self.contenders, self.raw_site, self.repetitions = cluster, contenders, raw_site, repetitions
        self.figures = {}

    def keep(self, what, name, cost):
        self.figures.setdefault((what, name), []).append(cost)
        note(f"  {what:9} {name:18} {cost}, {cost.bytes / 1e6:.1f} MB, {cost.requests} requests")

    def one(self, contender):
        site = contender.site
        contender.prepare()
        self.cluster.archive_with(contender.archive_line())
        settle(self.cluster.folder)
        self.cluster.sql("select 1")
        requests = site.requests()
        cost = contender.backup()
        cost.requests = site.requests() - requests
        cost.bytes = contender.repository_bytes()
        if not cost.bytes or not cost.requests:
            raise SystemExit(f"{contender.name} stored nothing in the bucket: its options say another place")
        self.keep("snapshot", contender.name, cost)
        self.cluster.archive_with("exit 0")
        contender.prepare_restore()
        settle(self.cluster.folder)
        requests = site.requests()
        cost = contender.restore()
        cost.requests = site.requests() - requests
        cost.bytes = folder_bytes(contender.target)
        self.keep("restore", contender.name, cost)
        contender.clean_restore()
        stored = contender.repository_bytes()
        site.drop()
        return stored

    def run(self):
        for repetition in range(self.repetitions):
            note(f"repetition {repetition + 1} of {self.repetitions}")
            shift = repetition % len(self.contenders)
            stored = {}
            for contender in self.contenders[shift:] + self.contenders[:shift]:
                stored[contender.name] = self.one(contender)
            settle(self.cluster.folder)
            puts, gets = raw_transfers(self.raw_site, stored["kuramori"])
            for what, seconds in (("snapshot", puts), ("restore", gets)):
                cost = Cost(seconds, 0, 0)
                cost.bytes, cost.requests = stored["kuramori"], 0
                self.keep(what, "raw", cost)
            self.raw_site.drop()


def report(bench, contenders, machine, size, repetitions):
    wall = lambda what, name: median([cost.wall for cost in bench.figures[(what, name)]])  # noqa: E731
    of = lambda what, name, field: median([getattr(cost, field) for cost in bench.figures[(what, name)]])  # noqa: E731
    known = versions()
    lines = ["# Benchmarks: a vault in S3", "", "Written by `./dev bench s3`; run it on your own machine and compare.", "",
             f"- **Machine**: {machine}. The store — Ceph's gateway, in memory, over TLS — runs on the same processors.",
             f"- **Data**: the cluster of `./dev bench postgres`, {size / 1e9:.2f} GB on disk.",
             f"- **Software**: {known['pg']}; {known['pgbackrest']} (zst level 3, aes-256-cbc, bundles); kuramori at {known['commit']}.",
             f"- **Rules**: two workers each, encryption on, one run for all, the order rotates, caches dropped. Medians of {repetitions}.", "",
             "| | wall s | lowest–highest | CPU s of the program | memory MiB | MB | requests | requests a GB of the cluster |", "|---|---|---|---|---|---|---|---|"]
    for what in ("snapshot", "restore"):
        for name, title in [(contender.name, contender.title) for contender in contenders] + [("raw", f"raw transfers, {RAW_PARALLEL} at once")]:
            costs = bench.figures[(what, name)]
            is_raw = name == "raw"
            lines.append(f"| {what}, {title} | **{wall(what, name):.2f}** | {min(c.wall for c in costs):.2f}–{max(c.wall for c in costs):.2f} | "
                         f"{'–' if is_raw else format(of(what, name, 'cpu'), '.2f')} | {'–' if is_raw else format(of(what, name, 'memory') / 2**20, '.0f')} | "
                         f"{of(what, name, 'bytes') / 1e6:.1f} | {'–' if is_raw else int(of(what, name, 'requests'))} | "
                         f"{'–' if is_raw else format(of(what, name, 'requests') / (size / 1e9), '.0f')} |")
    lines += ["", "| | measured | promised | |", "|---|---|---|---|"]
    for what in ("snapshot", "restore"):
        against, of_raw = wall(what, "pgbackrest") / wall(what, "kuramori"), wall(what, "raw") / wall(what, "kuramori")
        kept = against >= 1.5 or of_raw >= 0.8
        lines.append(f"| {what}: speed against pgBackRest · share of raw transfers | **{against:.2f}×** · {of_raw:.2f} | ≥ 1.50× or ≥ 0.80 | "
                     f"{'kept' if kept else '**short**'} |")
        far, direct = (wall(what, name) / wall(what, "kuramori-far") for name in ("kuramori-line", "kuramori"))
        lines.append(f"| {what}: speed at {DELAY_MS} ms a request, of that through the same line without · of that with no line at all | "
                     f"**{far:.2f}** · {direct:.2f} | ≥ 0.70 | {'kept' if far >= 0.7 else '**short**'} |")
    memory = max(of(what, "kuramori", "memory") for what in ("snapshot", "restore")) / 2**20
    lines.append(f"| memory, the higher of both | **{memory:.0f} MiB** | ≤ 192 MiB | {'kept' if memory <= 192 else '**short**'} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(prog="./dev bench s3")
    parser.add_argument("--quick", action="store_true", help="400 MB and 3 repetitions; writes no document")
    parser.add_argument("--repetitions", type=int)
    parser.add_argument("--scale", type=float, help="1 is about 4 GB")
    choice = parser.parse_args()
    scale = choice.scale or (0.1 if choice.quick else 0.5)
    repetitions = choice.repetitions or (3 if choice.quick else 5)
    folder = scratch_folder()
    folder.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(folder, scale)
    store = rgw.RgwCluster(tls=True)
    line, far = slow_proxy.Proxy(store), slow_proxy.Proxy(store, delay_ms=DELAY_MS)
    cluster.start()
    try:
        contenders = [KuramoriS3(cluster, ROOT / "build", Site(store)), PgBackRestS3(cluster, Site(store)),
                      KuramoriS3(cluster, ROOT / "build", Site(store, line), "kuramori-line", "kuramori, through the line without delay"),
                      KuramoriS3(cluster, ROOT / "build", Site(store, far), "kuramori-far", f"kuramori, {DELAY_MS} ms away")]
        bench = Bench(cluster, contenders, Site(store), repetitions)
        size = folder_bytes(cluster.data, but=("pg_wal",))
        note(f"{machine_line()}; a cluster of {size / 1e9:.2f} GB; {WORKERS} workers each")
        bench.run()
    finally:
        cluster.stop()
        line.stop()
        far.stop()
        store.remove()
        for name in ("contenders", "restored"):
            shutil.rmtree(folder / name, ignore_errors=True)
    text = report(bench, contenders, machine_line(), size, repetitions)
    print(text)
    if not choice.quick:
        (ROOT / "docs" / "benchmarks-s3.md").write_text(text)


if __name__ == "__main__":
    main()
