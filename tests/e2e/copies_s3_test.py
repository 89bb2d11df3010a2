"""A region is lost: Tokyo and Osaka are two independent S3 stores. Osaka locks what it is given, and has a ledger beside it."""

import datetime
import signal

import harness
import places
import rgw

DAY = 86400
KILLS_MIN = 3
KILL_STEP = 14  # store calls; odd and even ones of the protocol's steps are met


class TokyoAndOsaka(harness.Case):
    place_kind = "rgw"

    def setUp(self):
        super().setUp()
        self.tokyo = rgw.RgwCluster(tls=True)
        self.place = places.Bucket(self, "rgw", cluster=self.tokyo)  # harness: the vault "here"
        self.osaka = places.Bucket(self, "locked", cluster=rgw.shared(tls=True))

    def tearDown(self):
        super().tearDown()
        self.tokyo.remove()

    def configure(self, server, plan=""):
        super().configure(server, plan + "    copies: [ { to: osaka } ]\n")
        self.write_osaka(self.osaka.ledger)

    def write_osaka(self, ledger):
        """Its credentials stand in the configuration itself: no location can point to them."""
        text = "".join(line for line in self.config.read_text().splitlines(keepends=True) if not line.startswith("  osaka:"))
        place = (f'at: "{self.osaka.location}", endpoint: "{self.osaka.endpoint}", region: us-east-1, ca_file: "{self.osaka.ca}", '
                 f'credentials: {{ access_key: "{self.osaka.user.access}", secret_key: "{self.osaka.user.secret}" }}, '
                 f'lock: {places.LOCK}, ledger: "s3://{ledger}/ledger"')
        self.config.write_text(text.replace("vaults:\n", f'vaults:\n  osaka: {{ {place}, site: osaka, copy_of: here, key_file: "{self.key}" }}\n', 1))

    def locked_seconds(self, name):
        held = self.osaka.s3.retention(self.osaka.bucket, "vault/" + name)
        if held is None:
            return 0
        until = datetime.datetime.fromisoformat(held[1].split(".")[0].rstrip("Z") + "+00:00")
        return (until - datetime.datetime.now(datetime.timezone.utc)).total_seconds()

    def copy(self, status=0, **env):
        return self.kuramori("copy", "--to", "osaka", "--json", status=status, env=env)

    def killed_copies(self):
        """Kills copies at later and later store calls until one comes through; how many were killed, and what they had left."""
        for kills in range(1000):
            env = {"KURAMORI_TEST_KILL_AT_STORE_CALL": str(KILL_STEP * (kills + 1))}
            if kills % 2:
                env["KURAMORI_TEST_KILL_AT_STORE_CALL_AFTER"] = "1"
            done = self.copy(status=None, **env)
            if done.status == 0:
                return kills, done.json()
            self.assertEqual(done.status, -signal.SIGKILL, done)
        raise AssertionError("no copy came through")

    def test_the_first_region_burns_and_the_second_restores_S8_V22_P63(self):
        server = self.server(15, initdb=["--wal-segsize=1"])
        server.sql("create table entry (id bigint primary key, text text)", "insert into entry select i, md5(i::text) from generate_series(1, 4000) i")
        self.kuramori("vault", "init", "osaka")
        self.kuramori("backup", "db")
        self.kuramori("hold", "add", "db@latest", "--name", "audit", "--vault", "here")
        server.sql("insert into entry select i, 'later' from generate_series(4001, 5000) i")
        moment = server.sql("select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
        server.sql("delete from entry where id > 4500")
        server.switch_wal()
        kills, last = self.killed_copies()
        self.assertGreaterEqual(kills, KILLS_MIN)
        self.assertEqual((last["skipped"], last["lag"]["snapshots"], last["lag"]["wal_objects"]), ([], 0, 0))
        self.assertEqual(self.copy().json()["sent_objects"], 0)
        # What was copied is locked as the second vault says, not as the first: there nothing is (V22).
        names = [name for name, _ in self.osaka.objects() if not name.startswith("probe/")]
        self.assertTrue([name for name in names if name.startswith("packs/")])
        self.assertTrue([name for name in names if name.startswith("wal/")])
        for name in names:
            self.assertGreater(self.locked_seconds(name), DAY - 900, name)
        # And kept locked as long as it is kept there, under the names it was given there; what is held there is held here.
        needed = [name for name in names if name.startswith(("packs/", "maps/", "live/"))]
        self.assertIn("extended", self.kuramori("prune", "--vault", "osaka").err)
        for name in needed:  # what a killed run left and nothing refers to is nobody's
            self.assertGreater(self.locked_seconds(name), 14 * DAY - 900, name)
            self.assertTrue(self.osaka.s3.legal_hold(self.osaka.bucket, "vault/" + name), name)
        listed = [snapshot["id"] for snapshot in self.snapshots() if snapshot["vault"] == "here"]

        self.tokyo.stop()
        server.kill()
        with self.assertRaises(OSError):
            self.place.s3.list(self.place.bucket, "vault/")
        there = self.kuramori("snapshots", "--vault", "osaka", "--json").json()["snapshots"]
        self.assertEqual([snapshot["id"] for snapshot in there], listed)
        target = self.folder / "restored"
        self.kuramori("restore", "db", "--vault", "osaka", "--at", moment, "--to", target)
        restored = self.adopt(target)
        self.assertEqual(restored.sql("select count(*) from entry"), "5000")
        restored.stop()

        # Its ledger is lost as well: reading needs the objects alone, a new one is founded in another bucket.
        for name, _ in self.osaka.s3.list(self.osaka.ledger, ""):
            self.osaka.s3.delete(self.osaka.ledger, name).expect(204)
        self.assertEqual(self.osaka.s3.list(self.osaka.ledger, ""), [])
        self.assertEqual(len(self.kuramori("snapshots", "--vault", "osaka", "--json").json()["snapshots"]), len(listed))
        # Not in a bucket that forgets conditions: two epochs could begin there.
        versioned = self.osaka.user.bucket(versioned=True)
        refused = self.kuramori("vault", "ledger", "new", "osaka", "--ledger", f"s3://{versioned}/ledger", "--yes", status=5)
        self.assert_refused(refused, "cannot be a ledger", "versioning")
        fresh = self.osaka.user.bucket()
        self.write_osaka(fresh)
        self.kuramori("vault", "ledger", "new", "osaka", "--yes")
        self.kuramori("vault", "collect", "osaka")
        self.assertFalse(self.kuramori("vault", "scrub", "osaka", "--json").json()["damaged"])
        self.assertEqual([s["id"] for s in self.kuramori("snapshots", "--vault", "osaka", "--json").json()["snapshots"]], listed)


if __name__ == "__main__":
    harness.main()
