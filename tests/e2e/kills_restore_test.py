"""A restore and a drill are SIGKILLed at every store call they make: nothing of a half restore can be started, the same
command done again goes on and gives the right bytes (P19, P47), and a killed drill leaves nothing after the next (S32)."""

import pathlib
import shutil
import subprocess

import harness
import kill_points


def processes_below(folder):
    """Servers that work somewhere below: nobody else's."""
    found = []
    for link in pathlib.Path("/proc").glob("[0-9]*/cwd"):
        try:
            if str(link.readlink()).startswith(str(folder)):
                found.append(link.parent.name)
        except OSError:
            pass
    return found


class Kills(kill_points.Scene):
    def test_a_restore_killed_at_every_store_call_goes_on_P47_P19(self):
        for lane in self.lanes:
            lane.take(self.vault)
            lane.run("backup", "db")
        lane = self.lanes[0]
        restore = ("restore", "db@latest", "--to")
        calls = lane.count_calls(*restore, lane.target)

        def one(lane, call):
            lane.clear_target()
            killed = lane.kill_at(call, *restore, lane.target, after=call % 7 == 0)
            control = lane.target / "global" / "pg_control"
            if killed and not control.exists():
                if call % 8 == 0:
                    lane.scrub_is_sound()
                lane.run(*restore, lane.target)
            # With pg_control it is whole: that one is written last.
            self.assertTrue(control.exists())
            self.assertEqual(kill_points.tree_digest(lane.target), self.now)
            self.assertFalse((lane.target / ".kuramori-restore").exists())

        self.sweep(range(1, calls + 1), one, least=0.6)
        for lane in self.lanes:  # the sessions of so many killed readers
            lane.scrub_is_sound()
            lane.run("vault", "collect", "here")
            self.assertEqual(lane.restored_digest("latest"), self.now)

    def killed_restore_in_place(self, option):
        """--delta and --overwrite of a stopped copy, killed: goes on with the same command."""
        lane = self.lanes[0]
        lane.take(self.vault)
        lane.run("backup", "db")
        older = self.folder / "older"
        lane.run("restore", f"db@{self.first}", "--to", older)

        def restore(lane):
            return "restore", "db@latest", option, "--to", lane.target

        def begin(lane):
            lane.clear_target()
            subprocess.run(["cp", "-a", older, lane.target], check=True)

        begin(lane)
        calls = lane.count_calls(*restore(lane))
        self.lanes[1].take(lane.vault)

        def one(lane, call):
            begin(lane)
            killed = lane.kill_at(call, *restore(lane), after=call % 5 == 0)
            control = lane.target / "global" / "pg_control"
            if killed:
                if kill_points.tree_digest(lane.target) != self.now and kill_points.tree_digest(lane.target) != self.digests[self.first]:
                    self.cannot_be_started(lane.target)
                lane.run(*restore(lane))
            self.assertTrue(control.exists())
            self.assertEqual(kill_points.tree_digest(lane.target), self.now)
            if option == "--overwrite":
                aside = sorted(lane.folder.glob("target.old-*"))
                self.assertTrue(any(kill_points.tree_digest(path) == self.digests[self.first] for path in aside), aside)

        step = 1 if harness.ALL else 9
        self.sweep(sorted({*range(1, calls + 1, step), *range(calls - 10, calls + 1)}), one, least=0.4)

    def test_a_restore_in_place_killed_can_be_repeated_P47(self):
        self.killed_restore_in_place("--delta")

    def test_an_overwriting_restore_killed_can_be_repeated_P47_K1(self):
        self.killed_restore_in_place("--overwrite")

    def test_a_killed_drill_leaves_nothing_after_the_next_S32(self):
        self.cluster.sql("create database template1 template postgres", "checkpoint")  # where a drill asks which others there are
        for lane in self.lanes:
            lane.take(self.vault)
            lane.run("backup", "db")
        calls = self.lanes[0].count_calls("drill", "db")
        proofs = {lane: self.proofs(lane) for lane in self.lanes}

        def one(lane, call):
            killed = lane.kill_at(call, "drill", "db", after=call % 5 == 0)
            if killed and call % 4 != 0 and call < calls - 4:
                return  # the next one cleans up after several
            lane.scrub_is_sound()
            lane.run("drill", "db")
            self.assertEqual(list(lane.sandboxes.iterdir()), [])
            self.assertEqual(processes_below(lane.sandboxes), [])
            # A proof is there or not there; and each is of a drill that ended.
            self.assertGreater(self.proofs(lane), proofs[lane])
            proofs[lane] = self.proofs(lane)

        # The restore in it is the one above; here what comes before and after it.
        step = 1 if harness.ALL else 13
        self.sweep(sorted({*range(1, 13), *range(13, calls - 6, step), *range(calls - 6, calls + 1)}), one, least=0.4)

    def proofs(self, lane):
        return len([path for path in (lane.vault / "proofs").rglob("*") if path.is_file()])


if __name__ == "__main__":
    harness.main()
