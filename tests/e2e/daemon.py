"""What tests of the daemon's plans stand on: `kuramori serve` on a configuration with two vaults, and its journal."""

import contextlib
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


class Case(harness.Case):
    in_memory = True

    def setUp(self):
        super().setUp()
        self.daemons = []
        self.state = self.folder / "state"
        for name in ("files", "other"):
            (self.folder / name).mkdir()
            (self.folder / name / "a.txt").write_text(name)
        self.plan("")
        self.mine("vault", "init", "here")
        self.mine("vault", "init", "there")

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

    def query(self, sql, *values):
        path = self.state / "jobs.sqlite"
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as database:
            try:
                return database.execute(sql, values).fetchall()
            except sqlite3.OperationalError:
                return []  # not made yet

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

    def snapshots(self, resource="files", vault="here"):
        listed = self.mine("snapshots", resource, "--vault", vault, "--json", status=None)
        return [] if listed.status else listed.json()["snapshots"]
