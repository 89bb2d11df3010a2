"""What `doctor` says of the programs of others that the configured kinds need: which, and whether they are here in the right version."""

import json
import shutil

import jsonschema

import harness

SCHEMA = json.loads((harness.ROOT / "docs/schema/doctor.schema.json").read_text())


class Clients(harness.Case):
    def setUp(self):
        super().setUp()
        self.server = harness.Server(harness.new_folder(), 18)
        self.server.start()
        self.addCleanup(self.server.kill)
        newer = harness.bin_folder(18)
        self.config.write_text(f"""vaults:
  here: {{ at: "file://{self.vault}", site: here, key_file: "{self.key}" }}
resources:
  cluster: {{ kind: postgres, connect: "{self.server.connect()}" }}
  shop: {{ kind: dump, connect: "{self.server.connect()}" }}
  newer: {{ kind: dump, connect: "{self.server.connect()}", programs: "{newer}" }}
  gone: {{ kind: dump, connect: "host={self.folder}/nowhere dbname=shop" }}
  code: {{ kind: git, url: "{self.folder}/code.git" }}
  keys: {{ kind: command, run: ["/bin/echo", "one"], restore: ["no-such-program"] }}
plans:
  all: {{ resources: [cluster, shop, newer, gone, code, keys], vault: here, schedule: "0 3 * * *", keep: {{ all: 14d }} }}
""")
        self.config.chmod(0o644)

    def clients(self, resource, **env):
        outcome = self.kuramori("doctor", resource, "--json", status=None, user=False,
                                env={"KURAMORI_STATE": self.folder / "state", "KURAMORI_PG_BIN_18": harness.bin_folder(18), **env})
        document = outcome.json()
        jsonschema.validate(document, SCHEMA)
        self.assertEqual({client["needed_by"] for client in document["clients"]}, {f"resource {resource}"})
        return {client["program"]: client for client in document["clients"]}, document["findings"]

    def test_each_kinds_programs_are_named_with_the_version_that_is_here_S13(self):
        # The server is of 18, and this machine's own clients are older, or there are none.
        old, findings = self.clients("shop")
        client = old["pg_dump, pg_restore"]
        self.assertEqual((client["needed"], client["fits"]), ("18 or newer", False), client)
        self.assertIn("pg_dump", [finding["about"] for finding in findings])
        new, findings = self.clients("newer")
        client = new["pg_dump, pg_restore"]
        self.assertTrue(client["fits"], client)
        self.assertRegex(client["found"], r"^18\S* in " + str(harness.bin_folder(18)))
        self.assertEqual((new["postgres"]["needed"], new["postgres"]["fits"]), ("18", True))
        self.assertNotIn("pg_dump", [finding["about"] for finding in findings])
        cluster, _ = self.clients("cluster")
        self.assertEqual((cluster["postgres"]["needed"], cluster["postgres"]["fits"]), ("18", True))
        # Of one that does not answer the version is not known, and it is said so.
        gone, _ = self.clients("gone")
        self.assertIn("does not answer", gone["pg_dump, pg_restore"]["needed"])
        code, _ = self.clients("code")
        self.assertEqual((code["git"]["needed"], code["git"]["fits"]), ("2.36 or newer", True))
        self.assertIn(shutil.which("git"), code["git"]["found"])
        keys, _ = self.clients("keys")
        self.assertEqual([(keys[name]["found"], keys[name]["fits"]) for name in ("/bin/echo", "no-such-program")],
                         [("/bin/echo", True), ("", False)])

    def test_what_is_missing_is_told_also_where_the_server_is_away(self):
        empty = self.folder / "empty"
        empty.mkdir()
        code, findings = self.clients("code", PATH=empty)
        self.assertEqual((code["git"]["found"], code["git"]["fits"]), ("", False))
        self.assertIn("apt-get install git", [finding["fix"] for finding in findings])
        outcome = self.kuramori("doctor", "code", status=1, user=False, env={"KURAMORI_STATE": self.folder / "state", "PATH": empty})
        self.assertRegex(outcome.out, r"resource code +git +fetches, restores and checks +2\.36 or newer +missing")


if __name__ == "__main__":
    harness.main()
