"""Snapshots in cold storage: refused before a byte is written, thawed, restored. And storage classes on a real store."""

import cold_store
import harness
import kill_points
import places
import rgw


class Tiers(harness.Case):
    in_memory = True

    def setUp(self):
        super().setUp()
        self.place = places.Bucket(self, "rgw", cluster=rgw.shared())  # plain HTTP: the stand-in reads along

    def put_behind(self, cold):
        """From now on the vault is reached through the stand-in."""
        text = self.config.read_text()
        self.config.write_text(text.replace(self.place.endpoint, cold.endpoint))

    def test_a_cold_snapshot_is_thawed_before_it_is_restored(self):
        server = self.server(initdb=["--wal-segsize=1"])
        server.sql("create table entry as select i, md5(i::text) from generate_series(1, 20000) i")
        self.kuramori("backup", "db")
        snapshot = self.snapshots()[0]["id"]
        warm = self.kuramori("restore", "db", "--to", self.folder / "warm")
        cold = cold_store.ColdStore(self.place.cluster)
        self.put_behind(cold)

        # It cannot be read: said before anything is written.
        target = self.folder / "target"
        self.assert_refused(self.kuramori("restore", "db", "--to", target, status=5), "cold storage", f"kuramori thaw {snapshot}")
        self.assertFalse(target.exists())
        estimate = self.kuramori("restore", "db", "--to", target, "--estimate", "--json").json()["restore"]
        self.assertGreater(estimate["estimated_bytes"], 100_000)
        self.assertGreater(estimate["estimated_requests"], 1)
        self.assertIn("kuramori thaw", " ".join(estimate["notes"]))

        would = self.kuramori("thaw", "db@latest", "--dry-run", "--json").json()
        self.assertEqual(cold.asked, [])
        self.assertFalse(would["readable"])
        self.assertGreaterEqual(would["cold_packs"], 1)
        self.assertEqual(would["classes"], ["GLACIER"])
        self.assertEqual(would["about_seconds_most"], 5 * 3600)
        self.assertEqual(self.kuramori("thaw", "db@latest", "--dry-run", "--speed", "bulk", "--json").json()["about_seconds_most"], 12 * 3600)

        asked = self.kuramori("thaw", "db@latest", "--days", "3", "--speed", "expedited", "--json", status=3).json()
        self.assertEqual(asked["cold_packs"], would["cold_packs"])
        self.assertEqual(len(cold.asked), would["cold_packs"])
        self.assertIn("<Days>3</Days>", cold.asked[0][1])
        self.assertIn("Expedited", cold.asked[0][1])
        # Again: nothing is asked for twice, and a restore still waits.
        again = self.kuramori("thaw", "db@latest", "--json", status=3).json()
        self.assertEqual((again["cold_packs"], again["thawing_packs"]), (0, would["cold_packs"]))
        self.assertEqual(len(cold.asked), would["cold_packs"])
        self.assert_refused(self.kuramori("restore", "db", "--to", target, status=5), "on their way")

        cold.thawed()
        self.assertTrue(self.kuramori("thaw", "db@latest", "--json").json()["readable"])
        self.kuramori("restore", "db", "--to", target)
        self.assertEqual(kill_points.tree_digest(target), kill_points.tree_digest(self.folder / "warm"))
        self.kuramori("thaw", "db@latest", "--days", "0", status=2)
        self.kuramori("thaw", "db@latest", "--speed", "slow", status=2)

    def test_an_estimate_says_bytes_requests_and_time(self):
        server = self.server(initdb=["--wal-segsize=1"])
        server.sql("create table entry as select i, md5(i::text) from generate_series(1, 20000) i")
        self.kuramori("backup", "db")
        estimate = self.kuramori("restore", "db", "--to", self.folder / "target", "--estimate", "--json").json()["restore"]
        self.assertGreater(estimate["estimated_seconds"], 0)
        self.assertGreater(estimate["estimated_requests"], 1)
        self.assertIn("requests", self.kuramori("restore", "db", "--to", self.folder / "target", "--estimate").out)
        self.assertFalse((self.folder / "target").exists())


if __name__ == "__main__":
    harness.main()
