"""What becomes of a backup that ended without telling when the vault, asked whether its snapshot stands, does not answer either (B11, P71):
asked again, never taken for done, never done twice, and told in the end."""

import os
import pathlib
import signal

import daemon
import harness

JOB = "backup p/gated"
# It is tried when somebody asks for it, and never else.
PLAN = "  p: {{ resources: [gated], vault: here, schedule: \"0 3 1 1 *\"{more} }}\n"
RESOURCE = """  gated: {{ kind: command, run: ["/bin/sh", "-c", "test -e {folder}/up && echo here || sleep 600"] }}
"""
# The daemon, each job and each question open the vault, and each of them asks this for the passphrase. It finds among the processes
# above it whose question it is: that one alone hangs, or is refused, as long as the gate says so.
PASSPHRASE = """#!/bin/sh
asker=$PPID
while [ "$asker" -gt 1 ]; do
  case $(tr '\\0' ' ' < /proc/$asker/cmdline) in
    *" snapshots "*"--tag kuramori-run="*)
      echo "$asker" >> {folder}/asked
      while [ "$(cat {folder}/gate)" = hangs ]; do sleep 0.1; done
      [ "$(cat {folder}/gate)" = opens ] || exit 1
      ;;
  esac
  asker=$(sed -n 's/^PPid:[^0-9]*//p' /proc/$asker/status)
done
echo hush-hush
"""


class Questions(daemon.Case):
    def setUp(self):
        super().setUp()
        (self.folder / "words").write_text("hush-hush\n")
        (self.folder / "words").chmod(0o600)
        self.mine("vault", "key", "rewrap", "here", "--to", self.folder / "wrapped.key", "--new-passphrase-file", self.folder / "words")
        (self.folder / "passphrase").write_text(PASSPHRASE.format(folder=self.folder))
        (self.folder / "passphrase").chmod(0o755)
        self.gate("opens")
        self.plan_gated()

    def plan_gated(self, more="", notify=""):
        self.plan(PLAN.format(more=more) + notify, RESOURCE.format(folder=self.folder))
        text, plain = self.config.read_text(), f'at: "file://{self.folder}/vault", site: here, key_file: "{self.key}"'
        self.assertIn(plain, text)
        wrapped = plain.replace("owner.key", "wrapped.key") + f', passphrase_command: "{self.folder}/passphrase"'
        self.config.write_text(text.replace(plain, wrapped))

    def gate(self, state):
        new = self.folder / "gate.new"
        new.write_text(state)
        new.rename(self.folder / "gate")

    def asked(self):
        """Who asked the vault whether a snapshot stands, each a process."""
        path = self.folder / "asked"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def words_of(self, pid):
        try:
            return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            return []

    def start(self):
        self.await_true(lambda: self.query("select id from jobs where id = ?", JOB), "that the daemon knows of the job")
        self.mine("jobs", "--start", JOB)

    def await_run(self, attempt, *states):
        def found():
            return next((run for run in self.runs(JOB, *states) if run["attempt"] == attempt), None)
        return self.await_true(found, f"try {attempt} being {states}")

    def lose_a_try(self, served):
        """One whose process is killed while it works: nothing of it stands."""
        self.start()
        self.await_run(1, "RUNNING")
        working = self.await_true(lambda: [pid for pid in served.children() if b"backup" in self.words_of(pid)], "a job")
        os.kill(working[0], signal.SIGKILL)
        self.assertIn("killed by signal 9", self.await_run(1, "CREATED")["why"])
        self.assertEqual(self.asked(), [])

    def lose_a_told_one(self, **env):
        """One whose process is killed when its snapshot stands; the daemon that saw it."""
        (self.folder / "up").touch()
        counted = self.folder / "calls"
        other = {"KURAMORI_STATE": self.folder / "another", "KURAMORI_TEST_COUNT_STORE_CALLS": counted}
        self.kuramori("backup", "files", "--plan", "q", user=False, env=other)
        # The daemon counts its calls, too: it is to make none.
        self.config.write_text(self.config.read_text() + "daemon: { lease: off }\n")
        served = self.serve(KURAMORI_TEST_KILL_AT_STORE_CALL=int(counted.read_text()), **env)
        self.start()
        self.assertIn("killed by signal 9", self.await_run(1, "CREATED")["why"])
        self.assertEqual(len(self.snapshots("gated")), 1)
        return served

    def ask_and_get_stuck(self):
        """The second try begins with the question, which hangs."""
        self.gate("hangs")
        before = len(self.asked())
        self.start()
        self.await_true(lambda: len(self.asked()) > before, "the question")
        return self.asked()[-1]

    def assert_never_done(self):
        self.assertEqual(self.runs(JOB, "COMPLETED", "PARTIAL"), [])
        self.assertEqual(self.snapshots("gated"), [])

    def assert_it_is_done_when_the_vault_answers(self, attempt):
        self.gate("opens")
        (self.folder / "up").touch()
        self.start()
        done = self.await_run(attempt, "COMPLETED")
        self.assertEqual([snapshot["id"] for snapshot in self.snapshots("gated")], [done["snapshot"]])
        self.assert_no_run_twice("gated")

    def test_P71_a_question_that_is_killed_is_no_backup_and_is_asked_again(self):
        served = self.serve()
        self.lose_a_try(served)
        os.kill(self.ask_and_get_stuck(), signal.SIGKILL)
        self.assertIn("killed by signal 9", self.await_run(2, "CREATED")["why"])
        self.assert_never_done()
        self.assert_it_is_done_when_the_vault_answers(3)
        self.assertGreaterEqual(len(self.asked()), 2, "it was not asked again")
        self.assertEqual(served.stop(), 0, served.text())

    def test_B3_P71_a_question_that_takes_too_long_ends_as_an_aborted_run_that_is_told(self):
        notify = f'notify:\n  - {{ name: told, to: "command:/usr/bin/tee -a {self.folder}/told", when: [failure] }}\n'
        self.plan_gated(more=", completion_window: 12s", notify=notify)
        served = self.serve()
        self.lose_a_try(served)
        self.ask_and_get_stuck()
        ended = self.await_run(2, "ABORTED", "COMPLETED")
        self.assertEqual((ended["state"], ended["snapshot"] or ""), ("ABORTED", ""))
        self.assert_never_done()
        self.await_true(lambda: (self.folder / "told").exists() and "was not done within" in (self.folder / "told").read_text(), "that somebody is told")
        self.assertIn("ABORTED: it was not done within", served.text())
        # The next is a run of its own.
        self.assert_it_is_done_when_the_vault_answers(1)
        self.assertEqual(served.stop(), 0, served.text())

    def test_P71_a_run_that_is_cancelled_while_it_asks_is_cancelled(self):
        served = self.serve()
        self.lose_a_try(served)
        self.ask_and_get_stuck()
        self.mine("jobs", "--cancel", self.await_run(2, "RUNNING")["id"])
        self.assertEqual(self.await_run(2, "CANCELLED", "COMPLETED")["state"], "CANCELLED")
        self.assert_never_done()
        self.assert_it_is_done_when_the_vault_answers(1)
        self.assertEqual(served.stop(), 0, served.text())

    def test_B11_a_daemon_that_stops_while_it_asks_leaves_the_question_to_the_next(self):
        served = self.serve("--stop-within", "1s")
        self.lose_a_try(served)
        self.ask_and_get_stuck()
        self.assertEqual(served.stop(), 0, served.text())
        self.assertEqual([(run["state"], run["attempt"]) for run in self.runs(JOB)], [("CREATED", 2)])
        self.assert_never_done()
        self.gate("opens")
        (self.folder / "up").touch()
        self.serve()
        self.await_run(3, "COMPLETED")
        self.assertGreaterEqual(len(self.asked()), 2, "it was not asked again")
        self.assert_no_run_twice("gated")

    def test_B11_a_question_that_fails_is_neither_a_yes_nor_a_no(self):
        self.plan_gated()
        self.config.write_text(self.config.read_text().replace("plans:\n", "plans:\n  q: { resources: [files], vault: here, schedule: \"0 3 1 1 *\" }\n"))
        served = self.lose_a_told_one()
        self.gate("refuses")
        self.start()
        self.assertIn("a configured command failed", self.await_run(2, "CREATED", "COMPLETED")["why"])
        # Had it been taken for a no, the snapshot would have been made again, and that job killed.
        self.assertEqual(len(self.snapshots("gated")), 1)
        self.gate("opens")
        self.start()
        done = self.await_run(3, "COMPLETED", "CREATED")
        self.assertEqual([snapshot["id"] for snapshot in self.snapshots("gated")], [done["snapshot"]], served.text())
        self.assert_no_run_twice("gated")
        served.kill()

    def test_P69_a_run_whose_vault_never_answers_has_failed_in_the_end(self):
        notify = f'notify:\n  - {{ name: told, to: "command:/usr/bin/tee -a {self.folder}/told", when: [failure] }}\n'
        self.plan_gated(notify=notify)
        served = self.serve()
        self.lose_a_try(served)
        self.gate("refuses")
        for attempt in range(2, 8):
            self.start()
            self.await_run(attempt, "CREATED")
        self.start()
        ended = self.await_run(8, "FAILED", "COMPLETED")
        self.assertEqual(ended["state"], "FAILED")
        self.assertIn("(tried 8 times)", ended["why"])
        self.assert_never_done()
        self.assertEqual(len(set(self.asked())), 7)
        self.await_true(lambda: (self.folder / "told").exists() and "a configured command failed" in (self.folder / "told").read_text(),
                        "that somebody is told")
        self.assertEqual(served.stop(), 0, served.text())


if __name__ == "__main__":
    harness.main(at_once=3)
