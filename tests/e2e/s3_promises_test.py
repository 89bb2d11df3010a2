"""What the seed documents ask of a vault in a store, each shown on a real one: nothing in clear, rights no wider than needed, a
copy that is checked, WAL that is missed when it does not come."""

import os
import time

import harness
import role_users


class Promises(harness.Case):
    place_kind = "rgw"
    in_memory = True

    def small_server(self):
        server = self.server(initdb=["--wal-segsize=1"])
        # Random bytes, so that no compression hides them.
        server.sql("create extension if not exists pgcrypto", "create table very_secret_ledger (id int primary key, bytes bytea)",
                   "alter table very_secret_ledger alter bytes set storage plain",
                   "insert into very_secret_ledger select i, gen_random_bytes(1000) from generate_series(1, 400) i", "checkpoint")
        return server

    def test_nothing_lies_in_clear_anywhere_O1_P69_S33(self):
        """Not in the store, not in its names, not in what a backup leaves on the machine."""
        server = self.small_server()
        temporary = self.folder / "tmp"
        temporary.mkdir()
        harness.give_to_server(temporary)
        secrets = [bytes.fromhex(row)[100:132] for row in server.sql("select encode(bytes, 'hex') from very_secret_ledger where id % 40 = 1").splitlines()]
        secrets.append(b"very_secret_ledger")
        self.assertTrue(all(any(secret in path.read_bytes() for path in (server.data / "base").rglob("*") if path.is_file()) for secret in secrets))
        env = {"TMPDIR": str(temporary), "KURAMORI_STATE": str(self.folder / "state")}
        self.kuramori("backup", "db", "--label", "monthly", env=env)
        server.sql("update very_secret_ledger set id = id + 1000", "checkpoint")
        self.kuramori("backup", "db", env=env)
        server.switch_wal()
        kept = {name: self.place.get(name) for name, _ in self.place.objects()}
        self.assertTrue(any(name.startswith("wal/") for name in kept) and any(name.startswith("packs/") for name in kept))
        for name, content in kept.items():
            for secret in [*secrets, self.key.read_bytes()[-200:-100]]:
                self.assertNotIn(secret, content, name)
            self.assertNotIn("secret", name)
        self.assertEqual(list(temporary.iterdir()), [])
        # Scheduled or by hand, the same: there is no way to make a vault that is not sealed.
        self.assertNotIn("--no-encrypt", self.kuramori("vault", "init", "--help").out)

    def test_no_role_may_publish_or_widen_anything_S30(self):
        """PutObject is overwriting, PutObjectAcl is publishing: what the printed policies leave to each stolen key."""
        server = self.small_server()
        roles = role_users.RoleUsers(self)
        for role in ("writer", "reader", "keeper"):
            roles.make(role)
        roles.run("writer", "backup", "db")
        bucket, name = self.place.bucket, "vault/" + self.place.objects("packs/")[0][0]
        before = self.place.s3.get(bucket, name).expect(200).body
        public = {"x-amz-acl": "public-read"}
        for role in ("writer", "reader", "keeper"):
            raw = roles.raw(role)
            with self.subTest(role=role):
                for answer in (raw.request("PUT", bucket, name, query={"acl": ""}, headers=public),
                               raw.request("PUT", bucket, query={"acl": ""}, headers=public),
                               raw.request("PUT", bucket, query={"policy": ""}, body=b"{}"),
                               raw.request("PUT", bucket, query={"lifecycle": ""}, body=b"<LifecycleConfiguration/>"),
                               raw.request("DELETE", bucket)):
                    self.assertIn(answer.status, (403, 405), answer)
                # "The latest" needs a listing: each role that restores or tidies may list.
                if role != "writer":
                    self.assertEqual(raw.request("GET", bucket, query={"list-type": "2", "prefix": "vault/commits/"}).status, 200)
        self.assertEqual(self.place.s3.get(bucket, name).expect(200).body, before)
        roles.run("reader", "restore", "db@latest", "--to", self.folder / "restored")
        server.stop()

    def test_wal_that_never_arrives_is_missed_though_every_backup_is_green_D5_P69(self):
        server = self.small_server()
        self.kuramori("backup", "db")
        server.switch_wal()
        server.sql("alter system set archive_command = '/bin/true'", "select pg_reload_conf()")
        # Filed nowhere, and the server is content: it says so of a segment that is not in the vault.
        deadline = time.monotonic() + 60
        while self.last_segment() >= server.sql("select last_archived_wal from pg_stat_archiver"):
            self.assertLess(time.monotonic(), deadline)
            server.sql("delete from very_secret_ledger where id = 0", "select pg_switch_wal()")
            time.sleep(0.1)
        for _ in range(3):
            server.sql("insert into very_secret_ledger values ((random() * 1e9)::int, '')", "select pg_switch_wal()")
        self.kuramori("backup", "db")
        self.assertIn("lacks WAL", self.kuramori("wal", "show", "db", status=4).out)
        windows = self.kuramori("window", "db", "--json").json()["windows"]
        self.assertTrue(windows[0]["gap"], windows)
        self.assertIn("archive_command", self.kuramori("doctor", "db", status=None).out)

    def last_segment(self):
        names = [name.rpartition("/")[2] for name, _ in self.place.objects("wal/") if ".seg." in name]
        timeline, last = 1, max(int(name.partition("-")[0], 16) for name in names)
        return f"{timeline:08X}{last >> 32:08X}{(last & 0xFFFFFFFF) >> 20:08X}"

    def test_a_copy_that_spoils_is_named_by_its_scrub_J3(self):
        self.small_server()
        snapshot = self.kuramori("backup", "db", "--json").json()["snapshot"]["id"]
        second = self.folder / "second"
        given = ["--vault", second, "--key-file", self.key]
        self.kuramori("vault", "init", second, "--key-file", self.key, config=False)
        self.kuramori("copy", "db", "--to", second, "--key-file", self.key)
        self.kuramori(*given, "vault", "scrub", second, config=False)
        pack = max((path for path in (second / "packs").rglob("*-*")), key=lambda path: path.stat().st_size)
        content = bytearray(pack.read_bytes())
        content[len(content) // 2] ^= 1
        os.chmod(pack, 0o600)
        pack.write_bytes(content)
        found = self.kuramori(*given, "vault", "scrub", second, "--json", config=False, status=4).json()
        self.assertEqual([(pack.name in one["object"], snapshot in one["snapshots"]) for one in found["findings"] if one["severity"] == "damage"], [(True, True)])


if __name__ == "__main__":
    harness.main()
