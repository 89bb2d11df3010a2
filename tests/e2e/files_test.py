"""Trees of files, whole: captured while they change, killed, pruned, collected, copied, and restored to the byte, the mode,
the hole and the second name (F2, V6, V13, I4)."""

import contextlib
import ctypes
import itertools
import json
import mmap
import os
import pathlib
import random
import shutil
import signal
import socket
import stat
import subprocess
import time
import unittest

import jsonschema

import harness
import kill_points
from tree_facts import describe

VAULTS = """vaults:
  here: {{ at: "file://{vault}", site: here, key_file: "{key}" }}
  there: {{ at: "file://{vault}2", site: there, key_file: "{key}", copy_of: here }}
resources:
  tree: {{ kind: files, paths: ["{tree}"], exclude: ["*.tmp", "/cache/"] }}
plans:
  tree: {{ resources: [tree], vault: here, schedule: "0 3 * * *", timezone: UTC, keep: {{ all: 14d }}, copies: [{{ to: there }}] }}
"""


ANOTHER_READER = pathlib.Path(__file__).resolve().parent.parent / "format" / "trees.py"
SCHEMAS = pathlib.Path(__file__).resolve().parent.parent.parent / "docs" / "schema"


def checked(outcome):
    """The document a command printed, held to its schema."""
    document = outcome.json()
    name = document["schema"].split("/")[1]
    jsonschema.validate(document, json.loads((SCHEMAS / f"{name}.schema.json").read_text()))
    return document


def open_files(pid):
    """Of another process; what it closes meanwhile is left out."""
    found = []
    for path in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(os.readlink(path))
    return found


def cached_bytes(path):
    """How much of a file the page cache has."""
    libc, size = ctypes.CDLL(None, use_errno=True), path.stat().st_size
    libc.mmap.restype = ctypes.c_void_p
    with open(path, "rb") as file:
        mapped = libc.mmap(None, ctypes.c_size_t(size), mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), ctypes.c_long(0))
    pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    if libc.mincore(ctypes.c_void_p(mapped), ctypes.c_size_t(size), pages) != 0:
        raise OSError(ctypes.get_errno(), "mincore")
    libc.munmap(ctypes.c_void_p(mapped), ctypes.c_size_t(size))
    return sum(page & 1 for page in pages) * mmap.PAGESIZE


class FilesCase(harness.Case):
    def setUp(self):
        super().setUp()
        self.random = random.Random(7)
        self.tree = self.folder / "tree"
        self.tree.mkdir(mode=0o750)
        self.state = self.folder / "state"
        self.config.write_text(VAULTS.format(vault=self.vault, key=self.key, tree=self.tree))
        self.config.chmod(0o644)

    def run_as_owner(self, *words, **more):
        """As whoever runs the test: root where owners and devices are to come back."""
        return self.kuramori(*words, user=False, **{**more, "env": {"KURAMORI_STATE": self.state, **(more.get("env") or {})}})

    def backup(self, *words, status=0, **more):
        return checked(self.run_as_owner("backup", "tree", "--json", *words, status=status, **more))["snapshot"]

    def write(self, name, content, mode=0o644):
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
        return path

    def fill(self, files=60):
        for number in range(files):
            self.write(f"d{number % 5}/e{number % 3}/f{number}", self.random.randbytes(self.random.randrange(30_000)))
        self.write("big", self.random.randbytes(9_000_000))

    def restored(self, snapshot="latest", *words):
        target = self.folder / f"restored-{snapshot}-{time.monotonic_ns()}"
        self.run_as_owner("restore", f"tree@{snapshot}", "--to", target, *words)
        return target

    def restored_by_another_reader(self, snapshot):
        """By what was written from docs/vault-format.md, and shares no code with the program."""
        target = self.folder / f"by-another-{snapshot}"
        subprocess.run(["/usr/bin/python3", ANOTHER_READER, self.vault, self.key, "restore", snapshot, target], check=True)
        self.assertIn(b"path=" + os.fsencode(self.tree), (target / "kuramori/origin").read_bytes())
        return target / "content"

    def assert_same(self, target, owners=True):
        expected, got = describe(self.tree, owners), describe(target, owners)
        self.assertEqual(sorted(expected), sorted(got))
        for path, entry in expected.items():
            self.assertEqual(entry, got[path], path)


class Fidelity(FilesCase):
    def test_F2_everything_that_a_file_is_comes_back(self):
        self.fill(20)
        plain = self.write("plain", b"plain\n", 0o600)
        self.write("set-id", b"x", 0o4755)
        os.link(plain, self.tree / "a second name")
        os.link(plain, self.tree / "d1" / "a third")
        os.symlink("../nowhere", self.tree / "d1" / "dangling")
        os.symlink("/etc/passwd", self.tree / "absolute")
        os.mkfifo(self.tree / "pipe", 0o640)
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(self.tree / "socket"))
        (self.tree / "empty folder").mkdir(mode=0o711)
        (self.tree / "sticky").mkdir()
        (self.tree / "sticky").chmod(0o1777)
        self.write("empty", b"")
        with open(os.fsencode(self.tree) + b"/not \xff\xfe text\n", "wb") as file:
            file.write(b"\0" * 10)
        with open(self.tree / "sparse", "wb") as file:
            file.write(b"begin")
            file.truncate(50 << 20)
            file.seek(30 << 20)
            file.write(b"middle")
        try:
            os.setxattr(plain, "user.color", b"green\0blue")
            os.setxattr(self.tree / "d1", "user.folder", b"yes")
        except OSError as error:
            print(f"no attributes on this filesystem: {error}")
        if shutil.which("setfacl"):
            subprocess.run(["setfacl", "-m", "u:daemon:r,m::r", plain], check=False)
            subprocess.run(["setfacl", "-d", "-m", "g:daemon:rwx", self.tree / "d1"], check=False)
        if harness.is_root():
            os.chown(self.tree / "empty", 1, 2)
            os.chown(self.tree / "absolute", 3, 4, follow_symlinks=False)
            try:
                os.mknod(self.tree / "null", 0o620 | stat.S_IFCHR, os.makedev(1, 3))
            except PermissionError:
                pass
        (self.tree / "d2" / "closed").mkdir()
        (self.tree / "d2" / "closed" / "in it").write_bytes(b"inside")
        (self.tree / "d2" / "closed").chmod(0o500)
        for path in (plain, self.tree / "d1", self.tree):
            os.utime(path, ns=(1_600_000_000_123_456_789, 1_600_000_000_123_456_789))
        self.run_as_owner("vault", "init", "here")
        made = self.backup()
        self.assertEqual(made["defects"], [])
        self.assert_same(self.restored())
        self.assert_same(self.restored_by_another_reader(made["id"]))
        # What did not change costs next to nothing, and comes back as well.
        time.sleep(2.1)
        self.backup()
        again = self.backup()
        self.assertLess(again["added_bytes"], 2500)
        self.assertEqual(again["bytes_read"], 0)
        self.assert_same(self.restored(again["id"]))
        self.assert_same(self.restored_by_another_reader(again["id"]))
        proof = checked(self.run_as_owner("drill", "tree", "--json"))["proof"]
        self.assertTrue(proof["passed"], proof)

    def test_a_large_file_comes_back_past_the_page_cache_whatever_its_size(self):
        disk = harness.new_folder()
        kind = subprocess.run(["stat", "-f", "-c", "%T", disk], capture_output=True, text=True, check=True).stdout.strip()
        for extra in (0, 1, 4095, 4096, 2 << 20):
            self.write(f"of {extra} more", self.random.randbytes((8 << 20) + extra))
        with open(self.tree / "with holes", "wb") as file:
            for place in (0, 3 << 20, (9 << 20) + 4096, 30 << 20):
                file.seek(place)
                file.write(self.random.randbytes((2 << 20) + 5000))
            file.truncate(40 << 20)
        self.run_as_owner("vault", "init", "here")
        self.backup()
        target = disk / "restored"
        self.run_as_owner("restore", "tree", "--to", target)
        for path in target.iterdir():  # before it is looked into
            if kind in ("ext2/ext3", "xfs"):  # only what is no whole piece goes through the cache
                self.assertLess(cached_bytes(path), 1 << 20, path.name)
        self.assert_same(target)
        self.assertLess((target / "with holes").stat().st_blocks * 512, 10 << 20)
        # Over what is there, and where something differs.
        self.write("of 1 more", self.random.randbytes((8 << 20) + 1))
        self.backup()
        self.run_as_owner("restore", "tree", "--to", target, "--delta")
        self.assert_same(target)

    def test_what_is_excluded_is_not_there_and_paths_come_alone(self):
        self.fill(30)
        self.write("x.tmp", b"no")
        self.write("cache/y", b"no")
        self.write("d1/cache/z", b"yes")
        self.run_as_owner("vault", "init", "here")
        self.backup()
        target = self.restored()
        self.assertFalse((target / "x.tmp").exists() or (target / "cache").exists())
        self.assertEqual((target / "d1/cache/z").read_bytes(), b"yes")
        part = self.restored("latest", "--only", "d1", "--only", "big")
        self.assertEqual(sorted(path.name for path in part.iterdir()), ["big", "d1"])
        self.assertEqual(describe(part / "d1"), describe(self.tree / "d1"))
        refused = self.run_as_owner("restore", "tree", "--to", self.folder / "n", "--only", "not there", status=2)
        self.assertIn("not there", refused.err)

    def test_content_is_found_again_wherever_it_moved_and_after_all_memory_is_lost(self):
        self.fill()
        self.run_as_owner("vault", "init", "here")
        first = self.backup()
        (self.tree / "big").rename(self.tree / "moved")
        shutil.copy(self.tree / "moved", self.tree / "copied")
        shutil.rmtree(self.state)
        second = self.backup()
        self.assertLess(second["added_bytes"], first["added_bytes"] // 20)
        self.assertEqual(second["files_as_before"], 0)
        self.assert_same(self.restored())

    def test_what_changed_is_named_without_being_fetched(self):
        self.fill()
        self.run_as_owner("vault", "init", "here")
        first = self.backup()
        self.write("d0/e0/f0", b"another")
        self.write("new folder/x", b"x")
        (self.tree / "d1/e1/f1").unlink()
        (self.tree / "big").chmod(0o600)
        os.setxattr(self.tree / "d2/e2/f2", "user.kind", b"odd")
        os.utime(self.tree / "d3")
        self.backup()
        found = checked(self.run_as_owner("diff", "tree", "--json"))["diff"]
        changes = {change["path"]: (change["change"], change["what"]) for change in found["changes"]}
        self.assertEqual(changes, {"big": ("changed", ["mode 644 → 600"]), "d0/e0/f0": ("changed", ["content"]),
                                   "d1/e1/f1": ("removed", []), "d2/e2/f2": ("changed", ["attributes"]),
                                   "new folder": ("added", []), "new folder/x": ("added", [])})
        self.assertEqual((found["added"], found["removed"], found["changed"]), (2, 1, 3))
        back = checked(self.run_as_owner("diff", "tree@latest", first["id"], "--json"))["diff"]
        self.assertEqual((back["added"], back["removed"], back["changed"]), (1, 2, 3))

    def test_I4_a_rotated_log_is_stored_once(self):
        log = self.write("app.log", b"".join(b"line %d\n" % number for number in range(200_000)))
        self.run_as_owner("vault", "init", "here")
        self.backup()
        log.rename(self.tree / "app.log.1")
        self.write("app.log", b"a new one\n")
        second = self.backup()
        self.assertLess(second["added_bytes"], 10_000)
        with open(self.tree / "app.log.1", "ab") as file:
            file.write(b"a late line\n")
        self.backup()
        self.assert_same(self.restored())


class Partial(FilesCase):
    @unittest.skipUnless(harness.is_root(), "needs another user's files")
    def test_V13_what_cannot_be_read_is_named_and_the_rest_is_there(self):
        self.fill(20)
        harness.give_to_server(self.folder)
        self.write("secret", b"not yours", 0o600)
        (self.tree / "d3" / "closed").mkdir(mode=0o700)
        (self.tree / "d3" / "closed" / "within").write_bytes(b"x")
        self.tree.chmod(0o755)
        self.kuramori("vault", "init", "here")
        outcome = self.kuramori("backup", "tree", "--json", status=3)
        made = json.loads(outcome.out)["snapshot"]
        self.assertEqual(sorted(defect["path"] for defect in made["defects"]), ["d3/closed", "secret"])
        for defect in made["defects"]:
            self.assertIn("ermission denied", defect["why"])
        target = self.folder / "target"
        self.kuramori("restore", "tree", "--to", target)
        got = describe(target, owners=False)
        expected = describe(self.tree, owners=False)
        self.assertEqual(set(expected) - set(got) - {b"d3/closed"}, {b"secret", b"d3/closed/within"})
        for path in got:
            if path not in (b".", b"d3", b"d3/closed"):
                self.assertEqual(got[path]["content"] if "content" in got[path] else None, expected[path].get("content"), path)

    def test_a_tree_that_changes_all_the_time_is_whole_or_named(self):
        self.fill()
        self.run_as_owner("vault", "init", "here")
        busy = subprocess.Popen(["/bin/sh", "-c", f"""cd '{self.tree}'; i=0
            while :; do i=$((i+1)); echo $i >>d0/log; mkdir -p new; echo $i >new/$((i%50)); rm -f new/$(((i+7)%50))
            mv d1 d1x 2>/dev/null; mv d1x d1 2>/dev/null; done"""])
        try:
            for _ in range(3):
                outcome = self.run_as_owner("backup", "tree", "--json", status=None)
                self.assertIn(outcome.status, (0, 3), outcome)
                self.restored(json.loads(outcome.out)["snapshot"]["id"])
        finally:
            busy.kill()
            busy.wait()
        self.backup()
        self.assert_same(self.restored())

    def test_F2_other_names_of_a_file_whose_first_name_became_another_or_went_keep_its_content(self):
        """A program keeps the old file under a second name and renames the new one over the first, after the walk met both."""
        large = self.write("a-large", self.random.randbytes(24_000_000))
        for what in ("removed", "replaced"):
            self.write(f"{what}-1", b"old " + what.encode())
            for number in (2, 3):
                (self.tree / f"{what}-{number}").hardlink_to(self.tree / f"{what}-1")
        self.config.write_text(self.config.read_text().replace('kind: files, paths', 'kind: files, limits: { read: 8MiB/s, processes: 1 }, paths'))
        self.run_as_owner("vault", "init", "here")
        command = [str(self.programs / "kuramori"), "--config", str(self.config), "backup", "tree"]
        backup = subprocess.Popen(command, env=harness.environment(KURAMORI_STATE=self.state), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while str(large) not in open_files(backup.pid):
            self.assertIsNone(backup.poll(), "it is read already")
        time.sleep(0.5)  # the others are met by then, and wait for their turn
        self.assertIsNone(backup.poll(), "it is read already")
        os.rename(self.write("new.tmp", b"new"), self.tree / "replaced-1")
        (self.tree / "removed-1").unlink()
        told = backup.communicate()[1]
        self.assertEqual(backup.returncode, 0, told)
        target = self.restored()
        self.assertEqual((target / "replaced-1").read_bytes(), b"new")
        for what in ("removed", "replaced"):
            second, third = target / f"{what}-2", target / f"{what}-3"
            self.assertEqual(second.read_bytes(), b"old " + what.encode())
            self.assertTrue(second.samefile(third))
        self.assertFalse((target / "replaced-2").samefile(target / "replaced-1"))
        self.assertFalse((target / "removed-1").exists())
        self.backup()
        self.assert_same(self.restored())


class InPlace(FilesCase):
    def setUp(self):
        super().setUp()
        self.fill()
        self.run_as_owner("vault", "init", "here")
        self.backup()

    def test_a_target_that_is_there_is_refused_moved_aside_or_changed_where_it_differs(self):
        target = self.restored()
        refused = self.run_as_owner("restore", "tree", "--to", target, status=5)
        self.assertIn("--delta", refused.err)
        with open(target / "big", "r+b") as file:
            file.seek(4_000_000)
            file.write(b"spoiled")
        (target / "d1" / "e1" / "f1").unlink()
        (target / "not in it").mkdir()
        (target / "not in it" / "x").write_bytes(b"x")
        (target / "d2" / "e2" / "f2").unlink()
        (target / "d2" / "e2" / "f2").mkdir()
        os.symlink("/etc", target / "d0" / "out")
        (target / "d3").chmod(0o700)
        done = checked(self.run_as_owner("restore", "tree", "--to", target, "--delta", "--json"))["restore"]
        self.assert_same(target)
        self.assertEqual(done["removed"], 2)
        self.assertLess(done["bytes_written"], 70_000)
        # Nothing differs: nothing is written, and nothing fetched.
        done = checked(self.run_as_owner("restore", "tree", "--to", target, "--delta", "--json"))["restore"]
        self.assertEqual((done["bytes_written"], done["bytes_fetched"], done["removed"]), (0, 0, 0))
        (target / "mine").write_bytes(b"kept")
        done = self.run_as_owner("restore", "tree", "--to", target, "--overwrite", "--json").json()["restore"]
        self.assert_same(target)
        self.assertEqual(pathlib.Path(done["moved_aside"], "mine").read_bytes(), b"kept")

    def test_V27_nothing_is_written_through_a_link_in_the_target(self):
        outside = self.folder / "outside"
        outside.mkdir()
        (outside / "f0").write_bytes(b"untouched")
        target = self.restored()
        shutil.rmtree(target / "d0" / "e0")
        os.symlink(outside, target / "d0" / "e0")
        self.run_as_owner("restore", "tree", "--to", target, "--delta")
        self.assertEqual((outside / "f0").read_bytes(), b"untouched")
        self.assertEqual(sorted(os.listdir(outside)), ["f0"])
        self.assert_same(target)

    def test_an_interrupted_restore_is_gone_on_with(self):
        whole = self.run_as_owner("restore", "tree", "--to", self.folder / "whole", "--json").json()["restore"]
        target = self.folder / "target"
        command = [str(self.programs / "kuramori"), "--config", str(self.config), "restore", "tree", "--to", str(target)]
        environment = harness.environment(KURAMORI_STATE=self.state)
        killed = 0
        for delay in (0.01, 0.02, 0.04, 0.06):
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        if killed and pathlib.Path(f"{target}.kuramori-restore").exists():
            files = [path for path in target.rglob("*") if path.is_file() and path.stat().st_size > 100]
            if files:  # what it left is read, not believed
                content = bytearray(files[0].read_bytes())
                content[50] ^= 1
                files[0].write_bytes(content)
        else:
            shutil.rmtree(target, ignore_errors=True)
        done = self.run_as_owner("restore", "tree", "--to", target, "--json").json()["restore"]
        self.assertLessEqual(done["bytes_fetched"], whole["bytes_fetched"])
        self.assert_same(target)
        self.assertFalse(pathlib.Path(f"{target}.kuramori-restore").exists())


class Lifecycle(FilesCase):
    def test_V6_a_backup_killed_at_every_store_call_leaves_a_sound_vault(self):
        self.fill(12)
        self.run_as_owner("vault", "init", "here")
        self.backup()
        self.write("d0/e0/f0", b"changed")
        self.write("new", self.random.randbytes(400_000))
        kept = self.folder / "kept"
        shutil.copytree(self.vault, kept)
        shutil.copytree(self.state, self.folder / "state-kept")
        counter = self.folder / "calls"
        self.backup(env={"KURAMORI_TEST_COUNT_STORE_CALLS": counter})
        calls = int(counter.read_text())
        self.assertGreater(calls, 10)
        for call, after in itertools.product(range(1, calls + 1), (False, True)):
            with self.subTest(call=call, after=after):
                for folder, source in ((self.vault, kept), (self.state, self.folder / "state-kept")):
                    shutil.rmtree(folder)
                    shutil.copytree(source, folder)
                more = {"KURAMORI_TEST_KILL_AT_STORE_CALL": call}
                if after:
                    more["KURAMORI_TEST_KILL_AT_STORE_CALL_AFTER"] = 1
                outcome = self.run_as_owner("backup", "tree", status=None, env=more)
                self.assertIn(outcome.status, (0, -signal.SIGKILL), outcome)
                found = self.run_as_owner("vault", "scrub", "here", "--json").json()
                self.assertFalse(found["damaged"], found)
                self.backup()
                if call % 5 == 0:
                    self.assert_same(self.restored())

    def test_any_snapshot_alone_after_prune_and_collect(self):
        self.fill()
        self.run_as_owner("vault", "init", "here")
        self.run_as_owner("vault", "init", "there")
        texts = {}
        for round_number in range(6):
            made = self.backup("--keep", "1s" if round_number in (0, 1, 3) else "14d")
            texts[made["id"]] = describe(self.tree)
            for number in range(round_number, 60, 7):
                self.write(f"d{number % 5}/e{number % 3}/f{number}", self.random.randbytes(20_000))
            self.write("big", (self.tree / "big").read_bytes()[100_000:] + self.random.randbytes(50_000))
        time.sleep(1.1)
        self.run_as_owner("prune", "--json")
        kill_points.collect_all(self.run_as_owner, self.vault)
        listed = [one["id"] for one in self.run_as_owner("snapshots", "tree", "--json").json()["snapshots"]]
        self.assertEqual(len(listed), 3)
        for snapshot in listed:
            self.assertEqual(describe(self.restored(snapshot)), texts[snapshot])
        # And what is built on what is left.
        self.write("after", b"after")
        self.backup()
        self.assert_same(self.restored())
        found = self.run_as_owner("vault", "scrub", "here", "--json").json()
        self.assertFalse(found["damaged"], found)

    def test_a_copy_is_restored_with_the_original_gone(self):
        self.fill()
        self.run_as_owner("vault", "init", "here")
        self.run_as_owner("vault", "init", "there")
        self.backup("--copy")
        self.write("more", self.random.randbytes(100_000))
        self.backup("--copy")
        shutil.rmtree(self.vault)
        target = self.folder / "target"
        self.run_as_owner("restore", "tree", "--vault", "there", "--to", target)
        self.assert_same(target)

    def test_a_copy_under_other_keys_is_sealed_anew(self):
        self.fill()
        with open(self.tree / "sparse", "wb") as file:
            file.truncate(5 << 20)
        other = f'  other: {{ at: "file://{self.vault}3", site: far, key_file: "{self.key}.other" }}'
        self.config.write_text(self.config.read_text().replace("resources:", other + chr(10) + "resources:", 1))
        self.run_as_owner("vault", "init", "here")
        self.run_as_owner("vault", "init", "other")
        first = self.backup()
        self.run_as_owner("copy", "tree", "--to", "other")
        self.write("more", self.random.randbytes(100_000))
        self.backup()
        sent = checked(self.run_as_owner("copy", "tree", "--to", "other", "--json"))["sent_bytes"]
        self.assertGreater(sent, 100_000)
        self.assertLess(sent, first["added_bytes"] // 5)
        shutil.rmtree(self.vault)
        target = self.folder / "target"
        self.run_as_owner("restore", "tree", "--vault", "other", "--to", target)
        self.assert_same(target)

    def test_a_writer_that_cannot_read_builds_on_its_own(self):
        self.fill()
        self.run_as_owner("vault", "init", "here")
        writer = self.folder / "writer.key"
        self.run_as_owner("vault", "key", "new", "here", "--role", "writer", "--to", writer)
        config = self.config.read_text()
        self.config.write_text(config.replace(str(self.key), str(writer)))
        first = self.backup()
        self.write("one more", b"more")
        shutil.rmtree(self.state)
        second = self.backup()
        self.assertEqual(second["base"], first["id"])
        self.assertLess(second["added_bytes"], first["added_bytes"] // 20)
        self.run_as_owner("restore", "tree", "--to", self.folder / "no", status=5)
        self.config.write_text(config)
        self.assert_same(self.restored())


class LostIndex(FilesCase):
    """The chunk index lost or torn: named in words, no restore in need of it, and found again by the next backup."""

    def setUp(self):
        super().setUp()
        self.fill()
        self.run_as_owner("vault", "init", "here")
        self.first = self.backup()
        self.write("late", self.random.randbytes(500_000))
        self.second = self.backup()

    def runs(self):
        return sorted(path for path in (self.vault / "maps").rglob("*") if path.is_file())

    def findings(self, status=0):
        found = checked(self.run_as_owner("vault", "scrub", "here", "--json", status=status))["findings"]
        return [finding for finding in found if finding["object"].startswith("maps/")]

    def stored(self):
        return sum(path.stat().st_size for path in (self.vault / "packs").rglob("*") if path.is_file())

    def assert_mended(self, words, not_said=()):
        """The next backup tells of it in these words, and stores next to nothing, though nothing here is remembered."""
        before = self.stored()
        outcome = self.run_as_owner("backup", "tree", "--json")
        for word in words:
            self.assertIn(word, outcome.err)
        for word in not_said:
            self.assertNotIn(word, outcome.err)
        self.assertGreater(checked(outcome)["snapshot"]["bytes_read"], 9_000_000)
        self.assertLess(self.stored() - before, 10_000)
        # What older snapshots lost is worth a note, and that is all.
        self.assertEqual({finding["severity"] for finding in self.findings()} - {"note"}, set())
        self.assert_same(self.restored())
        shutil.rmtree(self.state)
        again = self.run_as_owner("backup", "tree", "--json")
        self.assertNotIn("index", again.err)
        self.assertLess(self.stored() - before, 20_000)

    def test_a_lost_index_is_named_and_found_again(self):
        for path in self.runs():
            path.unlink()
        shutil.rmtree(self.state)
        named = self.findings(status=4)
        self.assertTrue(named)
        for finding in named:
            self.assertEqual((finding["severity"], finding["snapshots"]), ("damage", []), finding)
            self.assertIn("a run of the chunk index: every snapshot is restored without it", finding["what"])
        self.assert_same(self.restored())
        self.assert_mended(["the chunk index of snapshot", "is missing", "were found again"])

    def test_a_torn_index_is_found_again_once_a_scrub_has_seen_it(self):
        for number, path in enumerate(self.runs()):
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.chmod(0o600)
            path.write_bytes(content if number else content[:len(content) // 3])
        # Whoever has it in the cache builds on as ever; the scrub takes that away.
        self.assertTrue(self.findings(status=4))
        outcome = self.run_as_owner("backup", "tree", "--json")
        self.assertIn("were found again", outcome.err)
        shutil.rmtree(self.state)
        self.assertEqual({finding["severity"] for finding in self.findings()} - {"note"}, set())
        before = self.stored()
        self.assertNotIn("index", self.run_as_owner("backup", "tree").err)
        self.assertLess(self.stored() - before, 10_000)
        self.assert_same(self.restored())

    def test_what_this_machine_still_has_of_it_is_put_into_the_next(self):
        self.backup()  # builds on the second, and so has all of its index here
        for path in self.runs():
            path.unlink()
        shutil.rmtree(self.state / "trees")  # so that everything is read
        self.assert_mended([], ["is not whole"])

    def test_a_writer_that_cannot_read_stores_again_and_says_so(self):
        writer = self.folder / "writer.key"
        self.run_as_owner("vault", "key", "new", "here", "--role", "writer", "--to", writer)
        config = self.config.read_text()
        for path in self.runs():
            path.unlink()
        shutil.rmtree(self.state)
        self.config.write_text(config.replace(str(self.key), str(writer)))
        before = self.stored()
        outcome = self.run_as_owner("backup", "tree", "--json")
        self.assertIn("this key may not read what was stored", outcome.err)
        self.assertEqual(checked(outcome)["snapshot"]["base"], self.second["id"])
        self.assertGreater(self.stored() - before, 9_000_000)
        shutil.rmtree(self.state)
        self.assertLess(self.backup()["added_bytes"], 10_000)
        self.config.write_text(config)
        self.assert_same(self.restored())

    def test_V6_killed_at_every_store_call_it_is_found_again_by_the_next(self):
        for path in self.runs():
            path.unlink()
        shutil.rmtree(self.state)
        kept = self.folder / "kept"
        shutil.copytree(self.vault, kept)
        counter = self.folder / "calls"
        self.backup(env={"KURAMORI_TEST_COUNT_STORE_CALLS": counter})
        calls = int(counter.read_text())
        self.assertGreater(calls, 20)
        killed = 0
        for call in range(1, calls + 1):
            with self.subTest(call=call):
                shutil.rmtree(self.vault)
                shutil.rmtree(self.state, ignore_errors=True)
                shutil.copytree(kept, self.vault)
                more = {"KURAMORI_TEST_KILL_AT_STORE_CALL": call}
                if call % 2:
                    more["KURAMORI_TEST_KILL_AT_STORE_CALL_AFTER"] = 1
                outcome = self.run_as_owner("backup", "tree", status=None, env=more)
                self.assertIn(outcome.status, (0, -signal.SIGKILL), outcome)
                killed += outcome.status != 0
                before = self.stored()
                self.backup()
                self.assertLess(self.stored() - before, 10_000)
                self.assertEqual({finding["severity"] for finding in self.findings()} - {"note"}, set())
                if call % 7 == 0:
                    self.assert_same(self.restored())
        self.assertGreater(killed, calls // 2)


if __name__ == "__main__":
    harness.main()
