"""A release under guard (N7, B10): kept by its exit status, or brought back; killed, interrupted, and refused."""

import fcntl
import json
import os
import pathlib
import pty
import signal
import subprocess
import termios
import time

import jsonschema

import harness

CONFIG = """vaults:
  here: {{ at: "file://{vault}", site: here, key_file: "{key}" }}
resources:
  docs: {{ kind: files, paths: ["{folder}/docs"] }}
  flaky: {{ kind: command, run: ["/bin/sh", "-c", "echo x >> {folder}/tries; test -e {folder}/up && echo here"] }}
  mend: {{ kind: command, run: ["/bin/sh", "-c", "test -e {folder}/mended || {{ touch {folder}/mended; exit 1; }}; echo here"] }}
plans:
  docs: {{ resources: [docs], vault: here, schedule: "0 3 * * *", keep: {{ all: 1s }} }}
"""


def validated(outcome):
    document = outcome.json()
    name = document["schema"].split("/")[1]
    jsonschema.validate(document, json.loads((harness.ROOT / f"docs/schema/{name}.schema.json").read_text()))
    return document


class GuardFiles(harness.Case):
    in_memory = True

    def setUp(self):
        super().setUp()
        self.config.write_text(CONFIG.format(vault=self.vault, key=self.key, folder=self.folder))
        self.docs = self.folder / "docs"
        self.docs.mkdir()
        (self.docs / "page").write_text("before")
        self.mine("vault", "init", "here")

    def mine(self, *words, **more):
        return self.kuramori(*words, user=False, **{**more, "env": {"KURAMORI_STATE": self.folder / "state"}})

    def guard(self, script, *words, status=0, label="pre-release", resource="docs"):
        return self.mine("guard", "--label", label, "--resource", resource, *words, "--", "/bin/sh", "-c", script, status=status, cwd=self.folder)

    def waiting(self):
        return [one["id"] for one in self.mine("review", "--vault", "here", "--json").json()["reviews"]]

    def brought_back(self, folder):
        pages = [path for path in pathlib.Path(folder).rglob("page")]
        self.assertEqual(len(pages), 1, folder)
        return pages[0].read_text()

    def test_N7_a_release_that_succeeds_stays_and_its_snapshot_waits_for_review(self):
        done = self.guard(f"echo after > {self.docs}/page; echo said by the release", "--tag", "Purpose=PreRelease")
        self.assertEqual(done.out, "said by the release\n")  # standard output is the command's alone
        self.assertEqual((self.docs / "page").read_text(), "after\n")
        (snapshot,) = self.waiting()
        self.assertIn(f"kuramori review {snapshot}", done.err)
        shown = self.mine("show", snapshot, "--vault", "here", "--json").json()["snapshot"]
        self.assertEqual((shown["label"], shown["tags"]["Purpose"]), ("pre-release", "PreRelease"))
        time.sleep(1.2)  # its plan keeps for a second
        self.mine("prune", "--vault", "here")
        self.assertEqual(self.waiting(), [snapshot])

    def test_N7_a_release_that_fails_is_brought_back_beside_and_its_status_is_passed_on(self):
        done = self.guard(f"echo broken > {self.docs}/page; exit 7", status=7)
        self.assertEqual((self.docs / "page").read_text(), "broken\n")  # nobody touched what runs
        (beside,) = self.folder.glob("kuramori-rollback-*/docs")
        self.assertEqual(self.brought_back(beside), "before")
        (command,) = [line.split(": ")[-1] for line in done.err.splitlines() if "--overwrite" in line]
        self.assertIn(f"--to {self.docs}", command)
        # The command that is shown does it.
        subprocess.run([self.programs / command.split()[0], *command.split()[1:]], check=True, capture_output=True, cwd=self.folder,
                       env=harness.environment(KURAMORI_STATE=self.folder / "state"))
        self.assertEqual(self.brought_back(self.docs), "before")
        self.assertEqual(len(self.waiting()), 1)
        # Killed by a signal: as a shell has it.
        document = validated(self.guard("kill -9 $$", "--json", "--rollback-to", self.folder / "again", status=137))["guard"]
        self.assertEqual((document["outcome"], document["signal"]), ("brought_back", 9))
        self.assertEqual(document["resources"][0]["brought_back_to"], str(self.folder / "again"))
        self.assertEqual(self.brought_back(self.folder / "again"), "before")

    def test_N7_in_place_what_ran_is_stopped_saved_kept_beside_and_started_again(self):
        self.guard("exit 1", "--in-place", status=2)  # what is replaced is named
        log = self.folder / "log"
        done = self.guard(f"echo broken > {self.docs}/page; exit 3", "--in-place", "--rollback-to", self.docs,
                          "--stop", f"echo stop >> {log}", "--start", f"cat $(find {self.docs} -name page) >> {log}", status=3)
        self.assertEqual(self.brought_back(self.docs), "before", done)
        self.assertEqual(log.read_text(), "stop\nbefore")
        (old,) = self.folder.glob("docs.old-*")
        self.assertEqual((old / "page").read_text(), "broken\n")
        labels = [one["label"] for one in self.mine("snapshots", "--vault", "here", "--json").json()["snapshots"] if one.get("label")]
        shown = [self.mine("show", one["id"], "--vault", "here", "--json").json()["snapshot"]["label"]
                 for one in self.mine("snapshots", "--vault", "here", "--json").json()["snapshots"]]
        self.assertEqual(sorted(shown), ["before-rollback", "pre-release"], labels)
        # A target that cannot be replaced: said, with what to type, by a status of its own.
        (self.folder / "file").write_text("in the way")
        failed = self.guard("exit 3", "--in-place", "--rollback-to", self.folder / "file" / "below", status=124)
        self.assertIn("is as the command left it", failed.err)

    def test_N7_without_a_whole_snapshot_the_release_does_not_run(self):
        ran = self.folder / "ran"
        refused = self.guard(f"touch {ran}", resource="flaky", status=125)
        self.assertFalse(ran.exists())
        self.assertEqual((self.folder / "tries").read_text().count("x"), 2)  # snapshot OK? else retry
        self.assertIn("the command was not run", refused.err)
        self.guard(f"touch {ran}", resource="mend")  # the second try
        self.assertTrue(ran.exists())
        self.assertEqual(self.guard("true", resource="doc", status=2).out, "")
        self.mine("guard", "--label", "x", "--resource", "docs", "--", "no-such-program", status=127)
        self.mine("guard", "--label", "x", "--resource", "docs", "--", "/etc/passwd", status=126)

    def start(self, script, **more):
        command = [self.programs / "kuramori", "--config", self.config, "guard", "--label", "pre-release", "--resource", "docs", "--",
                   "/bin/sh", "-c", script]
        return subprocess.Popen([str(word) for word in command], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=harness.environment(KURAMORI_STATE=self.folder / "state"), **more)

    def await_file(self, path, process):
        deadline = time.monotonic() + harness.START_SECONDS_MAX
        while not path.exists():
            self.assertLess(time.monotonic(), deadline)
            self.assertIsNone(process.poll())
            time.sleep(0.02)

    def test_N7_P72_signals_are_the_commands_and_what_it_ends_with_decides(self):
        begun = self.folder / "begun"
        process = self.start(f"trap 'echo caught; exit 4' TERM; touch {begun}; while :; do sleep 0.05; done", stdin=subprocess.DEVNULL)
        self.await_file(begun, process)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=harness.START_SECONDS_MAX)
        self.assertEqual((process.returncode, out), (4, "caught\n"), err)
        self.assertIn("as it was before is in", err)

    def test_N7_killed_at_any_moment_a_labelled_snapshot_is_there_to_go_back_to(self):
        begun = self.folder / "begun"
        process = self.start(f"touch {begun}; exec sleep 3", stdin=subprocess.DEVNULL)
        self.await_file(begun, process)
        process.kill()
        process.communicate()
        (snapshot,) = self.waiting()
        self.mine("restore", f"docs@{snapshot}", "--to", self.folder / "back", "--vault", "here")
        self.assertEqual(self.brought_back(self.folder / "back"), "before")
        # Earlier: there is no snapshot, or one that is listed; never one that a prune takes.
        for delay in (0.02, 0.05, 0.1, 0.2, 0.3):
            process = self.start("true", stdin=subprocess.DEVNULL)
            time.sleep(delay)
            process.kill()
            process.communicate()
        time.sleep(1.2)
        there = [one["id"] for one in self.mine("snapshots", "--vault", "here", "--json").json()["snapshots"]]
        self.mine("prune", "--vault", "here")
        self.assertEqual([one["id"] for one in self.mine("snapshots", "--vault", "here", "--json").json()["snapshots"]], there)
        self.assertEqual(sorted(self.waiting()), sorted(there))

    def test_N7_the_command_has_the_terminal(self):
        main, side = pty.openpty()
        script = 'read answer < /dev/tty; test -t 1 && echo "got $answer"; exit 0'
        process = subprocess.Popen([str(word) for word in (self.programs / "kuramori", "--config", self.config, "guard", "--label", "t",
                                                           "--resource", "docs", "--", "/bin/sh", "-c", script)],
                                   stdin=side, stdout=side, stderr=side, start_new_session=True, cwd=self.folder,
                                   preexec_fn=lambda: fcntl.ioctl(side, termios.TIOCSCTTY, 0),
                                   env=harness.environment(KURAMORI_STATE=self.folder / "state"))
        os.close(side)
        os.write(main, b"yes\n")
        said = b""
        while True:
            try:
                piece = os.read(main, 4096)
            except OSError:
                break
            if not piece:
                break
            said += piece
        os.close(main)
        self.assertEqual(process.wait(), 0, said)
        self.assertIn(b"got yes", said)


class GuardPostgres(harness.Case):
    def test_N7_a_failed_migration_is_brought_back_to_the_last_commit_before_it(self):
        server = self.server()
        server.sql("create table t (v text)", "insert into t values ('before')")
        between = f"psql -XqAt '{server.connect()}' -c \"insert into t values ('between')\" && echo done"
        text = self.config.read_text().replace("plans:\n", f"  between: {{ kind: command, run: [/bin/sh, -c, {json.dumps(between)}] }}\nplans:\n")
        self.config.write_text(text)
        migrate = f"psql -XqAt '{server.connect()}' -c \"insert into t values ('by the migration')\" -c 'alter table t add w int'; exit 3"
        done = self.kuramori("guard", "--label", "pre-migration", "--json", "--resource", "db", "--resource", "between",
                             "--rollback-to", f"db={self.folder}/back", "--rollback-to", f"between={self.folder}/between", "--", "/bin/sh", "-c", migrate, status=3)
        document = validated(done)["guard"]
        self.assertEqual(document["outcome"], "brought_back")
        self.assertTrue(document["resources"][0]["restore_point"].startswith("kuramori-guard-"))
        self.assertEqual(server.value("select count(*) from t"), "3")  # what runs is as the migration left it
        server.stop()
        back = self.adopt(self.folder / "back")
        self.assertEqual(back.value("select string_agg(v, ' ' order by v) from t"), "before between")
        self.assertEqual(back.value("select count(*) from pg_attribute where attrelid = 't'::regclass and attnum > 0"), "1")

    def test_N7_WAL_that_does_not_arrive_keeps_the_migration_from_running(self):
        server = self.server()
        server.sql("create table t (v text)")
        server.sql("alter system set archive_command = 'false'", "select pg_reload_conf()")
        refused = self.kuramori("guard", "--label", "x", "--resource", "db", "--wal-within", "2s", "--", "touch", self.folder / "ran", status=125)
        self.assertIn("did not reach the vault within 2", refused.err)
        self.assertFalse((self.folder / "ran").exists())
        # What may not name a moment goes to its snapshot, and says so.
        server.sql("create role backup login replication", "grant pg_read_all_data, pg_monitor, pg_checkpoint to backup",
                   "grant execute on function pg_backup_start(text, boolean), pg_backup_stop(boolean), pg_switch_wal() to backup")
        self.config.write_text(self.config.read_text().replace("user=postgres", "user=backup"))
        kept = self.kuramori("guard", "--label", "x", "--resource", "db", "--", "true")
        self.assertIn("a rollback goes to its snapshot", kept.err)


if __name__ == "__main__":
    harness.main()
