"""Restores: to every kind of target, into every kind of place, interrupted and gone on with, refused where it must be."""

import os
import pathlib
import re
import shutil
import subprocess
import time
import unittest

import harness
import kill_points


def utc(moment):
    """A time as PostgreSQL prints it, as --at reads it."""
    return re.sub(r"([+-]\d\d)$", r"\1:00", moment)


def differing_bytes(one, other, page=8192):
    """Bytes of the pages that are not the same in both folders, what only `other` has included."""
    total = 0
    for path in sorted(pathlib.Path(other).rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        wanted, there = path.read_bytes(), pathlib.Path(one) / path.relative_to(other)
        have = there.read_bytes() if there.is_file() else b""
        total += sum(min(page, len(wanted) - at) for at in range(0, len(wanted), page) if wanted[at:at + page] != have[at:at + page])
    return total


class Case(harness.Case):
    in_memory = True

    def small_server(self, **options):
        return self.server(initdb=["--wal-segsize=1"], **options)

    def backup(self, *words):
        return self.kuramori("backup", "db", *words, "--json").json()["snapshot"]["id"]

    def restore(self, to, *words, what="db", **options):
        return self.kuramori("restore", what, "--to", to, "--json", *words, **options)

    def opened(self, target):
        """The restored server, stopped again by the test's end; no setting is given that the restore should have made."""
        server = harness.Server(self.folder, data=target)
        self.servers.append(server)
        return server.start()

    def promoted(self, target):
        server = self.opened(target)
        server.await_promoted()
        return server


class Targets(Case):
    """One history, every way to name a point of it."""

    def history(self):
        server = self.small_server(settings=["track_commit_timestamp = on"])
        self.points = {}
        server.sql("create table h (n int)")
        self.base = self.backup()
        for n in range(1, 6):
            # An id of its own for each: a transaction a row.
            xid = server.sql(f"with row as (insert into h values ({n}) returning 1) select pg_current_xact_id() from row")
            time.sleep(0.03)
            self.points[n] = {"xid": xid, "at": utc(server.sql("select clock_timestamp() at time zone 'UTC' || '+00'")),
                              "lsn": server.sql("select pg_current_wal_insert_lsn()")}
            server.sql(f"select pg_create_restore_point('after_{n}')")
            time.sleep(0.03)
            if n in (2, 4):
                server.switch_wal()
        server.switch_wal()
        return server

    def rows(self, *words, status=0, **options):
        target = self.folder / f"restored{len(list(self.folder.glob('restored*')))}"
        self.outcome = self.restore(target, *words, status=status, **options)
        server = self.promoted(target)
        found = server.sql("select string_agg(n::text, ',' order by n) from h")
        self.assertEqual(server.sql("show archive_mode"), "off")  # P51, S11
        server.stop()
        self.target = target
        return found

    def test_every_target_restores_what_was_committed_there_D3_P49(self):
        server = self.history()
        for n in (1, 3):
            wanted, before = ",".join(map(str, range(1, n + 1))), ",".join(map(str, range(1, n)))
            point = self.points[n]
            with self.subTest(n=n):
                self.assertEqual(self.rows("--at", point["at"]), wanted)
                self.assertEqual(self.rows("--lsn", point["lsn"]), wanted)
                self.assertEqual(self.rows("--xid", point["xid"]), wanted)
                self.assertEqual(self.rows("--xid", point["xid"], "--exclusive"), before)
                self.assertEqual(self.rows("--name", f"after_{n}"), wanted)
        self.assertEqual(self.rows("--latest"), "1,2,3,4,5")
        self.assertEqual(self.rows("--timeline", "1", "--latest"), "1,2,3,4,5")
        self.assertEqual(self.rows(), "")  # the snapshot's own state
        self.assertEqual(self.rows("--at", self.points[5]["at"].replace(" ", "T").replace("+00:00", "Z")), "1,2,3,4,5")
        # The plan gives the zone, and it is said which was taken (P49).
        self.assertEqual(self.rows("--at", self.points[3]["at"].replace("+00:00", "")), "1,2,3")
        self.assertIn("UTC", self.outcome.err)
        # Which snapshot to begin from is chosen: the last before the target (P50).
        later = self.backup()
        self.assertEqual(self.rows("--at", self.points[3]["at"]), "1,2,3")
        self.assertEqual(self.outcome.json()["restore"]["snapshot"], self.base)
        self.assertEqual(self.rows("--latest"), "1,2,3,4,5")
        self.assertEqual(self.outcome.json()["restore"]["snapshot"], later)
        # A quiet database: after the last commit, but inside what is archived.
        server.sql("select pg_create_restore_point('quiet')")
        server.switch_wal()
        self.assertEqual(self.rows("--name", "quiet"), "1,2,3,4,5")

    def test_targets_that_cannot_be_are_refused_in_words_P49(self):
        self.history()
        target = self.folder / "no"
        alone = ("--vault", self.vault, "--key-file", self.key)

        def refused(status, *words, **options):
            outcome = self.kuramori("restore", "db", "--to", target, *words, status=status, **options)
            self.assertGreaterEqual(len(outcome.err.strip().splitlines()), 2, outcome)
            self.assertFalse(target.exists())
            return outcome

        refused(2, "--at", "2026-01-01 13am")
        refused(2, "--at", "yesterday afternoon")
        refused(2, "--at", "2026-13-40 10:00:00Z")
        # Without a plan nothing gives a zone.
        refused(2, "--at", "2026-01-01 10:00:00", *alone, config=False)
        refused(2, "--lsn", "not/alsn")
        refused(2, "--xid", "x")
        refused(2, "--at", self.points[1]["at"], "--latest")
        window = self.kuramori("window", "db", "--json").json()
        outcome = refused(5, "--at", "2001-01-01 00:00:00Z")
        begin = str(window["windows"][0]["from"] if "windows" in window else window)
        self.assertIn(begin[11:19], outcome.err, (window, outcome.err))  # the exact window
        outcome = refused(5, "--at", "2101-01-01 00:00:00Z")
        self.assertIn(begin[11:19], outcome.err, outcome.err)
        refused(5, "--name", "never_made")
        refused(5, "--xid", "4000000")
        refused(5, "--lsn", "FF/0")
        refused(5, "--lsn", "0/100000")  # before the snapshot's end
        refused(5, "--timeline", "7", "--latest")
        refused(2, "--at", self.points[1]["at"], "--action", "dance")
        # A snapshot that is later than the target.
        time.sleep(0.1)
        later = self.backup()
        outcome = self.kuramori("restore", f"db@{later}", "--to", target, "--at", self.points[2]["at"], status=5)

    def test_actions_at_the_target_D3(self):
        self.history()
        point = self.points[3]
        paused = self.folder / "paused"
        self.restore(paused, "--at", point["at"], "--action", "pause")
        server = self.opened(paused)
        deadline = time.monotonic() + 30
        while server.sql("select pg_get_wal_replay_pause_state()") != "paused" and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertEqual(server.sql("select pg_get_wal_replay_pause_state()"), "paused")
        self.assertEqual(server.sql("select pg_is_in_recovery()"), "t")
        self.assertEqual(server.sql("select max(n) from h"), "3")
        server.sql("select pg_wal_replay_resume()")
        server.await_promoted()
        self.assertEqual(server.sql("select max(n) from h"), "3")
        server.stop()
        ended = self.folder / "ended"
        self.restore(ended, "--lsn", point["lsn"], "--action", "shutdown")
        server = harness.Server(self.folder, data=ended)
        self.servers.append(server)
        server.launch()
        server.process.wait(30)
        control = subprocess.run([server.bin / "pg_controldata", ended], capture_output=True, text=True, env=harness.environment()).stdout
        self.assertIn("shut down in recovery", control)

    def test_a_missing_segment_is_refused_by_name_and_never_promotes_P44_D6(self):
        server = self.history()
        segments = sorted(self.vault.glob("wal/*/00000001/*.seg.*"))
        # Of those after the snapshot, one with others behind it.
        name_of = lambda path: "%08X%08X%08X" % (1, int(path.name[:16], 16) >> 32, (int(path.name[:16], 16) & 0xffffffff) >> 20)
        victim = segments[-2]
        name = name_of(victim)
        beyond = "%024X" % (int(name_of(segments[-1]), 16) + 1)
        got = self.folder / "got"
        self.kuramori("wal", "get", "--resource", "db", name, got)
        hidden = self.folder / "hidden"
        victim.rename(hidden)
        outcome = self.restore(self.folder / "no", "--latest", status=None)
        self.assertEqual(outcome.status, 5, outcome)
        self.assertIn(name, outcome.err + outcome.out)
        self.assertFalse((self.folder / "no").exists())
        self.assertEqual(self.kuramori("wal", "get", "--resource", "db", name, got, status=None).status, 200)
        self.assertEqual(self.kuramori("wal", "get", "--resource", "db", beyond, got, status=None).status, 1)
        self.assertEqual(self.kuramori("wal", "get", "--resource", "db", "00000002.history", got, status=None).status, 1)
        # Whatever cannot be found out is not "beyond the end".
        self.assertEqual(self.kuramori("wal", "get", "--resource", "nobody", beyond, got, status=None).status, 200)
        self.assertEqual(self.kuramori("wal", "get", "--bad-option", status=None).status, 200)
        elsewhere = self.folder / "elsewhere"
        self.vault.rename(elsewhere)
        self.assertEqual(self.kuramori("wal", "get", "--resource", "db", beyond, got, status=None).status, 200)
        elsewhere.rename(self.vault)
        hidden.rename(victim)
        # Damaged is not missing: the right bytes (what is kept twice survives a flipped bit), or 200 and nothing.
        content, whole, stopped = victim.read_bytes(), None, 0
        victim.chmod(0o600)
        self.kuramori("wal", "get", "--resource", "db", name, got)
        whole = got.read_bytes()
        for at in range(0, len(content), max(1, len(content) // 30)):
            victim.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1:])
            got.unlink(missing_ok=True)
            status = self.kuramori("wal", "get", "--resource", "db", name, got, status=None).status
            self.assertIn(status, (0, 200), at)
            stopped += status == 200
            self.assertTrue(got.read_bytes() == whole if status == 0 else not got.exists(), at)
        self.assertGreater(stopped, 5)
        server.stop()


class Places(Case):
    """Where a restore may go, and what it does to what is there."""

    def fill(self, **options):
        server = self.small_server(**options)
        server.sql("create table entry (id bigint primary key, text text)",
                   "insert into entry select i, md5(i::text) from generate_series(1, 20000) i", "vacuum (freeze, analyze)", "checkpoint")
        return server

    def interrupted(self, target, share):
        """A restore killed after that share of its store calls."""
        counted = self.folder / "calls"
        self.restore(self.folder / "counted", env={"KURAMORI_TEST_COUNT_STORE_CALLS": counted})
        shutil.rmtree(self.folder / "counted")
        calls = int(counted.read_text())
        for attempt in range(5):  # how many calls fetch ahead depends on what the machine does besides
            call = max(int(calls * (share - 0.1 * attempt)), 1)
            outcome = self.restore(target, status=None, env={"KURAMORI_TEST_KILL_AT_STORE_CALL": call})
            is_cut = outcome.status == -9 and not (target / "global/pg_control").exists()
            if is_cut:
                break
            for left in (target, target.with_name(target.name + ".tablespaces")):
                shutil.rmtree(left, ignore_errors=True)
        self.assertTrue(is_cut, outcome)  # P47

    def test_an_interrupted_restore_goes_on_and_believes_nothing_P19_P47(self):
        server = self.fill()
        self.backup()
        whole = self.restore(self.folder / "whole").json()["restore"]
        wanted = kill_points.tree_digest(self.folder / "whole")
        target = self.folder / "target"
        self.interrupted(target, 0.88)
        share = sum(path.stat().st_size for path in target.rglob("*") if path.is_file()) / whole["bytes"]
        self.assertGreater(share, 0.5)
        again = self.restore(target).json()["restore"]
        self.assertEqual(kill_points.tree_digest(target), wanted)
        self.assertGreater(again["bytes_resumed"], 0)
        self.assertLessEqual(again["bytes_fetched"], 0.3 * whole["bytes_fetched"], (share, again))
        # What an earlier try wrote and somebody changed since, with size and times as they were.
        shutil.rmtree(target)
        self.interrupted(target, 0.88)
        journal = {int(line.split()[0]) for line in (target / ".kuramori-restore").read_text().splitlines()[1:]}
        self.assertGreater(len(journal), 100)
        tampered = []
        for path in sorted(target.joinpath("base").rglob("[0-9]*")):
            if path.is_file() and path.stat().st_size >= 8192 and path.read_bytes() == (self.folder / "whole" / path.relative_to(target)).read_bytes():
                stat = path.stat()
                with open(path, "r+b") as file:
                    file.seek(4096)
                    byte = file.read(1)
                    file.seek(4096)
                    file.write(bytes([byte[0] ^ 1]))
                os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
                tampered.append(path.relative_to(target).as_posix())
            if len(tampered) == 3:
                break
        outcome = self.restore(target)
        self.assertEqual(kill_points.tree_digest(target), wanted)
        for name in tampered:
            self.assertIn(name, outcome.err, outcome)
        restored = self.promoted(target)
        self.assertEqual(restored.sql("select count(*) from entry"), "20000")
        restored.stop()
        server.stop()

    def test_a_restore_that_is_finished_is_never_gone_on_with_P45(self):
        """Killed between pg_control and the journal's end: a server may have been started there since."""
        self.fill()
        self.backup()
        target = self.folder / "target"
        self.interrupted(target, 0.9)
        journal = (target / ".kuramori-restore").read_bytes()
        self.restore(target)
        (target / ".kuramori-restore").write_bytes(journal)
        (target / ".kuramori-restore").chmod(0o644)
        server = self.promoted(target)
        server.sql("insert into entry values (0, 'mine')", "checkpoint")
        before = kill_points.tree_digest(target)
        outcome = self.restore(target, status=5)
        self.assertIn("running", outcome.err + outcome.out)
        self.restore(target, "--delta", status=5)
        self.assertEqual(kill_points.tree_digest(target), before)
        server.stop()
        self.restore(target, status=5)

    def test_delta_writes_only_what_differs_whatever_the_times_say_P14_P46_D8(self):
        server = self.fill()
        self.backup()
        target, fresh = self.folder / "target", self.folder / "fresh"
        self.restore(target)
        copy = self.promoted(target)
        copy.sql("update entry set text = 'elsewhere' where id between 1000 and 1200", "create database extra",
                 "select pg_create_physical_replication_slot('stale', true)", "create table only_here as select 1 x", "checkpoint")
        copy.stop()
        server.sql("update entry set text = 'later' where id between 5000 and 5100", "checkpoint")
        self.backup()
        self.restore(fresh)
        # Same size, same times, other bytes; and other times, same bytes.
        victim = next(path for path in sorted((target / "base").rglob("[0-9]*"), key=lambda path: -path.stat().st_size if path.is_file() else 0)
                      if path.is_file())
        stat = victim.stat()
        with open(victim, "r+b") as file:
            file.seek(8192 * 3 + 5000)
            file.write(b"tampered")
        os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        for number, path in enumerate(sorted((target / "base").rglob("[0-9]*_vm"))):
            os.utime(path, (number, 2**31))
        must = differing_bytes(target, fresh)
        done = self.restore(target, "--delta").json()["restore"]
        self.assertEqual(kill_points.tree_digest(target), kill_points.tree_digest(fresh))
        self.assertGreater(done["bytes_compared"], 0)
        self.assertLessEqual(done["bytes_written"], 1.2 * must, (done, must))
        self.assertGreaterEqual(done["bytes_written"], 8192)
        self.assertEqual(harness.differing(harness.relation_files(target), harness.relation_files(fresh)), [])
        self.assertEqual([path.name for path in (target / "pg_replslot").iterdir()], [])  # it would hold WAL for ever
        self.assertEqual(sorted(path.name for path in (target / "base").iterdir()), sorted(path.name for path in (fresh / "base").iterdir()))
        # Again, with nothing to do but the control file and what makes it recover.
        must = differing_bytes(target, fresh)
        self.assertLessEqual(self.restore(target, "--delta").json()["restore"]["bytes_written"], must + 5 * 8192)
        restored = self.promoted(target)
        self.assertEqual(restored.sql("select count(*) filter (where text = 'later'), count(*) filter (where text = 'elsewhere') from entry"), "101|0")
        restored.sql("create database extra")  # its folder is free again
        restored.stop()
        # Into an absent place it is a plain restore.
        self.restore(self.folder / "absent", "--delta")
        self.assertEqual(kill_points.tree_digest(self.folder / "absent"), kill_points.tree_digest(fresh))

    def test_overwrite_keeps_the_old_copy_beside_K1_P46(self):
        server = self.fill()
        self.backup()
        target = self.folder / "target"
        self.restore(target)
        (target / "base" / "mark").write_text("old")
        # Refused for another reason: nothing was moved.
        self.restore(target, "--overwrite", "--tablespace", "/nowhere=/elsewhere", status=2)
        self.restore(target, "--overwrite", "--at", "2001-01-01 00:00:00Z", status=5)
        self.assertTrue((target / "base" / "mark").exists())
        done = self.restore(target, "--overwrite").json()["restore"]
        aside = list(self.folder.glob("target.old-*"))
        self.assertEqual([str(path) for path in aside], [done["moved_aside"]])
        self.assertEqual((aside[0] / "base" / "mark").read_text(), "old")
        self.assertFalse((target / "base" / "mark").exists())
        self.promoted(target).stop()
        server.stop()

    def test_places_that_are_refused_P45(self):
        server = self.fill()
        self.backup()
        # Its own source, running; then stopped, and not empty.
        for words in ((), ("--delta",), ("--overwrite",)):
            outcome = self.restore(server.data, *words, status=5)
            self.assertIn("running", outcome.err + outcome.out)
        self.assertEqual(server.sql("select count(*) from entry"), "20000")
        server.stop()
        self.restore(server.data, status=5)
        stranger = self.folder / "stranger"
        stranger.mkdir()
        (stranger / "letter").write_text("dear")
        harness.give_to_server(stranger)
        for words in ((), ("--delta",), ("--overwrite",)):
            self.restore(stranger, *words, status=5)
        self.assertEqual((stranger / "letter").read_text(), "dear")
        foreign = self.folder / "foreign"
        subprocess.run(harness.as_server([server.bin / "initdb", "-D", foreign, "-U", "postgres", "--no-sync"]), check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=harness.environment(), cwd="/")
        for words in ((), ("--delta",), ("--overwrite",)):
            outcome = self.restore(foreign, *words, status=5)
        self.assertIn("another cluster", outcome.err + outcome.out)
        file = self.folder / "file"
        file.write_text("x")
        self.restore(file, status=5)
        self.assertEqual(sorted(path.name for path in foreign.parent.glob("foreign*")), ["foreign"])

    @unittest.skipUnless(harness.is_root(), "only root mounts")
    def test_a_mount_point_is_not_moved_aside_P45(self):
        self.fill()
        self.backup()
        mounted = self.folder / "mounted"
        mounted.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", mounted], capture_output=True).returncode != 0:
            self.skipTest("may not mount here")
        try:
            harness.give_to_server(mounted)
            self.restore(mounted)  # empty: fine
            outcome = self.restore(mounted, "--overwrite", status=5)
            self.assertIn("mount point", outcome.err + outcome.out)
            self.assertTrue((mounted / "global" / "pg_control").exists())
            self.restore(mounted, "--delta")
            self.promoted(mounted).stop()
        finally:
            subprocess.run(["umount", "-l", mounted])

    @unittest.skipUnless(harness.is_root(), "needs root to give files away")
    def test_restored_as_root_it_belongs_to_the_server_P55(self):
        self.fill()
        self.backup()
        target = self.folder / "target"
        self.restore(target, "--latest", user=False)
        self.assertEqual(target.stat().st_mode & 0o777, 0o700)
        for path in [target, *target.rglob("*"), *pathlib.Path(f"{target}.kuramori-wal").rglob("*")]:
            self.assertEqual(path.lstat().st_uid, harness.pwd.getpwnam("postgres").pw_uid, path)
        self.assertEqual(self.promoted(target).sql("select count(*) from entry"), "20000")

    def test_tablespaces_never_go_where_they_were_P48_P13(self):
        server = self.fill()
        original = self.folder / "space"
        original.mkdir()
        harness.give_to_server(original)
        server.sql(f"create tablespace space location '{original}'",
                   "create table far (id int) tablespace space", "insert into far select generate_series(1, 50000)", "checkpoint")
        oid = server.sql("select oid from pg_tablespace where spcname = 'space'")
        self.backup()
        server.sql("checkpoint")
        content = lambda: {path.relative_to(original).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
                           for path in original.rglob("*") if path.is_file()}
        before = content()

        def check(target, place):
            self.assertEqual(os.readlink(target / "pg_tblspc" / oid), str(place))
            copy = self.promoted(target)
            self.assertEqual(copy.sql("select count(*) from far"), "50000")
            copy.sql("insert into far values (0)", "checkpoint", "create table more tablespace space as select 1 x")
            copy.stop()
            self.assertEqual(content(), before)

        beside = self.folder / "beside"
        self.restore(beside)
        check(beside, self.folder / "beside.tablespaces" / oid)
        mapped, place = self.folder / "mapped", self.folder / "place"
        self.restore(mapped, "--tablespace", f"{original}={place}")
        check(mapped, place)
        # In place again: what the copy's own links lead to is the copy's.
        self.restore(beside, "--delta")
        check(beside, self.folder / "beside.tablespaces" / oid)
        self.restore(mapped, "--delta", "--tablespace", f"{oid}={place}")
        check(mapped, place)
        # Another's place, though it is only a tablespace of another copy.
        self.restore(self.folder / "third", "--tablespace", f"{original}={place}", status=5)
        self.restore(self.folder / "third", "--tablespace", f"{original}={original}", status=5)
        self.restore(self.folder / "third", "--tablespace", f"/unknown={place}", status=2)
        self.assertFalse((self.folder / "third").exists())
        # Interrupted, it goes on, in the tablespace too.
        cut = self.folder / "cut"
        self.interrupted(cut, 0.8)
        self.restore(cut)
        check(cut, self.folder / "cut.tablespaces" / oid)
        # Wrongly mapped is noticed by the drill, which hides the original.
        self.kuramori("drill", "db")
        self.assertEqual(content(), before)


class Afterwards(Case):
    """What a restored copy does next."""

    def test_the_last_commit_of_a_crashed_server_is_salvaged_D8(self):
        server = self.small_server()
        server.sql("create table entry (id int)")
        self.backup()
        server.sql("insert into entry values (1)")
        server.switch_wal()
        server.sql("insert into entry values (2)")
        server.kill()
        without = self.folder / "without"
        self.restore(without, "--latest")
        copy = self.promoted(without)
        self.assertEqual(copy.sql("select max(id) from entry"), "1")
        copy.stop()
        target = self.folder / "with"
        done = self.restore(target, "--latest", "--salvage-wal", server.data).json()["restore"]
        self.assertGreaterEqual(done["segments_salvaged"], 1)
        copy = self.promoted(target)
        self.assertEqual(copy.sql("select max(id) from entry"), "2")
        copy.stop()
        # Twice is once; and another cluster's is refused.
        self.restore(self.folder / "again", "--latest", "--salvage-wal", server.data)
        foreign = self.folder / "foreign"
        subprocess.run(harness.as_server([server.bin / "initdb", "-D", foreign, "-U", "postgres", "--no-sync"]), check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=harness.environment(), cwd="/")
        outcome = self.restore(self.folder / "no", "--latest", "--salvage-wal", foreign, status=None)
        self.assertIn(outcome.status, (2, 5), outcome)
        self.assertFalse((self.folder / "no").exists())

    def test_a_copy_that_continues_archives_its_own_timeline_D9_P51(self):
        server = self.small_server()
        server.sql("create table entry (id int)")
        self.backup()
        server.sql("insert into entry values (1)")
        time.sleep(0.05)
        moment = utc(server.sql("select clock_timestamp() at time zone 'UTC' || '+00'"))
        time.sleep(0.05)
        server.sql("insert into entry values (100)")
        server.switch_wal()
        server.stop()
        target = self.folder / "target"
        self.restore(target, "--at", moment, "--continue")
        copy = self.promoted(target)
        self.assertEqual(copy.sql("show archive_mode"), "on")
        copy.sql("insert into entry values (2)")
        copy.switch_wal()
        self.configure(copy)
        self.backup()
        copy.sql("insert into entry values (3)")
        copy.switch_wal()
        copy.stop()
        windows = self.kuramori("window", "db", "--json").out
        self.assertIn("2", windows)
        # The newest of the new timeline, the old timeline's own end, and the new one from the old base.
        for words, wanted in ((("--latest",), "1,2,3"), (("--latest", "--timeline", "1"), "1,100"), ((), "1,2")):
            place = self.folder / f"after{len(words)}"
            self.restore(place, *words)
            again = self.promoted(place)
            self.assertEqual(again.sql("select string_agg(id::text, ',' order by id) from entry"), wanted, words)
            again.stop()

    def test_started_by_the_restore_it_is_open_when_that_ends_D3(self):
        server = self.small_server()
        server.sql("create table entry as select generate_series(1, 10) id")
        self.backup()
        server.sql("insert into entry values (11)")
        server.switch_wal()
        estimate = self.restore(self.folder / "no", "--latest", "--estimate").json()["restore"]
        self.assertGreater(estimate["estimated_bytes"], 0)
        self.assertFalse((self.folder / "no").exists())
        # Where its socket goes must be in the configuration, which was the command line's here.
        server.sql(f"alter system set unix_socket_directories = '{server.socket}'", "alter system set listen_addresses = ''")
        self.backup()
        target = self.folder / "target"
        done = self.restore(target, "--latest", "--start", "--port", "5439").json()["restore"]
        try:
            self.assertTrue(done["started"])
            self.assertEqual(done["new_timeline"], 2)
            found = subprocess.run([f"{harness.CLIENT}/psql", "-XqAt", "-c", "select count(*), pg_is_in_recovery() from entry",
                                    f"host={server.socket} port=5439 user=postgres dbname=postgres"], capture_output=True, text=True)
            self.assertEqual(found.stdout.strip(), "11|f", found.stderr)
        finally:
            subprocess.run(harness.as_server([server.bin / "pg_ctl", "-D", target, "-m", "immediate", "stop"]), capture_output=True, cwd="/")

    def test_a_standby_follows_the_archive_D9(self):
        server = self.small_server()
        server.sql("create table entry (id int)")
        self.backup()
        target = self.folder / "standby"
        self.restore(target, "--standby")
        standby = self.opened(target)
        self.assertEqual(standby.sql("select pg_is_in_recovery()"), "t")
        for n in (1, 2):
            server.sql(f"insert into entry values ({n})")
            server.switch_wal()
            deadline = time.monotonic() + 30
            while standby.sql("select max(id) from entry") != str(n):
                self.assertLess(time.monotonic(), deadline, standby.log_text())
                time.sleep(0.05)
        self.assertEqual(standby.sql("select pg_is_in_recovery()"), "t")


if __name__ == "__main__":
    harness.main()
