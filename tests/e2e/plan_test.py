"""`plan` and `apply`: what is different from what was applied, what follows from it, and that what was looked at is what is done."""

import json
import os
import time

import jsonschema
import yaml

import daemon
import harness

CONFIG = """vaults:
  here: {{ at: "file://{folder}/vault", site: here, key_file: "{folder}/owner.key" }}
  away: {{ at: "file://{folder}/away", site: away, key_file: "{folder}/owner.key", copy_of: here }}
resources:
  docs: {{ kind: files, criticality: high, paths: ["{folder}/docs"] }}
plans:
  docs: {{ resources: [docs], vault: here, schedule: "0 3 * * *", timezone: Asia/Tokyo, {keep}, copies: [ {{ to: away }} ] }}
"""


class Plan(harness.Case):
    in_memory = True

    def setUp(self):
        super().setUp()
        (self.folder / "docs").mkdir()
        self.write("keep: 14d")

    def write(self, keep, more=""):
        self.config.write_text(CONFIG.format(folder=self.folder, keep=keep) + more)

    def mine(self, *words, state="state", **more):
        outcome = self.kuramori(*words, user=False, **{**more, "env": {"KURAMORI_STATE": self.folder / state}})
        if "--json" in words and outcome.out:
            document = outcome.json()
            name = document["schema"].split("/")[1]
            jsonschema.validate(document, json.loads((harness.ROOT / f"docs/schema/{name}.schema.json").read_text()))
        return outcome

    def planned(self, *words, status=0):
        return self.mine("plan", "--json", *words, status=status).json()

    def backup(self, *words):
        (self.folder / "docs" / "file").write_bytes(os.urandom(64))
        return self.mine("backup", "docs", "--json", *words).json()["snapshot"]["id"]

    def test_O6_applied_twice_is_no_change_and_what_stands_is_read_back(self):
        first = self.planned("--detailed-exitcode", status=10)
        self.assertEqual([one["state"] for one in first["vaults"]], ["missing", "missing"])
        self.assertIn({"id": "made", "about": 'vault "here"', "what": f"is made at {self.folder}/vault", "loses": False}, first["consequences"])
        self.assertFalse((self.folder / "vault").exists(), "plan made something")
        self.assertFalse((self.folder / "owner.key").exists())

        done = self.mine("apply", "--json").json()
        self.assertEqual([(one["made"], one["number"], one["reads_back"]) for one in done["vaults"]], [(True, 1, True)] * 2)
        self.assertEqual(done["changes_left"], 0)
        self.assertEqual(self.planned("--detailed-exitcode")["changes"], [])
        again = self.mine("apply", "--json").json()
        self.assertEqual((again["changes"], [one["number"] for one in again["vaults"]]), ([], [1, 1]))
        self.assertEqual(len(list((self.folder / "vault").rglob("*applied/*"))), 1, "applied twice is recorded once")
        self.assertIn("0 changes left", self.mine("apply").out)
        # Other words for the same are the same.
        self.config.write_text("# a comment\n" + self.config.read_text().replace("keep: 14d", "keep: { all: 14d }"))
        self.assertFalse(self.planned("--detailed-exitcode")["anything_to_do"])
        self.mine("vault", "scrub", "here")

    def test_two_operators_see_the_same(self):
        self.mine("apply")
        self.write("keep: 7d")
        for state in ("one", "other"):
            seen = self.mine("plan", "--json", state=state).json()
            self.assertEqual(seen["changes"], [{"key": "plans.docs.keep.all", "before": "14d", "after": "7d"}])
        self.mine("apply", "--yes", state="one")
        self.assertEqual(self.mine("plan", "--json", state="other").json()["applied"]["number"], 2)
        self.assertFalse(self.mine("plan", "--json", state="other").json()["anything_to_do"])

    def test_S15_what_a_plan_says_will_go_is_what_prune_then_says(self):
        self.write("keep: { all: 1s, last: 5 }")
        self.mine("apply")
        made = [self.backup() for _ in range(6)]
        time.sleep(1.2)  # keep: 1s, by the clock of the folder
        self.write("keep: { all: 1s, last: 2 }")
        seen = self.planned("--detailed-exitcode", status=10)
        self.assertTrue(seen["loses"])
        self.assertEqual([one["id"] for one in seen["going"] if one["by_change"]], made[1:4])
        self.assertEqual([one["id"] for one in seen["going"] if not one["by_change"]], made[:1])
        for one in seen["consequences"]:
            if one["id"] == "goes":
                self.assertIn("3 snapshots that would have stayed go at the next prune", one["what"])
        refused = self.mine("apply", "--json", status=5).json()["error"]
        self.assertIn("3 snapshots that would have stayed", refused["why"])
        self.assertEqual(self.planned()["applied"]["number"], 1, "a refused apply changed something")
        self.mine("apply", "--yes")
        pruned = self.mine("prune", "--dry-run", "--vault", "here", "--json").json()["vaults"][0]["snapshots"]
        self.assertEqual({one["id"] for one in pruned if one["drop"]}, {one["id"] for one in seen["going"]})

    def test_a_saved_plan_is_refused_when_the_world_moved(self):
        self.mine("apply")
        saved = self.folder / "next.plan"

        def save(keep):
            self.write(keep)
            self.mine("plan", "--out", saved)

        save("keep: 7d")
        self.write("keep: 6d")
        self.assert_refused(self.mine("apply", saved, "--yes", status=5), "the world moved", "configuration ", "kuramori plan --out")
        save("keep: 7d")
        self.write("keep: 8d")
        self.mine("apply", "--yes")  # somebody else
        self.write("keep: 7d")
        self.assert_refused(self.mine("apply", saved, "--yes", status=5), "the world moved", "vault here has number")
        # What would go is not what the plan saw.
        self.write("keep: { all: 1s, last: 4 }")
        self.mine("apply", "--yes")
        for _ in range(4):
            self.backup()
        time.sleep(1.2)
        save("keep: { all: 1s, last: 3 }")
        self.mine("hold", "add", self.planned()["going"][0]["id"], "--name", "look", "--vault", "here")
        self.assert_refused(self.mine("apply", saved, "--yes", status=5), "the world moved", "then: snapshot ")
        self.mine("plan", "--out", saved)
        self.mine("apply", saved, "--yes")
        self.assertFalse(self.planned()["anything_to_do"])
        self.mine("apply", self.config, status=2)

    def test_B6_a_schedule_that_cannot_meet_its_rpo_ends_with_4_and_names_the_gap(self):
        self.config.write_text(self.config.read_text().replace('"0 3 * * *"', '"0 3 * * SUN"').replace(
            f'paths: ["{self.folder}/docs"]', f'paths: ["{self.folder}/docs"], objectives: {{ rpo: 3h }}'))
        seen = self.planned("--detailed-exitcode", status=4)
        found = [one for one in seen["findings"] if one["id"] == "rpo"]
        self.assertEqual(len(found), 1)
        self.assertIn("rpo: 3h is promised", found[0]["what"])
        self.assertIn("7 d", found[0]["what"] + found[0]["why"])
        self.assert_refused(self.mine("apply", status=4), "promises what it cannot keep", "rpo: 3h", "--despite-lint")
        self.assertFalse((self.folder / "vault").exists())
        self.mine("apply", "--despite-lint")

    def test_L7_a_canary_is_backed_up_restored_and_compared_in_each_vault(self):
        flown = self.mine("apply", "--canary", "--json").json()
        for one in flown["vaults"]:
            self.assertTrue(one["canary"]["passed"], one)
            self.assertGreater(one["canary"]["restore_seconds"], 0)
            listed = self.mine("snapshots", "kuramori-canary", "--vault", one["vault"], "--json").json()["snapshots"]
            self.assertEqual([(s["id"], s["proof"]["passed"]) for s in listed], [(one["canary"]["snapshot"], True)])
        # One that cannot be stored is told: the vault's packs are a file.
        packs = self.folder / "vault" / "packs"
        packs.rename(self.folder / "packs")
        packs.write_text("")
        self.assertNotEqual(self.mine("apply", "--canary", status=None).status, 0)

    def test_what_was_applied_and_what_stands_in_the_file_are_told_apart_by_doctor_and_status(self):
        self.mine("apply")
        self.assertNotIn("not what was applied", self.mine("doctor", status=None).out)
        self.assertNotIn("not what was applied", self.mine("status").err)
        self.write("keep: 15d")
        self.assertIn("is not what was applied to here: 1 change", self.mine("doctor", status=1).out)
        self.assertIn("is not what was applied to here: 1 change", self.mine("status").err)

    def test_a_vault_that_does_not_answer_is_named_and_gets_it_later(self):
        self.mine("apply")
        (self.folder / "away").rename(self.folder / "gone")
        (self.folder / "away").write_text("no folder")
        self.write("keep: 15d")
        self.assertEqual([one["state"] for one in self.planned(status=3)["vaults"]], ["there", "unknown"])
        self.mine("apply", status=3)
        (self.folder / "away").unlink()
        (self.folder / "gone").rename(self.folder / "away")
        seen = self.planned("--detailed-exitcode", status=10)
        self.assertEqual((seen["changes"], [one["applied"] for one in seen["vaults"]]), ([], [2, 1]))
        self.mine("apply")
        self.assertEqual([one["applied"] for one in self.planned()["vaults"]], [2, 2])

    def test_configurations_that_share_a_vault_are_told_apart_by_their_names(self):
        self.write("keep: 14d", more="name: one\n")
        self.mine("apply")
        self.write("keep: 13d", more="name: other\n")
        self.assertIsNone(self.planned()["applied"])
        self.mine("apply")
        self.write("keep: 14d", more="name: one\n")
        self.assertFalse(self.planned("--detailed-exitcode")["anything_to_do"])

    def test_no_secret_is_shown_or_kept_I1(self):
        self.write("keep: 14d", more='notify: [ { to: "slack:https://hooks.example/services/hush", when: [failure] } ]\n')
        shown = self.mine("plan").out + self.mine("plan", "--json").out + self.mine("apply").out
        self.assertNotIn("hush", shown.replace("secret-in-clear", ""))

    def test_A3_two_stages_differ_in_what_they_are_meant_to(self):
        production = self.folder / "production.yaml"
        text = """vaults:
  v: {{ at: "file://{folder}/vault", key_file: "{folder}/owner.key" }}
resources:
  db: {{ kind: postgres, connect: "{connect}", criticality: critical, stage: {stage}, objectives: {{ rpo: 1d, rto: 4h }} }}
plans:
  nightly: {{ resources: [db], vault: v, schedule: "0 3 * * *", timezone: Asia/Tokyo, start_window: 60m, keep: 7d }}
"""
        production.write_text(text.format(folder=self.folder, stage="production", connect="host=db-a,db-b user=backup dbname=app"))
        self.config.write_text(text.format(folder=self.folder, stage="staging", connect="host=db-a user=backup dbname=app"))
        seen = self.mine("plan", "--against", production, "--detailed-exitcode", "--json", status=10).json()
        self.assertEqual([(one["key"], one["before"], one["after"]) for one in seen["changes"]], [
            ("resources.db.connect", "host=db-a,db-b user=backup dbname=app", "host=db-a user=backup dbname=app"),
            ("resources.db.stage", "production", "staging")])
        self.assertIn("~ resources.db.stage: production -> staging", self.mine("plan", "--against", production).out)
        self.mine("plan", "--against", self.config, "--detailed-exitcode")

    def test_A2_the_examples_load_show_their_targets_and_applied_twice_change_nothing(self):
        for name, targets, broken in (("agentkey", 5, False), ("kaigo", None, False), ("peoplebooster", 5, True), ("tonebridge", None, True)):
            with self.subTest(name):
                scratch = self.folder / name
                scratch.mkdir()
                text = (harness.ROOT / "examples" / f"{name}.yaml").read_text().replace("/etc/kuramori/", f"{scratch}/")
                document = yaml.safe_load(text)
                for vault, facts in document["vaults"].items():  # the products' stores are not here
                    for key in ("region", "credentials", "endpoint", "ledger", "lock", "class", "sse"):
                        facts.pop(key, None)
                    facts["at"] = str(scratch / "vaults" / vault)
                for entry in document.get("notify", []):
                    if "to_file" in entry:
                        (scratch / entry["to_file"].rsplit("/", 1)[1]).write_text("webhook:https://hooks.example/x\n")
                self.config.write_text(yaml.safe_dump(document, sort_keys=False))
                status = 4 if broken else 0
                seen = self.planned(status=status)
                self.assertEqual(len(seen["targets"]), targets or len(document["resources"]))
                self.assertEqual({one["resource"] for one in seen["targets"]}, set(document["resources"]))
                self.assertEqual({one["plan"] for one in seen["next"]}, set(document["plans"]))
                self.mine("apply", *(["--despite-lint"] if broken else []))
                again = self.mine("apply", *(["--despite-lint"] if broken else []), "--json").json()
                self.assertEqual((again["changes"], again["changes_left"]), ([], 0))
                self.assertFalse(self.planned(status=status)["anything_to_do"])


class WithDaemon(daemon.Case):
    def test_the_daemon_reads_what_is_applied(self):
        self.plan("  p: { resources: [files], vault: here, schedule: \"0 3 1 1 *\" }\n")
        self.mine("apply", "--despite-lint")
        self.serve()
        self.await_journal()
        self.plan("  p: { resources: [files], vault: here, every: 1s }\n")
        self.assertEqual(self.mine("apply", "--despite-lint", "--json").json()["daemon"], "read it")
        self.await_runs(1, "backup p/files", "COMPLETED")

    def await_journal(self):
        deadline = time.monotonic() + daemon.SECONDS_MAX
        while not self.query("select id from jobs"):
            self.assertLess(time.monotonic(), deadline, self.daemons[-1].text())
            time.sleep(0.05)


if __name__ == "__main__":
    harness.main()
