"""Reports and controls over what was really done (L1-L7, M1-M6, O4-O7): the same facts give the same bytes, signed."""

import csv
import datetime
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import xml.dom.minidom

import jsonschema

import harness


def schema(name):
    return json.loads((harness.ROOT / f"docs/schema/{name}.schema.json").read_text())


class Report(harness.Case):
    in_memory = True

    def setUp(self):
        super().setUp()
        self.data = self.folder / "uploads"
        self.data.mkdir()
        (self.data / "one").write_text("one")
        self.writer, self.keeper = self.folder / "writer.key", self.folder / "keeper.key"
        self.config.write_text(self.configuration())
        self.config.chmod(0o644)
        for vault in ("here", "away"):
            self.kuramori("vault", "init", vault)

    def configuration(self, demands="proof: 3mo, sites: 2, escrow: true, split_roles: true, audit: { online: 90d, archive: 3y }, exercise: 1y"):
        return f"""vaults:
  here: {{ at: "file://{self.vault}", site: tokyo, key_file: "{self.key}" }}
  away: {{ at: "file://{self.folder / 'away'}", site: osaka, key_file: "{self.key}", copy_of: here }}
resources:
  uploads: {{ kind: files, paths: ["{self.data}"], owner: database-team, criticality: high, objectives: {{ rpo: 1h, rto: 4h }} }}
plans:
  files: {{ resources: [uploads], vault: here, schedule: "0 */3 * * *", timezone: Asia/Tokyo, keep: {{ all: 14d }}, copies: [ {{ to: away }} ],
            drill: {{ schedule: "0 5 1 * *", vault: alternate }} }}
scenarios:
  region-loss: {{ lost: tokyo, from: away }}
exercises:
  yearly: {{ schedule: "0 10 1 9 *", timezone: Asia/Tokyo, scenarios: [region-loss] }}
compliance:
  all: {{ {demands} }}
audit: {{ online: 90d, archive: 3y }}
contacts:
  database-team: {{ role: "データベース担当", mail: db-lead@example.jp, phone: "+81-90-1234-5678" }}
"""

    def controls(self, status=0):
        document = self.kuramori("compliance", "--json", status=status).json()
        jsonschema.validate(document, schema("compliance"))
        return {(one["id"], one["about"]): one for one in document["controls"]}

    def red(self):
        document = self.kuramori("compliance", "--json", status=None).json()
        return sorted({one["id"] for one in document["controls"] if one["verdict"] == "fail"})

    def report(self, *words, status=0):
        document = self.kuramori("report", "--timezone", "Asia/Tokyo", *words, "--json", status=status).json()
        jsonschema.validate(document, schema("report"))
        return document

    def make_whole(self):
        """All that the controls of this configuration demand."""
        for role, path in (("writer", self.writer), ("keeper", self.keeper)):
            self.kuramori("vault", "key", "new", "here", "--role", role, "--name", f"db1.{role}", "--to", path)
            # One family, and each vault knows its keys by itself.
            for copy in (self.vault / "signers").iterdir():
                shutil.copytree(copy, self.folder / "away" / "signers" / copy.name, dirs_exist_ok=True)
        for path in [self.folder / "away" / "signers", *(self.folder / "away" / "signers").rglob("*")]:
            self.give(path)
        self.kuramori("--key-file", self.writer, "backup", "uploads")
        self.kuramori("copy", "--to", "away")
        self.kuramori("drill", "uploads", "--vault", "away")
        self.kuramori("drill", "uploads", "--vault", "here")
        for vault in ("here", "away"):
            self.kuramori("vault", "kit", vault, "--to", self.folder / f"{vault}.kit", "--yes")

    def test_controls_turn_red_and_green_by_what_is_really_there_O5(self):
        self.assertEqual(self.red(), ["escrow", "exercise", "offsite", "proof", "roles", "rpo"])
        self.kuramori("compliance", status=4)
        self.make_whole()
        self.assertEqual(self.red(), [], self.kuramori("compliance", status=None).out)
        found = self.controls()
        self.assertIn("db1.writer", found[("roles", "uploads")]["evidence"])
        self.assertIn("from", found[("rto", "uploads")]["evidence"])
        # Each by what breaks it.
        self.kuramori("backup", "uploads")
        self.assertEqual(self.red(), ["roles"])
        self.kuramori("--key-file", self.writer, "backup", "uploads")
        self.config.write_text(self.config.read_text().replace("rto: 4h", "rto: 1s").replace("rpo: 1h", "rpo: 1s"))
        harness.time.sleep(1.1)
        red = self.red()
        self.assertIn("rpo", red)
        self.config.write_text(self.configuration("keep: 7y, locked: 14d"))
        self.assertEqual(self.red(), ["immutable", "retention"])
        self.kuramori("extend", self.kuramori("snapshots", "uploads", "--vault", "here", "--json").json()["snapshots"][-1]["id"], "--keep", "8y",
                      "--vault", "here")
        self.assertEqual(self.red(), ["immutable"])
        self.config.write_text(self.configuration("audit: { online: 90d, archive: 3y }"))
        self.assertEqual(self.red(), [])
        record = sorted(path for path in (self.vault / "audit").rglob("*") if path.is_file() and len(path.parent.name) == 32)[0]
        body = bytearray(record.read_bytes())
        body[-1] ^= 1
        record.chmod(0o600)
        record.write_bytes(body)
        self.assertEqual(self.red(), ["audit"])

    def test_a_quarters_report_has_what_an_auditor_asks_for_L4(self):
        self.make_whole()
        snapshot = self.kuramori("snapshots", "uploads", "--vault", "here", "--json").json()["snapshots"][0]["id"]
        self.kuramori("hold", "add", snapshot, "--name", "legal", "--vault", "here")
        self.kuramori("restore", "uploads", "--to", self.data, status=5)
        report = self.report("--quarter", "this")
        one = report["resources"][0]
        self.assertEqual((one["resource"], one["made"], one["failed"], one["copies_score"]), ("uploads", 1, 0, "3-1-1"))
        self.assertEqual(sorted(one["sites"]), ["osaka", "tokyo"])
        self.assertGreater(one["rto_seconds"], 0)
        self.assertEqual({proof["site"] for proof in report["proofs"]}, {"osaka", "tokyo"})  # L1: which copy
        self.assertTrue(all("@" in proof["by"] for proof in report["proofs"]), report["proofs"])
        self.assertEqual([check["name"] for check in one["checks"]],
                         ["snapshot exists", "restorable", "record counts", "versioning enabled", "deleted file restorable"])  # L3
        self.assertEqual([check["verdict"] for check in one["checks"]][:3], ["pass", "pass", "pass"], one["checks"])
        self.assertEqual([act["verb"] for act in report["failures"]], ["restore"])
        self.assertIn("hold add", [act["verb"] for act in report["changes"]])
        self.assertIn("legal", [hold["names"] for hold in report["holds"]])
        self.assertEqual(report["contacts"][0]["mail"], "db-lead@example.jp")
        self.assertTrue(any(snapshot in one["what"] for one in report["evidence"]))
        # Who may not read what others did says so by showing none of it.
        self.assertEqual(self.kuramori("--key-file", self.keeper, "report", "--json").json()["failures"], [])

    def test_of_a_moment_that_is_past_what_came_later_counts_for_nothing_O5(self):
        moment = lambda: datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")  # noqa: E731
        before = moment()
        self.make_whole()
        at = moment()
        self.kuramori("backup", "uploads")  # by the owner's key
        self.kuramori("drill", "uploads@" + self.kuramori("snapshots", "uploads", "--vault", "away", "--json").json()["snapshots"][0]["id"], "--vault", "away")
        verdicts = lambda report: {(one["id"], one["about"]): one for one in report["controls"]}  # noqa: E731
        now, then, nothing = (self.report("--month", "this", *words) for words in ((), ("--as-of", at), ("--as-of", before)))
        self.assertEqual([len(one["proofs"]) for one in (now, then, nothing)], [3, 2, 0])
        self.assertEqual([one["resources"][0]["made"] for one in (now, then, nothing)], [2, 1, 0])
        self.assertEqual([verdicts(one)[("roles", "uploads")]["verdict"] for one in (now, then)], ["fail", "pass"])
        self.assertEqual([verdicts(one)[("escrow", "here")]["verdict"] for one in (then, nothing)], ["pass", "fail"])
        self.assertEqual(verdicts(nothing)[("rpo", "uploads")]["measured"], "nothing can be restored")
        self.assertEqual(verdicts(nothing)[("proof", "uploads")]["verdict"], "fail")
        of_now = {one["id"] for one in then["controls"] if "when this was made, not on" in one["measured"]}
        self.assertEqual(of_now, {"plan", "offsite", "immutable", "roles", "retention", "audit"})
        self.assertTrue([note for note in then["notes"] if "bears a moment of its own" in note])
        self.assertFalse([one for one in now["controls"] if "when this was made" in one["measured"]])

    def test_the_same_facts_give_the_same_bytes_and_the_signature_holds_O5(self):
        self.make_whole()
        at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        texts = {}
        for form in ("html", "pdf", "csv", "json"):
            path = self.folder / f"report.{form}"
            for _ in range(2):
                self.kuramori("report", "--timezone", "Asia/Tokyo", "--month", "this", "--as-of", at, "--to", path)
                texts.setdefault(form, set()).add((path.read_bytes(), path.with_suffix(f".{form}.sig").read_bytes()))
            self.assertEqual(len(texts[form]), 1, form)
            self.assertIn("signed it", self.kuramori("report", "--verify", path, "--vault", "here").out)
        printed = subprocess.run(["pdftotext", "-layout", self.folder / "report.pdf", "-"], check=True, capture_output=True, text=True).stdout
        for part in ("Backup and recovery", "uploads", "データベース担当", "Controls", "db-lead@example.jp"):
            self.assertIn(part, printed)
        about = subprocess.run(["pdfinfo", self.folder / "report.pdf"], check=True, capture_output=True, text=True).stdout
        self.assertRegex(about, r"Page size: +595.*A4")
        page = self.folder / "report.html"
        text = page.read_text()
        for part in ("uploads", "データベース担当", "prefers-color-scheme:dark", "@media print"):
            self.assertIn(part, text)
        self.assertEqual(re.findall(r'(?:src|href)\s*=|url\(|@import|<script', text), [], "nothing is fetched")
        page.write_text(text.replace("uploads", "upl0ads", 1))
        self.kuramori("report", "--verify", page, "--vault", "here", status=4)
        rows = list(csv.reader(io.StringIO((self.folder / "report.csv").read_text())))
        self.assertIn(["resource", "check", "verdict", "detail"], rows)
        self.assertIn("uploads", {row[0] for row in rows if row})

    def test_where_nothing_prints_a_pdf_it_is_said(self):
        self.assertIn("--to report.pdf", self.kuramori("report", "--format", "pdf", status=2).err)
        nothing = self.folder / "nothing"
        nothing.mkdir()
        refused = self.kuramori("report", "--to", self.folder / "report.pdf", status=5, env={"PATH": nothing}, user=False)
        self.assertIn("apt-get install weasyprint", refused.err)
        self.assertFalse((self.folder / "report.pdf").exists())

    def test_what_a_name_holds_breaks_neither_page_nor_table(self):
        self.config.write_text(self.configuration().replace('role: "データベース担当"', "role: \"<script>alert('x')</script>\"")
                               .replace("mail: db-lead@example.jp", "mail: '=HYPERLINK(\"x\"),1'"))
        page = self.kuramori("report").out
        self.assertNotIn("<script", page)
        self.assertIn("&lt;script&gt;", page)
        xml.dom.minidom.parseString(page.replace("<!doctype html>", "").replace('<meta charset="utf-8">', "").replace(
            '<meta name="viewport" content="width=device-width,initial-scale=1">', "").replace(
            '<meta name="color-scheme" content="light dark">', "").replace("<br>", "<br/>"))
        table = self.kuramori("report", "--format", "csv").out
        self.assertIn("'=HYPERLINK", table)

    def test_periods_are_of_the_zones_calendar_and_wrong_ones_are_named(self):
        self.assertEqual(self.report("--day", "2026-03-01", "--as-of", "2026-03-02T12:00:00Z")["period"]["from"], "2026-02-28T15:00:00Z")
        quarter = self.report("--quarter", "2025-Q4")["period"]
        self.assertEqual((quarter["name"], quarter["from"], quarter["until"]), ("2025-Q4", "2025-09-30T15:00:00Z", "2025-12-31T15:00:00Z"))
        for words in (["--quarter", "2026-Q5"], ["--month", "2026-13"], ["--day", "yesterday"], ["--year", "2199"], ["--day", "this", "--year", "this"]):
            self.kuramori("report", *words, status=2)

    def test_a_vault_that_is_away_is_named_in_the_report(self):
        self.make_whole()
        shutil.move(self.folder / "away", self.folder / "gone")
        report = self.report()
        self.assertTrue(any(note.startswith("away was not looked at") for note in report["notes"]), report["notes"])


if __name__ == "__main__":
    harness.main()
