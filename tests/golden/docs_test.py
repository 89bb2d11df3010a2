#!/usr/bin/env python3
"""The handbook (`kuramori docs`): what lies in docs/examples/handbook is what docs/examples/kuramori.yaml amounts to,
and nobody's own words are lost (O7). KURAMORI_ACCEPT=1 writes it anew: read the difference before committing it."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import jsonschema

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("KURAMORI_PROGRAMS", ROOT / "build/release/bin")).resolve() / "kuramori"
SAMPLE = ROOT / "docs/examples/kuramori.yaml"
SCHEMA = json.loads((ROOT / "docs/schema/docs.schema.json").read_text())


class Docs(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)
        self.folder = pathlib.Path(self.scratch.name)
        self.to = self.folder / "handbook"
        self.config = self.folder / "kuramori.yaml"

    def docs(self, *words, config=None, status=0, to=None):
        done = subprocess.run([PROGRAM, "--config", config or self.config, "docs", "--to", to or self.to, "--json", *words],
                              capture_output=True, text=True, cwd="/", env={"PATH": os.environ["PATH"]}, timeout=60)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        if status in (0, 4):
            document = json.loads(done.stdout)
            jsonschema.validate(document, SCHEMA)
            return {page["path"]: page["state"] for page in document["pages"]}
        return done.stdout

    def configure(self, *resources):
        self.config.write_text("vaults: { v: { at: /vault } }\nresources:\n" + "".join(
            f"  {name}: {{ kind: files, paths: [/{name}] }}\n" for name in resources) +
            f"plans: {{ p: {{ resources: [{', '.join(resources)}], vault: v, every: 1h }} }}\n")

    def test_the_sample_has_its_handbook_and_it_is_not_behind_O7(self):
        to = ROOT / "docs/examples/handbook"
        if os.environ.get("KURAMORI_ACCEPT") == "1":
            self.docs(config=SAMPLE, to=to)
        self.assertEqual(set(self.docs("--check", config=SAMPLE, to=to).values()), {"unchanged"})

    def test_a_handbook_that_is_behind_says_so_and_is_brought_up_to_date_O7(self):
        self.configure("one", "two")
        self.assertEqual(set(self.docs("--check", status=4).values()), {"missing"})
        self.assertFalse(self.to.exists(), "a check writes nothing")
        self.assertEqual(set(self.docs().values()), {"written"})
        self.assertEqual(set(self.docs().values()), {"unchanged"})
        self.configure("one", "three")
        states = self.docs("--check", status=4)
        self.assertEqual(states["runbooks/two.md"], "left over")
        self.assertEqual(states["runbooks/three.md"], "missing")
        self.assertEqual(states["runbooks/one.md"], "unchanged")
        self.assertEqual(states["strategy.md"], "stale")
        self.assertEqual(self.docs()["runbooks/two.md"], "removed")
        self.assertEqual(sorted(path.name for path in (self.to / "runbooks").iterdir()), ["one.md", "three.md"])
        self.docs("--check")

    def test_somebodys_own_pages_stay_O7(self):
        self.configure("one")
        self.docs()
        (self.to / "runbooks/by-hand.md").write_text("# what we learned in May\n")
        (self.to / "strategy.md").write_text("# by hand\n")
        before = {path: path.read_text() for path in self.to.rglob("*.md")}
        self.configure("one", "two")
        self.assertIn("was not written by kuramori docs", self.docs(status=5))
        self.assertEqual({path: path.read_text() for path in self.to.rglob("*.md")}, before, "nothing was written")
        (self.to / "strategy.md").unlink()
        self.docs()
        self.assertEqual((self.to / "runbooks/by-hand.md").read_text(), "# what we learned in May\n")

    def test_every_example_has_a_handbook_O7(self):
        for example in sorted((ROOT / "examples").glob("*.yaml")):
            with self.subTest(example=example.name):
                pages = self.docs(config=example, to=self.folder / example.stem)
                self.assertIn("strategy.md", pages)
                self.assertTrue(any(path.startswith("runbooks/") for path in pages))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[1:]])
