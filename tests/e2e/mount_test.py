"""Snapshots looked into through a mount: what is shown is what was captured, to the byte, the mode and the second name; what
is damaged is an I/O error and never other bytes; and a mount that was killed is no dead end (V24, V27)."""

import json
import mmap
import os
import pathlib
import random
import re
import shutil
import signal
import stat
import subprocess
import time
import unittest

import jsonschema

import files_test
import harness

CONFIG = """vaults:
  here: {{ at: "file://{vault}", site: here, key_file: "{key}" }}
resources:
  tree: {{ kind: files, paths: ["{tree}"] }}
  keys: {{ kind: secret, paths: ["{folder}/.env"] }}
plans:
  all: {{ resources: [tree, keys], vault: here, schedule: "0 3 * * *", timezone: UTC, keep: {{ all: 14d }} }}
"""
SCHEMA = json.loads((harness.ROOT / "docs" / "schema" / "mount.schema.json").read_text())


def why_not():
    """Why nothing can be mounted here; nothing where it can."""
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse here"
    if not harness.is_root() and not shutil.which("fusermount3"):
        return "fusermount3 is not installed here"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as problem:
        return f"/dev/fuse: {problem.strerror}"
    if harness.is_root() and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        return "may not mount here"
    return None


def crc32c(data):
    """As PostgreSQL has it at the end of pg_control."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


class Mount:
    """The program, mounted; it ends with the test."""

    def __init__(self, case, path, *words, key=None, prefix=(), alone=False):
        self.path = pathlib.Path(path)
        self.errors = open(case.folder / f"mount-{time.monotonic_ns()}.err", "w+b")
        where = ["--vault", case.vault, "--key-file", key or case.key] if alone or key else ["--config", case.config]
        self.process = subprocess.Popen([*prefix, case.programs / "kuramori", "mount", *words[:1], self.path, *words[1:], "--json", *where],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors,
                                        env=harness.environment(KURAMORI_STATE=case.folder / "state"), cwd="/", text=True)
        case.mounts.append(self)
        line = self.process.stdout.readline()
        if not line.strip():
            raise AssertionError(f"not mounted, status {self.process.wait(60)}: {self.said()}")
        self.document = json.loads(line)
        jsonschema.validate(self.document, SCHEMA)
        self.told = self.document.get("mount")

    def said(self):
        self.errors.seek(0)
        return self.errors.read().decode()

    def end(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(60)
        self.process.stdout.close()
        return status

    def clean(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()
        subprocess.run(["umount", "-l", self.path], capture_output=True)


class MountCase(harness.Case):
    def setUp(self):
        super().setUp()
        self.random = random.Random(3)
        self.mounts = []
        self.tree = self.folder / "tree"
        self.tree.mkdir()
        self.at = self.folder / "mnt"
        self.at.mkdir()
        self.config.write_text(CONFIG.format(vault=self.vault, key=self.key, folder=self.folder, tree=self.tree))
        self.config.chmod(0o644)

    def tearDown(self):
        for mount in self.mounts:
            mount.clean()
        super().tearDown()

    def mine(self, *words, **more):
        return self.kuramori(*words, user=False, **{**more, "env": {"KURAMORI_STATE": self.folder / "state"}})

    def mount(self, *words, **more):
        return Mount(self, more.pop("path", self.at), *words, **more)

    def fill(self):
        """Everything a tree can hold that this user may make."""
        tree = self.tree
        for folder in ("a/b/c", "empty", "many", "wide/inner"):
            (tree / folder).mkdir(parents=True)
        for number in range(700):
            (tree / "many" / f"file{number}").write_bytes(self.random.randbytes(self.random.randrange(3000)))
        (tree / "big").write_bytes(self.random.randbytes(9_000_000))
        with open(tree / "sparse", "wb") as file:
            file.write(b"begin")
            file.seek(30_000_000)
            file.write(b"end")
        os.link(tree / "big", tree / "a" / "second")
        os.link(tree / "big", tree / "wide" / "third")
        os.symlink("../big", tree / "a" / "link")
        os.symlink("/etc/passwd", tree / "a" / "absolute")
        os.symlink("nowhere", tree / "a" / "broken")
        os.mkfifo(tree / "pipe")
        with open(os.fsencode(tree) + b"/n\xe4me\xff\xfe", "wb") as file:
            file.write(b"not UTF-8")
        (tree / "name\nwith a line").write_text("x")
        (tree / "run").write_text("#!/bin/sh\n")
        (tree / "run").chmod(0o4751)
        os.setxattr(tree / "run", "user.note", b"kept\0too")
        os.utime(tree / "run", ns=(1, 1_234_567_890_123_456_789))
        subprocess.run(["setfacl", "-m", "u:12345:r", tree / "run"], check=True)
        subprocess.run(["setfacl", "-d", "-m", "g:54321:rx", tree / "wide"], check=True)
        if harness.is_root():
            os.chown(tree / "many", 4321, 1234)
            os.mknod(tree / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))

    def assert_same(self, first, second, owners=True):
        one, other = (files_test.describe(root, owners) for root in (first, second))
        self.assertEqual(sorted(one), sorted(other))
        for path, entry in one.items():
            self.assertEqual(entry, other[path], path)


@unittest.skipIf(why_not(), f"SKIPPED, nothing is proven of mounts: {why_not()}")
class MountTest(MountCase):
    def mounted_here(self, path):
        return re.search(rf" {re.escape(str(path))} ", pathlib.Path("/proc/self/mountinfo").read_text()) is not None

    def test_what_is_shown_is_what_was_captured(self):
        self.fill()
        self.mine("vault", "init", "here")
        self.mine("backup", "tree")
        mount = self.mount("tree@latest")
        self.assertEqual(mount.told["snapshots"], 1)
        self.assert_same(self.tree, self.at)
        self.assertEqual(subprocess.run(["getfacl", "-n", "-c", "run", "wide"], cwd=self.at, capture_output=True, check=True).stdout,
                         subprocess.run(["getfacl", "-n", "-c", "run", "wide"], cwd=self.tree, capture_output=True, check=True).stdout)
        # Tools people use, and a copy that is the tree again.
        subprocess.run(["cp", "-a", f"{self.at}/.", self.folder / "copy"], check=True)
        self.assert_same(self.tree, self.folder / "copy")
        self.assertLess((self.folder / "copy" / "sparse").stat().st_blocks * 512, 10_000_000)
        found = subprocess.run(["grep", "-rl", "not UTF", self.at], capture_output=True).stdout
        self.assertEqual(found, os.fsencode(self.at) + b"/n\xe4me\xff\xfe\n")
        self.assertEqual(len(list((self.at / "many").iterdir())), 700)
        with open(self.at / "sparse", "rb") as file:
            self.assertGreater(os.lseek(file.fileno(), 1_000_000, os.SEEK_DATA), 29_900_000)
            self.assertLess(os.lseek(file.fileno(), 0, os.SEEK_HOLE), 1_000_000)
        with open(self.at / "big", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            self.assertEqual(bytes(mapped[8_000_000:8_100_000]), (self.tree / "big").read_bytes()[8_000_000:8_100_000])
        # Nothing can be changed, no device opened, nothing run as another.
        for change in (lambda: (self.at / "new").write_text("x"), lambda: os.unlink(self.at / "big"), lambda: open(self.at / "big", "r+b"),
                       lambda: os.setxattr(self.at / "big", "user.x", b"")):
            with self.assertRaises(OSError) as refused:
                change()
            self.assertEqual(refused.exception.errno, 30, "read-only")
        options = next(line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines() if f" {self.at} " in line).split()[5]
        self.assertEqual({"ro", "nosuid", "nodev"} - set(options.split(",")), set())
        self.assertGreater(shutil.disk_usage(self.at).total, 9_000_000)
        self.assertEqual(os.statvfs(self.at).f_bfree, 0)
        self.assertEqual(mount.end(signal.SIGINT), 0)
        self.assertFalse(self.mounted_here(self.at))

    def test_a_resource_is_a_folder_for_each_snapshot(self):
        self.mine("vault", "init", "here")
        ids, texts = [], ["one", "two", "three"]
        for text in texts:
            (self.tree / "file").write_text(text)
            ids.append(self.mine("backup", "tree", "--json").json()["snapshot"])
            time.sleep(1.1)
        mount = self.mount("tree")
        self.assertIsNone(mount.told["snapshot"])
        self.assertEqual(mount.told["snapshots"], 3)
        names = sorted(path.name for path in self.at.iterdir())
        self.assertEqual(names[:3], [re.sub(r"\.\d+Z$", "Z", snapshot["time"]).replace(":", "-") for snapshot in ids])
        self.assertEqual(names[3], "latest")
        self.assertEqual([(self.at / name / "file").read_text() for name in names], [*texts, "three"])
        self.assertFalse((self.at / "2000-01-01T00-00-00Z").exists())
        subprocess.run(["fusermount3", "-u", self.at], check=True)
        self.assertEqual(mount.process.wait(60), 0)
        # The newest not after a moment.
        second = self.mount("tree", "--at", ids[1]["time"])
        self.assertEqual(second.told["snapshot"], ids[1]["id"])
        self.assertEqual((self.at / "file").read_text(), "two")
        second.end()
        refused = self.mine("mount", "tree", self.at, "--at", "2001-01-01 00:00:00Z", status=5)
        self.assertIn("the oldest is of", refused.err)
        both = self.mine("mount", "tree@latest", self.at, "--at", "2001-01-01 00:00:00Z", status=2)
        self.assertIn("keep one of them", both.err)

    def test_in_the_background_it_returns_when_the_mount_stands_and_says_what_kept_it_from_that(self):
        self.mine("vault", "init", "here")
        (self.tree / "file").write_text("one")
        self.mine("backup", "tree")
        refused = self.mine("mount", "tree@latest", self.folder / "none" / "below", "--background", status=None)
        self.assertNotEqual(refused.status, 0)
        self.assertTrue(refused.err.startswith("error: "), refused.err)
        document = json.loads(self.mine("mount", "tree@ffff", self.at, "--background", "--json", status=2).out)
        self.assertEqual(document["schema"], "kuramori/error/1")
        self.assertFalse(self.mounted_here(self.at))
        said = self.mine("mount", "tree@latest", self.at, "--background")
        self.assertTrue(self.mounted_here(self.at))  # when it returned
        self.assertIn(f"fusermount3 -u {self.at} ends it, or kill ", said.out)
        pid = int(said.out.split("or kill ")[1])
        self.assertTrue(any(self.at.iterdir()))
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 60
        while self.mounted_here(self.at):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        document = json.loads(self.mine("mount", "tree@latest", self.at, "--background", "--json").out)
        jsonschema.validate(document, SCHEMA)
        os.kill(document["mount"]["pid"], signal.SIGTERM)
        while self.mounted_here(self.at):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)

    def test_a_vault_and_a_readers_key_are_enough(self):
        (self.folder / ".env").write_text("TOKEN=s3cr3t-value\n")
        (self.folder / ".env").chmod(0o600)
        self.mine("vault", "init", "here")
        self.mine("backup", "keys")
        reader = self.folder / "reader.key"
        self.mine("vault", "key", "new", "here", "--role", "reader", "--to", reader)
        writer = self.folder / "writer.key"
        self.mine("vault", "key", "new", "here", "--role", "writer", "--to", writer)
        mount = self.mount("keys@latest", key=reader)
        shown = [path for path in self.at.rglob("*") if path.is_file()]
        self.assertEqual([path.read_text() for path in shown], ["TOKEN=s3cr3t-value\n"])
        self.assertEqual(shown[0].stat().st_mode & 0o777, 0o600)
        self.assertNotIn("s3cr3t", mount.said() + json.dumps(mount.document))
        self.assertEqual(mount.end(), 0)
        # Who writes cannot read.
        refused = self.kuramori("mount", "keys@latest", self.at, "--vault", self.vault, "--key-file", writer, config=False, user=False,
                                status=None)
        self.assertNotEqual(refused.status, 0)
        self.assertIn("error:", refused.err)
        self.assertFalse(self.mounted_here(self.at))

    def test_places_that_cannot_be_mounted_on_are_refused_in_words(self):
        (self.tree / "file").write_text("x")
        self.mine("vault", "init", "here")
        self.mine("backup", "tree")
        (self.folder / "full").mkdir()
        (self.folder / "full" / "file").write_text("x")
        (self.vault / "inside").mkdir()
        for path, status, words in ((self.folder / "none", 2, f"mkdir -p {self.folder}/none"), (self.folder / "full", 5, "is not empty"),
                                    (self.config, 2, "is no folder"), (self.vault / "inside", 5, "lies in the vault itself")):
            refused = self.mine("mount", "tree", path, status=status)
            self.assertIn(words, refused.err)
        (self.vault / "inside").rmdir()
        self.mount("tree")
        again = self.mine("mount", "tree", self.at, status=5)
        self.assertIn(f"fusermount3 -u {self.at}", again.err)
        self.mine("mount", "tree", self.at / "latest", status=5)
        unknown = self.mine("mount", "other", self.folder / "full", status=None)
        self.assertNotEqual(unknown.status, 0)

    def test_V24_what_is_damaged_is_an_error_and_never_other_bytes(self):
        for number in range(30):
            (self.tree / f"file{number}").write_bytes(self.random.randbytes(400_000))
        self.mine("vault", "init", "here")
        self.mine("backup", "tree")
        for pack in (self.vault / "packs").rglob("*"):
            if pack.is_file() and pack.stat().st_size > 1_000_000:
                pack.chmod(0o600)
                with open(pack, "r+b") as file:
                    for _ in range(4):
                        at = self.random.randrange(pack.stat().st_size // 10, pack.stat().st_size * 9 // 10)
                        file.seek(at)
                        byte = file.read(1)
                        file.seek(at)
                        file.write(bytes([byte[0] ^ 1]))
        mount = self.mount("tree@latest")
        whole, broken = 0, []
        for path in sorted(self.at.iterdir()):
            try:
                self.assertEqual(path.read_bytes(), (self.tree / path.name).read_bytes(), path.name)
                whole += 1
            except OSError as problem:
                self.assertEqual(problem.errno, 5, problem)
                broken.append(path.name)
        self.assertTrue(whole and broken, (whole, broken))
        said = mount.said()
        for name in broken:
            self.assertRegex(said, rf"tree@\w+/{name} cannot be read: .*kuramori vault scrub")
        self.assertIsNone(mount.process.poll())

    def test_a_killed_mount_is_taken_away_by_the_next(self):
        (self.tree / "file").write_text("x")
        self.mine("vault", "init", "here")
        self.mine("backup", "tree")
        first = self.mount("tree@latest")
        first.process.kill()
        first.process.wait()
        with self.assertRaises(OSError) as dead:
            os.listdir(self.at)
        self.assertEqual(dead.exception.errno, 107)
        second = self.mount("tree@latest")
        self.assertIn("had left", second.said())
        self.assertEqual((self.at / "file").read_text(), "x")
        self.assertEqual(second.end(), 0)
        self.assertEqual(os.listdir(self.at), [])

    def test_V6_what_is_mounted_is_not_collected(self):
        (self.tree / "file").write_bytes(self.random.randbytes(3_000_000))
        wanted = (self.tree / "file").read_bytes()
        self.mine("vault", "init", "here")
        first = self.mine("backup", "tree", "--keep", "1s", "--json").json()["snapshot"]["id"]
        mount = self.mount(f"tree@{first}")
        (self.tree / "file").write_bytes(self.random.randbytes(3_000_000))
        self.mine("backup", "tree")
        self.mine("drill", "tree")
        time.sleep(1.2)
        self.mine("prune", "--yes")
        self.assertNotIn(first, self.mine("snapshots", "tree", "--json").out)
        for _ in range(3):
            self.mine("vault", "collect", "here")
        self.assertEqual((self.at / "file").read_bytes(), wanted)
        self.assertEqual(mount.end(), 0)
        before = sum(path.stat().st_size for path in self.vault.rglob("*") if path.is_file())
        said = ""
        # The root's own entry may still be needed (a key decides where a tree is cut): then the pack is thinned,
        # and in a vault of two packs it is half of everything.
        for _ in range(6):
            said += self.mine("vault", "collect", "here", "--share-max", "100").err
            after = sum(path.stat().st_size for path in self.vault.rglob("*") if path.is_file())
        self.assertLess(after, before - 2_000_000, f"nothing keeps it any more: {said}")
        gone = self.mine("mount", f"tree@{first}", self.at, status=2)
        self.assertIn("names no snapshot", gone.err)

    def test_a_vault_that_is_away_is_waited_for_and_found_again(self):
        self.mine("vault", "init", "here")
        for number in range(3):  # each in packs of its own, which nobody has opened yet
            (self.tree / f"file{number}").write_bytes(self.random.randbytes(1_000_000))
            self.mine("backup", "tree")
        mount = self.mount("tree@latest")
        self.assertEqual(len(os.listdir(self.at)), 3)
        away = self.folder / "away"
        away.mkdir()
        for entry in list(self.vault.iterdir()):
            entry.rename(away / entry.name)
        # Who waits for it can be killed at once, though the question is still looked into.
        waiting = [subprocess.Popen(["cat", self.at / f"file{number}"], stdout=subprocess.DEVNULL) for number in range(3)]
        deadline = time.monotonic() + 20
        while "does not answer" not in mount.said() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertIn("does not answer", mount.said())
        killed = [process for process in waiting if process.poll() is None]
        self.assertTrue(killed, "each had its pack open")
        for process in waiting:
            process.kill()
        for process in killed:
            self.assertEqual(process.wait(5), -signal.SIGKILL)
        for process in waiting:
            process.wait(5)
        readers = [subprocess.Popen(["cat", self.at / f"file{number}"], stdout=subprocess.PIPE) for number in range(3)]
        time.sleep(1)
        for entry in list(away.iterdir()):
            entry.rename(self.vault / entry.name)
        for number, reader in enumerate(readers):
            self.assertEqual(reader.communicate(timeout=60)[0], (self.tree / f"file{number}").read_bytes())
        self.assertIn("answers again", mount.said())
        self.assertEqual(mount.end(), 0)

    def test_V27_the_mount_leads_nowhere_by_itself(self):
        outside = self.folder / "outside"
        outside.mkdir()
        (outside / "file").write_text("outside")
        os.symlink(outside, self.tree / "link")
        os.symlink("..", self.tree / "up")
        self.mine("vault", "init", "here")
        self.mine("backup", "tree")
        self.mount("tree@latest")
        # A link is a link; where it leads is decided by whoever follows it, in their own tree.
        self.assertEqual(os.readlink(self.at / "link"), str(outside))
        self.assertEqual(sorted(os.listdir(self.at)), ["link", "up"])
        self.assertEqual([path for path, _, _ in os.walk(self.at)], [str(self.at)])
        above = os.open(self.at, os.O_RDONLY | os.O_DIRECTORY)
        for name in ("link", "up"):
            with self.assertRaises(OSError):
                os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=above)
        os.close(above)

    def test_a_clusters_snapshot_is_its_data_directory(self):
        server = self.server(settings=["checkpoint_timeout = 1h"])
        server.sql("create table t as select n, repeat(md5(n::text), 20) as v from generate_series(1, 20000) n", "create index on t (n)",
                   "vacuum t")
        self.kuramori("backup", "db")
        server.sql("update t set v = 'x' where n % 100 = 0")
        self.kuramori("backup", "db")
        server.switch_wal()
        self.give(self.at)
        self.mounts.append(mount := Mount(self, self.at, "db@latest"))
        target = self.folder / "restored"
        self.kuramori("restore", "db@latest", "--to", target)
        compared = pages = 0
        # What a restore writes anew.
        changed = {"backup_label", "tablespace_map", "postgresql.auto.conf", "postgresql.conf", "recovery.signal", "standby.signal"}
        self.assertEqual((self.at / "postgresql.conf").read_bytes(), (server.data / "postgresql.conf").read_bytes())
        restored = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
        shown = {path.relative_to(self.at).as_posix() for path in self.at.rglob("*") if path.is_file()}
        self.assertEqual(shown - changed, {name for name in restored - changed if not name.startswith(".kuramori")})
        for name in sorted(shown - changed):
            if name.startswith("pg_wal/"):
                continue
            bytes_shown = (self.at / name).read_bytes()
            self.assertEqual(bytes_shown, (target / name).read_bytes(), name)
            compared += 1
            pages += len(bytes_shown) // 8192 if name.startswith("base/") else 0
        self.assertGreater(compared, 800)
        self.assertGreater(pages, 1500)
        # The server's own program agrees about every page's checksum.
        subprocess.run(["cp", "-r", self.at, self.folder / "copy"], check=True)
        (self.folder / "copy" / "backup_label").unlink()
        control = self.folder / "copy" / "global" / "pg_control"
        state = control.read_bytes()
        # pg_checksums takes none but a cluster that was shut down: state and CRC of pg_control say so in the copy alone.
        body = bytearray(state[:288])
        body[16:20] = (1).to_bytes(4, "little")
        control.write_bytes(bytes(body) + crc32c(bytes(body)).to_bytes(4, "little") + state[292:])
        harness.give_to_server(self.folder / "copy")
        checked = subprocess.run([harness.bin_folder(15) / "pg_checksums", "--check", "-D", self.folder / "copy"], capture_output=True, text=True,
                                 env=harness.environment())
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        self.assertRegex(checked.stdout, r"Blocks scanned: +[1-9]\d{3}")
        self.assertEqual(mount.end(), 0)

    @unittest.skipUnless(harness.is_root(), "SKIPPED: only root can become others")
    def test_an_ordinary_user_reads_what_the_key_opens_and_others_what_modes_allow(self):
        (self.tree / "private").write_text("root's")
        (self.tree / "private").chmod(0o600)
        (self.tree / "public").write_text("everybody's")
        (self.tree / "public").chmod(0o644)
        self.tree.chmod(0o755)
        self.mine("vault", "init", "here")
        self.mine("backup", "tree")
        os.chmod(self.folder, 0o755)
        read = lambda name: subprocess.run(["setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups", "cat", self.at / name],
                                           capture_output=True, text=True)
        mount = self.mount("tree@latest")
        self.assertNotEqual(read("public").returncode, 0, "nobody else may enter")
        mount.end()
        mount = self.mount("tree@latest", "--allow-other")
        self.assertEqual(read("public").stdout, "everybody's")
        self.assertIn("Permission denied", read("private").stderr)
        mount.end()
        # An ordinary user, who holds a reader's key. In a place of its own, where the device is as Debian's udev makes it.
        if not shutil.which("fusermount3"):
            self.skipTest("SKIPPED: fusermount3 is not installed here")
        reader = self.folder / "reader.key"
        self.mine("vault", "key", "new", "here", "--role", "reader", "--to", reader)
        subprocess.run(["chmod", "-R", "a+rX", self.vault], check=True)
        shutil.chown(reader, "daemon", "daemon")
        shutil.chown(self.at, "daemon", "daemon")
        device = self.folder / "fuse"
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(10, 229))
        device.chmod(0o666)
        script = self.folder / "script"
        script.write_text(f"""set -eu
mount --make-rprivate /
mount --bind {device} /dev/fuse
as_daemon() {{ setpriv --reuid=daemon --regid=daemon --clear-groups env HOME={harness.NO_HOME} KURAMORI_STATE={self.folder}/none "$@"; }}
as_daemon {self.programs}/kuramori mount tree@latest {self.at} --vault {self.vault} --key-file {reader} >{self.folder}/told 2>&1 &
for i in $(seq 200); do grep -q mounted {self.folder}/told && break; sleep 0.05; done
as_daemon cat {self.at}/private; echo; cat {self.at}/public 2>/dev/null || echo "root may not enter"
as_daemon fusermount3 -u {self.at}
wait $!
""")
        done = subprocess.run(["unshare", "-m", "sh", script], capture_output=True, text=True, timeout=60, env=harness.environment())
        told = (self.folder / "told").read_text()
        self.assertEqual(done.returncode, 0, done.stderr + told)
        self.assertEqual(done.stdout, "root's\nroot may not enter\n", done.stderr + told)
        # Without the device's rights it says what to type.
        if os.stat("/dev/fuse").st_mode & 0o006:
            return
        refused = subprocess.run(["setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups", self.programs / "kuramori", "mount", "tree",
                                  self.at, "--vault", self.vault, "--key-file", reader], capture_output=True, text=True, cwd="/",
                                 env=harness.environment(KURAMORI_STATE=self.folder / "none"))
        self.assertIn("chmod 666 /dev/fuse", refused.stderr)


@unittest.skipIf(why_not(), f"SKIPPED, nothing is proven of mounts: {why_not()}")
class MountFromStore(MountCase):
    """The vault in a real S3 store, behind a line of 50 ms that answers 503 to one request in five."""

    place_kind = "line"

    def test_V24_what_comes_over_a_bad_line_is_what_was_captured(self):
        self.config.write_text(CONFIG.replace('at: "file://{vault}"', self.place.yaml().replace("{", "{{").replace("}", "}}"))
                               .format(key=self.key, folder=self.folder, tree=self.tree))
        self.fill()
        self.mine("vault", "init", "here")
        self.mine("backup", "tree")
        mount = self.mount("tree@latest")
        self.assert_same(self.tree, self.at)
        # Of a large file a part.
        with open(self.at / "big", "rb") as file:
            self.assertEqual(os.pread(file.fileno(), 5000, 4_000_000), (self.tree / "big").read_bytes()[4_000_000:4_005_000])
        subprocess.run(["fusermount3", "-u", self.at], check=True)
        self.assertEqual(mount.process.wait(60), 0, mount.said())


if __name__ == "__main__":
    harness.main()
