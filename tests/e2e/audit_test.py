"""The audit log: who did what stands in the vault, and nobody changes it unnoticed (O4, L7)."""

import json
import os
import pathlib
import signal
import subprocess

import jsonschema

import harness

SCHEMA = json.loads((harness.ROOT / "docs/schema/audit.schema.json").read_text())


class Audit(harness.Case):
    in_memory = True

    def setUp(self):
        super().setUp()
        self.data = self.folder / "uploads"
        self.data.mkdir()
        (self.data / "one").write_text("one")
        self.state = self.folder / "state"
        self.state.mkdir()
        self.give(self.state)
        self.config.write_text(f"""vaults:
  here: {{ at: "file://{self.vault}", site: here, key_file: "{self.key}" }}
resources:
  uploads: {{ kind: files, paths: ["{self.data}"] }}
plans:
  files: {{ resources: [uploads], vault: here, keep: {{ all: 14d }} }}
""")
        self.config.chmod(0o644)
        self.run_it("vault", "init", "here")

    def run_it(self, *words, status=0, **env):
        return self.kuramori(*words, status=status, env={"KURAMORI_STATE": self.state, **env})

    def acts(self, *words, status=0, **env):
        document = self.run_it("audit", *words, "--json", status=status, **env).json()
        jsonschema.validate(document, SCHEMA)
        return document["acts"]

    def verify(self, status=0, **env):
        document = self.run_it("audit", "verify", "--json", status=status, **env).json()
        jsonschema.validate(document, SCHEMA)
        return document["vaults"][0]

    def records(self):
        """Of acts, in the order in which they were put."""
        return sorted(path for path in (self.vault / "audit").rglob("*") if path.is_file() and len(path.parent.name) == 32)

    def key_of(self, role):
        path = self.folder / f"{role}.key"
        self.run_it("vault", "key", "new", "here", "--role", role, "--name", role, "--to", path)
        return path

    def test_every_act_that_matters_is_recorded_with_who_what_and_when_O4(self):
        self.run_it("backup", "uploads")
        snapshot = self.run_it("snapshots", "uploads", "--json").json()["snapshots"][0]["id"]
        self.run_it("restore", "uploads", "--to", self.folder / "back")
        self.run_it("restore", "uploads", "--to", self.folder / "back", status=5)
        self.run_it("drill", "uploads")
        self.run_it("hold", "add", snapshot, "--name", "legal")
        self.run_it("hold", "remove", snapshot, "--name", "legal")
        self.run_it("extend", snapshot, "--keep", "30d")
        self.run_it("prune")
        self.run_it("prune", "--dry-run")
        self.run_it("vault", "collect", "here")
        self.run_it("vault", "key", "new", "here", "--role", "writer", "--name", "db1", "--to", self.folder / "w.key")
        self.run_it("vault", "key", "revoke", "here", "db1", "--yes")
        acts = self.acts()
        self.assertEqual([(act["verb"], act["result"]) for act in acts],
                         [("vault init", "done"), ("backup", "done"), ("restore", "done"), ("restore", "refused"), ("drill", "done"), ("hold add", "done"),
                          ("hold remove", "done"), ("extend", "done"), ("prune", "done"), ("vault collect", "done"), ("key made", "done"),
                          ("key revoked", "done")], acts)
        self.assertEqual(acts[0]["object"], self.run_it("vault", "show", "here", "--json").json()["vault"]["id"])
        first = acts[1]
        self.assertEqual((first["resource"], first["object"]), ("uploads", snapshot))
        self.assertEqual(first["user"], "postgres" if harness.is_root() else os.environ.get("USER", first["user"]))
        self.assertTrue(first["host"])
        self.assertEqual(first["role"], "owner")
        self.assertIn("not empty", acts[3]["reason"])
        self.assertIn(str(self.folder / "back"), acts[2]["detail"])
        self.assertEqual({act["object"] for act in self.acts("--verb", "hold add")}, {snapshot})
        self.assertEqual(len(self.acts("--resource", "uploads")), 4)
        self.assertEqual(self.acts("--since", "1h"), acts)
        self.assertEqual(self.acts("--until", "1h"), [])
        self.assertIn("refused", self.run_it("audit").out)
        self.assertTrue(self.verify()["holds"])
        # Who has the document and no line of ours reads the same, and every other record as well.
        status, said = harness.second_reader(self.vault, self.key, "audit")
        self.assertEqual(status, 0, said)
        theirs = [json.loads(line) for line in said.splitlines()]
        self.assertEqual([act.get("verb", act.get("action")) for act in theirs][:len(acts)], [act["verb"] for act in acts])
        self.assertEqual([act.get("result", "done") for act in theirs][:len(acts)], [act["result"] for act in acts])
        self.assertIn(snapshot, theirs[1]["object"])
        status, said = harness.second_reader(self.vault, self.key, "check")
        self.assertEqual(status, 0, said)

    def test_who_writes_a_key_into_another_file_is_recorded_where_the_vault_is_there_O4(self):
        new = self.folder / "words"
        new.write_text("hush\n")
        self.give(new)
        rewrap = ("vault", "key", "rewrap", "here", "--new-passphrase-file", new, "--to")
        self.run_it(*rewrap, self.folder / "wrapped.key")
        act = self.acts()[-1]
        self.assertEqual((act["verb"], act["object"], act["result"]), ("vault key rewrap", str(self.folder / "wrapped.key"), "done"))
        # Where it is away the key is written all the same, and that is said.
        self.vault.rename(self.folder / "away")
        outcome = self.run_it(*rewrap, self.folder / "again.key")
        self.assertIn("does not stand in the audit log", outcome.err)
        self.assertTrue((self.folder / "again.key").exists())

    def objects(self):
        """But for sessions: whoever reads content says so for as long as he does."""
        return {path: path.read_bytes() for path in self.vault.rglob("*") if path.is_file() and "sessions" not in path.parts}

    def test_one_extra_object_an_act_and_looking_leaves_none(self):
        self.run_it("backup", "uploads")
        self.assertEqual(len(self.records()), 2)
        snapshot = self.run_it("snapshots", "uploads", "--json").json()["snapshots"][0]["id"]
        before = self.objects()
        for words in (["snapshots"], ["status"], ["audit"], ["prune", "--dry-run"], ["vault", "show", "here"], ["vault", "show", "here", "--sizes"],
                      ["vault", "list"], ["vault", "key", "list", "here"], ["show", snapshot], ["diff", snapshot, snapshot], ["simulate"], ["lint"],
                      ["resources"], ["report"], ["compliance"], ["plan"], ["review"], ["docs", "--to", self.folder / "pages"]):
            self.run_it(*words, status=None)
        now = self.objects()
        self.assertEqual(sorted(now), sorted(before))
        self.assertEqual(now, before)

    def test_what_is_applied_and_probed_is_recorded_and_what_applies_nothing_is_not_O4(self):
        self.config.write_text(self.config.read_text().replace("kind: files,", "kind: files, criticality: low,").replace("vault: here,", "vault: here, schedule: manual,"))
        apply = ("apply", "--despite-lint", "--yes")
        self.run_it(*apply)
        self.run_it(*apply)
        self.run_it("vault", "probe", "here")
        self.assertEqual([(act["verb"], act["result"]) for act in self.acts()], [("vault init", "done"), ("apply", "done"), ("vault probe", "done")])
        self.config.write_text(self.config.read_text().replace("14d", "15d"))
        self.run_it(*apply)
        applied = self.acts("--verb", "apply")
        self.assertEqual([act["object"].split()[-1] for act in applied], ["1", "2"])

    def test_each_snapshot_of_a_watch_is_recorded_O4(self):
        watch = subprocess.Popen(harness.as_server([self.programs / "kuramori", "--config", self.config, "watch", "uploads", "--settle", "1s"]), cwd="/",
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=harness.environment(KURAMORI_STATE=self.state))
        try:
            for number in (1, 2):
                self.await_acts("watch", number, watch)
                (self.data / "one").write_text(f"changed {number}")
        finally:
            watch.send_signal(signal.SIGTERM)
            _, err = watch.communicate(timeout=harness.COMMAND_SECONDS_MAX)
        acts = self.acts("--verb", "watch")
        self.assertEqual({(act["resource"], act["result"]) for act in acts}, {("uploads", "done")}, err)
        made = {one["id"] for one in self.run_it("snapshots", "uploads", "--json").json()["snapshots"]}
        self.assertLessEqual({act["object"] for act in acts}, made)
        self.assertTrue(self.verify()["holds"])

    def await_acts(self, verb, least, process):
        deadline = harness.time.monotonic() + 60
        while len(self.acts("--verb", verb)) < least:
            self.assertIsNone(process.poll(), "it ended")
            self.assertLess(harness.time.monotonic(), deadline, f"{least} acts of {verb}")
            harness.time.sleep(0.2)

    def test_one_edited_byte_a_removed_and_a_replayed_record_are_named_O4(self):
        for number in range(5):
            (self.data / "one").write_text(f"{number}")
            self.run_it("backup", "uploads")
        self.assertTrue(self.verify()["holds"])
        third = self.records()[2]
        whole = third.read_bytes()
        for at in (0, len(whole) // 2, len(whole) - 1):
            third.chmod(0o600)
            third.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
            found = self.verify(status=4)["findings"]
            self.assertEqual({finding["object"] for finding in found}, {str(third.relative_to(self.vault))}, found)
        third.unlink()
        found = self.verify(status=4)["findings"]
        self.assertEqual(({finding["object"] for finding in found}, "missing" in found[0]["what"]), ({str(third.relative_to(self.vault))}, True), found)
        third.write_bytes(self.records()[0].read_bytes())
        self.assertIn(str(third.relative_to(self.vault)), str(self.verify(status=4)["findings"]))
        third.write_bytes(whole)
        self.assertTrue(self.verify()["holds"])

    def test_a_cut_tail_is_found_by_the_machine_that_saw_it_and_by_another_ones_checkpoint_O4(self):
        keeper = self.key_of("keeper")
        for number in range(3):
            (self.data / "one").write_text(f"{number}")
            self.run_it("backup", "uploads")
        last = self.records()[-1]
        whole = last.read_bytes()
        last.unlink()
        self.assertIn(last.name, str(self.verify(status=4)["findings"]))
        elsewhere = self.folder / "elsewhere"
        elsewhere.mkdir()
        self.give(elsewhere)
        # A machine that saw nothing cannot know; and what it then says binds only what it saw.
        last.write_bytes(whole)
        self.run_it("--key-file", keeper, "vault", "collect", "here")
        last.unlink()
        found = self.verify(status=4, KURAMORI_STATE=elsewhere)["findings"]
        self.assertIn(last.name, str(found))
        last.write_bytes(whole)
        self.assertTrue(self.verify(KURAMORI_STATE=elsewhere)["holds"])

    def test_a_writer_adds_and_cannot_read_a_reader_reads_O2(self):
        writer, reader = self.key_of("writer"), self.key_of("reader")
        self.run_it("--key-file", writer, "backup", "uploads")
        self.run_it("--key-file", writer, "prune", status=5)
        seen = self.acts("--key-file", writer, "--key", "writer")
        self.assertEqual([(act["readable"], act["verb"]) for act in seen], [(False, ""), (False, "")])
        self.assertEqual([(act["verb"], act["result"]) for act in self.acts("--key-file", reader, "--key", "writer")],
                         [("backup", "done"), ("prune", "refused")])

    def test_a_restore_from_a_vault_that_cannot_be_written_is_done_and_told_and_recorded_later(self):
        self.run_it("backup", "uploads")
        folders = [self.vault, *[path for path in self.vault.rglob("*") if path.is_dir()]]
        for folder in folders:
            folder.chmod(0o500)
        try:
            outcome = self.run_it("restore", "uploads", "--to", self.folder / "back")
        finally:
            for folder in folders:
                folder.chmod(0o700)
        self.assertEqual((self.folder / "back" / "one").read_text(), "one")
        self.assertIn("not in the audit log yet", outcome.err)
        self.assertEqual(self.run_it("audit", "verify", "--json").json()["vaults"][0]["pending"], 1)
        self.assertEqual([act["verb"] for act in self.acts()], ["vault init", "backup", "restore", "audit"])

    def test_a_kill_at_any_store_call_leaves_a_chain_that_holds(self):
        self.run_it("backup", "uploads")
        count = self.folder / "count"
        count.touch()
        self.give(count)
        (self.data / "one").write_text("counted")
        self.run_it("backup", "uploads", KURAMORI_TEST_COUNT_STORE_CALLS=count)
        calls = int(count.read_text().split()[0])
        self.assertGreater(calls, 5)
        for call in range(max(1, calls - 9), calls + 1):
            (self.data / "one").write_text(f"{call}")
            self.run_it("backup", "uploads", status=-signal.SIGKILL, KURAMORI_TEST_KILL_AT_STORE_CALL=call)
            self.assertTrue(self.verify()["holds"], call)

    def test_processes_at_once_leave_one_chain_of_all(self):
        self.run_it("backup", "uploads")
        running = [subprocess.Popen(harness.as_server([self.programs / "kuramori", "--config", self.config, "drill", "uploads"]), cwd="/",
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=harness.environment(KURAMORI_STATE=self.state))
                   for _ in range(4)]
        for process in running:
            _, err = process.communicate(timeout=harness.COMMAND_SECONDS_MAX)
            self.assertEqual(process.returncode, 0, err)
        self.assertEqual([act["verb"] for act in self.acts()], ["vault init", "backup"] + ["drill"] * 4)
        self.assertTrue(self.verify()["holds"])

    def test_what_is_older_is_archived_and_read_as_before_O4(self):
        self.config.write_text(self.config.read_text() + "audit: { online: 1s, archive: 3y }\n")
        for number in range(4):
            (self.data / "one").write_text(f"{number}")
            self.run_it("backup", "uploads")
        before = self.acts()
        signer = self.records()[0].parent
        harness.time.sleep(1.2)
        done = self.run_it("audit", "archive", "--json").json()["archived"][0]
        self.assertEqual((done["archived"], done["expired"], done["left"]), (4, 0, 0))
        self.assertEqual(len(list(signer.iterdir())), 3)
        self.assertEqual([(act["verb"], act["object"], act["result"]) for act in self.acts()[len(before):]], [("audit", "archive", "done")])
        self.assertEqual(self.acts()[:len(before)], before)
        self.assertTrue(self.verify()["holds"])
        self.run_it("vault", "scrub", "here")
        archive = next(path for path in signer.iterdir() if "-" in path.name)
        body = bytearray(archive.read_bytes())
        body[len(body) // 2] ^= 1
        self.assertEqual(harness.second_reader(self.vault, self.key, "audit")[0], 0)
        archive.chmod(0o600)
        archive.write_bytes(body)
        self.assertIn(archive.name, str(self.verify(status=4)["findings"]))
        status, said = harness.second_reader(self.vault, self.key, "audit")
        self.assertEqual(status, 4)
        self.assertIn(f"finding: {archive.relative_to(self.vault)}: ", said)
        self.run_it("audit", "archive", status=5)
        self.run_it("vault", "scrub", "here", status=4)


if __name__ == "__main__":
    harness.main()
