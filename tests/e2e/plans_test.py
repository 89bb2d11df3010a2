"""Plans that run themselves: `kuramori serve` with real resources and vaults, killed, stopped, starved and given other
configurations."""

import collections
import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import time
import unittest

import jsonschema

import daemon
import harness
from daemon import LATER_LIBRARY, SECONDS_MAX



class Plans(daemon.Case):
    def test_B11_J2_plans_run_by_themselves_and_copies_follow(self):
        self.plan("  p: { resources: [files, other], vault: here, every: 2s, copies: [ { to: there } ] }\n")
        served = self.serve()
        self.await_runs(3, "backup p/files", "COMPLETED")
        self.await_runs(3, "backup p/other", "COMPLETED")
        self.await_runs(2, "copy p/files to there", "COMPLETED")
        self.assertEqual(served.stop(), 0, served.text())
        self.assert_no_moment_twice()
        self.assert_no_run_twice()
        self.assertGreaterEqual(len(self.snapshots(vault="there")), 2)
        for run in self.runs("backup%", "COMPLETED"):
            self.assertRegex(run["snapshot"], "^[0-9a-f]{16}$")
            self.assertEqual(run["due"] % (2 * 10**9), 0)
        self.assertEqual([run for run in self.runs() if run["state"] not in ("COMPLETED", "CREATED", "PENDING")], [])
        # M6: the log tells of the same runs.
        logged = [json.loads(line) for line in (self.state / "runs.log").read_text().splitlines()]
        for run in self.runs("backup%", "COMPLETED"):
            self.assertIn((run["id"], "backup p/" + run["job"].split("/")[1], "COMPLETED"),
                          [(line["run"], line["job"], line["state"]) for line in logged])

    def test_B11_P72_killed_at_any_moment_no_run_happens_twice_and_none_is_forgotten(self):
        self.plan("  p: { resources: [files, other], vault: here, every: 2s, copies: [ { to: there } ] }\n")
        seed = int(os.environ.get("KURAMORI_SOAK_SEED", "7"))
        choose = random.Random(seed)
        for _ in range(14):
            served = self.serve()
            time.sleep(choose.uniform(0.05, 2.5))
            children = served.children()
            served.kill()
            deadline = time.monotonic() + SECONDS_MAX
            for child in children:  # jobs die with the daemon
                while self.is_alive(child):
                    self.assertLess(time.monotonic(), deadline, "a job outlived its daemon")
                    time.sleep(0.01)
        served = self.serve()
        self.await_runs(len(self.runs("backup%", "COMPLETED")) + 4, "backup%", "COMPLETED")
        self.assertEqual(served.stop(), 0, served.text())
        self.assert_no_moment_twice()
        for resource in ("files", "other"):
            self.assert_no_run_twice(resource)
        # Nothing of before is left lying: the oldest that is not over is among the last of its job.
        open_runs = [run["id"] for run in self.runs() if run["ended"] is None]
        newest = max(run["id"] for run in self.runs())
        self.assertTrue(all(newest - run < 12 for run in open_runs), self.runs())
        self.assertEqual(self.mine("vault", "scrub", "here").status, 0)

    @unittest.skipUnless(LATER_LIBRARY, "needs libfaketime")
    def test_B11_P69_chaos_of_kills_and_clocks_leaves_what_the_plan_asks_for(self):
        """Daemons and jobs killed, the clock put forward and back, under plans that run every two seconds."""
        seconds = float(os.environ.get("KURAMORI_SOAK_SECONDS", "25"))
        choose = random.Random(int(os.environ.get("KURAMORI_SOAK_SEED", "11")))
        self.plan("  p: { resources: [files, other], vault: here, every: 2s, copies: [ { to: there } ] }\n")
        clock = daemon.MovedClock(self.folder)
        offset = 0
        served = self.serve(**clock.environment)
        end = time.monotonic() + seconds
        done = collections.Counter()
        kinds = ("daemon", "job", "forward", "back")
        while time.monotonic() < end or not all(done[what] for what in kinds):
            self.assertLess(time.monotonic(), end + SECONDS_MAX, done)
            time.sleep(choose.uniform(0.05, 1.2))
            what = choose.choice(["daemon", "job", "job", "forward", "back"])
            if what == "daemon":
                served.kill()
                served = self.serve(**clock.environment)
            elif what == "job":
                children = served.children()
                if not children:
                    continue
                with contextlib.suppress(ProcessLookupError):
                    os.kill(choose.choice(children), signal.SIGKILL)
            else:
                offset += choose.randrange(1, 4000) * (1 if what == "forward" else -1)
                clock.set(offset)
            done[what] += 1
        # Quiet again, and later than ever: every moment from here on has its run.
        clock.set(offset + 400_000)
        begun = time.time_ns() + 400_000 * 10**9 + offset * 10**9
        self.await_runs(len(self.runs("backup%", "COMPLETED")) + 8, "backup%", "COMPLETED")
        self.assertEqual(served.stop(), 0, served.text())
        self.assert_no_moment_twice()
        for resource in ("files", "other"):
            self.assert_no_run_twice(resource)
            self.assert_none_left_out(resource, begun, 2 * 10**9)
        self.assertEqual(self.mine("vault", "scrub", "here").status, 0)

    @staticmethod
    def is_alive(pid):
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False

    def test_B11_a_job_killed_when_its_snapshot_stood_is_not_done_again(self):
        self.plan("  p: { resources: [files, other], vault: here, every: 2s }\n")
        # How many calls of the store a first snapshot takes: the last ones come after its commit.
        counted = self.folder / "calls"
        self.kuramori("backup", "other", "--plan", "p", user=False,
                      env={"KURAMORI_STATE": self.folder / "another", "KURAMORI_TEST_COUNT_STORE_CALLS": counted})
        calls = int(counted.read_text())
        before = len(self.snapshots("files"))
        self.plan("  p: { resources: [files], vault: here, every: 2s }\n")
        # The daemon counts its calls, too: it is to make none.
        self.config.write_text(self.config.read_text() + "daemon: { lease: off }\n")
        # The job kills itself there, whenever it gets so far; asking the vault what stands takes fewer calls.
        served = self.serve(KURAMORI_TEST_KILL_AT_STORE_CALL=calls)
        found = self.await_runs(1, "backup p/files", "COMPLETED")[0]
        self.assertIsNone(served.process.poll(), "the daemon itself got so far")
        self.assertIn("killed by signal 9", served.text())
        self.assertEqual((before, found["attempt"]), (0, 2), served.text())
        served.kill()
        self.assert_no_run_twice()

    @unittest.skipUnless(LATER_LIBRARY, "needs libfaketime")
    def test_B11_a_job_killed_then_is_found_though_the_clock_was_put_back(self):
        """What it made is not the newest: there is one of an hour ahead."""
        self.plan("  p: { resources: [files], vault: here, every: 2s }\n")
        ahead = {"KURAMORI_STATE": self.folder / "another", "LD_PRELOAD": LATER_LIBRARY, "FAKETIME": "+1h"}
        self.kuramori("backup", "files", "--plan", "p", user=False, env=ahead)
        counted = self.folder / "calls"
        self.kuramori("backup", "files", "--plan", "p", user=False, env={**ahead, "KURAMORI_TEST_COUNT_STORE_CALLS": counted})
        served = self.serve(KURAMORI_TEST_KILL_AT_STORE_CALL=int(counted.read_text()))
        found = self.await_runs(1, "backup p/files", "COMPLETED")[0]
        served.kill()
        self.assertIn("killed by signal 9", served.text())
        self.assertEqual(found["attempt"], 2, served.text())
        self.assertEqual(len(self.snapshots("files")), 3, served.text())

    def test_B11_a_source_that_fails_is_tried_again_until_it_is_there(self):
        self.plan("  p: { resources: [flaky], vault: here, every: 3s }\n")
        served = self.serve()
        failed = self.await_runs(1, "backup p/flaky", "CREATED")
        self.assertEqual(failed[0]["attempt"], 1)
        self.assertTrue(failed[0]["why"])
        (self.folder / "up").touch()
        done = self.await_runs(1, "backup p/flaky", "COMPLETED")
        self.assertEqual(done[0]["id"], failed[0]["id"])
        self.assertGreater(done[0]["attempt"], 1)
        self.assertIn("it is tried again", served.text())

    def test_B3_F3_what_cannot_start_expires_and_what_does_not_end_is_aborted(self):
        self.plan("  long: { resources: [slow], vault: here, every: 4s }\n"
                  "  late: { resources: [slow], vault: here, every: 4s, start_window: 1s }\n"
                  "  short: { resources: [endless], vault: here, every: 5s, completion_window: 1s }\n")
        served = self.serve()
        expired = self.await_runs(1, "backup %/slow", "EXPIRED")
        self.assertIn("did not start within", expired[0]["why"])
        aborted = self.await_runs(1, "backup short/endless", "ABORTED")
        self.assertLess((aborted[0]["ended"] - aborted[0]["started"]) / 1e9, 15)
        self.assertIn("EXPIRED", served.text())
        self.assertIn("ABORTED", served.text())

    def test_F3_S20_what_is_made_in_part_is_no_success_and_its_copy_follows(self):
        program, told = self.folder / "export", self.folder / "told"
        self.plan("  p: { resources: [export], vault: here, schedule: \"0 3 1 1 *\", copies: [ { to: there } ] }\n"
                  f'notify:\n  - {{ name: told, to: "command:/usr/bin/tee -a {told}", when: [failure] }}\n',
                  f'  export: {{ kind: command, run: ["/bin/sh", "{program}"] }}\n')
        program.write_text("seq 1 20000\n")
        self.mine("backup", "export", "--plan", "p")
        program.write_text("echo nothing\n")  # it shrank: kept, and not believed to be whole
        served = self.serve()
        self.await_true(lambda: self.query("select id from jobs where id = 'backup p/export'"), "that it knows of the job")
        self.mine("jobs", "--start", "backup p/export")
        partial = self.await_runs(1, "backup p/export", "PARTIAL", "COMPLETED", "FAILED")[0]
        self.assertEqual((partial["state"], partial["attempt"]), ("PARTIAL", 1))
        self.await_true(lambda: told.exists() and "was done only in part" in told.read_text(), "that somebody is told")
        self.await_true(lambda: self.runs("copy p/export to there", "COMPLETED", "PARTIAL"), "its copy")
        self.assertEqual(len(self.snapshots("export", "there")), 2)
        self.assertEqual(served.stop(), 0, served.text())

    def test_a_stop_lets_jobs_end_or_ends_them_and_the_next_daemon_goes_on(self):
        self.plan("  p: { resources: [slow], vault: here, every: 4s }\n")
        served = self.serve("--stop-within", "40s")
        self.await_runs(1, "backup p/slow", "RUNNING")
        self.assertEqual(served.stop(), 0, served.text())
        self.assertEqual(len(self.snapshots("slow")), 1)
        self.assertEqual(self.runs("backup p/slow")[0]["state"], "COMPLETED")

        self.plan("  p: { resources: [endless], vault: here, every: 4s }\n")
        served = self.serve("--stop-within", "1s")
        self.await_runs(1, "backup p/endless", "RUNNING")
        begun = time.monotonic()
        self.assertEqual(served.stop(), 0, served.text())
        self.assertLess(time.monotonic() - begun, 20)
        interrupted = self.runs("backup p/endless")
        self.assertEqual(interrupted[0]["state"], "CREATED")
        self.serve()
        again = self.await_runs(1, "backup p/endless", "RUNNING")
        self.assertEqual(again[0]["id"], interrupted[0]["id"])

    def test_a_new_configuration_is_used_without_dropping_streams(self):
        watching = "  w: { resources: [other], vault: here, every: change }\n"
        self.plan(watching)
        served = self.serve()
        deadline = time.monotonic() + SECONDS_MAX
        while not self.snapshots("other"):
            self.assertLess(time.monotonic(), deadline, served.text())
            time.sleep(0.1)
        stream = served.children()
        self.assertEqual(len(stream), 1)
        self.plan(watching + "  p: { resources: [files], vault: here, every: 2s }\n")
        served.process.send_signal(signal.SIGHUP)
        self.await_runs(2, "backup p/files", "COMPLETED")
        self.assertIn(stream[0], served.children())
        # One that is wrong changes nothing.
        self.config.write_text("plans: [")
        served.process.send_signal(signal.SIGHUP)
        while "the old one stays" not in served.text():
            self.assertLess(time.monotonic(), deadline, served.text())
            time.sleep(0.05)
        self.assertIsNone(served.process.poll())
        # A stream that ends is begun anew.
        os.kill(stream[0], signal.SIGKILL)
        while "starts again" not in served.text():
            self.assertLess(time.monotonic(), deadline, served.text())
            time.sleep(0.05)
        self.plan("  p: { resources: [files], vault: here, every: 2s }\n")
        self.assertEqual(served.stop(), 0, served.text())

    def test_P72_a_hangup_that_comes_before_it_listens_is_heeded_when_it_does(self):
        # It stands still while it opens its vaults.
        served = self.serve(KURAMORI_TEST_STOP_AT_STORE_CALL=1)
        self.assertTrue(harness.stands_still(served.process), served.text())
        self.assertNotIn("listening on", served.text())
        self.config.write_text("plans: [")
        served.process.send_signal(signal.SIGHUP)
        served.process.send_signal(signal.SIGCONT)
        self.await_true(lambda: "the new configuration is not used" in served.text(), "that it read the new configuration")
        self.assertIn("listening on", served.text())
        self.assertEqual(served.stop(), 0, served.text())

    def test_one_vault_that_is_wrong_keeps_nobody_from_the_others(self):
        self.plan("  p: { resources: [files], vault: here, every: 2s, copies: [ { to: there } ] }\n")
        whole = self.config.read_text()
        key = f'key_file: "{self.folder}/owner.key"'
        lost = f'key_file: "{self.folder}/lost.key"'
        self.config.write_text(whole.replace(f'site: there, {key}', f'site: there, {lost}'))
        served = self.serve()
        self.await_runs(2, "backup p/files", "COMPLETED")
        self.assertIn("lost.key", served.text())
        self.assertIn("it is tried again when it is needed", served.text())
        self.assertEqual(self.runs("copy%", "COMPLETED"), [])
        # Put right, it is used.
        shutil.copy(self.folder / "owner.key", self.folder / "lost.key")
        (self.folder / "lost.key").chmod(0o600)
        self.await_runs(1, "copy%", "COMPLETED")
        self.assertEqual(served.stop(), 0, served.text())
        # Where no vault can be used as it is configured, who starts it hears that.
        self.config.write_text(whole.replace(key, f'key_file: "{self.folder}/gone.key"'))
        refused = self.serve()
        self.assertEqual(refused.process.wait(SECONDS_MAX), 2, refused.text())
        self.assertIn("gone.key", refused.text())

    def test_what_the_journal_knew_is_found_in_the_vault_again(self):
        self.plan("  p: { resources: [files], vault: here, every: 1h }\n")
        self.mine("backup", "files", "--plan", "p")
        served = self.serve()
        deadline = time.monotonic() + SECONDS_MAX
        while not (known := self.query("select watched_until from jobs where id = 'backup p/files'")):
            self.assertLess(time.monotonic(), deadline, served.text())
            time.sleep(0.05)
        taken = self.mine("show", "files@latest", "--vault", "here", "--json").json()["snapshot"]["time"]
        self.assertEqual(taken[:19], time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(known[0][0] / 1e9)))

    def test_plans_run_where_nothing_can_be_written_down_and_that_is_said(self):
        self.plan("  p: { resources: [files], vault: here, every: 2s }\n")
        self.mine("backup", "files", "--plan", "p")
        shutil.rmtree(self.state, ignore_errors=True)
        self.state.write_text("no folder")
        served = self.serve()
        deadline = time.monotonic() + SECONDS_MAX
        while len(self.snapshots()) < 3:
            self.assertLess(time.monotonic(), deadline, served.text())
            time.sleep(0.2)
        self.assertIn("what the daemon does is not written down", served.text())
        self.assertEqual(served.stop(), 0, served.text())

    def test_jobs_have_the_key_that_the_daemon_was_given(self):
        self.plan("  p: { resources: [files], vault: here, every: 2s }\n")
        self.config.write_text(self.config.read_text().replace(f", key_file: \"{self.folder}/owner.key\"", ""))
        served = self.serve("--key-file", self.folder / "owner.key")
        self.await_runs(1, "backup p/files", "COMPLETED")
        self.assertEqual(served.stop(), 0, served.text())

    def test_a_cancelled_run_ends(self):
        self.plan("  p: { resources: [endless], vault: here, every: 4s }\n")
        self.serve()
        running = self.await_runs(1, "backup p/endless", "RUNNING")[0]["id"]
        self.mine("jobs", "--cancel", running)
        self.assertEqual(self.await_runs(1, "backup p/endless", "CANCELLED")[0]["id"], running)
        listed = self.mine("jobs", "endless", "--json").json()
        jsonschema.validate(listed, json.loads((harness.ROOT / "docs/schema/jobs.schema.json").read_text()))
        self.assertIn(("CANCELLED", running), [(job["state"], job["run"]) for job in listed["jobs"]])
        self.assertEqual(self.mine("jobs", "nobody", "--json").json()["jobs"], [])
        self.assertIn("CANCELLED", self.mine("jobs", "p").out)

    def test_the_service_manager_is_told(self):
        self.plan("  p: { resources: [files], vault: here, every: 2s }\n")
        where = self.folder / "notify"
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listener:
            listener.bind(str(where))
            listener.settimeout(SECONDS_MAX)
            served = self.serve(NOTIFY_SOCKET=where, WATCHDOG_USEC=500000)
            said = [listener.recv(100) for _ in range(3)]
            self.assertEqual(said, [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"])
            served.process.send_signal(signal.SIGTERM)
            while (word := listener.recv(100)) == b"WATCHDOG=1":
                pass
            self.assertEqual(word, b"STOPPING=1")
            self.assertEqual(served.process.wait(SECONDS_MAX), 0)

    def test_two_daemons_do_not_share_a_state(self):
        self.plan("  p: { resources: [files], vault: here, every: 2s }\n")
        first = self.serve()
        self.await_runs(1, "backup p/files", "COMPLETED")
        second = self.serve(at="second")
        deadline = time.monotonic() + SECONDS_MAX
        while "another daemon runs the plans" not in second.text():
            self.assertLess(time.monotonic(), deadline, second.text())
            time.sleep(0.05)
        first.kill()
        self.await_runs(len(self.runs()) + 2)
        self.assert_no_moment_twice()

    def test_P69_a_stream_of_wal_is_kept_alive(self):
        server = harness.Server(self.folder, 15, ["max_replication_slots = 4"])
        self.servers.append(server)
        server.start()
        self.plan("  db: { resources: [db], vault: here, schedule: \"0 3 1 1 *\", wal: stream }\n",
                  f"  db: {{ kind: postgres, connect: \"{server.connect()}\" }}\n")
        self.mine("backup", "db", "--plan", "db")
        served = self.serve()
        deadline = time.monotonic() + SECONDS_MAX

        def streaming():
            return server.value("select coalesce(max(active_pid), 0) from pg_replication_slots where active")

        while streaming() == "0":
            self.assertLess(time.monotonic(), deadline, served.text())
            time.sleep(0.1)
        first = streaming()
        for child in served.children():
            os.kill(child, signal.SIGKILL)
        while streaming() in ("0", first):
            self.assertLess(time.monotonic(), deadline, served.text())
            time.sleep(0.1)
        server.sql("create table later(id int)")
        self.assertEqual(served.stop(), 0, served.text())
        while streaming() != "0":
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)


if __name__ == "__main__":
    harness.main(at_once=3)
