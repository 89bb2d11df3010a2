"""Two daemons with the same plans on one vault share them by leases (B11, P57, P69): killed, stopped, woken again."""

import collections
import contextlib
import glob
import os
import signal
import sqlite3
import time
import unittest

import daemon
import harness
from daemon import SECONDS_MAX

LEASE = "daemon: { lease: 3s }\n"
EVERY = 2 * 10**9
LATER_LIBRARY = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), "")


class Leases(daemon.Case):
    def setUp(self):
        super().setUp()
        self.states = {"a": self.folder / "state-a", "b": self.folder / "state-b"}

    def plan(self, plans, resources=""):
        super().plan(plans, resources)
        self.config.write_text(self.config.read_text() + LEASE)

    def start(self, name, **env):
        self.state = self.states[name]
        return daemon.Daemon(self, at=f"socket-{name}", **env)

    def runs_of(self, name, job, *states):
        self.state = self.states[name]
        return self.runs(job, *states)

    def completed(self, name, job="backup%"):
        """Those it did itself."""
        return [run for run in self.runs_of(name, job, "COMPLETED") if not run["why"]]

    def await_until(self, what, condition):
        deadline = time.monotonic() + SECONDS_MAX
        while not (found := condition()):
            if time.monotonic() > deadline:
                self.fail(f"{what}: {[self.runs_of(name, '%') for name in self.states]}\n" + "\n".join(one.text() for one in self.daemons))
            time.sleep(0.1)
        return found

    def made(self, resource="files"):
        """{slot: how many snapshots}, by the run that each names."""
        slots = {}
        for name, state in self.states.items():
            if not (state / "jobs.sqlite").exists():
                continue
            with contextlib.closing(sqlite3.connect(state / "jobs.sqlite", timeout=10)) as database:
                ((journal,),) = database.execute("select value from meta where key = 'name'").fetchall()
                for number, due in database.execute("select id, due from runs"):
                    slots[f"{journal}-{number}"] = due
        counted = collections.Counter()
        for snapshot in self.snapshots(resource):
            counted[slots[snapshot["tags"]["kuramori-run"]]] += 1
        return counted

    def assert_each_once(self, resource="files"):
        made = self.made(resource)
        self.assertEqual([slot for slot, count in made.items() if count != 1], [], made)
        return made

    def test_B11_each_moment_is_done_by_one_of_them_and_by_the_other_when_that_dies(self):
        self.plan("  p: { resources: [files, other], vault: here, every: 2s, copies: [ { to: there } ] }\n")
        a, b = self.start("a"), self.start("b")
        self.await_until("both have seen runs", lambda: all(len(self.runs_of(name, "backup%", "COMPLETED")) >= 6 for name in self.states))
        a.kill()
        before = len(self.completed("b"))
        self.await_until("b goes on alone", lambda: len(self.completed("b")) >= before + 4)
        a = self.start("a")
        b.kill()
        before = len(self.completed("a"))
        self.await_until("a goes on alone", lambda: len(self.completed("a")) >= before + 4)
        self.assertEqual(a.stop(), 0, a.text())
        for resource in ("files", "other"):
            made = self.assert_each_once(resource)
            self.assertTrue(all(slot % EVERY == 0 for slot in made))
        done_elsewhere = [run for name in self.states for run in self.runs_of(name, "%", "COMPLETED") if run["why"].startswith("done by daemon ")]
        self.assertTrue(done_elsewhere)
        self.assertTrue(any(run["job"].startswith("copy") for name in self.states for run in self.completed(name, "copy%")))
        # Nothing is left lying: of each job the highest lease alone, but for what a kill left.
        self.mine("vault", "collect", "here")
        jobs = collections.Counter(path.parent for path in (self.folder / "vault").rglob("leases/*/*/*") if path.is_file())
        self.assertTrue(jobs)
        self.assertEqual(set(jobs.values()), {1})
        self.assertEqual(self.mine("vault", "scrub", "here").status, 0)

    def test_B11_P57_a_daemon_that_stood_still_finds_its_job_taken_over_and_makes_no_second_snapshot(self):
        # A run takes longer than the lease: the daemon is stopped, its job is not.
        self.plan("  p: { resources: [slow], vault: here, every: 1h }\n")
        a = self.start("a")
        begun = self.folder / "begun"
        resources = f'  slow2: {{ kind: command, run: ["/bin/sh", "-c", "echo x >> {begun}; sleep 7; echo done"] }}\n'
        self.plan("  p: { resources: [slow2], vault: here, every: 5s }\n", resources)
        a.kill()
        a = self.start("a")
        self.await_until("a is at it", lambda: begun.exists())
        b = self.start("b")
        self.await_until("b waits", lambda: "is at it; this daemon waits" in b.text())
        os.kill(a.process.pid, signal.SIGSTOP)
        self.await_until("b takes it over", lambda: len(begun.read_text()) >= 4)
        time.sleep(8)  # a's own job comes to its commit meanwhile
        os.kill(a.process.pid, signal.SIGCONT)
        self.await_until("b has done it", lambda: self.completed("b"))
        self.await_until("a knows", lambda: self.runs_of("a", "backup%", "COMPLETED"))
        self.assertEqual(b.stop(), 0)
        self.assertEqual(a.stop(), 0)
        self.assert_each_once("slow2")
        self.assertEqual(self.mine("vault", "scrub", "here").status, 0)

    @unittest.skipUnless(LATER_LIBRARY, "needs libfaketime")
    def test_B11_P61_with_clocks_apart_no_moment_is_done_twice_and_none_is_left_out(self):
        """One of them is seven seconds ahead: more than three moments, and more than a lease."""
        self.plan("  p: { resources: [files], vault: here, every: 2s }\n")
        ahead = {"LD_PRELOAD": LATER_LIBRARY, "FAKETIME": "+7s", "FAKETIME_DONT_FAKE_MONOTONIC": 1}
        a, b = self.start("a"), self.start("b", **ahead)
        self.await_until("both have seen runs", lambda: all(len(self.runs_of(name, "backup%", "COMPLETED")) >= 6 for name in self.states))
        os.kill(b.process.pid, signal.SIGSTOP)  # in the middle of something or not
        before = len(self.completed("a"))
        self.await_until("a does what b would have", lambda: len(self.completed("a")) >= before + 2)
        os.kill(b.process.pid, signal.SIGCONT)
        before = len(self.completed("b"))
        self.await_until("b is back", lambda: len(self.completed("b")) >= before + 2)
        self.assertEqual(a.stop(), 0, a.text())
        self.assertEqual(b.stop(), 0, b.text())
        made = sorted(self.assert_each_once())
        # Nothing counts as done that is not: of each run that was done elsewhere a snapshot for its moment, or a later one, stands.
        for name in self.states:
            for run in self.runs_of(name, "backup%", "COMPLETED"):
                self.assertLessEqual(run["due"], made[-1], run)
        self.assertEqual(self.mine("vault", "scrub", "here").status, 0)

    def test_B11_where_no_lease_can_be_put_the_work_is_done_and_that_is_said(self):
        self.plan("  p: { resources: [files], vault: here, every: 2s }\n")
        (self.folder / "vault" / "leases").write_text("in the way")
        a = self.start("a")
        self.await_until("it works", lambda: self.completed("a"))
        self.assertIn("what other daemons do in here is not known", a.text())
        self.assertEqual(a.stop(), 0, a.text())

    def test_J1_upkeep_that_nobody_asked_for_is_left_to_those_who_may(self):
        self.mine("vault", "key", "new", "here", "--role", "writer", "--name", "db1", "--to", self.folder / "writer.key")
        for words in (("vault", "collect", "here"), ("vault", "scrub", "here"), ("prune", "--vault", "here")):
            refused = self.mine(*words, "--key-file", self.folder / "writer.key", status=None)
            self.assertNotEqual(refused.status, 0, words)
            skipped = self.mine(*words, "--if-allowed", "--key-file", self.folder / "writer.key", "--json")
            self.assertEqual(skipped.json()["action"], "skip")
            self.assertIn("a writer key may not do this", skipped.json()["object"])

    def test_a_daemon_alone_takes_no_notice(self):
        self.plan("  p: { resources: [files], vault: here, every: 2s }\n")
        a = self.start("a")
        self.await_until("it runs", lambda: len(self.completed("a")) >= 3)
        a.kill()
        a = self.start("a")  # the same journal: nothing to wait for
        begun = time.monotonic()
        before = len(self.completed("a"))
        self.await_until("it goes on", lambda: len(self.completed("a")) >= before + 2)
        self.assertLess(time.monotonic() - begun, SECONDS_MAX / 2)
        self.assertEqual(a.stop(), 0)
        self.assert_each_once()


if __name__ == "__main__":
    harness.main()
