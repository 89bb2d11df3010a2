"""A vault in a place that only rclone reaches: degraded, with a ledger beside it; first as a copy, then as the only one."""

import json
import shutil

import jsonschema

import harness


class BehindRclone(harness.Case):
    def setUp(self):
        super().setUp()
        self.disk, self.ledger = self.folder / "disk", self.folder / "ledger"
        self.disk.mkdir()
        harness.give_to_server(self.disk)
        self.location = f"rclone::local:{self.disk}/vault"

    def configure(self, server, plan=""):
        super().configure(server, plan + "    copies: [ { to: far } ]\n")
        far = f'  far: {{ at: "{self.location}", ledger: "{self.ledger}", site: far, copy_of: here, key_file: "{self.key}" }}\n'
        self.config.write_text(self.config.read_text().replace("vaults:\n", "vaults:\n" + far, 1))

    def test_a_copy_behind_rclone_restores_alone_and_goes_on_as_the_vault_V28(self):
        server = self.server(15, initdb=["--wal-segsize=1"])
        server.sql("create table entry (id bigint primary key, text text)", "insert into entry select i, md5(i::text) from generate_series(1, 4000) i")
        made = self.kuramori("vault", "init", "far", "--json").json()
        jsonschema.validate(made, json.loads((harness.ROOT / "docs/schema/vault.schema.json").read_text()))
        self.assertTrue(made["vault"]["degraded"])
        self.assertIn("degraded", self.kuramori("vault", "list").out)
        self.kuramori("backup", "db", "--copy")
        server.sql("insert into entry select i, 'later' from generate_series(4001, 5000) i")
        server.switch_wal()
        # The disk is pulled out: its mount point is there, and is no empty vault.
        away = self.folder / "away"
        (self.disk / "vault").rename(away)
        self.assertIn("there is no vault at", self.kuramori("copy", "--to", "far", status=1).err)
        self.assertEqual(list(self.disk.iterdir()), [])
        away.rename(self.disk / "vault")
        done = self.kuramori("copy", "--to", "far", "--json").json()
        self.assertEqual((done["skipped"], done["lag"]["wal_objects"]), ([], 0), done)
        self.assertGreater(done["wal_objects"], 0)
        # Backups into it, and the whole of a vault's life.
        self.kuramori("backup", "db", "--vault", "far")
        self.kuramori("prune", "--vault", "far")
        self.kuramori("vault", "collect", "far")
        self.assertFalse(self.kuramori("vault", "scrub", "far", "--json").json()["damaged"])
        server.kill()
        # The first vault is gone, and so is this machine with its ledger: place and key are enough.
        shutil.rmtree(self.vault)
        shutil.rmtree(self.ledger)
        target = self.folder / "restored"
        self.kuramori("restore", "db", "--latest", "--to", target, "--vault", self.location, "--key-file", self.key, config=False)
        restored = self.adopt(target)
        self.assertEqual(restored.sql("select count(*) from entry"), "5000")
        restored.stop()
        self.assertEqual([path.name for path in (self.disk / "vault" / ".tmp").iterdir()], [])

    def test_without_a_ledger_it_is_refused_in_words(self):
        self.server(15).stop()
        given = ("--key-file", self.key)
        for place in (self.location, f"{self.location}&ledger=rclone::local:{self.ledger}"):
            self.assert_refused(self.kuramori("vault", "init", place, *given, config=False, status=2), "ledger", "exactly once")
        self.config.write_text(self.config.read_text().replace(f'ledger: "{self.ledger}", ', ""))
        self.assert_refused(self.kuramori("snapshots", status=2), "has no ledger", "exactly once")
        self.assertEqual(list(self.disk.iterdir()), [])


if __name__ == "__main__":
    harness.main()
