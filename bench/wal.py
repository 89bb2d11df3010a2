"""./dev bench wal: WAL through the daemon, and recovery's waits, beside pgBackRest, in one run.

The same finished segments for all, pushed as PostgreSQL's archiver does it: one process a segment, the next when it has
ended, `.ready` made `.done`. Two workers each where a contender has such a number, encryption and zstd on, fsync
everywhere. Then they are fetched as recovery does it, with a pause for the replay of each. The order rotates; figures are medians.
At the end `wal stream` beside pgbench: from a commit to its being durable in the vault. Writes docs/benchmarks-wal.md unless --quick is given.
"""

import argparse
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from cluster import BIN, as_server, as_server_at_once, give_to_server  # noqa: E402
from contenders import WORKERS, fresh_folder, pgbackrest_options  # noqa: E402
from measure import folder_bytes, machine_line, median, run, settle, tree_cpu  # noqa: E402
from postgres import ROOT, note, scratch_folder, versions  # noqa: E402
from wal_stream import CLIENTS, percentile, seconds_to_durable  # noqa: E402

PORT = 5533
START_SECONDS_MAX = 60
PROBES = 100  # commits whose way into the vault is timed
REPLAY_SECONDS = 0.1  # what a server takes for a segment of a busy hour, and longer than anybody needs to fetch one

# Where the time goes, of what is short.
DAEMON_CPU = ("of the daemon's CPU for a segment two fifths are compressing and opening again what was compressed, a fifth are SHA-256 of the segment and of "
              "what is stored, a seventh is reading the records for the blocks they change, a seventh is the kernel copying. Both processors are busy with it: "
              "half of that CPU a segment is the least.")
WHERE_IT_GOES = {
    "WAL archived per second, against archive-push": DAEMON_CPU,
    "the same, against pgBackRest asynchronous": DAEMON_CPU + " pgBackRest opens nothing again and notes no changed blocks.",
    "recovery's waits, against pgBackRest asynchronous (ours ÷ theirs)":
        "a process a segment, its question over a socket, and a name for the file that is there already.",
    "from a commit to durable in the vault, wal stream, p99": "what is received is collected for up to a second before it is made one object and synced.",
}


class Segments:
    """The data directory of a stopped server, with finished segments that nobody archived. Made once."""

    def __init__(self, folder, count):
        self.data = folder / f"wal-cluster-{count}"
        self.socket = folder / "wal-socket"
        self.count = count
        self.wal = self.data / "pg_wal"
        self.status = self.wal / "archive_status"

    def make(self):
        if (self.data / "made").exists():
            return
        shutil.rmtree(self.data, ignore_errors=True)
        self.socket.mkdir(parents=True, exist_ok=True)
        give_to_server(self.socket)
        run(as_server([BIN / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-k", "--no-sync"]), cwd="/")
        with open(self.data / "postgresql.conf", "a") as settings:
            settings.write(f"\nlisten_addresses = ''\nunix_socket_directories = '{self.socket}'\nport = {PORT}\nwal_level = replica\n"
                           "archive_mode = on\narchive_command = 'false'\nfsync = off\nmax_wal_size = 32GB\ncheckpoint_timeout = 1h\nautovacuum = off\n")
        control = [BIN / "pg_ctl", "-D", self.data, "-w"]
        run(as_server([*control, "-l", self.data / "log", "start"]), cwd="/")
        try:
            def sql(*words):
                command = as_server([BIN / "psql", "-XqAt", "-h", self.socket, "-p", PORT, "-d", "postgres", *[word for text in words for word in ("-c", text)]])
                subprocess.run(command, check=True, capture_output=True, cwd="/")

            sql("create table entry (id bigint primary key, at timestamptz, kind text, owner int, ref uuid, amount numeric)",
                "create index on entry (owner)")
            first = 0
            while len(self.names()) < self.count + 1:
                sql(f"insert into entry select i, timestamptz '2026-01-01 00:00+00' + i * interval '1 second', 'load', hashint8(i) & 65535, "
                    f"md5(i::text)::uuid, i / 100.0 from generate_series({first + 1}, {first + 200_000}) i")
                first += 200_000
        finally:
            run(as_server([*control, "-m", "immediate", "stop"]), cwd="/")
        (self.data / "made").write_text("")

    def names(self):
        return sorted(path.stem for path in self.status.iterdir() if len(path.stem) == 24)

    def make_ready(self):
        for path in self.status.iterdir():
            path.rename(path.with_suffix(".ready"))
        for name in self.names():  # in the page cache, where the server has just written it
            (self.wal / name).read_bytes()
        return self.names()[:self.count]


class Contender:
    def __init__(self, folder, segments):
        self.place = folder / "wal-contenders" / self.name
        self.segments = segments
        self.repository = self.place / "repository"

    def begin(self):
        """Whatever runs beside the archiver."""

    def end(self):
        """And how it stops."""

    def cpu(self):
        """Of what runs beside."""
        return 0.0


class PgBackRest(Contender):
    wal_folder = "archive"
    name = "pgbackrest"
    title = "pgBackRest {version}, archive-push"
    asynchronous = False

    def prepare(self):
        self.place.parent.mkdir(parents=True, exist_ok=True)
        give_to_server(self.place.parent)
        fresh_folder(self.place)
        fresh_folder(self.repository)
        self.options = pgbackrest_options(self.place, [f"repo1-path={self.repository}"], self.segments.data, self.segments.socket, PORT,
                                          [f"archive-async={'y' if self.asynchronous else 'n'}"])
        run(as_server([*self.words(), "--no-online", "stanza-create"]), cwd="/")

    def words(self):
        return ["pgbackrest", f"--config={self.options}", "--stanza=bench"]

    def push(self, name):
        return [*self.words(), "archive-push", f"pg_wal/{name}"]

    def get(self, name, path):
        return [*self.words(), "archive-get", name, path]


class PgBackRestAsync(PgBackRest):
    name = "pgbackrest-async"
    title = "pgBackRest {version}, asynchronous"
    asynchronous = True


class Kuramori(Contender):
    wal_folder = "wal"
    name = "kuramori"
    title = "kuramori through the daemon"
    daemon = None

    def __init__(self, folder, segments, programs):
        super().__init__(folder, segments)
        self.programs = folder / "wal-programs"
        self.programs.mkdir(parents=True, exist_ok=True)
        for program in ("kuramori", "kuramori-wal"):
            shutil.copy2(programs / program, self.programs / program)
        self.socket = self.place / "socket"

    def prepare(self):
        self.place.parent.mkdir(parents=True, exist_ok=True)
        give_to_server(self.place.parent)
        fresh_folder(self.place)
        self.options = self.place / "kuramori.yaml"
        self.options.write_text(f"""vaults:
  bench: {{ at: "file://{self.repository}", site: here, key_file: {self.place}/owner.key }}
resources:
  bench: {{ kind: postgres, connect: "host={self.segments.socket} port={PORT} user=postgres dbname=postgres" }}
plans:
  bench: {{ resources: [bench], vault: bench, schedule: "0 3 * * *", timezone: UTC, wal: archive, window: 14d, keep: {{ all: 14d }} }}
""")
        run(as_server([self.programs / "kuramori", "--config", self.options, "vault", "init", "bench"]), cwd="/",
            env={"PATH": "/usr/bin:/bin", "KURAMORI_STATE": str(self.place / "state")})

    def begin(self):
        log = self.place / "daemon.log"
        command = as_server([self.programs / "kuramori", "--config", self.options, "serve", "--socket", self.socket])
        with open(log, "wb") as out:
            self.daemon = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd="/")
        deadline = time.monotonic() + START_SECONDS_MAX
        while "listening" not in log.read_text():
            if self.daemon.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the daemon does not listen:\n{log.read_text()}")
            time.sleep(0.01)

    def end(self):
        if self.daemon:
            self.daemon.send_signal(signal.SIGTERM)
            self.daemon.wait(START_SECONDS_MAX)
            self.daemon = None

    def cpu(self):
        return tree_cpu(self.daemon.pid) if self.daemon else 0.0

    # Without a vault and a key: the daemon answers, or nobody does.
    def push(self, name):
        return [self.programs / "kuramori-wal", "push", "--socket", self.socket, f"pg_wal/{name}"]

    def get(self, name, path):
        return [self.programs / "kuramori-wal", "get", "--socket", self.socket, "--resource", "bench", name, path]


def one(command, folder):
    process = subprocess.Popen([str(word) for word in command], cwd=folder, stderr=subprocess.PIPE, **as_server_at_once())
    errors = process.stderr.read()
    if process.wait() != 0:
        raise RuntimeError(f"{command} ended with {process.returncode}: {errors.decode()}")


def push_all(contender, segments):
    """Seconds a segment."""
    names = segments.make_ready()
    begin = time.monotonic()
    for name in names:
        one(contender.push(name), segments.data)
        (segments.status / f"{name}.ready").rename(segments.status / f"{name}.done")
    return (time.monotonic() - begin) / len(names)


def get_all(contender, segments):
    """Seconds that recovery waits for a segment."""
    waited = 0.0
    target = contender.place / "got"
    names = segments.names()[:segments.count]
    for name in names:
        target.unlink(missing_ok=True)  # as the server does before it asks
        begin = time.monotonic()
        one(contender.get(name, target), segments.data)
        waited += time.monotonic() - begin
        time.sleep(REPLAY_SECONDS)
    if target.read_bytes() != (segments.wal / names[-1]).read_bytes():
        raise RuntimeError(f"{contender.name} gave other bytes")
    return waited / len(names)


def report(figures, stream, contenders, count, repetitions, found):
    middle = {key: median(values) for key, values in figures.items()}

    def cell(what, name, scale, digits):
        values = figures.get((what, name))
        return f"**{median(values) * scale:.{digits}f}** [{min(values) * scale:.{digits}f}–{max(values) * scale:.{digits}f}]" if values else "–"

    def ratio(what, name):
        return middle[(what, name)] / middle[(what, "kuramori")]

    times, per_second = stream
    rows = [("WAL archived per second, against archive-push", ratio("push", "pgbackrest"), 3, True, "×"),
            ("the same, against pgBackRest asynchronous", ratio("push", "pgbackrest-async"), 2, True, "×"),
            ("recovery's waits, against pgBackRest asynchronous (ours ÷ theirs)", 1 / ratio("get", "pgbackrest-async"), 0.5, False, "×"),
            ("from a commit to durable in the vault, wal stream, p99", percentile(times, 0.99), 1, False, " s")]
    lines = [f"""# WAL through the daemon

Written by `./dev bench wal`; run it on your own machine and compare.

- **Machine**: {machine_line()}.
- **Data**: {count} finished segments of 16 MiB of one load (rows and three indexes), in the page cache.
- **Software**: {found['pg']}; {found['pgbackrest']} (zst level 3, aes-256-cbc, {WORKERS} processes); kuramori at {found['commit']}.
- **Push**: as the archiver does it, one process after the other, from the first to the end of the last; all of them durable then. Every frame is opened
  again and compared before it is stored; what each segment changes is recorded with it.
- **Get**: one process after the other, with {REPLAY_SECONDS * 1000:.0f} ms between two for the replay; the wait is from its start to its end.
  The segment before is removed first, as the server does it.
- **Stream**: {len(times)} commits beside pgbench with {CLIENTS} clients ({per_second:.0f} transactions a second, fsync on), from the commit's answer to the
  acknowledgment of its position, which comes when it is durable: p50 {percentile(times, 0.5):.2f} s, p99 {percentile(times, 0.99):.2f} s, at most {times[-1]:.2f} s.
- The segments are in the page cache for all, since the server has just written them; the programs and the repository are not, when a run begins.
- Medians of {repetitions} [lowest–highest], the order rotates.

| | measured | promised | |
|---|---|---|---|"""]
    short = []
    for text, value, limit, at_least, unit in rows:
        kept = value >= limit if at_least else value <= limit
        short += [] if kept else [f"- **{text[0].upper()}{text[1:]}**: {WHERE_IT_GOES[text]}"]
        lines.append(f"| {text} | **{value:.2f}{unit}** | {'≥' if at_least else '≤'} {limit}{unit} | {'kept' if kept else '**short**'} |")
    if short:
        lines += ["", "Where it goes, of what is short:", "", *short]
    lines += ["", "| | segments/s | ms a segment | CPU ms a segment of the daemon | MB stored a segment | wait for a segment, ms |", "|---|---|---|---|---|---|"]
    for contender in contenders:
        speed = 1 / middle[("push", contender.name)]
        cpu = cell("cpu", contender.name, 1000, 0)
        lines.append(f"| {contender.title.format(version=found['pgbackrest'].split()[-1])} | {speed:.1f} | {cell('push', contender.name, 1000, 1)} | {cpu} | "
                     f"{middle[('bytes', contender.name)] / 1e6:.2f} | "
                     f"{cell('get', contender.name, 1000, 1)} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(prog="./dev bench wal")
    parser.add_argument("--quick", action="store_true", help="24 segments, once; writes no document")
    parser.add_argument("--repetitions", type=int)
    choice = parser.parse_args()
    count = 24 if choice.quick else 64
    repetitions = choice.repetitions or (1 if choice.quick else 5)

    folder = scratch_folder()
    folder.mkdir(parents=True, exist_ok=True)
    give_to_server(folder)
    segments = Segments(folder, count)
    segments.make()
    contenders = [Kuramori(folder, segments, ROOT / "build"), PgBackRest(folder, segments), PgBackRestAsync(folder, segments)]
    figures = {}
    try:
        for repetition in range(repetitions):
            shift = repetition % len(contenders)
            for contender in contenders[shift:] + contenders[:shift]:
                contender.prepare()
                settle(folder, 1)
                contender.begin()
                before = contender.cpu()
                pushed = push_all(contender, segments)
                figures.setdefault(("push", contender.name), []).append(pushed)
                if contender.cpu():
                    figures.setdefault(("cpu", contender.name), []).append((contender.cpu() - before) / count)
                figures.setdefault(("bytes", contender.name), []).append(folder_bytes(contender.repository / contender.wal_folder) / count)
                waited = get_all(contender, segments)
                figures.setdefault(("get", contender.name), []).append(waited)
                contender.end()
                note(f"  {contender.name:20} push {pushed * 1000:.1f} ms a segment, get {waited * 1000:.1f} ms")
    finally:
        for contender in contenders:
            contender.end()
        shutil.rmtree(folder / "wal-contenders", ignore_errors=True)
    settle(folder, 1)
    stream = seconds_to_durable(folder, contenders[0].programs, PROBES // 10 if choice.quick else PROBES)
    text = report(figures, stream, contenders, count, repetitions, versions())
    print(text)
    if not choice.quick:
        (ROOT / "docs" / "benchmarks-wal.md").write_text(text)


if __name__ == "__main__":
    main()
