"""A restore in progress keeps what it reads, even if its process stands still for a day; whoever is taken for dead, or may not
say that he reads, is told in words that it was removed, and never gets wrong bytes.

A real restore is stopped (SIGSTOP) at its n-th call of the store; meanwhile its snapshot is pruned and, a day
later, collected by others; then it goes on (V3, P57)."""

import glob
import shutil
import signal
import subprocess
import time

import harness
import kill_points

LATER_LIBRARY = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), "")
# The clock of whoever collects; what the store says of its objects' age cannot be set.
LATER = {"LD_PRELOAD": LATER_LIBRARY, "FAKETIME": "+25h", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
STOPS = (0.02, 0.4, 0.8) if not harness.ALL else [n / 20 for n in range(1, 19)]  # shares of the store calls after it announced itself
PARTS = 5
REMOVED = ("was removed while it was read", "was pruned")  # while it was at it; before it had said that it reads


class Readers(harness.Case):
    in_memory = True

    def setUp(self):
        """Snapshots that build on each other, the last of which is read; and one that needs none of them."""
        super().setUp()
        server = self.server(initdb=["--wal-segsize=1"])
        self.config.write_text(self.config.read_text().replace("    window: 14d\n", ""))
        # Each of these snapshots leaves its pages in a pack of its own: a restore opens one after the other.
        server.sql(*[f"create table part{part} (id bigint primary key, text text)" for part in range(PARTS)])
        for part in range(PARTS):
            server.sql(f"insert into part{part} select i, md5(i::text) from generate_series(1, 4000) i", "checkpoint")
            self.read = self.kuramori("backup", "db", "--keep", "1s", "--json").json()["snapshot"]["id"]
        server.sql("insert into part0 select i, 'later' from generate_series(4001, 5000) i", "checkpoint")
        self.last = self.kuramori("backup", "db", "--full", "--json").json()["snapshot"]["id"]
        server.stop()
        counted = self.folder / "calls"
        whole = self.folder / "whole"
        self.kuramori("restore", f"db@{self.read}", "--to", whole, env={"KURAMORI_TEST_COUNT_STORE_CALLS": counted})
        self.calls, self.digest = int(counted.read_text()), kill_points.tree_digest(whole)
        self.template = self.folder / "template"
        time.sleep(1.1)  # what was promised is over
        self.kuramori("vault", "collect", "here")  # the sessions of all that go
        self.assertEqual(self.announced(), [])
        self.vault.rename(self.template)

    def first_call_after_it_said_so(self, *words):
        low, high = 0, self.calls // 2  # before, after
        while high - low > 1:
            call = (low + high) // 2
            self.fresh()
            running = self.stop_at(call, *words)
            low, high = (low, call) if self.announced() else (call, high)
            running.kill()
            running.wait()
        return high

    def after_it_said_so(self, share):
        """The call at that share of what follows the announcement and the look at the prunes."""
        return self.says_so + 3 + int((self.calls - self.says_so - 3) * share)

    def stop_after_it_said_so(self, share, *words):
        """A few calls later where a loaded machine had it ask more often before."""
        for later in range(0, 40, 4):
            self.fresh()
            running = self.stop_at(self.after_it_said_so(share) + later, *words)
            if len(self.announced()) == 1:
                return running
            running.kill()
            running.wait()
        self.fail(f"it does not say that it reads: {self.says_so} of {self.calls} calls")

    def fresh(self):
        shutil.rmtree(self.vault, ignore_errors=True)
        subprocess.run(["cp", "-a", self.template, self.vault], check=True)
        self.target = self.folder / "target"
        shutil.rmtree(self.target, ignore_errors=True)

    def stop_at(self, call, *words):
        command = harness.as_server([self.programs / "kuramori", "--config", self.config, *words, "restore", f"db@{self.read}", "--to", self.target])
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/",
                                   env=harness.environment(KURAMORI_TEST_STOP_AT_STORE_CALL=call))
        self.addCleanup(running.stdout.close)
        self.addCleanup(running.kill)
        self.assertTrue(harness.stands_still(running), f"a restore of {self.calls} calls ended before call {call}")
        return running

    def announced(self):
        return list((self.vault / "sessions").glob("*"))

    def collect_a_day_later(self, *words):
        """Twice. The library keeps a semaphore under the process's number: only the program itself may load it."""
        clock = ["/usr/bin/env", *[f"{name}={value}" for name, value in LATER.items()]]
        said = ""
        for _ in range(2):
            command = [*clock, self.programs / "kuramori", "--config", self.config, "vault", "collect", "here", "--share-max", "100", *words]
            done = subprocess.run(harness.as_server(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/",
                                  timeout=harness.COMMAND_SECONDS_MAX, env=harness.environment())
            said += done.stdout + done.stderr
            self.assertEqual(done.returncode, 0, said)
        return said

    def goes_on(self, running):
        """(status, what it said)"""
        running.send_signal(signal.SIGCONT)
        said = running.communicate(timeout=harness.COMMAND_SECONDS_MAX)[0]
        return running.returncode, said

    def assert_right_or_told(self, status, said):
        if status == 0:
            self.assertEqual(kill_points.tree_digest(self.target), self.digest)
        else:
            self.assertEqual(status, 5, said)
            self.assertTrue(any(word in said for word in REMOVED), said)
            self.assertFalse((self.target / "global" / "pg_control").exists(), "half restored, and could be started")

    def assert_nothing_is_left_of_it(self):
        """No orphan outlives two collections."""
        self.collect_a_day_later()
        self.assertEqual(self.announced(), [])
        owners = {path.name.partition("-")[0] for path in (self.vault / "packs").rglob("*-*")}
        commits = [path.name for path in (self.vault / "commits").rglob("*.*") if path.name.startswith(self.last)]
        self.assertEqual(owners, {name.partition(".")[2] for name in commits})
        self.kuramori("vault", "scrub", "here")
        self.assertEqual([snapshot["id"] for snapshot in self.snapshots()], [self.last])

    def protected(self, *words):
        self.says_so = self.first_call_after_it_said_so(*words)
        for share in STOPS:
            with self.subTest(share=share, words=words):
                self.fresh()
                running = self.stop_after_it_said_so(share, *words)
                self.kuramori("prune")
                self.collect_a_day_later()
                status, said = self.goes_on(running)
                self.assertEqual(status, 0, said)
                self.assert_right_or_told(status, said)
                self.assert_nothing_is_left_of_it()

    def test_a_restore_that_stood_still_for_a_day_ends_right_V3_P57(self):
        key = self.folder / "reader.key"
        self.fresh()
        self.kuramori("vault", "key", "new", "here", "--role", "reader", "--name", "r", "--to", key)
        shutil.rmtree(self.template)
        self.vault.rename(self.template)
        self.protected()
        self.protected("--key-file", key)

    def test_one_that_nobody_kept_is_told_and_never_restored_by_half_V3(self):
        """Taken for dead; or with no right to say that it reads: then it says that it is not protected."""
        self.says_so = self.first_call_after_it_said_so()
        for way in ("dead", "silent"):
            told = 0
            for share in STOPS:
                self.fresh()
                sessions = self.vault / "sessions"
                if way == "dead":
                    running = self.stop_after_it_said_so(share)
                else:
                    sessions.chmod(0o555)
                    running = self.stop_at(self.after_it_said_so(share))
                    sessions.chmod(0o700)
                    self.assertEqual(self.announced(), [])
                self.kuramori("prune")
                self.collect_a_day_later(*(["--dead-after", "24h"] if way == "dead" else []))
                status, said = self.goes_on(running)
                self.assert_right_or_told(status, said)
                if way == "silent" and status == 0:
                    self.assertIn("not kept from being collected", said)
                told += "was removed while it was read" in said
                self.assert_nothing_is_left_of_it()
            self.assertGreater(told, 0, "what was removed was never missed: nothing was tried")


if __name__ == "__main__":
    harness.main()
