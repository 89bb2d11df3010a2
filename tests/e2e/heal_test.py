"""Scrub and heal (V1, V28, P66): every byte again within a budget, damage named with the snapshots and files it touches, and
what another vault of the family has whole brought back from there, whatever stops it on the way."""

import datetime
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess

import harness
import kill_points
import role_users

ALL = bool(os.environ.get("KURAMORI_TEST_ALL"))
REMEMBERED_EVERY = 8  # objects: as many as that are read again after a kill
KILLS = 10  # sampled store calls of one healing; all of them in the long form


def objects(vault, *prefixes):
    """Names in a vault in a folder, those of most bytes first."""
    paths = [path for prefix in prefixes or ("",) for path in (pathlib.Path(vault) / prefix).rglob("*") if path.is_file()]
    return [str(path.relative_to(vault)) for path in sorted(paths, key=lambda path: (-path.stat().st_size, path))]


def spoil(vault, name, how="flipped"):
    path = pathlib.Path(vault) / name
    content = bytearray(path.read_bytes())
    os.chmod(path, 0o600)
    if how == "lost":
        path.unlink()
    elif how == "cut":  # V28: what arrived is not all of it
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def origin(name):
    """The name under which an object was made: without the session that put it again."""
    return name if name.startswith("wal/") else name.split(".")[0]


class Scene(harness.Case):
    """A vault with two snapshots and WAL after them, a copy of it, and what a restore of the newest gives."""

    in_memory = True

    def setUp(self):
        super().setUp()
        server = self.cluster = self.server(initdb=["--wal-segsize=1"])
        self.copy = self.folder / "copy"
        server.sql("create table entry (id bigint primary key, text text)",
                   "insert into entry select i, md5(i::text) from generate_series(1, 4000) i", "vacuum (freeze, analyze)", "checkpoint")
        self.kuramori("backup", "db", "--vault", "here")
        server.sql("update entry set text = 'changed' where id % 50 = 0", "vacuum (freeze, analyze)", "checkpoint")
        self.kuramori("backup", "db", "--vault", "here")
        for number in range(3):
            server.sql(f"insert into entry values ({5000 + number}, 'later')")
            server.switch_wal()
        server.stop()
        text = self.config.read_text()
        self.config.write_text(text.replace("vaults:\n", f'vaults:\n  away: {{ at: "{self.copy}", site: b, key_file: "{self.key}" }}\n', 1))
        self.kuramori("vault", "init", "away")
        self.kuramori("copy", "--from", "here", "--to", "away")
        self.wanted = self.restored("wanted")

    def restored(self, name):
        target = self.folder / f"restored-{name}"
        shutil.rmtree(target, ignore_errors=True)
        self.kuramori("restore", "db@latest", "--vault", "here", "--to", target)
        return kill_points.tree_digest(target)

    def scrub(self, *more, vault="here", status=0, key=None, **env):
        given = ["--key-file", key] if key else []
        return self.kuramori(*given, "vault", "scrub", vault, *more, "--json", status=status, env=env).json()

    def heal(self, *more, status=0, **options):
        return self.scrub("--heal", *more, status=status, **options)

    def snapshot_ids(self):
        return sorted(one["id"] for one in self.kuramori("snapshots", "db", "--vault", "here", "--json").json()["snapshots"])


class Heal(Scene):
    def test_what_is_damaged_is_named_and_comes_back_V1_V28_P66(self):
        ids = self.snapshot_ids()
        self.assertEqual(self.heal()["healed"], [])  # nothing to do
        stood = objects(self.vault, "packs", "maps", "live", "wal")
        for prefix, how in (("packs", "flipped"), ("packs", "lost"), ("packs", "cut"), ("maps", "flipped"), ("maps", "lost"),
                            ("live", "flipped"), ("live", "lost"), ("wal", "flipped"), ("wal", "cut")):
            with self.subTest(prefix=prefix, how=how):
                victim = objects(self.vault, prefix)[0]
                if prefix == "wal":  # what the archiver delivered late, of before the snapshots, is not copied
                    victim = next(name for name in objects(self.vault, prefix) if name in objects(self.copy, prefix))
                spoil(self.vault, victim, how)
                found = self.scrub(status=4)
                finding = next(one for one in found["findings"] if origin(one["object"]) == origin(victim) and one["severity"] == "damage")
                if prefix != "wal":
                    self.assertTrue(finding["snapshots"])
                    self.assertLessEqual(set(finding["snapshots"]), set(ids))
                done = self.heal()
                self.assertIn(origin(victim), [origin(one["object"]) for one in done["healed"]])
                self.assertEqual((done["not_healed"], done["damaged"]), ([], False))
                # A name is never put a second time; WAL's says what it holds.
                self.assertEqual((self.vault / victim).exists(), prefix == "wal")
                again = self.heal()
                self.assertEqual((again["healed"], again["sent_bytes"]), ([], 0))
        self.assertEqual(self.restored("healed"), self.wanted)
        # One object for each that stood; a collection leaves them be.
        self.assertEqual(len(objects(self.vault, "packs", "maps", "live", "wal")), len(stood))
        self.kuramori("vault", "collect", "here")
        self.scrub()
        self.assertEqual(self.restored("collected"), self.wanted)

    def test_the_live_record_is_lost_with_everything_it_speaks_of(self):
        for name in objects(self.vault, "live", "maps", "packs"):
            spoil(self.vault, name, "lost")
        done = self.heal()
        self.assertEqual(done["not_healed"], [])
        self.scrub()
        self.assertEqual(self.restored("healed"), self.wanted)

    def test_wal_that_is_missing_between_what_stands_comes_back(self):
        wal = sorted(name for name in objects(self.vault, "wal") if ".seg." in name)
        self.assertGreaterEqual(len(wal), 4)
        middle = wal[-2]
        spoil(self.vault, middle, "lost")
        self.assertEqual([one["object"] for one in self.heal()["healed"]], [middle])
        self.assertEqual((self.vault / middle).read_bytes(), (self.copy / middle).read_bytes())
        # By a copy the other way as well.
        spoil(self.vault, middle, "lost")
        self.kuramori("copy", "--from", "away", "--to", "here")
        self.assertTrue((self.vault / middle).exists())
        # Damaged in both: nothing is taken away, and nothing damaged put there.
        for vault in (self.vault, self.copy):
            spoil(vault, middle)
        held = (self.vault / middle).read_bytes()
        left = self.heal(status=4)
        self.assertEqual([one["object"] for one in left["not_healed"]], [middle])
        self.assertEqual((self.vault / middle).read_bytes(), held)

    def test_each_pack_from_the_copy_that_has_it_whole(self):
        third = self.folder / "third"
        text = self.config.read_text()
        entry = f'  third: {{ at: "{third}", site: c, key_file: "{self.key}" }}\n'
        foreign = f'  foreign: {{ at: "{self.folder / "foreign"}", site: d, key_file: "{self.folder / "foreign.key"}" }}\n'
        gone = f'  gone: {{ at: "{self.folder / "gone"}", site: e, key_file: "{self.key}" }}\n'
        self.config.write_text(text.replace("vaults:\n", f"vaults:\n{gone}{foreign}", 1).replace("  here:", f"{entry}  here:", 1))
        for vault in ("third", "foreign"):
            self.kuramori("vault", "init", vault)
        self.kuramori("copy", "--from", "here", "--to", "third")
        one, other = objects(self.vault, "packs")[:2]
        at = {name: {vault: next(path for path in objects(vault, "packs") if path.startswith(name + ".")) for vault in (self.copy, third)}
              for name in (one, other)}
        for name in (one, other):
            spoil(self.vault, name)
        spoil(self.copy, at[one][self.copy])
        spoil(third, at[other][third])
        told = self.kuramori("vault", "scrub", "here", "--heal")
        self.assertIn(f"healed: {one}", told.out)
        self.assertIn(f"healed: {other}", told.out)
        self.assertIn("gone is not asked", told.err)
        # What none has whole stays as it is, and is named with why; the rest is healed.
        for vault in (self.copy, third):
            for name in objects(vault, "packs"):
                spoil(vault, name, "cut")
        victim = objects(self.vault, "packs")[0]
        spoil(self.vault, victim)
        left = self.heal(status=4)["not_healed"]
        self.assertEqual([found["object"] for found in left], [victim])
        self.assertIn("no copy has it whole", left[0]["why"])
        self.assertTrue((self.vault / victim).exists())
        # Asked for by name: itself and another family are refused in words.
        self.heal("--from", "here", status=5)
        self.heal("--from", "foreign", status=5)
        self.assertIn("--heal", self.kuramori("vault", "scrub", "here", "--from", "away", status=2).err)

    def test_files_are_named_to_who_may_read_and_keepers_heal_blind(self):
        for role in ("keeper", "reader", "writer"):
            self.kuramori("vault", "key", "new", "here", "--role", role, "--name", role, "--to", self.folder / f"{role}.key")
        keeper, reader, writer = (self.folder / f"{role}.key" for role in ("keeper", "reader", "writer"))
        victim = objects(self.vault, "packs")[0]
        spoil(self.vault, victim)
        self.heal(status=5, key=writer)
        self.heal(status=5, key=reader)
        self.assertTrue((self.vault / victim).exists())

        def damage(found):
            return next(one for one in found["findings"] if one["object"] == victim)

        blind, seeing = damage(self.scrub(status=4, key=keeper)), damage(self.scrub(status=4, key=reader))
        self.assertNotIn("files", blind)
        self.assertEqual(blind["snapshots"], seeing["snapshots"])
        done = self.heal(key=keeper)
        self.assertEqual([one["object"] for one in done["healed"]], [victim])
        # Read again by the owner, whose document names files of the cluster, nothing else.
        spoil(self.vault, (name := objects(self.vault, "packs")[0]), "cut")
        named = next(one for one in self.heal()["findings"] if one["object"] == name)
        self.assertGreater(named["files_touched"], 0)
        self.assertTrue(any(path.startswith("base/") for path in named["files"]), named)
        self.assertEqual(named["files_unknown_because"], "")

    def test_a_vault_of_two_places_is_healed(self):
        objects_at, ledger = self.folder / "two", self.folder / "two-ledger"
        text = self.config.read_text()
        self.config.write_text(text.replace("vaults:\n", f'vaults:\n  two: {{ at: "{objects_at}", ledger: "{ledger}", site: t, key_file: "{self.key}" }}\n', 1))
        self.kuramori("vault", "init", "two")
        self.kuramori("copy", "--from", "here", "--to", "two")
        spoil(objects_at, objects(objects_at, "packs")[0])
        spoil(objects_at, objects(objects_at, "live")[0], "lost")
        done = self.heal("--from", "here", vault="two")
        self.assertEqual((len(done["healed"]), done["not_healed"]), (2, []))
        self.scrub(vault="two")
        target = self.folder / "from-two"
        self.kuramori("restore", "db@latest", "--vault", "two", "--to", target)
        self.assertEqual(kill_points.tree_digest(target), self.wanted)

    def test_a_healing_killed_at_store_calls_loses_nothing_V6(self):
        """At every call: what could be restored before still can, and the same command ends the work."""
        victims = [objects(self.vault, "packs")[0], objects(self.vault, "live")[0], sorted(objects(self.vault, "wal"))[-2]]
        for name in victims:
            spoil(self.vault, name)
        damaged = self.folder / "damaged"
        subprocess.run(["cp", "-a", self.vault, damaged], check=True)
        counted = self.folder / "calls"
        harness.give_to_server(self.folder)
        self.heal(KURAMORI_TEST_COUNT_STORE_CALLS=str(counted))
        stood = len(objects(self.vault, "packs", "maps", "live", "wal"))
        calls = int(counted.read_text())
        # The first part only reads: the scrub, as everybody knows it.
        clean = self.folder / "clean"
        self.scrub(KURAMORI_TEST_COUNT_STORE_CALLS=str(clean))
        first = int(clean.read_text()) // 2
        step = 1 if ALL else max(1, (calls - first) // KILLS)
        for call, after in zip(range(first, calls + 1, step), itertools.cycle((False, True))):
            with self.subTest(call=call, after=after):
                shutil.rmtree(self.vault)
                subprocess.run(["cp", "-a", damaged, self.vault], check=True)
                env = {"KURAMORI_TEST_KILL_AT_STORE_CALL": str(call), **({"KURAMORI_TEST_KILL_AT_STORE_CALL_AFTER": "1"} if after else {})}
                killed = self.kuramori("vault", "scrub", "here", "--heal", "--json", status=None, env=env)
                self.assertEqual(killed.status, -signal.SIGKILL)
                # Nothing but what was damaged is missing.
                left = {finding["object"] for finding in self.scrub(status=None)["findings"] if finding["severity"] == "damage"}
                known = {str(name) for name in victims}
                self.assertTrue(all(name in known or name.startswith("wal/") for name in left), left)
                self.assertEqual(self.heal()["not_healed"], [])
                self.scrub()
                # At most one object more for each kill.
                self.assertLessEqual(len(objects(self.vault, "packs", "maps", "live", "wal")), stood + 1)
                self.assertEqual(self.restored("killed"), self.wanted)


class Budget(Scene):
    """Every byte within N days, an hour a night: what was checked the longest ago first, remembered where the scrub runs."""

    def make_state(self, state):
        pathlib.Path(state["KURAMORI_STATE"]).mkdir()
        harness.give_to_server(state["KURAMORI_STATE"])

    def test_runs_go_on_from_each_other_and_tell_the_oldest_verification(self):
        state = {"KURAMORI_STATE": str(self.folder / "state")}
        self.make_state(state)
        whole = len(objects(self.vault, "packs", "wal"))
        # Killed near its end: what it found whole by then need not be read again. A keeper's key is enough.
        self.kuramori("vault", "key", "new", "here", "--role", "keeper", "--name", "keeper", "--to", self.folder / "keeper.key")
        keeper = self.folder / "keeper.key"
        counted = self.folder / "calls"
        harness.give_to_server(self.folder)
        everything = self.scrub(key=keeper, KURAMORI_TEST_COUNT_STORE_CALLS=str(counted))
        for call in range(int(counted.read_text()), 0, -4):
            shutil.rmtree(state["KURAMORI_STATE"])
            self.make_state(state)
            self.kuramori("--key-file", keeper, "vault", "scrub", "here", status=-signal.SIGKILL,
                          env={"KURAMORI_TEST_KILL_AT_STORE_CALL": str(call), **state})
            all_of_it = self.scrub("--every", "30d", "--budget", "1h", key=keeper, **state)
            self.assertEqual((all_of_it["never_verified"], all_of_it["objects_left"], all_of_it["damaged"]), (0, 0, False))
            skipped = everything["objects"] - all_of_it["objects"]
            if skipped < whole:
                break
        # Several are read at once: a few more than that may have been found whole when it was written down.
        self.assertGreaterEqual(skipped, (whole - 1) // REMEMBERED_EVERY * REMEMBERED_EVERY)
        self.assertLess(skipped, whole)
        oldest = datetime.datetime.fromisoformat(all_of_it["oldest_verification"].replace("Z", "+00:00")[:26].split("+")[0].split(".")[0])
        self.assertLess(abs((datetime.datetime.utcnow() - oldest).total_seconds()), 600)
        # All of it was checked just now: nothing is due, and damage of today is found when it is.
        victim = objects(self.vault, "packs")[0]
        spoil(self.vault, victim)
        due = self.scrub("--every", "30d", **state)
        self.assertEqual((due["damaged"], due["objects_left"]), (False, 0))
        self.assertEqual(self.scrub(status=4, **state)["never_verified"], 1)
        # What was found damaged counts as never verified: it comes first, within any budget.
        self.assertTrue(self.scrub("--every", "30d", status=4, **state)["damaged"])
        self.heal(**state)
        self.assertEqual(self.scrub("--every", "30d", **state)["never_verified"], 0)
        # Another machine remembers nothing, and says so by what it is told.
        fresh = {"KURAMORI_STATE": str(self.folder / "fresh")}
        self.make_state(fresh)
        spoil(self.vault, objects(self.vault, "packs")[0], "cut")
        elsewhere = self.kuramori("vault", "scrub", "here", status=4, env=fresh)
        self.assertIn("1 packs and WAL objects were never found whole", elsewhere.out)


class LockedHeal(harness.Case):
    """Where nothing can be removed yet, the damaged object stays, and is in nobody's way (V21)."""

    place_kind = "locked"

    def spoil(self, name):
        """Another version of it, retained as well."""
        content = bytearray(self.place.get(name))
        content[len(content) // 2] ^= 1
        self.place.s3.put(self.place.bucket, "vault/" + name, bytes(content)).expect(200)
        until = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=12)).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.place.s3.set_retention(self.place.bucket, "vault/" + name, until, mode="COMPLIANCE").expect(200)

    def test_what_is_retained_is_passed_by(self):
        server = self.server(initdb=["--wal-segsize=1"])
        server.sql("create table entry as select i id, md5(i::text) t from generate_series(1, 2000) i")
        self.kuramori("backup", "db", "--vault", "here")
        server.stop()
        copy = self.folder / "copy"
        text = self.config.read_text()
        self.config.write_text(text.replace("vaults:\n", f'vaults:\n  away: {{ at: "{copy}", site: b, key_file: "{self.key}" }}\n', 1))
        self.kuramori("vault", "init", "away")
        self.kuramori("copy", "--from", "here", "--to", "away")
        name = max(self.place.objects("packs/"), key=lambda one: one[1])[0]
        self.spoil(name)
        # By a keeper with its own user at the store, under the policy that is printed for it.
        users = role_users.RoleUsers(self)
        users.make("keeper")
        state = self.folder / "state"
        state.mkdir()
        harness.give_to_server(state)

        def scrub(*more, status=0):
            return users.run("keeper", "vault", "scrub", "here", "--json", *more, status=status, env={"KURAMORI_STATE": str(state)}).json()

        found = scrub(status=4)
        self.assertEqual([one["object"] for one in found["findings"] if one["severity"] == "damage"], [name])
        self.assertEqual(found["never_verified"], 1)
        done = scrub("--heal", "--every", "30d", "--budget", "1h")
        self.assertLess(done["objects"], found["objects"])  # what was found whole just now is not due
        self.assertEqual(([one["object"] for one in done["healed"]], done["not_healed"]), ([name], []))
        self.assertIn("retained until", done["healed"][0]["note"])
        # Told as a note from now on; no run puts it a second time.
        again = scrub("--heal")
        self.assertEqual((again["healed"], again["sent_bytes"], again["damaged"]), ([], 0, False))
        self.assertIn("readers take that", json.dumps(again["findings"]))
        # WAL has one name, and that is taken until the lock ends.
        wal = max(one for one in self.place.objects("wal/") if ".seg." in one[0] or ".part." in one[0])[0]
        self.spoil(wal)
        left = scrub("--heal", status=4)
        self.assertEqual([one["object"] for one in left["not_healed"]], [wal])
        self.assertIn("retained until", left["not_healed"][0]["why"])
        # Restored all the same: packs from the whole incarnation, WAL from the version behind.
        self.kuramori("restore", "db@latest", "--vault", "here", "--to", self.folder / "restored")
        self.kuramori("vault", "collect", "here")


if __name__ == "__main__":
    harness.main()
