"""`vault show` says who may do what, how far the copies are behind, and what would be lost if each site burned; and a site does burn."""

import datetime
import shutil

import harness


def moment(text):
    return datetime.datetime.fromisoformat(text.rstrip("Z")[:26])


class Show(harness.Case):
    in_memory = True

    def setUp(self):
        super().setUp()
        self.server15 = self.server(initdb=["--wal-segsize=1"])
        self.away = self.folder / "away"
        text = self.config.read_text()
        self.alone = text
        vault = f'  away: {{ at: "{self.away}", site: far, key_file: "{self.key}", copy_of: here }}\n'
        self.config.write_text(text.replace("vaults:\n", "vaults:\n" + vault, 1))
        self.kuramori("vault", "init", "away")

    def shown(self, vault="here"):
        return self.kuramori("vault", "show", vault, "--json").json()

    def lost(self, site):
        document = self.shown()
        losses = next(one for one in document["sites"] if one["site"] == site)["losses"]
        return losses[0] if losses else None

    def score(self):
        (score,) = self.shown()["scores"]
        return score["score"], score["kept"]

    def test_what_would_be_lost_is_what_is_lost(self):  # and the score of J1
        server = self.server15
        server.sql("create table entry as select i id, now() at from generate_series(1, 2000) i")
        self.kuramori("backup", "db")
        server.switch_wal()
        self.assertEqual(self.lost("here")["lost"], "everything")
        self.assertIsNone(self.lost("far"))
        self.assertEqual(self.shown()["copies"][0]["snapshots"], 1)
        self.assertEqual(self.score(), ("2-1-0", False))
        self.kuramori("copy", "--to", "away")
        self.assertEqual((self.lost("here")["lost"], self.lost("far")["lost"]), ("nothing", "nothing"))
        self.assertEqual(self.score(), ("3-1-1", False))  # all of it on disks
        text = self.config.read_text()
        self.config.write_text(text.replace("site: far,", "site: far, medium: usb disk,"))
        self.assertEqual(self.score(), ("3-2-1", True))
        self.assertIn("db: 3-2-1: the original, ", self.kuramori("vault", "show", "here").out)
        self.config.write_text(text.replace("site: far,", "site: here, medium: usb disk,"))
        self.assertEqual(self.score(), ("3-2-0", False))  # nothing is elsewhere
        self.assertIn("3-2-0 SHORT of 3-2-1", self.kuramori("vault", "show", "here").out)
        self.config.write_text(text)
        copied = self.shown()["copies"][0]
        self.assertEqual((copied["from"], copied["to"], copied["measured"], copied["wal_objects"]), ("here", "away", True, 0))
        # From here on the copy falls behind: first WAL alone, then a snapshot as well.
        server.sql("insert into entry select 9000, now()")
        server.switch_wal()
        newer = self.lost("here")
        self.assertEqual((newer["lost"], newer["snapshots"]), ("newer", 0))
        self.assertGreaterEqual(newer["wal_objects"], 1)
        self.assertLess(moment(newer["newer_than"]), datetime.datetime.utcnow())
        self.kuramori("backup", "db")
        server.switch_wal()
        newer = self.lost("here")
        self.assertEqual((newer["lost"], newer["snapshots"]), ("newer", 1))
        self.assertEqual(self.lost("far")["lost"], "nothing")
        told = self.kuramori("vault", "show", "here").out
        self.assertIn("what is newer than", told)
        self.assertIn("copy       away: 1 snapshots", told)
        self.assertIn("copy of    here: 1 snapshots", self.kuramori("vault", "show", "away").out)
        # It burns. What comes back is what was said.
        server.stop()
        shutil.rmtree(self.vault)
        self.kuramori("restore", "db", "--latest", "--vault", "away", "--to", self.folder / "restored")
        restored = self.adopt(self.folder / "restored")
        self.assertEqual(restored.sql("select count(*) from entry"), "2000")
        restored.stop()
        # What does not open is told of, and not counted.
        left = self.kuramori("vault", "show", "away", "--json")
        self.assertIn("here is not counted", left.err)
        self.assertFalse(left.json()["copies"][0]["measured"])
        self.assertEqual([(one["site"], one["losses"][0]["lost"]) for one in left.json()["sites"]], [("far", "everything")])

    def test_who_may_do_what_is_listed_O2(self):
        for role in ("writer", "reader", "keeper"):
            self.kuramori("vault", "key", "new", "here", "--role", role, "--name", role, "--to", self.folder / f"{role}.key")
        self.kuramori("vault", "key", "revoke", "here", "reader", "--reason", "lost laptop")
        keys = {key["name"]: key for key in self.shown()["vault"]["keys"]}
        self.assertEqual({(key["role"], key["counts"]) for key in keys.values()},
                         {("owner", True), ("writer", True), ("reader", False), ("keeper", True)})
        self.assertIn("backup", keys["writer"]["may"])
        self.assertEqual(keys["reader"]["may"], "")
        # A vault by itself has no neighbours to speak of; nor does one that is named by its place.
        self.config.write_text(self.alone)
        self.assertEqual((self.shown()["copies"], self.shown()["sites"]), ([], []))
        self.assertIn("reads nothing", self.kuramori("--key-file", self.folder / "writer.key", "vault", "show", "here").out)


if __name__ == "__main__":
    harness.main()
