"""What tests of the daemon's plans stand on: `kuramori serve` on a configuration with two vaults, and its journal."""

import contextlib
import glob
import pathlib
import signal
import sqlite3
import subprocess
import time

import harness

VAULTS = """vaults:
  here: {{ at: "file://{folder}/vault", site: here, key_file: "{folder}/owner.key", upkeep: {{ prune: off, collect: off, scrub: off }} }}
  there: {{ at: "file://{folder}/there", site: there, key_file: "{folder}/owner.key", copy_of: here, upkeep: {{ prune: off, collect: off, scrub: off }} }}
resources:
  files: {{ kind: files, paths: ["{folder}/files"] }}
  other: {{ kind: files, paths: ["{folder}/other"] }}
  slow: {{ kind: command, run: ["/bin/sh", "-c", "sleep 6; echo done"] }}
  endless: {{ kind: command, run: ["/bin/sh", "-c", "sleep 600"] }}
  flaky: {{ kind: command, run: ["/bin/sh", "-c", "test -e {folder}/up && echo here"] }}
"""
LATER_LIBRARY = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), "")
SECONDS_MAX = 60  # on a machine at work


class Daemon:
    def __init__(self, case, *words, at="socket", **env):
        self.log = case.folder / f"daemon{len(case.daemons)}.log"
        command = [case.programs / "kuramori", "--config", case.config, "serve", "--socket", case.folder / at, *map(str, words)]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=harness.environment(KURAMORI_STATE=case.state, **env), cwd="/")
        case.daemons.append(self)

    def text(self):
        return self.log.read_text(errors="replace")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS_MAX)

    def children(self):
        listed = pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for path in listed for pid in path.read_text().split()]


class MovedClock:
    """What a daemon with this environment, and its jobs, take for the time; how long something takes they know all the same."""

    def __init__(self, folder):
        self.file = folder / "clock"
        self.environment = {"LD_PRELOAD": LATER_LIBRARY, "FAKETIME_TIMESTAMP_FILE": self.file, "FAKETIME_NO_CACHE": 1,
                            "FAKETIME_DONT_FAKE_MONOTONIC": 1}
        self.set(0)

    def set(self, seconds):
        new = self.file.with_suffix(".new")
        new.write_text(f"{seconds:+d}")
        new.rename(self.file)


class Case(harness.Case):
    in_memory = True

    def setUp(self):
        super().setUp()
        self.daemons = []
        self.state = self.folder / "state"
        self.prepare()
        for name in ("files", "other"):
            (self.folder / name).mkdir()
            (self.folder / name / "a.txt").write_text(name)
        self.plan("")
        self.mine("vault", "init", "here")
        self.mine("vault", "init", "there")

    def prepare(self):
        """Before anything is made in the folder: for what a test wants there."""

    def tearDown(self):
        for daemon in self.daemons:
            daemon.kill()
        super().tearDown()

    def plan(self, plans, resources=""):
        self.config.write_text(VAULTS.format(folder=self.folder) + resources + ("plans:\n" + plans if plans else ""))

    def mine(self, *words, **more):
        return self.kuramori(*words, user=False, **{**more, "env": {"KURAMORI_STATE": self.state}})

    def serve(self, *words, **env):
        return Daemon(self, *words, **env)

    def rows_of(self, file, sql, *values):
        """Of one of the daemon's SQLite files; none while it or its tables are not made yet."""
        path = self.state / file
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as database:
            try:
                return database.execute(sql, values).fetchall()
            except sqlite3.OperationalError:
                return []

    def query(self, sql, *values):
        return self.rows_of("jobs.sqlite", sql, *values)

    def runs(self, job="%", *states):
        rows = self.query("select id, job, due, since, state, started, ended, why, snapshot, attempt from runs where job like ? order by id", job)
        names = ("id", "job", "due", "since", "state", "started", "ended", "why", "snapshot", "attempt")
        runs = [dict(zip(names, row)) for row in rows]
        return [run for run in runs if not states or run["state"] in states]

    def await_runs(self, least, job="%", *states):
        deadline = time.monotonic() + SECONDS_MAX
        while len(found := self.runs(job, *states)) < least:
            if time.monotonic() > deadline:
                self.fail(f"{len(found)} of {least} runs of {job} are {states}: {self.runs()}\n{self.daemons[-1].text()}")
            time.sleep(0.05)
        return found

    def seen_so_far(self):
        """For whoever reads why a test failed."""
        return f"{self.daemons[-1].text() if self.daemons else ''}\n{self.runs()[-40:]}"

    def await_true(self, condition, what, seconds=SECONDS_MAX):
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > deadline:
                self.fail(f"{what} did not happen\n{self.seen_so_far()}")
            time.sleep(0.05)
        return found

    def snapshots(self, resource="files", vault="here"):
        listed = self.mine("snapshots", resource, "--vault", vault, "--json", status=None)
        return [] if listed.status else listed.json()["snapshots"]

    def assert_no_moment_twice(self):
        runs = [(run["job"], run["due"]) for run in self.runs() if not run["job"].startswith("copy")]
        self.assertEqual(len(runs), len(set(runs)))

    def runs_of_snapshots(self, resource):
        return [snapshot["tags"]["kuramori-run"] for snapshot in self.snapshots(resource)]

    def assert_no_run_twice(self, resource="files"):
        """Each snapshot was made by a run of its own, and each run that says so made one. One that gave way to the next may have made its own
        when the daemon was killed."""
        made = self.runs_of_snapshots(resource)
        self.assertEqual(len(made), len(set(made)), made)
        name = self.query("select value from meta where key = 'name'")[0][0]
        done = {f"{name}-{run['id']}" for run in self.runs(f"backup %/{resource}", "COMPLETED")}
        gave_way = {f"{name}-{run['id']}" for run in self.runs(f"backup %/{resource}") if run["why"].endswith("the next run was due by then")}
        self.assertEqual(done, set(made) - gave_way)

    def assert_none_left_out(self, resource, begun, every):
        """One after the other since then: what came while an earlier run waited or worked was that run's."""
        quiet = sorted((run for run in self.runs(f"backup %/{resource}") if run["due"] > begun), key=lambda run: run["due"])
        self.assertGreaterEqual(len(quiet), 3)
        for earlier, later in zip(quiet[1:], quiet[2:]):
            passed = later["since"] - earlier["due"]
            self.assertEqual((passed > 0, passed % every), (True, 0), (earlier, later))
            if passed > every:
                self.assertLessEqual(later["since"] - every, earlier["ended"], (earlier, later))
