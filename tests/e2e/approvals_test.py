"""What cannot be taken back needs a second person's word, bound to exactly what they saw (O3)."""

import json
import pathlib
import shutil

import jsonschema

import daemon
import harness

SCHEMA = json.loads((harness.ROOT / "docs/schema/approvals.schema.json").read_text())


class Approvals(harness.Case):
    in_memory = True

    def setUp(self):
        super().setUp()
        self.data = self.folder / "uploads"
        self.data.mkdir()
        (self.data / "one").write_text("one")
        self.configure_approvals()
        self.kuramori("vault", "init", "here")
        self.kuramori("backup", "uploads")
        self.second, self.third, self.writer = (self.new_key(role, name) for role, name in
                                                (("keeper", "second"), ("reader", "third"), ("writer", "db1")))
        self.snapshot = self.kuramori("snapshots", "uploads", "--json").json()["snapshots"][0]["id"]
        self.kuramori("hold", "add", self.snapshot, "--name", "legal")

    def configure_approvals(self, rules="for: [hold-remove, key-revoke, disown, prune], valid_for: 1h", keep="{ all: 14d }"):
        self.config.write_text(f"""vaults:
  here: {{ at: "file://{self.vault}", site: here, key_file: "{self.key}" }}
resources:
  uploads: {{ kind: files, paths: ["{self.data}"], limits: {{ delete: 10% }} }}
plans:
  files: {{ resources: [uploads], vault: here, keep: {keep} }}
contacts:
  third: {{ mail: third@example.jp }}
approvals: {{ {rules} }}
""")
        self.config.chmod(0o644)

    def new_key(self, role, name):
        path = self.folder / f"{name}.key"
        self.kuramori("vault", "key", "new", "here", "--role", role, "--name", name, "--to", path)
        return path

    def requests(self):
        document = self.kuramori("approve", "--json").json()
        jsonschema.validate(document, SCHEMA)
        return document["requests"]

    def remove(self, status=0, *words):
        return self.kuramori(*words, "hold", "remove", self.snapshot, "--name", "legal", status=status)

    def ask(self):
        """Makes a request, and gives its id."""
        before = {request["id"] for request in self.requests()}
        outcome = self.remove(5)
        made = [request["id"] for request in self.requests() if request["id"] not in before]
        self.assertEqual(len(made), 1, outcome)
        self.assertIn(f"kuramori approve {made[0]} --vault here", outcome.err)
        return made[0]

    def approve(self, request, key, status=0):
        return self.kuramori("--key-file", key, "approve", request, status=status)

    def held(self):
        return self.kuramori("snapshots", "uploads", "--json").json()["snapshots"][0]["holds"] == ["legal"]

    def test_a_second_person_agrees_once_to_exactly_that_O3(self):
        request = self.ask()
        self.assertTrue(self.held())
        shown = self.requests()[0]
        self.assertEqual((shown["state"], shown["act"]), ("waits", "hold-remove"))
        self.assertIn(self.snapshot, shown["lines"][0])
        self.remove(5)
        self.assertEqual(len(self.requests()), 1, "asking twice is one request")
        self.assertIn(self.snapshot, self.approve(request, self.second).out)
        by = [one["key"] for one in self.requests()[0]["approvals"]]
        self.remove()
        self.assertFalse(self.held())
        # Whoever has only the document sees whose word it was, and that it was used.
        status, said = harness.second_reader(self.vault, self.key, "approvals")
        self.assertEqual(status, 0, said)
        theirs = json.loads(said)
        self.assertEqual((theirs["id"], theirs["lines"], theirs["approved"], theirs["used"]), (request, shown["lines"], by, True))
        self.assertEqual(self.requests()[0]["state"], "used")
        # Good for one time.
        self.kuramori("hold", "add", self.snapshot, "--name", "legal")
        self.assertNotEqual(self.ask(), request)
        self.approve(request, self.third, status=5)
        self.assertTrue(self.held())
        self.kuramori("vault", "scrub", "here")
        acts = self.kuramori("audit", "--json").json()["acts"]
        self.assertIn(("approve", "second", "done"), {(act["verb"], act["key_name"], act["result"]) for act in acts})

    def test_nobody_approves_for_themselves_and_no_writer_does_O3(self):
        request = self.ask()
        self.approve(request, self.key, status=5)
        self.approve(request, self.writer, status=5)
        self.approve("ffff0000", self.second, status=2)
        self.remove(5)
        # A forged approval under one's own name, or another's record under it, is none.
        folder = self.vault / "approvals" / request
        other = self.requests()[0]
        (folder / f"by.{other['key']}").write_bytes((folder / "request").read_bytes())
        self.assertEqual(self.requests()[0]["approvals"], [])
        self.remove(5)
        self.assertTrue(self.held())

    def test_an_approval_of_something_else_or_put_elsewhere_counts_for_nothing_O3(self):
        request = self.ask()
        self.approve(request, self.second)
        # The world moved: what was approved is another snapshot's hold.
        (self.data / "one").write_text("two")
        self.kuramori("backup", "uploads")
        other = self.kuramori("snapshots", "uploads", "--json").json()["snapshots"][-1]["id"]
        self.kuramori("hold", "add", other, "--name", "legal")
        outcome = self.kuramori("hold", "remove", other, "--name", "legal", status=5)
        self.assertIn("no longer what the earlier request says", outcome.err)
        made = next(one["id"] for one in self.requests() if one["id"] != request)
        for path in (self.vault / "approvals" / request).glob("by.*"):
            copied = self.vault / "approvals" / made / path.name
            shutil.copy(path, copied)
            self.give(copied)
        self.assertEqual(next(one for one in self.requests() if one["id"] == made)["approvals"], [])
        self.kuramori("hold", "remove", other, "--name", "legal", status=5)

    def test_a_request_that_is_over_is_no_use_O3(self):
        self.configure_approvals("for: [hold-remove], valid_for: 2s")
        request = self.ask()
        self.approve(request, self.second)
        harness.time.sleep(2.1)
        self.assertEqual(self.requests()[0]["state"], "over")
        self.approve(request, self.third, status=5)
        self.assertNotEqual(self.ask(), request)
        self.assertTrue(self.held())

    def test_as_many_as_are_wanted_and_of_those_who_may_O3(self):
        self.configure_approvals("people: 3, for: [hold-remove]")
        request = self.ask()
        self.approve(request, self.second)
        self.approve(request, self.second)
        self.remove(5)
        self.approve(request, self.third)
        self.remove()
        self.kuramori("hold", "add", self.snapshot, "--name", "legal")
        self.configure_approvals("for: [hold-remove], by: [third]")
        request = self.ask()
        self.approve(request, self.second)
        self.remove(5)
        self.approve(request, self.third)
        self.remove()

    def test_a_revoked_key_agrees_to_nothing_O3(self):
        request = self.ask()
        self.approve(request, self.second)
        self.configure_approvals("for: [hold-remove]")
        self.kuramori("vault", "key", "revoke", "here", "second")
        self.remove(5)
        self.assertTrue(self.held())

    def test_other_acts_ask_too_and_what_needs_none_goes_on_O3(self):
        self.kuramori("vault", "key", "revoke", "here", "third", status=5)
        request = self.requests()[0]
        self.assertEqual(request["act"], "key-revoke")
        self.approve(request["id"], self.second)
        self.kuramori("vault", "key", "revoke", "here", "third")
        self.kuramori("vault", "disown", "here", "commits/x", status=5)
        # A prune within its budget needs nobody; one beyond needs a yes and a second person.
        self.kuramori("prune")
        self.configure_approvals(keep="{ last: 1 }")
        self.remove(5)

    def asked(self, act, *words):
        """Is refused, and makes a request of this act; gives it."""
        before = {request["id"] for request in self.requests()}
        self.kuramori(*words, status=5)
        made = [request for request in self.requests() if request["id"] not in before]
        self.assertEqual([one["act"] for one in made], [act])
        return made[0]

    def test_a_restore_over_what_is_there_is_of_that_snapshot_target_and_way_O3(self):
        self.configure_approvals("for: [restore-in-place]")
        target, other = self.folder / "back", self.folder / "other"
        for folder in (target, other):
            self.kuramori("restore", "uploads", "--to", folder)  # nothing was there
            (folder / "one").write_text("newer")
        restore = ("restore", "uploads", "--to", target, "--delta")
        request = self.asked("restore-in-place", *restore)
        self.assertIn(f"from snapshot {self.snapshot}", request["lines"][0])
        self.assertIn(f"over {target} on ", request["lines"][0])
        self.assertEqual(request["lines"][1:], ["with --delta"])
        self.approve(request["id"], self.second)
        self.asked("restore-in-place", "restore", "uploads", "--to", other, "--delta")
        self.asked("restore-in-place", "restore", "uploads", "--to", target, "--overwrite")
        self.asked("restore-in-place", *restore, "--only", "one")
        (self.data / "one").write_text("two")
        self.kuramori("backup", "uploads")
        self.asked("restore-in-place", *restore)  # the newest is another one by now
        self.assertEqual((target / "one").read_text(), "newer")
        self.assertEqual(list(self.folder.glob("back.old*")), [])
        self.kuramori("restore", f"uploads@{self.snapshot}", "--to", target, "--delta", "--estimate")
        self.kuramori("restore", f"uploads@{self.snapshot}", "--to", target, "--delta")
        self.assertEqual((target / "one").read_text(), "one")
        # A rollback that would wait for somebody is no rollback.
        refused = self.kuramori("guard", "--label", "x", "--in-place", "--rollback-to", target, "--", "true", status=5)
        self.assertIn("another person's word", refused.err)

    def test_what_is_promised_no_longer_is_agreed_to_by_whom_the_applied_file_names_O3(self):
        approvals, apply = "for: [apply]", ("apply", "--despite-lint")
        self.configure_approvals(approvals, keep="{ all: 14d }, every: 3h")
        self.kuramori(*apply)
        self.configure_approvals(approvals, keep="{ all: 30d }, every: 3h")
        self.kuramori(*apply)  # more is promised
        self.configure_approvals(approvals, keep="{ all: 1d }, every: 3h")
        request = self.asked("apply", *apply, "--yes")
        self.assertIn("plans.files.keep.all: 30d -> 1d", "\n".join(request["lines"]))
        self.approve(request["id"], self.second)
        self.configure_approvals(approvals, keep="{ all: 2d }, every: 3h")
        self.asked("apply", *apply, "--yes")
        self.configure_approvals(approvals, keep="{ all: 1d }, every: 3h")
        self.kuramori(*apply, "--yes")
        self.configure_approvals("for: [prune]", keep="{ all: 1d }, every: 3h")
        self.kuramori(*apply, status=5)  # nobody said that it is meant
        request = self.asked("apply", *apply, "--yes")
        self.assertIn("approvals: approvals", request["lines"])

    def test_a_review_and_a_collection_by_other_options_are_asked_for_O3(self):
        self.configure_approvals("for: [hold-remove, collect]")
        self.kuramori("backup", "uploads", "--label", "pre-release")
        labelled = self.kuramori("review", "--json").json()["reviews"][0]["id"]
        self.assertIn(labelled, self.asked("hold-remove", "review", labelled)["lines"][0])
        request = self.asked("collect", "vault", "collect", "here")
        self.approve(request["id"], self.second)
        self.asked("collect", "vault", "collect", "here", "--share-max", "100")
        self.kuramori("vault", "collect", "here")

    def test_a_collection_that_nobody_asked_for_waits_until_it_is_agreed_to_O3(self):
        self.configure_approvals("for: [collect]")
        waits = [one for one in self.kuramori("lint", "--json", status=None).json()["findings"] if one["id"] == "approvals"]
        self.assertEqual([one["what"] for one in waits], ["its collections wait for a word that is over before the next one"])
        self.configure_approvals("for: [collect], valid_for: 36h")
        self.assertNotIn("approvals", [one["id"] for one in self.kuramori("lint", "--json", status=None).json()["findings"]])
        done = lambda: [act for act in self.kuramori("audit", "--json").json()["acts"] if act["verb"] == "vault collect"]  # noqa: E731
        collect = ("vault", "collect", "here", "--if-allowed")
        for _ in range(2):
            skipped = self.kuramori(*collect, "--json").json()
            self.assertEqual(skipped["action"], "skip")
            self.assertIn("kuramori approve ", skipped["object"])
        [request] = self.requests()
        self.assertEqual((request["act"], request["state"], done()), ("collect", "waits", []))
        self.approve(request["id"], self.second)
        self.kuramori(*collect)
        self.assertEqual((self.requests()[0]["state"], [act["result"] for act in done()]), ("used", ["done"]))
        self.assertEqual(self.kuramori(*collect, "--json").json()["action"], "skip", "it is good for one time")

    def test_a_new_ledger_is_asked_for_O3(self):
        two = f"  two: {{ at: \"file://{self.folder}/objects\", ledger: \"file://{self.folder}/ledger\", site: two, key_file: \"{self.folder}/two.key\" }}\n"
        self.configure_approvals("for: [ledger-new]")
        self.config.write_text(self.config.read_text().replace("resources:\n", two + "resources:\n"))
        self.kuramori("vault", "init", "two")
        second = self.folder / "two.second.key"
        self.kuramori("vault", "key", "new", "two", "--role", "keeper", "--name", "second", "--to", second)
        new = ("vault", "ledger", "new", "two", "--ledger", self.folder / "ledger-2", "--yes")
        self.kuramori(*new, status=5)
        request = self.kuramori("approve", "--vault", "two", "--json").json()["requests"][0]
        self.assertEqual(request["act"], "ledger-new")
        self.assertIn("ledger-2", request["lines"][0])
        self.kuramori("--key-file", second, "approve", request["id"], "--vault", "two")
        self.kuramori(*new)

    def test_what_can_never_be_asked_for_is_found_O3(self):
        self.configure_approvals("for: [bucket-fix, replicate-deletes, ledger-new, failover, prune, restore-in-place]")
        found = [one["what"] for one in self.kuramori("lint", "--json", status=None).json()["findings"] if one["id"] == "approvals"]
        self.assertEqual(found, [f"{act} is never asked for" for act in ("bucket-fix", "replicate-deletes", "ledger-new", "failover")])

    def test_killed_after_it_was_used_it_is_asked_for_anew_and_never_done_twice(self):
        request = self.ask()
        self.approve(request, self.second)
        count = self.folder / "count"
        count.touch()
        self.give(count)
        used = self.vault / "approvals" / request / "used"
        calls = 1
        while not used.exists():
            self.kuramori("hold", "remove", self.snapshot, "--name", "legal", status=-9, env={"KURAMORI_TEST_KILL_AT_STORE_CALL": calls})
            calls += 1
            self.assertLess(calls, 200)
        if self.held():
            self.assertNotEqual(self.ask(), request)


class OfTheDaemon(daemon.Case):
    def test_the_daemons_own_collections_ask_as_everybody_does_O3(self):
        second = self.folder / "second.key"
        self.mine("vault", "key", "new", "here", "--role", "keeper", "--name", "second", "--to", second)
        plan = "  p: { resources: [files], vault: here, schedule: \"0 3 1 1 *\" }\n"
        asks = "approvals: { for: [collect] }\n"

        def collect(upkeep):
            self.plan(plan + asks)
            self.config.write_text(self.config.read_text().replace("upkeep: { prune: off, collect: off, scrub: off }", upkeep))
            before = len(self.runs("collect here"))
            served = self.serve()
            self.await_true(lambda: self.query("select id from jobs where id = 'collect here'"), "that it knows of the job")
            self.mine("jobs", "--start", "collect here")
            run = self.await_true(lambda: [run for run in self.runs("collect here")[before:] if run["ended"]], "the collection")[0]
            self.assertEqual(served.stop(), 0, served.text())
            return run

        by_itself, by_the_file = "upkeep: { prune: off, scrub: off }", "upkeep: { prune: off, scrub: off, collect: \"0 6 1 1 *\" }"
        skipped = collect(by_itself)
        [request] = self.mine("approve", "--vault", "here", "--json").json()["requests"]
        self.assertEqual((skipped["state"], skipped["attempt"]), ("COMPLETED", 1))
        self.assertIn("skipped: collect needs the approval of 1 more", skipped["why"])
        failed = collect(by_the_file)
        self.assertEqual((failed["state"], failed["attempt"]), ("FAILED", 1))
        self.assertIn(request["id"], failed["why"])
        self.mine("--key-file", second, "approve", request["id"], "--vault", "here")
        self.assertEqual((collect(by_the_file)["state"], self.mine("approve", "--vault", "here", "--json").json()["requests"][0]["state"]),
                         ("COMPLETED", "used"))


if __name__ == "__main__":
    harness.main()
