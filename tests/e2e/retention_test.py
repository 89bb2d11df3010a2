"""Labels and their review, budgets of deletion, and the simulator that starts with a real vault, from the command line."""

import json
import os
import shutil
import signal
import subprocess
import time
import unittest

import jsonschema

import daemon
import harness

CONFIG = """vaults:
  here: {{ at: "file://{vault}", site: here, key_file: "{key}" }}
  away: {{ at: "file://{folder}/away", site: away, key_file: "{key}", copy_of: here }}
resources:
  docs: {{ kind: files, paths: ["{folder}/docs"]{limits} }}
plans:
  docs: {{ resources: [docs], vault: here, schedule: "0 3 * * *", keep: {{ all: 1s }}, copies: [ {{ to: away, keep: 1s }} ] }}
"""


class Retention(harness.Case):
    in_memory = True

    def setUp(self):
        super().setUp()
        self.configure_with("")
        (self.folder / "docs").mkdir()
        self.mine("vault", "init", "here")

    def configure_with(self, limits):
        self.config.write_text(CONFIG.format(vault=self.vault, key=self.key, folder=self.folder, limits=limits))

    def mine(self, *words, **more):
        outcome = self.kuramori(*words, user=False, **{**more, "env": {"KURAMORI_STATE": self.folder / "state"}})
        if "--json" in words and outcome.out:
            document = outcome.json()
            name = document["schema"].split("/")[1]
            jsonschema.validate(document, json.loads((harness.ROOT / f"docs/schema/{name}.schema.json").read_text()))
        return outcome

    def backup(self, *words):
        (self.folder / "docs" / "file").write_bytes(os.urandom(64))
        return self.mine("backup", "docs", "--json", *words).json()["snapshot"]["id"]

    def ids(self, vault="here"):
        return [one["id"] for one in self.mine("snapshots", "--vault", vault, "--json").json()["snapshots"]]

    def prune(self, *words, status=0):
        time.sleep(1.2)  # keep: 1s, by the clock of the folder
        return self.mine("prune", "--vault", "here", "--json", *words, status=status).json()["vaults"][0]

    def test_a_labelled_snapshot_stays_until_the_next_of_its_label_is_proven_or_it_is_reviewed_B10(self):
        before = self.backup("--label", "pre-release")
        short = self.backup("--label", "pre-release", "--keep", "1s")  # a name and nothing else
        plain = self.backup()
        newest = self.backup()
        self.mine("review", before, "--vault", "here", status=5)  # the newest of its label
        self.mine("review", plain, "--vault", "here", status=2)
        lines = {line["id"]: line for line in self.prune("--dry-run")["snapshots"]}
        self.assertEqual(lines[before]["reason"], "held by label:pre-release")
        self.assertEqual([one for one in lines if lines[one]["drop"]], [short, plain])
        self.prune()
        self.assertEqual(self.ids(), [before, newest])
        # The next one of the label reminds of the first; as long as nobody proved or reviewed it, both stay.
        (self.folder / "docs" / "file").write_text("second release")
        said = self.mine("backup", "docs", "--label", "pre-release")
        self.assertIn(f"snapshot {before} of ", said.err)
        self.assertIn(f"kuramori review {before}", said.err)
        self.assertIn('until it is reviewed at the next "pre-release"', said.out)
        second = self.ids()[-1]
        waiting = self.mine("review", "--vault", "here", "--json").json()["reviews"]
        self.assertEqual([(one["id"], one["newer"], one["newer_is_proven"]) for one in waiting], [(before, second, False), (second, None, False)])
        self.prune()
        self.assertEqual(self.ids(), [before, second])
        self.mine("review", before, "--vault", "here")
        self.mine("review", before, "--vault", "here", status=2)  # once is enough
        self.prune()
        self.assertEqual(self.ids(), [second])
        # And by a proof, with nobody's word.
        third = self.backup("--label", "pre-release")
        self.prune()
        self.assertEqual(self.ids(), [second, third])
        self.mine("drill", "docs", "--vault", "here")
        lines = {line["id"]: line for line in self.prune("--dry-run")["snapshots"]}
        self.assertTrue(lines[second]["drop"], lines)
        self.prune()
        self.assertEqual(self.ids(), [third])

    def test_a_prune_that_would_drop_more_than_its_budget_drops_nothing_until_somebody_says_yes(self):
        made = [self.backup() for _ in range(6)]
        self.configure_with(", limits: { delete: 2 }")
        outcome = self.prune(status=5)
        self.assertEqual(outcome["pruned"], 0)
        self.assertEqual(outcome["refused"][0]["why"], "5 of its 6 snapshots would go, and limits: delete: 2 allows 2 at once")
        self.assertEqual(self.ids(), made)
        text = self.mine("prune", "--vault", "here", status=5)
        self.assertIn("kuramori prune --yes", text.err)
        self.configure_with(", limits: { delete: 90% }")
        self.assertEqual(self.prune("--dry-run")["refused"], [])
        self.configure_with(", limits: { delete: 20% }")
        self.assertEqual(self.prune("--yes")["pruned"], 5)
        self.assertEqual(self.ids(), made[-1:])
        self.configure_with(", limits: { delete: lots }")
        self.assertIn("write delete: 20%, or delete: 50", self.mine("prune", status=2).err)

    def test_a_simulation_starts_with_what_the_vault_holds_and_changes_nothing(self):
        made = [self.backup() for _ in range(3)]
        self.mine("vault", "init", "away")
        self.mine("copy", "--to", "away")
        copied = self.ids("away")
        self.mine("hold", "add", made[0], "--name", "audit", "--vault", "here")
        time.sleep(1.2)
        played = self.mine("simulate", "--json", "--each", "--years", "1", "--starting-with", "vault").json()
        here, away = played["places"]
        self.assertEqual((here["vault"], away["vault"], away["copy"]), ("here", "away", True))
        there = {one["id"]: one for one in here["snapshots"] if one["rule"] == "there"}
        self.assertEqual(set(there), set(made))
        self.assertIsNone(there[made[0]]["dropped_at"])
        self.assertEqual(there[made[0]]["reason"], "held by audit")
        # What the first prune of the simulation drops is what prune drops.
        first = min(one["dropped_at"] for one in there.values() if one["dropped_at"])
        gone = [one for one in made if there[one]["dropped_at"] == first]
        would = [line["id"] for line in self.prune("--dry-run")["snapshots"] if line["drop"]]
        self.assertLessEqual(set(would), set(gone))
        self.assertEqual(self.ids(), made)
        self.assertEqual(self.ids("away"), copied)
        self.mine("simulate", "--starting-with", "vault", "--from", "2026-01-01T00:00:00Z", status=2)
        self.mine("simulate", "--plan", "doc", status=2)
        self.mine("simulate", "--years", "0", status=2)


@unittest.skipUnless(daemon.LATER_LIBRARY, "needs libfaketime")
class KilledPrune(daemon.Case):
    """A prune that is killed once its intent stands is finished by the next one, whose window begins later. What serves that
    window is decided by what is left then: else the killed one takes what is the base by now, and the next one what was it before."""

    CALLS_MAX = 200

    def test_a_prune_that_finishes_a_killed_one_leaves_the_base_of_the_window_P57_P72(self):
        at, made = self.three_snapshots()
        self.kill_before_the_final(at)
        self.assertEqual(list((self.vault / "prune").glob("*/final")), [])
        told = {made[one["id"]]: one for one in at(270, "prune", "--vault", "here", "--dry-run", "--json").json()["vaults"][0]["snapshots"]}
        self.assertEqual([(seconds, told[seconds]["drop"]) for seconds in sorted(told)], [(0, False), (50, True), (120, False)])
        self.assertEqual(told[50]["reason"], "a prune that was stopped lets it go")
        at(270, "prune", "--vault", "here")
        self.assertEqual(self.left(made), [0, 120])

    def test_a_prune_that_another_overtakes_decides_anew_P57(self):
        at, made = self.three_snapshots()
        template = self.folder / "template"
        shutil.copytree(self.vault, template)
        intent = self.kill_before_the_final(at)
        for call in range(max(1, intent - 3), intent):
            with self.subTest(call=call):
                shutil.rmtree(self.vault)
                shutil.copytree(template, self.vault)
                self.clock.set(220)
                command = [self.programs / "kuramori", "--config", self.config, "prune", "--vault", "here"]
                first = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                         env=harness.environment(KURAMORI_STATE=self.state, KURAMORI_TEST_STOP_AT_STORE_CALL=call, **self.clock.environment))
                self.addCleanup(first.stdout.close)
                self.addCleanup(first.kill)
                self.assertTrue(harness.stands_still(first))
                self.assertEqual(list((self.vault / "prune").glob("*/intent")), [])
                at(270, "prune", "--vault", "here")
                self.assertEqual(self.left(made), [50, 120])
                first.send_signal(signal.SIGCONT)
                said = first.communicate(timeout=harness.COMMAND_SECONDS_MAX)[0]
                self.assertEqual(first.returncode, 0, said)
                self.assertEqual(self.left(made), [50, 120], said)

    def three_snapshots(self):
        """Of which the first is the base of the window at 220, the second at 270. (how to run something then, seconds by id)"""
        self.plan("  p: { resources: [files], vault: here, every: 1h, window: 200s, keep: { all: 1s } }\n")
        self.clock = daemon.MovedClock(self.folder)

        def at(seconds, *words, status=0, **env):
            self.clock.set(seconds)
            return self.kuramori(*words, user=False, status=status, env={"KURAMORI_STATE": self.state, **self.clock.environment, **env})

        made = {}
        for seconds in (0, 50, 120):
            (self.folder / "files" / "a.txt").write_text(str(seconds))
            made[at(seconds, "backup", "files", "--plan", "p", "--json").json()["snapshot"]["id"]] = seconds
        return at, made

    def kill_before_the_final(self, at):
        """A prune at 220. The store call by which its intent stands."""
        for call in range(1, self.CALLS_MAX):
            outcome = at(220, "prune", "--vault", "here", status=None, KURAMORI_TEST_KILL_AT_STORE_CALL=call)
            self.assertEqual(outcome.status, -signal.SIGKILL, outcome)
            if list((self.vault / "prune").glob("*/intent")):
                return call
        self.fail("it never had one")

    def left(self, made):
        return [made[one["id"]] for one in self.snapshots()]


if __name__ == "__main__":
    harness.main()
