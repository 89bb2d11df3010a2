"""A backup, a push of WAL, a prune and a collection are SIGKILLed at every store call they make (V6, V26, P28, P63, S6):
what was there before is still whole, and the same command done again does its work."""

import itertools
import pathlib
import subprocess
import time

import harness
import kill_points


class Kills(kill_points.Scene):
    def check_after(self, lane, known, look, due=None):
        """Every listed snapshot is whole; with `look`, also restored and compared. One that is `due` may be refused
        already (5), once a prune has announced it."""
        lane.scrub_is_sound()
        listed = [snapshot["id"] for snapshot in lane.snapshots()]
        self.assertEqual(len(listed), len(set(listed)))
        for snapshot in known:
            self.assertIn(snapshot, listed)
        for snapshot in listed:
            if snapshot != due and (look or snapshot not in known):
                self.assertEqual(lane.restored_digest(snapshot), self.digests.get(snapshot, self.now), snapshot)
        return listed

    def test_a_backup_killed_at_every_store_call_leaves_a_sound_vault_V6(self):
        self.lanes[0].take(self.vault)
        calls = self.lanes[0].count_calls("backup", "db")

        def one(lane, call):
            lane.take(self.vault)
            lane.kill_at(call, "backup", "db", after=call % 7 == 0)
            # A killed backup is a snapshot or none, never half of one.
            before = self.check_after(lane, [self.first], look=call % 16 == 0)
            self.assertLessEqual(len(before), 2)
            lane.run("backup", "db")
            after = self.check_after(lane, before, look=call % 16 == 8)
            self.assertEqual(len(after), len(before) + 1)
            if call % 4 == 0:
                self.assertEqual(lane.restored_digest(after[-1]), self.now)

        self.sweep(range(1, calls + 1), one)

    def test_a_push_of_wal_killed_at_every_store_call_is_done_by_the_next_P28_S6(self):
        lane = self.lanes[0]
        # A segment that the vault does not have yet.
        self.cluster.sql("insert into later values (0)", "select pg_switch_wal()")
        held = {path.name for path in (self.cluster.data / "pg_wal").iterdir() if len(path.name) == 24}
        lane.take(self.vault)
        archived = {name for name in held if lane.run("wal", "get", "--resource", "db", name, lane.folder / "there", status=None).status == 0}
        name = min(name for name in held - archived)
        path = self.cluster.data / "pg_wal" / name
        push = ("wal", "push", path)
        for program in ("kuramori", "kuramori-wal"):
            lane.take(self.vault)
            calls = lane.count_calls(*push, cwd=self.cluster.data, program=program)
            self.assertGreaterEqual(calls, 2)
            for after, call in itertools.product((False, True), range(1, calls + 1)):
                with self.subTest(program=program, call=call, after=after):
                    lane.take(self.vault)
                    self.assertTrue(lane.kill_at(call, *push, after=after, cwd=self.cluster.data, program=program))
                    lane.scrub_is_sound()
                    # Never half a segment: whole or not there.
                    got = lane.folder / "got"
                    got.unlink(missing_ok=True)
                    if lane.run("wal", "get", "--resource", "db", name, got, status=None).status == 0:
                        self.assertEqual(got.read_bytes(), path.read_bytes())
                    lane.run(*push, cwd=self.cluster.data, program=program)
                    lane.run("wal", "get", "--resource", "db", name, got)
                    self.assertEqual(got.read_bytes(), path.read_bytes())

    def make_due(self, lane):
        """Three snapshots of which the first is due, the newest is not."""
        lane.take(self.vault)
        for number in range(2):
            self.cluster.sql(f"update entry set text = 'round {number}' where id % 40 = {number}", "vacuum (freeze) entry", "checkpoint")
            made = lane.run("backup", "db", "--keep", "1s" if number == 0 else "14d", "--json").json()["snapshot"]["id"]
            self.digests[made] = kill_points.tree_digest(self.cluster.data)
        time.sleep(1.1)
        return [snapshot["id"] for snapshot in lane.snapshots()]

    def test_a_prune_and_a_collection_killed_at_every_store_call_lose_nothing_V26(self):
        lane = self.lanes[0]
        for each in self.lanes:  # no window: what is due is due by its own keep_until
            each.config.write_text(each.config.read_text().replace("    window: 14d\n", ""))
        made = self.make_due(lane)
        self.assertEqual(len(made), 3)
        due = made[1]
        keep = [snapshot for snapshot in made if snapshot != due]
        template = self.folder / "template"
        subprocess.run(["cp", "-a", lane.vault, template], check=True)

        calls = lane.count_calls("prune")
        self.assertNotIn(due, [snapshot["id"] for snapshot in lane.snapshots()])
        pruned = self.folder / "pruned"
        subprocess.run(["cp", "-a", lane.vault, pruned], check=True)

        def prune(lane, call):
            lane.take(template)
            lane.kill_at(call, "prune", after=call % 3 == 0)
            self.check_after(lane, keep, look=call % 8 == 0, due=due)
            lane.run("prune")
            self.assertEqual(self.check_after(lane, keep, look=call % 8 == 4), keep)

        self.sweep(range(1, calls + 1), prune)

        lane.take(pruned)
        calls = lane.count_calls("vault", "collect", "here")
        size = packs_size(lane.vault)
        self.assertLess(size, packs_size(pruned))

        def collect(lane, call):
            lane.take(pruned)
            lane.kill_at(call, "vault", "collect", "here", after=call % 3 == 0)
            self.check_after(lane, keep, look=call % 8 == 0)
            lane.run("vault", "collect", "here")
            self.assertEqual(self.check_after(lane, keep, look=call % 8 == 4), keep)
            # What the killed one had not removed yet goes, and so do the thin packs of its session, once that is fenced.
            kill_points.collect_all(lane.run, lane.vault, "--dead-after", "1s")
            self.assertLessEqual(packs_size(lane.vault), size)

        self.sweep(range(1, calls + 1), collect)


def packs_size(vault):
    return sum(path.stat().st_size for path in (pathlib.Path(vault) / "packs").rglob("*") if path.is_file())


if __name__ == "__main__":
    harness.main()
