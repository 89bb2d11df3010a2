#!/usr/bin/env python3
"""docs/schema/config.schema.json, as an editor uses it: every example fits, and what the reader would refuse does not."""
import copy
import json
import pathlib
import sys

import jsonschema
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs/schema/config.schema.json").read_text())
EXAMPLES = [*sorted((ROOT / "examples").glob("*.yaml")), *sorted((ROOT / "docs/examples").glob("*.yaml"))]

# A change of the contract's sample, each of which the schema must refuse.
WRONG = {
    "an unknown section": lambda c: c.update(vault={}),
    "an unknown key of a plan": lambda c: c["plans"]["orders"].update(retension="14d"),
    "an unknown key of keep": lambda c: c["plans"]["orders"]["keep"].update(mothly="7y"),
    "a duration without a unit": lambda c: c["plans"]["orders"].update(window="14"),
    "a word that is none": lambda c: c["plans"]["orders"].update(wal="steam"),
    "a kind that is none": lambda c: c["resources"]["orders-db"].update(kind="postgress"),
    "no kind": lambda c: c["resources"]["orders-db"].pop("kind"),
    "a key of another kind": lambda c: c["resources"]["uploads"].update(connect="x"),
    "a name that is none": lambda c: c["vaults"].update({"-x": {"at": "/x"}}),
    "a number out of range": lambda c: c["plans"]["orders"]["keep"].update(last=0),
    "a list where a map is due": lambda c: c.update(vaults=[]),
    "an event that is none": lambda c: c["notify"][0].update(when=["failures"]),
}


def main():
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    check = jsonschema.Draft7Validator(SCHEMA)
    failures = []
    for path in EXAMPLES:
        for error in check.iter_errors(yaml.safe_load(path.read_text())):
            failures.append(f"{path.relative_to(ROOT)}: {error.message} at {list(error.absolute_path)}")
    sample = yaml.safe_load((ROOT / "docs/examples/kuramori.yaml").read_text())
    for name, change in WRONG.items():
        wrong = copy.deepcopy(sample)
        change(wrong)
        if check.is_valid(wrong):
            failures.append(f"{name} is not refused")
    for failure in failures:
        print(failure)
    print(f"{len(EXAMPLES)} files, {len(WRONG)} mistakes, {len(failures)} failures")
    return 1 if failures or not EXAMPLES else 0


sys.exit(main())
