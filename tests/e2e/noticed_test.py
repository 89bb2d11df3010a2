"""What a daemon notices of the vaults themselves, by its own looks at them: what is too old, behind, unproven, not as usual, cut off from its
WAL, and a file that it does not run by. The clock is an hour ahead of when all of it was made."""

import signal
import time
import unittest

import daemon
import harness
from sink import Sink

HOUR = 3600


@unittest.skipUnless(daemon.LATER_LIBRARY, "needs libfaketime")
class Noticed(daemon.Case):
    def setUp(self):
        super().setUp()
        self.sink = Sink()
        self.addCleanup(self.sink.close)
        self.clock = daemon.MovedClock(self.folder)

    def plan_told(self, plan, events, resources=""):
        self.plan(plan + f'notify:\n  - {{ name: hook, to: "webhook:{self.sink.url}/hook", when: [{events}] }}\n', resources)

    def serve_later(self):
        self.clock.set(HOUR)
        return self.serve("--stop-within", "1s", **self.clock.environment)

    def told(self, event, kind="opened"):
        return [item for _, body in self.sink.got("/hook") for item in body["items"] if (item["event"], item["kind"]) == (event, kind)]

    def await_told(self, event, kind="opened", seconds=daemon.SECONDS_MAX):
        self.await_true(lambda: self.told(event, kind), f"{event}, {kind}", seconds)
        [item] = self.told(event, kind)
        return item

    def test_M2_M3_B5_H2_J1_P70_what_is_old_behind_unproven_or_unusual_is_told_once(self):
        plan = ('  p: { resources: [files], vault: here, schedule: "0 3 1 1 *", copies: [ { to: there } ],\n'
                '       thresholds: { age: 30m, copy_lag: 30m, unproven: 30m, size: 100% } }\n')
        self.plan_told(plan, "age, lag, unproven, anomaly, drift")
        self.mine("backup", "files", "--plan", "p", "--copy")
        for size in (1, 2, 1 << 16):
            (self.folder / "files" / "a.txt").write_text("a" * size)
            self.mine("backup", "files", "--plan", "p")
        served = self.serve_later()
        age, lag, unproven, anomaly = (self.await_told(event) for event in ("age", "lag", "unproven", "anomaly"))
        self.assertEqual({item["resource"] for item in (age, lag, unproven, anomaly)}, {"files"})
        self.assertIn("there", lag["what"])
        self.assertIn("64.0 KiB", anomaly["what"])
        # It is put right: a snapshot, and its copy behind it.
        self.assertEqual(self.told("lag", "resolved"), [])
        self.mine("jobs", "--start", "backup p/files")
        # A file that it was not told of, and some hours that go by in a minute.
        self.assertEqual(self.told("drift"), [])
        self.plan_told(plan.replace("age: 30m", "age: 3h"), "age, lag, unproven, anomaly, drift")
        passed = iter(range(HOUR, 100 * HOUR, 60))
        self.await_true(lambda: self.clock.set(next(passed)) or self.told("drift"), "that it is told of")
        drift = self.await_told("drift")
        served.process.send_signal(signal.SIGHUP)
        self.assertEqual(self.await_told("drift", "resolved")["alert"], drift["alert"])
        # The vaults are looked at again half a minute after a job, and what was measured settles for a minute.
        self.assertEqual(self.await_told("lag", "resolved", seconds=3 * daemon.SECONDS_MAX)["alert"], lag["alert"])
        for event in ("age", "lag", "unproven", "anomaly"):
            self.assertEqual(len(self.told(event)), 1, event)
        self.assertEqual(served.stop(), 0, served.text())

    def gated(self, name):
        """A resource whose backup is not done before a file is there."""
        gate = self.folder / f"{name}-gate"
        return gate, f'  {name}: {{ kind: command, run: ["/bin/sh", "-c", "until test -e {gate}; do sleep 0.05; done; echo done"] }}\n'

    def test_M2_a_job_that_has_not_begun_is_late_until_it_does(self):
        # Two plans of one resource: the second waits for the first.
        gate, resource = self.gated("held")
        self.plan_told("".join(f"  {name}: {{ resources: [held], vault: here, every: 1h }}\n" for name in ("one", "two")), "late, failure", resource)
        served = self.serve_later()
        # What falls due while it still asks the vaults what they have is not forgotten.
        self.await_true(lambda: self.query("select value from meta where key = 'name'"), "that it begins")
        due = (time.time() + HOUR) // HOUR * HOUR + HOUR
        self.clock.set(round(due + 20 * 60 - time.time()))
        [running] = self.await_runs(1, "backup%", "RUNNING")
        waiting = {"backup one/held": "backup two/held", "backup two/held": "backup one/held"}[running["job"]]
        time.sleep(3)
        self.assertEqual(self.told("late"), [], "half of its period it may wait")
        self.clock.set(round(due + 40 * 60 - time.time()))
        late = self.await_told("late")
        self.assertEqual(late["resource"], "held")
        self.assertIn(f"{waiting} was due", late["what"])
        gate.touch()
        self.assertEqual(self.await_told("late", "resolved")["alert"], late["alert"])
        self.await_runs(1, waiting, "COMPLETED")
        self.assertEqual((len(self.told("late")), self.told("failure")), (1, []))
        self.assertEqual(served.stop(), 0, served.text())

    def test_M3_a_job_that_takes_longer_than_usual_is_told_until_one_does_not(self):
        gate, resource = self.gated("usual")
        self.plan_told('  p: { resources: [usual], vault: here, schedule: "0 3 1 1 *", thresholds: { duration: 100% } }\n', "anomaly", resource)
        served = self.serve_later()
        self.await_true(lambda: self.query("select id from jobs"), "that it knows its jobs")
        gate.touch()
        for done in range(1, 5):
            self.mine("jobs", "--start", "backup p/usual")
            self.await_runs(done, "backup%", "COMPLETED")
        gate.unlink()
        self.mine("jobs", "--start", "backup p/usual")
        self.await_runs(1, "backup%", "RUNNING")
        self.assertEqual(self.told("anomaly"), [])
        self.clock.set(HOUR + 1200)
        gate.touch()
        self.assertIn("took 20 m", self.await_told("anomaly")["what"])
        self.mine("jobs", "--start", "backup p/usual")
        self.await_told("anomaly", "resolved")
        self.assertEqual(served.stop(), 0, served.text())

    def test_B5_P69_wal_that_arrives_no_more_is_told(self):
        server = harness.Server(self.folder, 15, ["archive_mode = on", f"archive_command = '{self.archive_command()}'"])
        self.servers.append(server)
        server.start()
        self.plan_told('  db: { resources: [db], vault: here, schedule: "0 3 1 1 *", wal: archive, window: 7d, thresholds: { wal_gap: 30m } }\n', "gap",
                       f'  db: {{ kind: postgres, connect: "{server.connect()}" }}\n')
        for path in (self.folder, self.config, self.key):
            self.give(path)
        self.config.chmod(0o644)
        self.mine("backup", "db", "--plan", "db")
        served = self.serve_later()
        gap = self.await_told("gap")
        self.assertEqual(gap["resource"], "db")
        self.assertEqual(served.stop(), 0, served.text())

    def test_M1_M4_a_digest_tells_together_and_the_daily_report_comes_once(self):
        at = time.strftime("%H:%M", time.gmtime(time.time() + HOUR + 120))
        self.plan("  p: { resources: [endless, other-endless], vault: here, every: 4s, completion_window: 2s }\nnotify:\n"
                  f'  - {{ name: together, to: "webhook:{self.sink.url}/together", when: [failure], digest: 6s }}\n'
                  f'  - {{ name: daily, to: "webhook:{self.sink.url}/daily", when: [daily-report], report_at: "{at}" }}\n',
                  '  other-endless: { kind: command, run: ["/bin/sh", "-c", "sleep 600"] }\n')
        served = self.serve_later()
        _, digest = self.await_true(lambda: self.sink.got("/together"), "the digest")[0]
        self.assertEqual((digest["kind"], {item["resource"] for item in digest["items"]}), ("digest", {"endless", "other-endless"}))
        self.assertEqual(self.sink.got("/daily"), [], "it is not its time")
        self.clock.set(HOUR + 180)
        _, report = self.await_true(lambda: self.sink.got("/daily"), "the report")[0]
        self.assertEqual(report["kind"], "report")
        self.assertIn("endless", report["text"])
        self.clock.set(HOUR + 120)  # and again it is that time
        ended = len(self.runs("backup%", "ABORTED"))
        self.await_runs(ended + 2, "backup%", "ABORTED")
        self.clock.set(HOUR + 300)
        self.await_runs(ended + 4, "backup%", "ABORTED")
        self.assertEqual(len(self.sink.got("/daily")), 1)
        self.assertEqual(served.stop(), 0, served.text())


if __name__ == "__main__":
    harness.main(at_once=3)
