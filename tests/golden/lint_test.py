#!/usr/bin/env python3
"""What `kuramori lint` finds in the examples, held to tests/golden/lint/. KURAMORI_ACCEPT=1 rewrites the files.

P0: two of the examples hold what they promise, two repeat procedures that contradict themselves (S34); each contradiction
must be among the findings, whatever the accepted files say.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import jsonschema

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden/lint"
PROGRAM = pathlib.Path(os.environ.get("KURAMORI_PROGRAMS", ROOT / "build/release/bin")).resolve() / "kuramori"
ACCEPT = os.environ.get("KURAMORI_ACCEPT") == "1"
SCHEMA = json.loads((ROOT / "docs/schema/lint.schema.json").read_text())

# What must be said of each, and the exit status. The id, and a part of the words.
EXPECTED = {
    "agentkey": (0, []),
    "kaigo": (0, []),
    "peoplebooster": (4, [
        ("rpo", 'resource "peoplebooster-production-redis": rpo: 1h is promised'),       # S34: RPO 1h, daily Redis
        ("scenario", 'from vault "another-region", where nothing ever puts it'),           # S34: no copy in the region
        ("quota", 'kept for ever, and vault "releases" takes 100'),                        # S34: 100 snapshots
    ]),
    "tonebridge": (4, [
        ("rpo", 'resource "configuration": rpo: 1h is promised'),                          # S34: RPO 1h, daily settings
        ("keep", '"tonebridge-db" must be there for 7y'),                                   # S34: 7 years, 30 days
        ("due-before-need", 'needs "database", which is due within 1h'),                    # S34: auth before its database
        ("watched-late", "watches over the others, and is due only within 4h"),             # S34: monitoring last
        ("mttr", "two definitions"),                                                        # S34: RTO and MTTR
        ("keep-finer-than-schedule", "keep hourly: 7d promises what is never made"),        # S34: no increments
    ]),
}


def lint(path, scratch, *options):
    """Files that a target names are made up: on the machine that tells they are there."""
    text = path.read_text().replace("/etc/kuramori/", f"{scratch}/")
    copy = scratch / path.name
    copy.write_text(text)
    for name in re.findall(rf"to_file: {re.escape(str(scratch))}/([\w-]+)", text):
        (scratch / name).write_text("webhook:https://hooks.example/x\n")
    return subprocess.run([PROGRAM, "--config", copy, "lint", *options], cwd="/", capture_output=True, text=True, timeout=120,
                          env={"PATH": os.environ["PATH"], "TZ": "UTC", "LC_ALL": "C.UTF-8"})


def check(name, scratch):
    failures = []
    status, expected = EXPECTED[name]
    path = ROOT / "examples" / f"{name}.yaml"
    done = lint(path, scratch, "--json")
    if done.returncode != status:
        failures.append(f"{name}: ends with {done.returncode} instead of {status}: {done.stdout}{done.stderr}")
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    lines = [f"{one['level']} {one['id']} {one['about']}: {one['what']}" for one in document["findings"]]
    for ident, part in expected:
        if not any(f" {ident} " in line and part in line for line in lines):
            failures.append(f"{name}: nothing says {ident}: {part}")
    for one in document["findings"]:
        if not 0 <= one["line"] <= len(path.read_text().splitlines()):
            failures.append(f"{name}: {one['id']} has line {one['line']}")
    people = lint(path, scratch)
    if people.returncode != status or any(one["what"] not in people.stdout for one in document["findings"]):
        failures.append(f"{name}: people are told something else than programs")
    text = "\n".join(lines) + "\n"
    golden = GOLDEN / f"{name}.txt"
    if ACCEPT:
        golden.write_text(text)
    elif not golden.exists() or golden.read_text() != text:
        failures.append(f"{name}: not as in {golden.relative_to(ROOT)}\n--- got\n{text}")
    return failures


def ids_of_documentation():
    """docs/lint.md has every id that the rules use, and no other."""
    used = set()
    for path in (ROOT / "src/policy").glob("lint_*.cc"):
        if not path.name.endswith("_test.cc"):
            used |= set(re.findall(r'LintLevel::k\w+,\s*"([a-z0-9-]+)"', path.read_text()))
    table = (ROOT / "docs/lint.md").read_text().split("| id | says |")[1]
    told = set(re.findall(r"`([a-z0-9-]+)`", "\n".join(line.split("|")[1] for line in table.splitlines() if line.count("|") > 2)))
    return [f"docs/lint.md and the rules differ in {sorted(used ^ told)}"] if used != told else []


def main():
    failures = ids_of_documentation()
    GOLDEN.mkdir(exist_ok=True)
    if sorted(path.stem for path in (ROOT / "examples").glob("*.yaml")) != sorted(EXPECTED):
        failures.append("an example is not held to anything")
    with tempfile.TemporaryDirectory() as folder:
        for name in EXPECTED:
            failures += check(name, pathlib.Path(folder))
    for failure in failures:
        print(failure)
    print(f"{len(EXPECTED)} examples, {len(failures)} failures")
    return 1 if failures else 0


sys.exit(main())
