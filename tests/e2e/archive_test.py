"""Three tiers: the server itself, a vault in a folder, and the first snapshot of each month in an archive class that cannot be
read before it is thawed (B9). What is archived was read back before it was moved there."""

import shutil

import cold_store
import harness
import places
import rgw

CLASS = "GLACIER"


class Archive(harness.Case):
    in_memory = True

    def setUp(self):
        super().setUp()
        self.server15 = self.server(initdb=["--wal-segsize=1"])
        self.cluster = rgw.RgwCluster(classes=(CLASS,))  # plain HTTP: the stand-in reads along
        self.addCleanup(self.cluster.remove)
        self.bucket = places.Bucket(self, "rgw", cluster=self.cluster)
        self.cold = cold_store.ColdStore(self.cluster, by_class=self.bucket.s3)
        self.addCleanup(self.cold.stop)
        self.bucket.endpoint = self.cold.endpoint
        vault = (f'  archive: {{ {self.bucket.yaml()}, site: archive, class: {CLASS}, copy_of: here, '
                 f'key_file: "{self.key}" }}\n')
        text = self.config.read_text().replace("vaults:\n", "vaults:\n" + vault, 1)
        self.config.write_text(text.replace("resources: [db]\n", "resources: [db]\n    copies: [ { to: archive, keep: { monthly: 12mo } } ]\n", 1))
        self.kuramori("vault", "init", "archive")

    def archived(self):
        return [one["id"] for one in self.kuramori("snapshots", "--vault", "archive", "--json").json()["snapshots"]]

    def classes(self, prefix):
        names = [name for name, _ in self.bucket.objects(prefix)]
        self.assertTrue(names)
        heads = [self.bucket.s3.head(self.bucket.bucket, "vault/" + name) for name in names]
        return {head.headers.get("x-amz-storage-class", "STANDARD") for head in heads}

    def test_the_monthly_point_is_archived_and_thawed_B9(self):
        server = self.server15
        server.sql("create table entry as select i, md5(i::text) from generate_series(1, 20000) i")
        for more in range(2):
            server.sql(f"insert into entry select i, md5(i::text) from generate_series(1, {more} + 1) i")
            self.kuramori("backup", "db")
            server.switch_wal()
        all_of_it = sorted(self.snapshots(), key=lambda one: one["time"])
        months = {}
        for one in all_of_it:
            months.setdefault(one["time"][:7], one["id"])
        copied = self.kuramori("copy", "--to", "archive", "--json").json()
        self.assertEqual(copied["skipped"], [])
        self.assertEqual(self.archived(), list(months.values()))
        # WAL that no archived snapshot needs does not come.
        self.assertLess(len(self.bucket.objects("wal/")), len([path for path in self.vault.glob("wal/**/*") if path.is_file()]))
        self.assertEqual(copied["lag"]["wal_objects"], 0)
        # Read back while it could be, and moved then; what a restore is planned with stays where it can be read.
        self.assertEqual(self.classes("packs/"), {CLASS})
        self.assertEqual(self.classes("maps/") | self.classes("commits/"), {"STANDARD"})
        # The next one finds the packs cold, and believes what was put there.
        again = self.kuramori("copy", "--to", "archive", "--json").json()
        self.assertEqual((again["sent_objects"], again["skipped"]), (0, []))
        self.assertEqual(len(self.cold.moved), len(self.bucket.objects("packs/")))

        # A scrub says what it did not read, and calls it neither damaged nor verified.
        packs = len(self.bucket.objects("packs/"))
        found = self.kuramori("vault", "scrub", "archive", "--json").json()
        self.assertEqual((found["damaged"], found["objects_cold"], found["never_verified"]), (False, packs, packs))
        self.assertIn("lie in cold storage", self.kuramori("vault", "scrub", "archive").out)

        # The first vault is gone. The archive restores once it is thawed.
        server.stop()
        shutil.rmtree(self.vault)
        target = self.folder / "restored"
        snapshot = f"db@{self.archived()[0]}"
        self.assert_refused(self.kuramori("restore", snapshot, "--vault", "archive", "--to", target, status=5), "cold storage", "kuramori thaw")
        self.assertFalse(target.exists())
        self.kuramori("thaw", snapshot, "--vault", "archive", status=3)
        self.cold.thawed()
        self.assertTrue(self.kuramori("thaw", snapshot, "--vault", "archive", "--json").json()["readable"])
        self.kuramori("restore", snapshot, "--vault", "archive", "--to", target)
        restored = self.adopt(target)
        self.assertEqual(restored.sql("select count(*) from entry"), str(20000 + all_of_it.index(next(one for one in all_of_it if one["id"] == self.archived()[0])) + 1))
        restored.stop()
        self.assertEqual(self.kuramori("vault", "scrub", "archive", "--json").json()["objects_cold"], 0)


if __name__ == "__main__":
    harness.main()
