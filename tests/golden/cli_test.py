#!/usr/bin/env python3
"""The words of the command line, held to tests/golden/cli/, and its JSON, held to docs/schema/.

A case is a command line; its file holds what it printed and its exit status. KURAMORI_ACCEPT=1 rewrites the files:
read the difference before committing it. What differs from run to run (the scratch folder, ids, times) is replaced.
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
GOLDEN = ROOT / "tests/golden/cli"
PROGRAM = pathlib.Path(os.environ.get("KURAMORI_PROGRAMS", ROOT / "build/release/bin")).resolve() / "kuramori"
ACCEPT = os.environ.get("KURAMORI_ACCEPT") == "1"

# name: arguments. @ stands for the scratch folder, which holds a vault v, its key k and the sample configuration.
WORDS = {
    "overview": ["--help"],
    "no_arguments": [],
    "unknown_verb": ["resuorces"],
    "unknown_verb_in_group": ["help", "valt"],
    "unknown_option": ["resources", "--jsn"],
    "too_many_arguments": ["resources", "orders-db"],
    "missing_argument": ["completion"],
    "bad_choice": ["help", "--format", "pdf"],
    "no_configuration": ["resources"],
    "missing_configuration_file": ["--config", "@/none.yaml", "resources"],
    "resources": ["--config", "@/kuramori.yaml", "resources"],
    "bad_key_in_configuration": ["--config", "@/bad_key.yaml", "resources"],
    "bad_duration_in_configuration": ["--config", "@/bad_duration.yaml", "resources"],
    "unknown_shell": ["completion", "tcsh"],
    "wal_get_with_a_wrong_option": ["wal", "get", "--nope"],
}
VAULT = ["--vault", "@/v", "--key-file", "@/k"]
VAULT_WORDS = {
    "snapshots_of_an_empty_vault": ["snapshots", *VAULT],
    "show_without_snapshots": ["show", "3f2a91bc", *VAULT],
    "prune_without_snapshots": ["prune", "--dry-run", *VAULT],
    "collect_without_garbage": ["vault", "collect", "@/v", "--key-file", "@/k"],
    "init_twice": ["vault", "init", "@/v", "--key-file", "@/k"],
    "truncated_key": ["snapshots", "--vault", "@/v", "--key-file", "@/truncated"],
    "foreign_key": ["snapshots", "--vault", "@/v", "--key-file", "@/foreign"],
    "no_vault_there": ["snapshots", "--vault", "@/nothing", "--key-file", "@/k"],
    "vault_without_key": ["snapshots", "--vault", "@/v"],
    "wal_get_of_an_unknown_resource": ["wal", "get", *VAULT, "--resource", "x", "000000010000000000000001", "@/out"],
    "extend_without_a_duration": ["extend", "3f2a", "--keep", "soon", *VAULT],
    "restore_at_half_past_nothing": ["restore", "x", "--to", "@/r", "--at", "13am", *VAULT],
    "restore_without_a_zone": ["restore", "x", "--to", "@/r", "--at", "2026-02-11 03:00:00", *VAULT],
    "restore_to_two_targets": ["restore", "x", "--to", "@/r", "--latest", "--xid", "7", *VAULT],
    "restore_of_an_unknown_resource": ["restore", "x", "--to", "@/r", *VAULT],
    "backup_of_an_unknown_resource": ["--config", "@/kuramori.yaml", "backup", "order-db"],
    "copy_to_itself": ["copy", *VAULT, "--to", "@/v"],
    "copy_to_another_family": ["copy", *VAULT, "--to", "@/other"],
    "copy_to_a_place_that_is_away": ["copy", *VAULT, "--to", "@/nothing"],
    "rebuild_ledger_of_one_place": ["vault", "ledger", "new", "@/v", "--ledger", "@/l", "--key-file", "@/k"],
    "hold_without_a_name": ["hold", "add", "3f2a", *VAULT],
}
DOCUMENTS = [
    ["version"],
    ["--config", "@/kuramori.yaml", "resources"],
    ["resuorces"],
    ["--config", "@/bad_key.yaml", "resources"],
]
VAULT_DOCUMENTS = [
    ["vault", "show", "@/v", "--key-file", "@/k"],
    ["vault", "collect", "@/v", "--key-file", "@/k"],
    ["--config", "@/kuramori.yaml", "vault", "list"],
    ["snapshots", *VAULT],
    ["prune", "--dry-run", *VAULT],
    ["show", "3f2a", *VAULT],
    ["vault", "scrub", "@/v", "--key-file", "@/k"],
    ["copy", *VAULT, "--to", "@/twin", "--dry-run"],
    ["copy", *VAULT, "--to", "@/twin"],
    ["window", "x", *VAULT],
    ["restore", "x", "--to", "@/r", "--at", "13am", *VAULT],
    ["--config", "@/kuramori.yaml", "doctor", "sessions"],
]


def run(scratch, arguments):
    environment = {"PATH": os.environ["PATH"], "KURAMORI_STATE": f"{scratch}/state", "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    filled = [a.replace("@/", f"{scratch}/") for a in arguments]
    # --config, not the working folder, is what finds the sample.
    return subprocess.run([PROGRAM, *filled], cwd="/", env=environment, capture_output=True, text=True, timeout=60)


def transcript(scratch, arguments):
    done = run(scratch, arguments)
    text = f"$ kuramori {' '.join(arguments)}\n{done.stdout}"
    if done.stderr:
        text += f"--- standard error\n{done.stderr}"
    text += f"--- exit status {done.returncode}\n"
    text = text.replace(str(scratch), "@")
    text = re.sub(r"\b[0-9a-f]{32}\b", "<id>", text)
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? UTC", "<time>", text)


def compare(name, text):
    path = GOLDEN / f"{name}.txt"
    if ACCEPT:
        path.write_text(text)
        return []
    expected = path.read_text() if path.exists() else ""
    if expected == text:
        return []
    return [f"{name}: not as in {path.relative_to(ROOT)}\n--- expected\n{expected}--- got\n{text}"]


def validate(document, where):
    name, version = re.fullmatch(r"kuramori/([a-z]+)/(\d+)", document["schema"]).groups()
    schema = json.loads((ROOT / f"docs/schema/{name}.schema.json").read_text())
    try:
        jsonschema.validate(document, schema)
    except jsonschema.ValidationError as error:
        return [f"{where}: {error.message} at {list(error.absolute_path)}"]
    return []


def check_documents(scratch, command_lines):
    failures = []
    for arguments in command_lines:
        where = "kuramori --json " + " ".join(arguments)
        done = run(scratch, ["--json", *arguments])
        try:
            failures += validate(json.loads(done.stdout), where)
            for line in done.stderr.splitlines():
                failures += validate(json.loads(line), where)
        except (ValueError, KeyError, AttributeError) as error:
            failures.append(f"{where}: {error}\n{done.stdout}{done.stderr}")
    return failures


def verbs():
    """What the program lists: the first column of the overview's commands."""
    text = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True).stdout
    block = text.split("\nCommands\n")[1].split("\n\n")[0]
    return [re.split(r"\s{2,}", line.strip())[0] for line in block.splitlines()]


def main():
    failures = []
    GOLDEN.mkdir(exist_ok=True)
    listed = verbs()
    has_vaults = "vault init" in listed
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        sample = (ROOT / "docs/examples/kuramori.yaml").read_text()
        (scratch / "kuramori.yaml").write_text(sample)
        (scratch / "bad_key.yaml").write_text(sample.replace("timezone:", "timezon:"))
        (scratch / "bad_duration.yaml").write_text(sample.replace("window: 14d  ", "window: 14 "))
        cases = dict(WORDS)
        documents = list(DOCUMENTS)
        if has_vaults:
            for vault, key in (("v", "k"), ("twin", "k"), ("other", "foreign")):
                made = run(scratch, ["vault", "init", f"@/{vault}", "--key-file", f"@/{key}"])
                assert made.returncode == 0, made.stderr
            (scratch / "truncated").write_bytes((scratch / "k").read_bytes()[:100])
            cases |= VAULT_WORDS
            documents += VAULT_DOCUMENTS
        for name, arguments in cases.items():
            failures += compare(name, transcript(scratch, arguments))
        for verb in listed:
            failures += compare("help_" + verb.replace(" ", "_"), transcript(scratch, [*verb.split(), "--help"]))
        failures += check_documents(scratch, documents)
        reference = run(scratch, ["help", "--format", "markdown"]).stdout
        path = ROOT / "docs/commands.md"
        if ACCEPT:
            path.write_text(reference)
        elif path.read_text() != reference:
            failures.append("docs/commands.md is not what `kuramori help --format markdown` prints")
        schema = run(scratch, ["help", "--format", "json-schema"]).stdout
        path = ROOT / "docs/schema/config.schema.json"
        if ACCEPT:
            path.write_text(schema)
        elif not path.exists() or path.read_text() != schema:
            failures.append("docs/schema/config.schema.json is not what `kuramori help --format json-schema` prints")
    for failure in failures:
        print(failure)
    print(f"{len(failures)} failures")
    return 1 if failures else 0


sys.exit(main())
