"""Damage of every kind to every kind of object is named by scrub and never reaches a restore; WAL that is not what it
says is refused; a vault that cannot be written is still read; a copy that lost a row is not proven."""

import pathlib
import shutil
import subprocess
import time
import unittest

import harness
import kill_points

KINDS = ("packs", "maps", "live", "commits", "wal", "resources")


class Damage(harness.Case):
    in_memory = True

    def setUp(self):
        super().setUp()
        server = self.server(initdb=["--wal-segsize=1"])
        server.sql("create table entry (id bigint primary key, text text)",
                   "insert into entry select i, md5(i::text) from generate_series(1, 5000) i", "vacuum (freeze, analyze)")
        self.kuramori("backup", "db")
        server.sql("update entry set text = 'x' where id < 500", "vacuum (freeze, analyze)", "checkpoint")
        self.kuramori("backup", "db")
        self.ids = [snapshot["id"] for snapshot in self.snapshots()]
        self.digests = {}
        for snapshot in self.ids:
            place = self.folder / "whole"
            self.kuramori("restore", f"db@{snapshot}", "--to", place)
            self.digests[snapshot] = kill_points.tree_digest(place)
            shutil.rmtree(place)
        server.stop()
        self.kuramori("vault", "collect", "here")  # what is garbage anyway
        self.whole = self.folder / "whole-vault"
        subprocess.run(["cp", "-a", self.vault, self.whole], check=True)

    def objects(self, kind):
        found = sorted(path for path in (self.vault / kind).rglob("*") if path.is_file())
        return [path for path in found if ".label." not in path.name]

    def renew(self):
        shutil.rmtree(self.vault)
        subprocess.run(["cp", "-a", self.whole, self.vault], check=True)

    def spoil(self, path, content):
        path.chmod(0o600)
        path.write_bytes(content)

    def check_named(self, path, what):
        """Scrub names the object; a restore gives the right bytes, or refuses and leaves nothing that starts."""
        name = path.relative_to(self.vault).as_posix()
        found = self.kuramori("vault", "scrub", "here", "--json", status=4).json()
        self.assertTrue(found["damaged"])
        findings = [finding for finding in found["findings"] if finding["severity"] == "damage"]
        self.assertTrue(any(name in finding["object"] + finding["what"] for finding in findings), (what, name, findings))
        whole = 0
        for snapshot in self.ids:
            target = self.folder / "target"
            outcome = self.kuramori("restore", f"db@{snapshot}", "--to", target, status=None)
            if outcome.status == 0:
                self.assertEqual(kill_points.tree_digest(target), self.digests[snapshot], (what, name))
                whole += 1
            else:
                self.assertIn(outcome.status, (2, 4, 5), (what, name, str(outcome)))
                self.assertFalse((target / "global" / "pg_control").exists(), (what, name))
            for left in self.folder.glob("target*"):
                shutil.rmtree(left)
        return findings, whole

    def test_a_flipped_bit_in_every_kind_of_object_is_named_and_never_restored_V9_V24(self):
        for kind in KINDS:
            objects = self.objects(kind)
            self.assertTrue(objects, kind)
            for path in objects[:: max(1, len(objects) // 2)] if not harness.ALL else objects:
                content = path.read_bytes()
                for at in {len(content) // 3, len(content) - 2} if not harness.ALL else range(0, len(content), max(1, len(content) // 16)):
                    self.spoil(path, content[:at] + bytes([content[at] ^ 4]) + content[at + 1:])
                    findings, whole = self.check_named(path, f"a flipped bit at {at} of {len(content)}")
                    if whole < len(self.ids) and kind in ("packs", "maps", "live"):
                        named = {snapshot for finding in findings for snapshot in finding["snapshots"]}
                        self.assertTrue(named & set(self.ids), findings)  # and whose it is
                self.spoil(path, content)
        self.kuramori("vault", "scrub", "here")

    def test_a_truncation_a_swap_and_a_replay_are_named_and_never_restored_V12_V17(self):
        for kind in KINDS:
            objects = self.objects(kind)
            path = objects[0]
            content = path.read_bytes()
            for size in (0, len(content) // 2, len(content) - 1):
                self.spoil(path, content[:size])
                self.check_named(path, f"cut to {size} of {len(content)}")
            self.spoil(path, content)
            if len(objects) > 1:  # one object's content under another's name, whole and sealed as it is
                other = objects[-1].read_bytes()
                self.spoil(path, other)
                self.check_named(path, "a replay")
                self.spoil(objects[-1], content)
                self.check_named(path, "a swap")
                self.renew()
            else:
                self.spoil(path, content)
        self.kuramori("vault", "scrub", "here")

    def test_a_record_that_cannot_be_read_keeps_nobody_from_restoring_and_lets_nothing_go_V1_V14(self):
        self.servers[0].start()
        held, proven, due = [self.kuramori("backup", "db", "--keep", "1s", "--json").json()["snapshot"]["id"] for _ in range(3)]
        self.kuramori("hold", "add", held, "--name", "audit")
        self.kuramori("drill", f"db@{proven}")
        newest = self.kuramori("backup", "db", "--json").json()["snapshot"]["id"]
        self.config.write_text(self.config.read_text().replace("window: 14d", "window: 1s"))
        time.sleep(1.2)
        self.kuramori("prune")
        self.kuramori("vault", "collect", "here")
        stay = [*self.ids, held, proven, newest]  # and the due one is gone
        self.assertEqual([snapshot["id"] for snapshot in self.snapshots()], stay, due)
        # The catalog has their bytes too: what rots in place is named by scrub, and hides nothing until then.
        for kind in ("holds", "proofs"):
            path = self.objects(kind)[0]
            content = path.read_bytes()
            self.spoil(path, content[:-40] + bytes([content[-40] ^ 4]) + content[-39:])
            self.assertIn(path.relative_to(self.vault).as_posix(), self.kuramori("vault", "scrub", "here", status=4).out)
            listed = {snapshot["id"]: snapshot for snapshot in self.snapshots()}
            self.assertEqual(list(listed), stay)
            self.assertIn("audit", str(listed[held]["holds"]))
            self.assertTrue(listed[proven]["proof"]["passed"])
            self.spoil(path, content)
        path = self.objects("catalog")[0]
        content = path.read_bytes()
        for spoiled in (content[:-40] + bytes([content[-40] ^ 4]) + content[-39:], content[:100], b""):
            self.spoil(path, spoiled)
            self.assertIn(path.relative_to(self.vault).as_posix(), self.kuramori("vault", "scrub", "here", status=4).out)
            self.assertEqual([snapshot["id"] for snapshot in self.snapshots()], stay)
        shutil.rmtree(self.vault / "catalog")
        alone = {"vault": [self.vault / name for name in ("vault", "vault.2", "vault.3")]}
        for kind in ("holds", "proofs", "prune", "gc", "vault"):
            for path in alone.get(kind) or self.objects(kind):
                content = path.read_bytes()
                half = len(content) // 2
                for what, spoiled in (("flipped", content[:half] + bytes([content[half] ^ 4]) + content[half + 1:]),
                                      ("cut", content[:half]), ("emptied", b"")):
                    self.spoil(path, spoiled)
                    name = path.relative_to(self.vault).as_posix()
                    outcome = self.kuramori("vault", "scrub", "here", status=4)
                    self.assertIn(name, outcome.out, what)
                    outcome = self.kuramori("prune", status=None)
                    if kind in ("holds", "proofs"):
                        listed = self.kuramori("snapshots", "db", "--json", status=4)
                        self.assertIn(name, listed.err, what)
                        self.assertEqual([snapshot["id"] for snapshot in listed.json()["snapshots"]], stay, what)
                        target = self.folder / "target"
                        self.kuramori("restore", f"db@{self.ids[0]}", "--to", target)
                        self.assertEqual(kill_points.tree_digest(target), self.digests[self.ids[0]])
                        for left in self.folder.glob("target*"):
                            shutil.rmtree(left)
                self.spoil(path, content)
        self.kuramori("vault", "scrub", "here")
        self.assertEqual([snapshot["id"] for snapshot in self.snapshots()], stay)
        self.kuramori("backup", "db")

    def test_what_a_snapshot_needs_and_is_gone_is_named_V1(self):
        for kind in ("packs", "maps", "live", "wal"):
            path = self.objects(kind)[0]
            path.unlink()
            self.check_named(path, "gone") if kind != "wal" else self.kuramori("vault", "scrub", "here", status=4)
            # Nothing is freed on the word of something that could not be read.
            before = {other for each in ("packs", "maps", "live", "wal") for other in self.objects(each)}
            self.kuramori("vault", "collect", "here", status=None)
            after = {other for each in ("packs", "maps", "live", "wal") for other in self.objects(each)}
            self.assertEqual(before - after, set(), kind)
            self.renew()

    @unittest.skipUnless(harness.is_root(), "only root mounts")
    def test_a_vault_that_cannot_be_written_is_read_and_says_so_P68(self):
        if subprocess.run(["mount", "--bind", self.vault, self.vault], capture_output=True).returncode != 0:
            self.skipTest("may not mount here")
        try:
            subprocess.run(["mount", "-o", "remount,ro,bind", self.vault], check=True)
            self.assertEqual([snapshot["id"] for snapshot in self.snapshots()], self.ids)
            self.kuramori("vault", "scrub", "here")
            # A read-only medium is enough to restore from; that nothing protects the snapshot meanwhile is said.
            outcome = self.kuramori("restore", "db", "--to", self.folder / "target")
            self.assertEqual(kill_points.tree_digest(self.folder / "target"), self.digests[self.ids[-1]])
            self.servers[0].start()
            outcome = self.kuramori("backup", "db", status=1)
            self.assertIn("read-only", (outcome.err + outcome.out).lower())
            outcome = self.kuramori("hold", "add", self.ids[0], "--name", "audit", status=1)
            self.assertIn("read-only", (outcome.err + outcome.out).lower())
        finally:
            subprocess.run(["umount", self.vault])
        self.kuramori("vault", "scrub", "here")


class Pushes(harness.Case):
    in_memory = True

    def segments_left_behind(self, server):
        """Two finished segments that the server has and the vault has not, and never will by the server's own doing.

        A backup files what its snapshot needs and the archiver has not delivered yet: everything is delivered first. Then the
        archiver takes up a new command when it comes round to it, and may be at work on a segment meanwhile: only a segment it
        failed with the new command, before any later one was tried, is certainly not in the vault."""
        server.switch_wal()
        failures = lambda: int(server.sql("select failed_count from pg_stat_archiver"))
        server.sql("alter system set archive_command = '/bin/false'", "select pg_reload_conf()")
        before = failures()
        deadline = time.monotonic() + 60
        while failures() == before:
            self.assertLess(time.monotonic(), deadline, "the archiver never failed with its new command")
            server.sql("insert into entry values (0)", "select pg_switch_wal()")
            time.sleep(0.2)
        first = server.sql("select last_failed_wal from pg_stat_archiver")
        for n in range(2):
            server.sql(f"insert into entry values ({n})", "select pg_switch_wal()")
        waiting = sorted(path.name[:24] for path in (server.data / "pg_wal/archive_status").glob("*.ready") if len(path.name) == 30)
        left = [name for name in waiting if name >= first]
        self.assertGreaterEqual(len(left), 2)
        return left[:2]

    def test_wal_that_is_not_what_it_says_is_refused_P29_P31_P40_S6(self):
        server = self.server(initdb=["--wal-segsize=1"])
        server.sql("create table entry (id int)")
        self.kuramori("backup", "db")
        name, second = self.segments_left_behind(server)
        wal = server.data / "pg_wal"
        push = lambda path, status=0, program="kuramori": self.kuramori("wal", "push", path, cwd=server.data, status=status, program=program)
        whole = (wal / name).read_bytes()
        spare = self.folder / "spare"
        spare.mkdir()
        harness.give_to_server(spare)

        def made(content):
            (spare / name).write_bytes(content)
            return spare / name

        def is_absent():
            got = self.folder / "got"
            self.assertNotEqual(self.kuramori("wal", "get", "--resource", "db", name, got, status=None).status, 0)

        for program in ("kuramori", "kuramori-wal"):
            with self.subTest(program=program):
                for content in (b"", whole[:512], whole[:len(whole) // 2], whole + b"\\0" * 512):  # torn, short, long (P29)
                    self.assertNotIn(push(made(content), None, program).status, (0,))
                    is_absent()
                recycled = (wal / second).read_bytes()  # the bytes of another segment
                self.assertNotEqual(push(made(recycled), None, program).status, 0)
                foreign = whole[:24] + bytes([whole[24] ^ 1]) + whole[25:]  # another system's id in the header (P40)
                outcome = push(made(foreign), None, program)
                self.assertEqual(outcome.status, 5, outcome)
                is_absent()
                self.assertNotEqual(push(spare / "nothing", None, program).status, 0)
        for program in ("kuramori", "kuramori-wal"):
            push(wal / name, 0, program)
            push(wal / name, 0, program)  # the same again is done already
        other = whole[:40] + bytes([whole[40] ^ 1]) + whole[41:]
        for program in ("kuramori", "kuramori-wal"):
            outcome = push(made(other), None, program)
            self.assertEqual(outcome.status, 5, outcome)  # the same name with other content: split brain (P31)
        got = self.folder / "got"
        self.kuramori("wal", "get", "--resource", "db", name, got)
        self.assertEqual(got.read_bytes(), whole)
        self.kuramori("vault", "scrub", "here")
        # A server that is none of the vault's resources.
        foreign = self.folder / "foreign"
        subprocess.run(harness.as_server([server.bin / "initdb", "-D", foreign, "-U", "postgres", "--no-sync"]), check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=harness.environment(), cwd="/")
        segment = next(path for path in (foreign / "pg_wal").iterdir() if len(path.name) == 24)
        outcome = self.kuramori("wal", "push", "--resource", "db", segment, cwd=foreign, status=5)


class Proofs(harness.Case):
    in_memory = True

    def test_a_copy_that_lost_a_row_is_not_proven_D4(self):
        server = self.server(initdb=["--wal-segsize=1"], plan="""    drill:
      sql:
        - { query: "select count(*) from entry", expect: "unchanged" }
""")
        server.sql("create table entry (id bigint primary key, text text)", "create table other (id int)",
                   "insert into entry select i, md5(i::text) from generate_series(1, 5000) i", "insert into other values (1)")
        self.kuramori("backup", "db")
        sound = self.kuramori("drill", "db", "--json").json()["proof"]
        self.assertTrue(sound["passed"])
        names = " ".join(check["name"] for check in sound["checks"])
        self.assertIn("entry", names)
        self.assertIn("other", names)
        # A row is deleted from the restored copy.
        for statement in ("delete from public.entry where id = 77", "delete from public.other", "insert into public.other values (2)",
                          "drop table public.other"):
            with self.subTest(statement):
                failed = self.kuramori("drill", "db", "--json", status=4, env={"KURAMORI_TEST_SANDBOX_SQL": statement}).json()["proof"]
                self.assertFalse(failed["passed"])
                wrong = [check for check in failed["checks"] if check["verdict"] == "failed"]
                self.assertTrue(any(statement.split()[2].split(".")[1] in check["name"] + check["detail"] for check in wrong), wrong)
                snapshot = self.snapshots()[0]
                self.assertFalse(snapshot["proof"]["passed"] if "passed" in snapshot["proof"] else False, snapshot)
        self.kuramori("drill", "db")

    def test_a_table_that_was_written_to_meanwhile_is_bounded_by_what_the_wal_says_S32(self):
        # A commit that waits for a standby nobody has is in the WAL, and is not over: no count sees its rows, every
        # restore to the moment of the counting has them. So the difference is there however fast the machine is.
        server = self.server(settings=["synchronous_standby_names = 'nobody'", "synchronous_commit = local", "autovacuum = off"])
        server.sql("create table busy (id int)", "create table still (id int)", "insert into still select generate_series(1, 100)",
                   "insert into busy select generate_series(1, 5000)")

        def backup_while_somebody_commits():
            """Writes once the backup's checkpoint is done: what is older than it the WAL would not tell of."""
            writer = subprocess.Popen([f"{harness.CLIENT}/psql", "-XqAt", "-c", "set synchronous_commit = on", "-c",
                                       "do $$ declare redo pg_lsn := (select redo_lsn from pg_control_checkpoint()); begin"
                                       " while redo = (select redo_lsn from pg_control_checkpoint()) loop perform pg_sleep(0.001); end loop;"
                                       " insert into busy select generate_series(1, 1000); end $$", server.connect()],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=harness.environment())
            while server.sql("select count(*) from pg_stat_activity where query like 'do $$%' and pid <> pg_backend_pid()") == "0":
                self.assertIsNone(writer.poll())
                time.sleep(0.02)
            try:
                self.kuramori("backup", "db")
            finally:
                server.sql("select pg_terminate_backend(pid) from pg_stat_activity where query like 'do $$%' and pid <> pg_backend_pid()")
                writer.wait()

        def drilled(status, statement=None):
            proof = self.kuramori("drill", "db", "--json", status=status,
                                  env={"KURAMORI_TEST_SANDBOX_SQL": statement} if statement else None).json()["proof"]
            return {name: check for check in proof["checks"] for name in ("busy", "still") if f".{name}" in check["name"]}

        for _ in range(5):  # a writer that was kept waiting until the rows were counted is no test of this
            backup_while_somebody_commits()
            checks = drilled(0)
            if checks["busy"]["verdict"] != "passed":
                break
        self.assertEqual(checks["still"]["verdict"], "passed", checks)
        self.assertEqual(checks["busy"]["verdict"], "bounded", checks)
        self.assertRegex(checks["busy"]["detail"], r"the WAL since then allows \d+ to \d+")
        # Nothing in the WAL touched this one: it must be equal, although the counts were not taken in peace.
        self.assertEqual(drilled(4, "delete from public.still where id = 7")["still"]["verdict"], "failed")
        self.assertEqual(drilled(4, "delete from public.busy")["busy"]["verdict"], "failed")


if __name__ == "__main__":
    harness.main()
