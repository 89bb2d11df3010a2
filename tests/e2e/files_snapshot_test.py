"""Trees of files from a btrfs snapshot: of one moment while an application writes, gone afterwards, also after a kill, and
as cheap as before (F2, V13, V27)."""

import os
import signal
import subprocess
import threading
import time
import unittest

import harness

CONFIG = """vaults:
  here: {{ at: "file://{vault}", site: here, key_file: "{key}" }}
resources:
  app: {{ kind: files, paths: ["{live}"], limits: {{ processes: 1 }} }}
  app-live: {{ kind: files, paths: ["{live}"], snapshot: off, limits: {{ processes: 1, read: 8MiB/s }} }}
  app-must: {{ kind: files, paths: ["{live}"], snapshot: btrfs, limits: {{ processes: 1, read: 8MiB/s }} }}
  elsewhere: {{ kind: files, paths: ["{folder}/bin"], snapshot: btrfs }}
plans:
  all: {{ resources: [app, app-live, app-must, elsewhere], vault: here, schedule: "0 3 * * *", timezone: UTC, keep: {{ all: 14d }} }}
"""
SNAPSHOTS = ".kuramori-snapshots"
BALLAST = 24 << 20  # between the two files: three seconds of reading


class Application:
    """Two files that must agree: `z` says what `a` said a moment before."""

    def __init__(self, folder):
        self.folder, self.number, self.stopped = folder, 0, threading.Event()
        self.round()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()

    def round(self):
        self.number += 1
        for name in ("a", "z"):
            new = self.folder / f"{name}.new"
            with open(new, "w") as file:
                file.write(str(self.number))
                file.flush()
                os.fsync(file.fileno())
            new.rename(self.folder / name)

    def run(self):
        while not self.stopped.wait(0.01):
            self.round()

    @staticmethod
    def agrees(folder):
        a, z = (int((folder / name).read_text()) for name in ("a", "z"))
        return a in (z, z + 1)


@unittest.skipUnless(harness.is_root(), "only root mounts")
class FromSnapshot(harness.Case):
    mount_options = "loop"

    def setUp(self):
        super().setUp()
        self.mounted = self.folder / "mounted"
        self.mounted.mkdir()
        image = self.folder / "image"
        with open(image, "wb") as file:
            file.truncate(1 << 30)
        made = subprocess.run(["mkfs.btrfs", "-q", image], capture_output=True)
        if made.returncode or subprocess.run(["mount", "-o", self.mount_options, image, self.mounted]).returncode:
            self.skipTest("this machine lets us make and mount no btrfs")
        self.addCleanup(subprocess.run, ["umount", "-l", self.mounted])
        self.live = self.mounted / "live"
        subprocess.run(["btrfs", "-q", "subvolume", "create", self.live], check=True)
        self.config.write_text(CONFIG.format(vault=self.vault, key=self.key, live=self.live, folder=self.folder))
        self.config.chmod(0o644)
        (self.live / "ballast").write_bytes(os.urandom(BALLAST))
        self.mine("vault", "init", "here")

    def mine(self, *words, **more):
        return self.kuramori(*words, user=False, **{**more, "env": {"KURAMORI_STATE": self.folder / "state", **(more.get("env") or {})}})

    def snapshots(self):
        return sorted(path.name for path in (self.live / SNAPSHOTS).glob("*"))

    def restored(self, resource):
        target = self.folder / f"restored-{time.monotonic_ns()}"
        self.mine("restore", f"{resource}@latest", "--to", target)
        return target

    def test_F2_an_application_that_writes_is_captured_as_of_one_moment(self):
        with Application(self.live):
            said = self.mine("backup", "app-must")
            must = self.restored("app-must")
            live = self.mine("backup", "app-live")
            torn = self.restored("app-live")
        self.assertIn(f"read from a btrfs snapshot of {self.live}", said.err)
        self.assertTrue(Application.agrees(must), [path.read_text() for path in (must / "a", must / "z")])
        self.assertNotIn("btrfs snapshot", live.err)
        # Each is there at every moment, so each is captured, though btrfs may leave it out of a listing.
        self.assertFalse(Application.agrees(torn))
        self.assertEqual(self.snapshots(), [])
        self.assertFalse((must / SNAPSHOTS).exists())
        facts = self.mine("show", "app-must@latest", "--json").json()["snapshot"]["facts"]
        self.assertEqual(facts["captured_from"], "btrfs snapshot")
        self.mine("drill", "app-must")

    def test_F2_what_is_there_at_every_moment_is_captured_though_listings_miss_it(self):
        # btrfs gives a file that another is renamed over a new place in its folder, behind where a listing ends that has begun.
        many = self.live / "many"
        many.mkdir()
        for number in range(20000):
            (many / f"file-{number}").touch()
        stopped = threading.Event()

        def replace():
            while not stopped.is_set():
                (many / "new").write_text("whole")
                (many / "new").rename(many / "replaced")
                time.sleep(0.0005)

        thread = threading.Thread(target=replace)
        thread.start()
        try:
            time.sleep(0.2)
            missed = sum("replaced" not in os.listdir(many) for _ in range(20))
            self.mine("backup", "app-live")
        finally:
            stopped.set()
            thread.join()
        self.assertGreater(missed, 0, "listings miss nothing here: this proves nothing")
        restored = self.restored("app-live") / "many"
        self.assertEqual((restored / "replaced").read_text(), "whole")
        self.assertEqual(len(list(restored.glob("file-*"))), 20000)

    def test_V27_what_did_not_change_is_not_read_again(self):
        for number in range(200):
            (self.live / f"f{number}").write_text(str(number))
        time.sleep(2.1)  # younger change times are not trusted
        self.mine("backup", "app")
        (self.live / "f7").write_text("changed")
        again = self.mine("backup", "app", "--json").json()["snapshot"]
        self.assertEqual(again["files"], 201)
        self.assertEqual(again["files_as_before"], 200)
        self.assertEqual(again["bytes_read"], len("changed"))
        self.assertEqual((self.restored("app") / "f7").read_text(), "changed")

    def test_a_killed_capture_leaves_what_the_next_one_removes(self):
        (self.live / "a").write_text("1")
        process = subprocess.Popen([self.programs / "kuramori", "--config", self.config, "backup", "app-must"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
                                   env=harness.environment(KURAMORI_STATE=self.folder / "state"))
        deadline = time.monotonic() + harness.COMMAND_SECONDS_MAX
        while not self.snapshots():
            self.assertIsNone(process.poll())
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertEqual(len(self.snapshots()), 1)
        self.mine("backup", "app")
        self.assertEqual(self.snapshots(), [])
        self.assertEqual((self.restored("app") / "a").read_text(), "1")
        # Told to stop it takes it along itself.
        process = subprocess.Popen([self.programs / "kuramori", "--config", self.config, "backup", "app-must"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
                                   env=harness.environment(KURAMORI_STATE=self.folder / "state"))
        while not self.snapshots() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(), 130)
        self.assertEqual(self.snapshots(), [])

    def test_a_watch_is_not_woken_by_its_own_snapshots(self):
        (self.live / "a").write_text("1")
        log = open(self.folder / "watch.log", "wb")
        watcher = subprocess.Popen([self.programs / "kuramori", "--config", self.config, "watch", "app", "--settle", "1s"],
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                                   env=harness.environment(KURAMORI_STATE=self.folder / "state"))
        try:
            def count():
                listed = self.mine("snapshots", "app", "--json", status=None)
                return 0 if listed.status else len(listed.json()["snapshots"])

            def await_count(least):
                deadline = time.monotonic() + 30
                while count() < least:
                    self.assertLess(time.monotonic(), deadline, (self.folder / "watch.log").read_text())
                    time.sleep(0.2)
            await_count(1)
            (self.live / "a").write_text("2")
            await_count(2)
            time.sleep(4)
            self.assertEqual(count(), 2)
        finally:
            watcher.terminate()
            watcher.wait()

    def test_where_there_is_none_it_is_said(self):
        refused = self.mine("backup", "elsewhere", status=2)
        self.assertIn("is not on btrfs", refused.err)
        self.assertIn("snapshot: auto", refused.err)
        found = self.mine("doctor", "elsewhere", "--json", status=None)
        self.assertIn("cannot be captured from a btrfs snapshot", found.out)


class AsOrdinaryUser(FromSnapshot):
    """Without root: a snapshot is made only where it can be taken away again."""

    def setUp(self):
        super().setUp()
        subprocess.run(["chown", "-R", "nobody", self.live], check=True)
        for path in (self.folder, self.vault):
            path.chmod(0o777)
        (self.folder / "state").mkdir(exist_ok=True)
        subprocess.run(["chown", "-R", "nobody", self.folder / "state", self.vault, self.key], check=True)

    def mine(self, *words, **more):
        # Everything as nobody once the vault is there.
        if "init" in words:
            return super().mine(*words, **more)
        status, env = more.get("status", 0), more.get("env") or {}
        command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", self.programs / "kuramori", "--config", self.config, *words]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd="/",
                              timeout=harness.COMMAND_SECONDS_MAX, env=harness.environment(KURAMORI_STATE=self.folder / "state", **env))
        outcome = harness.Outcome(words, done.returncode, done.stdout, done.stderr)
        if status is not None:
            self.assertEqual(done.returncode, status, outcome)
        return outcome

    # Those of root's are his.
    test_F2_an_application_that_writes_is_captured_as_of_one_moment = None
    test_V27_what_did_not_change_is_not_read_again = None
    test_a_killed_capture_leaves_what_the_next_one_removes = None
    test_a_watch_is_not_woken_by_its_own_snapshots = None
    test_where_there_is_none_it_is_said = None

    def test_what_may_not_be_removed_again_is_not_made(self):
        said = self.mine("backup", "app")
        self.assertIn("captured as it is read, without a snapshot", said.err)
        self.assertIn("user_subvol_rm_allowed", said.err)
        self.assertEqual(self.snapshots(), [])
        self.assertEqual((self.restored("app") / "ballast").stat().st_size, BALLAST)
        self.assertIn("user_subvol_rm_allowed", self.mine("backup", "app-must", status=1).err)
        subprocess.run(["mount", "-o", "remount,user_subvol_rm_allowed", self.mounted], check=True)
        said = self.mine("backup", "app-must")
        self.assertIn("read from a btrfs snapshot", said.err)
        self.assertEqual(self.snapshots(), [])


if __name__ == "__main__":
    harness.main()
