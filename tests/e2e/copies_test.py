"""Copies: a second vault that brings the database back with the first one gone, and goes on where it was stopped."""

import contextlib
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import jsonschema

import harness
import kill_points

ALL = bool(os.environ.get("KURAMORI_TEST_ALL"))
KILLS = 12  # sampled store calls of one copy; all of them in the long form


def size_of(folder):
    return sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file())


@contextlib.contextmanager
def without_wal(vault):
    (vault / "wal").rename(vault.parent / "wal-aside")
    try:
        yield
    finally:
        (vault.parent / "wal-aside").rename(vault / "wal")


class Copies(harness.Case):
    def second(self, name="second", *more):
        """A second vault of the family, beside the first."""
        place = self.folder / name
        self.kuramori("vault", "init", f"{place}{''.join(more)}", "--key-file", self.key, config=False)
        return place

    def given(self, vault):
        return ["--vault", vault, "--key-file", self.key]

    def copy(self, vault, *words, status=0, env=None):
        state = self.folder / "state"
        state.mkdir(exist_ok=True)
        harness.give_to_server(state)
        return self.kuramori("copy", *words, "--to", vault, "--key-file", self.key, "--json", status=status, env={"KURAMORI_STATE": str(state), **(env or {})})

    def small_server(self, **more):
        server = self.server(15, initdb=["--wal-segsize=1"], **more)
        server.sql("create table entry (id bigint primary key, text text)",
                   "insert into entry select i, md5(i::text) from generate_series(1, 4000) i")
        return server

    def test_the_second_vault_restores_to_a_moment_with_the_first_one_gone_S7_S8(self):
        server = self.small_server()
        self.kuramori("backup", "db")
        second = self.second()
        server.sql("insert into entry select i, 'later' from generate_series(4001, 5000) i")
        time.sleep(0.1)
        moment = server.sql("select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
        time.sleep(0.1)
        server.sql("delete from entry where id > 4500")
        server.switch_wal()
        behind = self.copy(second, "--dry-run").json()
        self.assertEqual((behind["lag"]["snapshots"], behind["snapshots"]), (1, 0))
        self.assertGreater(behind["lag"]["bytes"], 0)
        done = self.copy(second).json()
        self.assertEqual((done["snapshots"], done["skipped"], done["lag"]["snapshots"], done["lag"]["wal_objects"]), (1, [], 0, 0), done)
        # More WAL and a second snapshot on the first: only the difference travels.
        server.sql("create table fresh as select generate_series(1, 1000) id")
        self.kuramori("backup", "db")
        server.switch_wal()
        more = self.copy(second).json()
        self.assertEqual(more["snapshots"], 1)
        self.assertLess(more["sent_bytes"], done["sent_bytes"] / 2)
        self.assertEqual(self.copy(second).json()["sent_bytes"], 0)
        listed = [snapshot["id"] for snapshot in self.snapshots()]
        server.kill()
        shutil.rmtree(self.vault)
        shutil.rmtree(server.data)

        given = self.given(second)
        there = self.kuramori(*given, "snapshots", "--json", config=False).json()["snapshots"]
        self.assertEqual([snapshot["id"] for snapshot in there], listed)
        self.assertFalse(self.kuramori(*given, "vault", "scrub", second, "--json", config=False).json()["damaged"])
        for how, wanted in ((("--at", moment), "5000"), (("--latest",), "4500")):
            target = self.folder / f"restored-{wanted}"
            self.kuramori(*given, "restore", "db", *how, "--to", target, config=False)
            restored = self.adopt(target)
            self.assertEqual(restored.sql("select count(*) from entry"), wanted)
            restored.stop()
        self.kuramori(*given, "drill", "db", config=False)
        # What is left of the second vault is a vault: it prunes, collects and takes a new copy of itself.
        self.kuramori(*given, "vault", "collect", second, config=False)
        third = self.second("third")
        self.kuramori(*given, "copy", "--to", third, "--json", config=False)
        self.kuramori(*self.given(third), "restore", "db", "--latest", "--to", self.folder / "third-restored", config=False)

    def test_backups_go_on_in_the_copy_and_come_home_V20_P64(self):
        """The replica becomes the first: a snapshot built on copied ones keeps them whole (P64), and copies back."""
        server = self.small_server()
        self.kuramori("backup", "db")
        second = self.second()
        self.copy(second)
        server.sql("update entry set text = 'moved' where id % 100 = 0")
        self.config.write_text(self.config.read_text().replace(str(self.vault), str(second)))
        made = self.kuramori("backup", "db", "--json").json()
        self.assertTrue(made["base"] if "base" in made else made["snapshot"].get("base", True))
        server.switch_wal()
        counted = server.sql("select count(*) from entry where text = 'moved'")
        self.kuramori(*self.given(second), "copy", "--to", self.vault, "--json", config=False)
        for vault in (second, self.vault):
            self.assertFalse(self.kuramori(*self.given(vault), "vault", "scrub", vault, "--json", config=False).json()["damaged"])
            target = self.folder / f"restored-{vault.name}"
            self.kuramori(*self.given(vault), "restore", "db", "--latest", "--to", target, config=False)
            restored = self.adopt(target)
            self.assertEqual(restored.sql("select count(*) from entry where text = 'moved'"), counted)
            restored.stop()

    def test_own_retention_prunes_copies_and_never_copies_them_again_P62(self):
        server = self.small_server()
        away = self.folder / "away"
        text = self.config.read_text() + "    copies: [ { to: away, keep: { last: 1 } } ]\n"
        self.config.write_text(text.replace("vaults:\n", f'vaults:\n  away: {{ at: "{away}", site: b, key_file: "{self.key}" }}\n', 1))
        self.kuramori("vault", "init", "away")
        names = []
        for number in range(3):
            server.sql(f"update entry set text = 'round {number}' where id % 10 = {number}", "checkpoint")
            names.append(self.kuramori("backup", "db", "--json").json()["snapshot"]["id"])
        first = self.kuramori("copy", "db", "--to", "away", "--json").json()
        self.assertEqual(first["snapshots"], 1, first)  # what would not be kept is not copied
        there = [snapshot["id"] for snapshot in self.kuramori("snapshots", "--vault", "away", "--json").json()["snapshots"]]
        self.assertEqual(there, names[-1:])
        self.assertEqual(self.kuramori("copy", "db", "--to", "away", "--json").json()["snapshots"], 0)
        # The next one takes its place there; pruned, the older one does not come again (P62).
        self.kuramori("backup", "db")
        self.assertEqual(self.kuramori("copy", "db", "--to", "away", "--json").json()["snapshots"], 1)
        self.kuramori("prune", "--vault", "away")
        left = [snapshot["id"] for snapshot in self.kuramori("snapshots", "--vault", "away", "--json").json()["snapshots"]]
        self.assertEqual(len(left), 1)
        self.assertNotIn(names[-1], left)
        self.kuramori("vault", "collect", "away")
        self.assertEqual(self.kuramori("copy", "db", "--to", "away", "--json").json()["sent_objects"], 0)
        self.assertFalse(self.kuramori("vault", "scrub", "away", "--json").json()["damaged"])
        self.assertEqual(len([s for s in self.snapshots() if s["vault"] == "here"]), 4)  # the first keeps by its own rule

    def test_what_comes_while_it_copies_is_the_next_runs(self):
        server = self.small_server()
        self.kuramori("backup", "db")
        second = self.second()
        counted = self.folder / "calls"
        self.copy(second, "--dry-run", env={"KURAMORI_TEST_COUNT_STORE_CALLS": str(counted)})
        # Stopped when it has seen what there is; meanwhile there is more.
        words = [self.programs / "kuramori", "--config", self.config, "copy", "--to", second, "--key-file", self.key, "--json"]
        running = subprocess.Popen(harness.as_server(words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
                                   env=harness.environment(KURAMORI_STATE=self.folder / "state", KURAMORI_TEST_STOP_AT_STORE_CALL=int(counted.read_text()) + 10))
        self.assertTrue(harness.stands_still(running))
        self.kuramori("backup", "db")
        server.switch_wal()
        running.send_signal(signal.SIGCONT)
        out, err = running.communicate(timeout=harness.COMMAND_SECONDS_MAX)
        self.assertEqual(running.returncode, 0, out + err)
        done = harness.Outcome(words, 0, out, err).json()
        self.assertEqual((done["snapshots"], done["skipped"], done["lag"]["snapshots"]), (1, [], 1))
        self.assertEqual(self.copy(second).json()["snapshots"], 1)

    def test_a_second_vault_in_the_configuration_leaves_archiving_as_it_was_P69(self):
        """archive_command names no vault: it is the one of the server's plan, though the other holds copies of it."""
        server = self.small_server()
        self.kuramori("backup", "db")
        text = self.config.read_text()
        away = self.folder / "away"
        self.config.write_text(text.replace("vaults:\n", f'vaults:\n  away: {{ at: "{away}", site: b, key_file: "{self.key}" }}\n', 1))
        self.kuramori("vault", "init", "away")
        self.kuramori("copy", "db", "--from", "here", "--to", "away")
        server.switch_wal()
        # Another server's plan archives into that other vault.
        other = text[text.index("  db:\n    kind"):]
        resource, plan = other.split("plans:\n")
        self.config.write_text(self.config.read_text().replace("plans:\n", resource.replace("  db:", "  db2:").replace("port=5432", "port=5433") + "plans:\n")
                               + plan.replace("db", "db2").replace("vault: here", "vault: away"))
        server.sql("insert into entry values (100001, 'x')")
        server.switch_wal()
        there = {path.name for path in (self.vault / "wal").rglob("*.seg.*")}
        self.assertGreater(len(there), len(list((away / "wal").rglob("*.seg.*"))))

    def test_a_backup_goes_on_to_every_copy_that_is_there_and_catches_up_S14(self):
        """One read of the server feeds three vaults; one of them in a drawer neither fails the backup nor stops the others."""
        server = self.small_server()
        away, drawer, shut = (self.folder / name for name in ("away", "drawer", "shut"))
        vaults = "".join(f'  {place.name}: {{ at: "{place}", site: {place.name}, key_file: "{self.key}" }}\n' for place in (away, drawer))
        plain = self.config.read_text()
        self.config.write_text(plain.replace("vaults:\n", "vaults:\n" + vaults, 1) + "    copies: [ { to: drawer }, { to: away, keep: { last: 5 } } ]\n")
        for name in ("away", "drawer"):
            self.kuramori("vault", "init", name)
        state = self.folder / "state"
        state.mkdir()
        harness.give_to_server(state)

        def backup(status=0):
            done = self.kuramori("backup", "db", "--copy", "--json", status=status, env={"KURAMORI_STATE": str(state)})
            document = done.json()
            jsonschema.validate(document, json.loads((harness.ROOT / "docs/schema/backup.schema.json").read_text()))
            return done, {copy["to"]: copy for copy in document["copies"]}

        _, copies = backup()
        self.assertEqual([(copy["whole"], copy["snapshots"]) for copy in copies.values()], [(True, 1), (True, 1)], copies)
        drawer.rename(shut)
        server.sql("update entry set text = 'moved' where id % 100 = 0", "checkpoint")
        told, copies = backup(status=3)
        self.assertTrue(copies["away"]["whole"])
        self.assertFalse(copies["drawer"]["whole"])
        self.assertIn("last whole", copies["drawer"]["error"]["why"])
        self.assertIn("not copied to drawer", told.err)
        # For people the same, in words.
        self.assertIn("last whole", self.kuramori("backup", "db", "--copy", status=3, env={"KURAMORI_STATE": str(state)}).err)
        shut.rename(drawer)
        _, copies = backup()
        self.assertEqual((copies["drawer"]["snapshots"], copies["away"]["snapshots"]), (3, 1), copies)
        listed = [snapshot["id"] for snapshot in self.kuramori("snapshots", "--vault", "here", "--json").json()["snapshots"]]
        for name in ("away", "drawer"):
            there = self.kuramori("snapshots", "--vault", name, "--json").json()["snapshots"]
            self.assertEqual([snapshot["id"] for snapshot in there], listed)
        # Nowhere to go is said before the server is touched.
        self.config.write_text(plain)
        before = len(self.snapshots())
        self.assert_refused(self.kuramori("backup", "db", "--copy", status=2), "no plan says where copies")
        self.assertEqual(len(self.snapshots()), before)

    def test_damage_is_not_copied_and_is_named(self):
        server = self.small_server()
        self.kuramori("backup", "db")
        server.stop()
        second = self.second()
        pack = max((path for path in (self.vault / "packs").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        content = bytearray(pack.read_bytes())
        content[len(content) // 2] ^= 1
        os.chmod(pack, 0o600)
        pack.write_bytes(content)
        done = self.copy(second, status=3).json()
        self.assertEqual(done["snapshots"], 0)
        self.assertIn(pack.name, "".join(done["skipped"]))
        self.assertEqual(self.kuramori(*self.given(second), "snapshots", "--json", config=False).json()["snapshots"], [])

    def test_a_snapshot_whose_wal_does_not_come_along_is_not_copied(self):
        # Found by an hour of everything at once: a copy that stood still was taken for dead, what it was reading was pruned and
        # collected, and the rest of the WAL was passed over: a snapshot that no server could have started from.
        self.small_server()
        self.kuramori("backup", "db")
        self.servers[0].stop()
        second = self.second()
        with without_wal(self.vault):
            done = self.copy(second, status=3).json()
        self.assertEqual(done["snapshots"], 0, done)
        self.assertIn("its WAL from", "".join(done["skipped"]))
        self.assertEqual(self.kuramori(*self.given(second), "snapshots", "--json", config=False).json()["snapshots"], [])
        self.assertEqual(self.copy(second).json()["snapshots"], 1)
        self.assertFalse(self.kuramori(*self.given(second), "vault", "scrub", second, "--json", config=False).json()["damaged"])

    def test_a_disk_that_is_away_is_waited_for_and_its_age_is_told(self):
        server = self.small_server()
        self.kuramori("backup", "db")
        server.stop()
        second = self.second()
        away = self.copy(second).json()
        self.assertEqual(away["lag"]["snapshots"], 0)
        drawer = self.folder / "drawer"
        second.rename(drawer)
        told = self.copy(second, status=1)
        self.assertIn("last whole", told.out + told.err)
        drawer.rename(second)
        self.copy(second)

    def test_another_family_and_itself_are_refused(self):
        self.small_server().stop()
        other = self.folder / "other"
        self.kuramori("vault", "init", other, "--key-file", self.folder / "other.key", config=False)
        self.assertNotEqual(self.kuramori("copy", "--to", other, status=None).status, 0)
        self.assertEqual(self.copy(self.vault, status=5).status, 5)


class AnotherFamily(harness.Case):
    """A copy to a vault of another owner's: opened with a reader's key, sealed anew with a writer's."""

    in_memory = True

    def setUp(self):
        super().setUp()
        server = self.cluster = self.server(15, initdb=["--wal-segsize=1"])
        server.sql("create table entry (id bigint primary key, text text)", "insert into entry select i, md5(i::text) from generate_series(1, 20000) i",
                   "create index on entry (text)", "checkpoint")
        self.kuramori("backup", "db", "--label", "first", "--tag", "kind=test")
        self.other, self.other_key = self.folder / "other", self.folder / "other.key"
        far = f'  other: {{ at: "{self.other}", site: far, copy_of: here, key_file: "{self.other_key}" }}\n'
        self.config.write_text(self.config.read_text().replace("vaults:\n", "vaults:\n" + far, 1))
        self.kuramori("vault", "init", "other")
        self.roles = self.folder / "roles.yaml"
        text = self.config.read_text()
        for vault, role, owner in (("here", "reader", self.key), ("other", "writer", self.other_key)):
            key = self.folder / f"{vault}.{role}.key"
            self.kuramori("vault", "key", "new", vault, "--role", role, "--to", key)
            text = text.replace(f'key_file: "{owner}"', f'key_file: "{key}"')
        self.roles.write_text(text)

    def copy(self, *words, status=0, **env):
        return self.kuramori("--config", self.roles, "copy", "--to", "other", "--json", *words, status=status, env=env, config=False)

    def restored(self, vault, name, *how):
        target = self.folder / f"{vault}-{name}"
        self.kuramori("restore", "db" + (how[0] if how else ""), "--vault", vault, "--to", target, *how[1:])
        return target

    def test_it_is_sealed_anew_and_restores_with_the_first_family_gone_S8(self):
        server = self.cluster
        behind = self.copy("--dry-run").json()
        self.assertEqual(behind["lag"]["snapshots"], 1)
        first = self.copy().json()
        self.assertEqual((first["snapshots"], first["skipped"]), (1, []), first)
        # Few pages change: few are sealed again, the others are built on.
        server.sql("update entry set text = 'moved' where id = 77", "create table fresh as select generate_series(1, 10) id", "checkpoint")
        self.kuramori("backup", "db")
        server.sql("insert into entry select i, 'later' from generate_series(20001, 21000) i")
        moment = server.sql("select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
        server.sql("delete from entry where id > 20500")
        server.switch_wal()
        second = self.copy().json()
        self.assertEqual((second["snapshots"], second["skipped"], second["lag"]["wal_objects"]), (1, [], 0), second)
        self.assertLess(second["sent_bytes"], first["sent_bytes"] / 2)
        again = self.copy().json()
        self.assertEqual((again["snapshots"], again["wal_objects"], again["sent_bytes"]), (0, 0, 0), again)
        # The same snapshots, byte for byte, though no object is the same.
        here, there = (self.kuramori("snapshots", "--vault", vault, "--json").json()["snapshots"] for vault in ("here", "other"))
        for name in ("id", "time", "size_bytes", "keep_until"):
            self.assertEqual([one[name] for one in here], [one[name] for one in there], name)
        shown = self.kuramori("show", here[0]["id"], "--vault", "other").out
        self.assertIn("first", shown)
        for one in here:
            trees = [kill_points.tree_digest(self.restored(vault, one["id"], "@" + one["id"])) for vault in ("here", "other")]
            self.assertEqual(*trees)
        packs = [{path.read_bytes() for path in (vault / "packs").rglob("*") if path.is_file()} for vault in (self.vault, self.other)]
        self.assertFalse(packs[0] & packs[1])
        # A hold is placed anew by who may.
        self.kuramori("hold", "add", here[0]["id"], "--name", "audit", "--vault", "here")
        self.kuramori("copy", "--to", "other")
        self.assertIn("audit", self.kuramori("snapshots", "--vault", "other", "--json").out)
        server.kill()
        shutil.rmtree(self.vault)
        self.key.unlink()
        restored = self.adopt(self.restored("other", "moment", "", "--at", moment))
        self.assertEqual(restored.sql("select count(*), count(*) filter (where text = 'moved') from entry"), "21000|1")
        restored.stop()
        self.kuramori("drill", "db", "--vault", "other")
        self.assertFalse(self.kuramori("vault", "scrub", "other", "--json").json()["damaged"])
        # It is a vault like any other: what it was told to hold stays, nothing is garbage.
        self.kuramori("vault", "collect", "other")

    def test_a_snapshot_whose_wal_does_not_come_along_is_not_sealed(self):
        self.cluster.stop()
        with without_wal(self.vault):
            done = self.copy(status=3).json()
        self.assertEqual(done["snapshots"], 0, done)
        self.assertIn("its WAL from", "".join(done["skipped"]))
        self.assertEqual(self.copy().json()["snapshots"], 1)
        self.assertFalse(self.kuramori("vault", "scrub", "other", "--json").json()["damaged"])

    def test_killed_at_store_calls_it_goes_on_P63(self):
        server = self.cluster
        server.sql("update entry set text = 'moved' where id % 500 = 0", "checkpoint")
        self.kuramori("backup", "db")
        server.switch_wal()
        wanted = kill_points.tree_digest(self.restored("here", "latest", "@latest"))
        server.stop()
        kills = 0
        for call in itertools.count(9, 3 if ALL else 43):
            env = {"KURAMORI_TEST_KILL_AT_STORE_CALL": str(call)}
            if kills % 2:
                env["KURAMORI_TEST_KILL_AT_STORE_CALL_AFTER"] = "1"
            done = self.copy(status=None, **env)
            if done.status == 0:
                break
            self.assertEqual(done.status, -signal.SIGKILL, done)
            kills += 1
        self.assertGreater(kills, 2)
        self.assertEqual(self.copy().json()["sent_objects"], 0)
        self.assertFalse(self.kuramori("vault", "scrub", "other", "--json").json()["damaged"])
        self.assertEqual(len(self.kuramori("snapshots", "--vault", "other", "--json").json()["snapshots"]), 2)
        self.assertEqual(kill_points.tree_digest(self.restored("other", "latest", "@latest")), wanted)

    def test_who_cannot_read_the_first_or_write_the_second_is_refused(self):
        self.cluster.stop()
        writer, reader = self.folder / "w.key", self.folder / "r.key"
        self.kuramori("vault", "key", "new", "here", "--role", "writer", "--to", writer)
        self.kuramori("vault", "key", "new", "other", "--role", "reader", "--to", reader)
        text = self.roles.read_text()
        for right, wrong in (("here.reader.key", writer), ("other.writer.key", reader)):
            self.roles.write_text(text.replace(str(self.folder / right), str(wrong)))
            self.assertEqual(self.copy(status=5).status, 5)
        self.assertEqual(self.kuramori("snapshots", "--vault", "other", "--json").json()["snapshots"], [])


class CopyKills(harness.Case):
    """SIGKILL at the store calls of a copy; then the same command again, and both vaults are whole."""

    in_memory = True

    def setUp(self):
        super().setUp()
        server = self.cluster = self.server(15, initdb=["--wal-segsize=1"])
        server.sql("create table entry (id bigint primary key, text text)",
                   "insert into entry select i, md5(i::text) from generate_series(1, 4000) i", "checkpoint")
        self.kuramori("backup", "db")
        server.sql("update entry set text = 'changed' where id % 50 = 0", "checkpoint")
        self.kuramori("backup", "db")
        server.switch_wal()
        self.state = tree = self.folder / "tree"
        self.kuramori("restore", "db@latest", "--to", tree)
        self.digest = kill_points.tree_digest(tree)
        server.stop()
        self.empty = self.folder / "empty"
        self.kuramori("vault", "init", self.empty, "--key-file", self.key, config=False)

    def copy(self, to, status=0, **env):
        return self.kuramori("copy", "--to", to, "--key-file", self.key, "--json", status=status, env=env)

    def fresh(self, number):
        place = self.folder / f"to-{number}"
        subprocess.run(["cp", "-a", self.empty, place], check=True)
        return place

    def test_a_copy_killed_at_store_calls_goes_on_V6_P63(self):
        counted = self.folder / "calls"
        harness.give_to_server(self.folder)
        whole = self.fresh("whole")
        sent = self.copy(whole, KURAMORI_TEST_COUNT_STORE_CALLS=str(counted)).json()["sent_bytes"]
        calls = int(counted.read_text())
        self.assertGreater(calls, 30)
        step = 1 if ALL else max(1, calls // KILLS)
        for call, after in zip(range(1, calls + 1, step), itertools.cycle((False, True))):
            with self.subTest(call=call, after=after):
                place = self.fresh(call)
                env = {"KURAMORI_TEST_KILL_AT_STORE_CALL": str(call)}
                if after:
                    env["KURAMORI_TEST_KILL_AT_STORE_CALL_AFTER"] = "1"
                self.assertEqual(self.copy(place, status=None, **env).status, -signal.SIGKILL)
                given = ["--vault", place, "--key-file", self.key]
                found = self.kuramori(*given, "vault", "scrub", place, "--json", config=False).json()
                self.assertFalse(found["damaged"], found)
                # Killed at four fifths, the second run sends little.
                again = self.copy(place).json()
                if call >= 0.8 * calls:
                    self.assertLessEqual(again["sent_bytes"], 0.3 * sent)
                found = self.kuramori(*given, "vault", "scrub", place, "--json", config=False).json()
                self.assertFalse(found["damaged"], found)
                listed = self.kuramori(*given, "snapshots", "--json", config=False).json()["snapshots"]
                self.assertEqual(len(listed), 2)
                if call == 1 + step * (KILLS // 2) or ALL:
                    target = self.folder / "restored"
                    shutil.rmtree(target, ignore_errors=True)
                    self.kuramori(*given, "restore", "db@latest", "--to", target, config=False)
                    self.assertEqual(kill_points.tree_digest(target), self.digest)
                shutil.rmtree(place)
        found = self.kuramori("vault", "scrub", self.vault, "--key-file", self.key, "--json").json()
        self.assertFalse(found["damaged"], found)


class TwoPlaces(harness.Case):
    """A ledger beside the objects: the main job, reading without it, and a lost one founded anew."""

    def test_reading_needs_the_objects_alone_and_a_lost_ledger_is_founded_anew(self):
        server = self.server(15, initdb=["--wal-segsize=1"])
        server.sql("create table entry as select i id, md5(i::text) t from generate_series(1, 3000) i")
        objects = self.folder / "objects"
        ledger, other = self.folder / "ledger", self.folder / "ledger-2"
        place = f"{objects}&ledger={ledger}"
        self.kuramori("vault", "init", place, "--key-file", self.key, config=False)
        text = self.config.read_text()
        lines = text.replace(f"file://{self.vault}", str(objects)).replace(str(self.vault), str(objects))
        self.config.write_text(lines.replace("key_file:", f'ledger: "{ledger}", key_file:', 1))
        first = self.kuramori("backup", "db", "--keep", "1s", "--json").json()["snapshot"]["id"]
        server.sql("update entry set t = 'x' where id % 7 = 0", "checkpoint")
        second = self.kuramori("backup", "db", "--json").json()["snapshot"]["id"]
        self.assertTrue(list((ledger / "0000000001" / "commits").rglob("*.*")))
        time.sleep(1.1)
        self.config.write_text(self.config.read_text().replace("    window: 14d\n", ""))
        self.kuramori("prune")
        self.kuramori("vault", "collect", place, "--key-file", self.key)
        self.kuramori("vault", "scrub", place, "--key-file", self.key)
        # The ledger is away: reading goes on, deciding is refused.
        gone = self.folder / "gone"
        ledger.rename(gone)
        listed = [s["id"] for s in self.kuramori("snapshots", "--json").json()["snapshots"]]
        self.assertEqual(listed, [second])
        self.kuramori("restore", f"db@{second}", "--to", self.folder / "restored")
        self.assertNotEqual(self.kuramori("backup", "db", status=None).status, 0)
        self.kuramori("vault", "scrub", objects, "--key-file", self.key)
        # Lost for good: a new one, and the old one counts for nothing should it come back.
        self.kuramori("vault", "ledger", "new", objects, "--ledger", other, "--key-file", self.key, "--yes", config=False)
        gone.rename(ledger)
        self.assertNotEqual(self.kuramori("backup", "db", status=None).status, 0)
        self.config.write_text(self.config.read_text().replace(f'"{ledger}"', f'"{other}"'))
        third = self.kuramori("backup", "db", "--json").json()["snapshot"]["id"]
        self.assertEqual([s["id"] for s in self.kuramori("snapshots", "--json").json()["snapshots"]], [second, third])
        self.kuramori("vault", "collect", f"{objects}&ledger={other}", "--key-file", self.key)
        self.kuramori("vault", "scrub", f"{objects}&ledger={other}", "--key-file", self.key)
        self.kuramori("restore", f"db@{third}", "--to", self.folder / "restored-3")


if __name__ == "__main__":
    harness.main()
