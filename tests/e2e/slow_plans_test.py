"""The daemon for minutes: what is looked after by itself, and a thousand plans over three hundred resources, real jobs
through the real queue: what that costs, and whether each job starts in time. And a hundred thousand jobs of the past."""

import contextlib
import os
import pathlib
import resource
import sqlite3
import time

import daemon
import harness

PLANS, RESOURCES = 1000, 300
MINUTES = 4
PAST_JOBS = 100_000
CLOCK_STEP = 0.02  # seconds: what the kernel says of when a process began is as coarse


class Scale(daemon.Case):
    def own_seconds(self, pid):
        words = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")  # without its children's

    def watch_begins(self, pid, until):
        """{run: when its process began} of those that are seen: each moment is a whole minute, and only then is looked closely."""
        begins, boot = {}, time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        while time.monotonic() < until:
            if 4 < time.time() % 60 < 59.8:
                time.sleep(0.1)
                continue
            for child in (word for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()):
                with contextlib.suppress(OSError):
                    words = pathlib.Path(f"/proc/{child}/cmdline").read_text().split("\0")
                    began = int(pathlib.Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[19])
                    tag = next((word.partition("=")[2] for word in words if word.startswith("kuramori-run=")), None)
                    if tag:
                        begins[tag] = boot + began / os.sysconf("SC_CLK_TCK")
            time.sleep(0.01)
        return begins

    def test_P69_a_thousand_plans_start_in_time_and_cost_nothing(self):
        resources, plans = "", ""
        for number in range(RESOURCES):
            folder = self.folder / "many" / str(number)
            folder.mkdir(parents=True)
            (folder / "a.txt").write_text(str(number))
            resources += f"  r{number}: {{ kind: files, paths: [\"{folder}\"] }}\n"
        # Each hour every plan runs once, 16 or 17 of them in each minute, of different resources.
        for number in range(PLANS):
            plans += f"  p{number}: {{ resources: [r{(number + number // 60 * 17) % RESOURCES}], vault: here, schedule: \"{number % 60} * * * *\" }}\n"
        self.plan(plans, resources)
        self.config.write_text(self.config.read_text() + "daemon: { jobs: 24 }\n")
        served = self.serve()
        deadline = time.monotonic() + 300
        while len(self.query("select id from jobs")) < PLANS:  # it knows where each stands
            self.assertLess(time.monotonic(), deadline, served.text())
            time.sleep(0.5)
        pid = served.process.pid
        begun, used, since = time.monotonic(), self.own_seconds(pid), time.time_ns()
        begins = self.watch_begins(pid, begun + MINUTES * 60 - 30)
        share = (self.own_seconds(pid) - used) / (time.monotonic() - begun)
        peak = int(next(line for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")).split()[1])
        runs = [run for run in self.runs("backup%", "COMPLETED") if run["due"] > since]
        late = sorted((run["started"] - run["due"]) / 1e9 for run in runs)
        print(f"{len(runs)} jobs, {share:.2%} of a core, {peak / 1024:.0f} MiB, started after {late[len(late) // 2]:.3f} s, at most {late[-1]:.3f} s")
        # What the scheduler says of itself, and what the kernel says of the processes.
        name = self.query("select value from meta where key = 'name'")[0][0]
        due = {f"{name}-{run['id']}": run["due"] for run in runs}
        seen = sorted(begin - due[run] / 1e9 for run, begin in begins.items() if run in due)
        print(f"{len(seen)} of their processes were seen, begun after {seen[len(seen) // 2]:.2f} s, at most {seen[-1]:.2f} s")
        self.assertGreater(len(seen), len(runs) / 2)
        self.assertLess(seen[-1], 1.0 + CLOCK_STEP)
        self.assertGreater(len(runs), (MINUTES - 2) * PLANS / 60)
        self.assertLess(share, 0.01)
        self.assertLess(peak, 128 << 10)
        self.assertLess(late[-1], 1.0)

    def test_a_hundred_thousand_past_jobs_delay_nobody(self):
        self.plan("  p: { resources: [files], vault: here, every: 2s }\n")
        served = self.serve()
        self.await_runs(1, "backup p/files", "COMPLETED")
        self.assertEqual(served.stop(), 0)
        database = sqlite3.connect(self.state / "jobs.sqlite")
        database.executemany("insert into runs(id, job, due, since, state, vault, attempt, created, started, ended, why) "
                             "values(?, 'backup old/files', ?, ?, 'COMPLETED', 'here', 1, ?, ?, ?, '')",
                             ((1000 + i, *[i * 10**9] * 5) for i in range(PAST_JOBS)))
        database.commit()
        database.close()
        # Of a processor: what others do on this machine does not count.
        for verb in ("status", "jobs"):
            seconds, took = [], []
            for _ in range(5):
                begun, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
                self.mine(verb, "--json")
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                seconds.append(after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime)
                took.append(time.monotonic() - begun)
            print(f"{verb}: {min(seconds) * 1000:.0f} ms of a processor, {min(took) * 1000:.0f} ms")
            self.assertLess(min(seconds), 0.1, verb)
        self.serve()
        self.await_runs(2, "backup p/files", "COMPLETED")


class Upkeep(daemon.Case):
    def test_L1_vaults_are_looked_after_and_drills_alternate(self):
        self.plan("  p: { resources: [files], vault: here, every: 5s, keep: { all: 1h }, copies: [ { to: there, keep: 1h } ],\n"
                  "       drill: { schedule: \"* * * * *\", vault: alternate } }\n")
        each_minute = "upkeep: { prune: \"* * * * *\", collect: \"* * * * *\", scrub: \"* * * * *\", scrub_budget: 5s }"
        self.config.write_text(self.config.read_text().replace("upkeep: { prune: off, collect: off, scrub: off }", each_minute))
        served = self.serve()
        deadline = time.monotonic() + 240
        wanted = ["drill p/files"] + [f"{what} {vault}" for what in ("prune", "collect", "scrub") for vault in ("here", "there")]
        while missing := [job for job in wanted if len(self.runs(job, "COMPLETED")) < 2]:
            self.assertLess(time.monotonic(), deadline, f"{missing}\n{self.runs()}\n{served.text()}")
            time.sleep(0.5)
        drills = self.query("select vault from runs where job = 'drill p/files' order by id limit 2")
        self.assertEqual(drills, [("here",), ("there",)])
        ends = {run["state"] for run in self.runs() if run["ended"]}
        self.assertEqual(ends, {"COMPLETED"}, served.text())
        self.assertEqual(served.stop(), 0, served.text())
        self.assertEqual(self.mine("vault", "scrub", "there").status, 0)
        proven = [snapshot for snapshot in self.snapshots() if snapshot["proof"]]
        self.assertTrue(proven, "the last proven one stays")


if __name__ == "__main__":
    harness.main()
