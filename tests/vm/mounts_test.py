"""Trees of files on what the kernel of a test machine may lack, in the guest of `./dev vm`: NFS, by a server in the same guest, and LVM.

    ./dev vm Nfs42          the cases whose names begin so
    ./dev vm Nfs42.test_a   one

What is done at /srv/export is done on the server's side; what is done at /srv/seen, by the client. Emulation is slow: a case takes
a minute or two.
"""

import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from tree_facts import describe

HERE = pathlib.Path(__file__).resolve().parent
DISK = "/dev/nvme2n1"
EXPORT, SEEN = pathlib.Path("/srv/export"), pathlib.Path("/srv/seen")
COMMAND_SECONDS_MAX = 400
YOUNG_SECONDS = 2.1  # a change time younger than that is not relied on
ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/tmp", "LD_LIBRARY_PATH": str(HERE / "lib")}
CONFIG = """vaults:
  here: {{ at: "file://{folder}/vault", site: here, key_file: "{folder}/owner.key" }}
resources:
  tree: {{ kind: files, paths: ["{tree}"], limits: {{ processes: 1{limit} }}{more} }}
plans:
  tree: {{ resources: [tree], vault: here, {when}, keep: {{ all: 14d }} }}
"""


def sh(line):
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"$ {line}\n[{done.returncode}]\n{done.stdout}{done.stderr}")
    return done.stdout


def is_there(path):
    return subprocess.run(["test", "-e", path]).returncode == 0


def setUpModule():
    sh(f"pvcreate -q {DISK} && vgcreate -q vg0 {DISK} && lvcreate -q -y -L 1G -n export vg0")
    sh(f"mkfs.ext4 -q /dev/vg0/export && mkdir -p {EXPORT} {SEEN} && mount /dev/vg0/export {EXPORT}")
    serve("no_root_squash")
    print(f"kernel {os.uname().release}", file=sys.stderr)


def serve(squash):
    sh(f"exportfs -ua 2>/dev/null; exportfs -o rw,sync,no_subtree_check,{squash} 127.0.0.1:{EXPORT} 2>/dev/null; rpc.nfsd 4")


def server_goes():
    sh("rpc.nfsd 0")


def server_comes():
    sh("rpc.nfsd 4")


class Case(unittest.TestCase):
    def setUp(self):
        self.random = random.Random(7)
        self.folder = pathlib.Path(tempfile.mkdtemp(dir="/srv"))  # ext4: this kernel's tmpfs has no attributes of users
        self.processes = []
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.addCleanup(self.end_all)

    def end_all(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def configure(self, tree, limit="", more="", when='schedule: "0 3 * * *", timezone: UTC'):
        """A vault, and a resource `tree`."""
        self.tree = pathlib.Path(tree)
        (self.folder / "kuramori.yaml").write_text(
            CONFIG.format(folder=self.folder, tree=tree, limit=limit and f", read: {limit}", more=more and f", {more}", when=when))
        if not (self.folder / "vault").exists():
            self.run_program("vault", "init", "here")

    def command(self, *words):
        return [str(word) for word in (HERE / "kuramori", "--config", self.folder / "kuramori.yaml", *words)]

    def run_program(self, *words, status: int | None = 0):
        done = subprocess.run(self.command(*words), capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=COMMAND_SECONDS_MAX,
                              env={**ENVIRONMENT, "KURAMORI_STATE": str(self.folder / "state")}, cwd="/")
        if status is not None:
            self.assertEqual(done.returncode, status, f"{words}\n{done.stdout}{done.stderr}")
        return done

    def begin(self, *words):
        process = subprocess.Popen(self.command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                                   env={**ENVIRONMENT, "KURAMORI_STATE": str(self.folder / "state")}, cwd="/")
        self.processes.append(process)
        return process

    def end(self, process, status=0):
        out, err = process.communicate(timeout=COMMAND_SECONDS_MAX)
        self.assertEqual(process.returncode, status, out + err)
        return out, err

    def backup(self, status=0):
        return json.loads(self.run_program("backup", "tree", "--json", status=status).stdout)["snapshot"]

    def restored(self, snapshot="latest"):
        target = self.folder / f"restored-{time.monotonic_ns()}"
        self.run_program("restore", f"tree@{snapshot}", "--to", target)
        return target

    def assert_same(self, one, other):
        expected, got = describe(one), describe(other)
        for entry in (*expected.values(), *got.values()):
            entry.get("attributes", {}).pop("system.nfs4_acl", None)  # NFS 4 makes it of the mode; a local filesystem has none
            if "content" in entry:
                entry["content"] = hashlib.sha256(entry["content"]).hexdigest()  # to be shown, where it differs
        self.assertEqual(sorted(expected), sorted(got))
        for path, entry in expected.items():
            self.assertEqual(entry, got[path], path)

    def await_true(self, what, seconds=60):
        deadline = time.monotonic() + seconds
        while not what():
            self.assertLess(time.monotonic(), deadline, "it did not come about")
            time.sleep(0.05)

    def await_open(self, process, path):
        """Until the program has opened this file to read its content."""
        def is_open():
            self.assertIsNone(process.poll(), "it ended before it opened the file")
            here = f"/proc/{process.pid}"
            return any(text_of(os.readlink, f"{here}/fd/{name}") == str(path) and not is_for_its_path(f"{here}/fdinfo/{name}")
                       for name in os.listdir(f"{here}/fd"))
        self.await_true(is_open)


def text_of(read, path):
    try:
        return read(path)
    except FileNotFoundError:  # it was closed
        return ""


def is_for_its_path(info):
    """Opened by O_PATH: for its attributes."""
    flags = re.search(r"flags:\s*(\d+)", text_of(lambda path: pathlib.Path(path).read_text(), info))
    return flags is None or int(flags[1], 8) & os.O_PATH != 0


def fill(folder, random, attributes):
    """A bit of everything that a file can be."""
    (folder / "d" / "deep").mkdir(parents=True)
    for number in range(20):
        (folder / "d" / f"f{number}").write_bytes(random.randbytes(random.randrange(20_000)))
    (folder / "d" / "deep" / "big").write_bytes(random.randbytes(2_000_000))
    plain = folder / "plain"
    plain.write_bytes(b"plain\n")
    plain.chmod(0o600)
    os.link(plain, folder / "a second name")
    os.link(plain, folder / "d" / "a third")
    (folder / "set-id").write_bytes(b"x")
    os.chown(folder / "set-id", 1000, 1001)
    (folder / "set-id").chmod(0o4751)
    os.symlink("../nowhere", folder / "d" / "dangling")
    os.mkfifo(folder / "pipe", 0o640)
    (folder / "sticky").mkdir()
    (folder / "sticky").chmod(0o1777)
    (folder / ("long" * 63 + "end")).write_bytes(b"a name of 255 bytes")
    with open(os.fsencode(folder) + b"/not \xff\xfe text\n", "wb") as file:
        file.write(b"\0" * 10)
    with open(folder / "sparse", "wb") as file:
        file.write(b"begin")
        file.truncate(20 << 20)
        file.seek(10 << 20)
        file.write(b"middle")
    if attributes:
        os.setxattr(plain, "user.color", b"green\0blue")
        os.setxattr(folder / "d", "user.folder", b"yes")
    for path in (plain, folder / "d"):
        os.utime(path, ns=(1_600_000_000_123_456_789, 1_600_000_000_123_456_789))


class NfsCases:
    """The same for each version."""

    version, has_attributes, has_acls = "", False, False

    def setUp(self):
        super().setUp()
        sh(f"rm -rf {EXPORT}/*")
        self.mount()
        self.addCleanup(self.unmount)

    def mount(self, options=""):
        sh(f"mount -t nfs -o vers={self.version}{options and ',' + options} 127.0.0.1:{EXPORT} {SEEN}")

    def unmount(self):
        self.end_all()
        sh(f"umount -f -l {SEEN}")

    def make_tree(self):
        tree = SEEN / "tree"
        tree.mkdir(mode=0o750)
        return tree

    def configure(self, tree=SEEN / "tree", **more):
        Case.configure(self, tree, **more)

    def test_everything_that_a_file_is_comes_back_from_there_and_to_there(self):
        tree = self.make_tree()
        fill(tree, self.random, self.has_attributes)
        if self.has_acls:
            sh(f"setfacl -m u:1234:r {tree}/plain && setfacl -d -m g:1234:rwx {tree}/d")
        self.configure()
        made = self.backup()
        self.assertEqual(made["defects"], [])
        self.assert_same(tree, self.restored())
        again = SEEN / "again"
        self.run_program("restore", "tree", "--to", again)
        self.assert_same(tree, again)
        # In place: what differs is written, no more than that; a file with two names whole.
        with open(again / "d" / "deep" / "big", "r+b") as file:
            file.seek(1_000_000)
            file.write(b"spoiled")
        (again / "plain").write_bytes(b"spoiled, under each of its names\n")
        (again / "d" / "f1").unlink()
        (again / "not in it").mkdir()
        done = json.loads(self.run_program("restore", "tree", "--to", again, "--delta", "--json").stdout)["restore"]
        self.assert_same(tree, again)
        self.assertEqual(done["removed"], 1)
        self.assertLess(done["bytes_written"], 200_000)

    def test_what_did_not_change_is_not_read_also_after_it_was_mounted_anew(self):
        tree = self.make_tree()
        fill(tree, self.random, self.has_attributes)
        time.sleep(YOUNG_SECONDS)
        self.configure()
        self.assertGreater(self.backup()["bytes_read"], 2_000_000)
        self.assertEqual(self.backup()["bytes_read"], 0)
        self.unmount()
        self.mount()
        self.assertEqual(self.backup()["bytes_read"], 0)
        (tree / "d" / "f1").write_bytes(b"another")
        self.assertEqual(self.backup()["bytes_read"], len(b"another"))
        self.assert_same(tree, self.restored())

    def test_what_another_machine_changed_is_seen_at_once(self):
        self.unmount()
        self.mount("actimeo=600")  # this machine relies on what it was told for so long
        tree = self.make_tree()
        (tree / "d").mkdir()
        for number in range(20):
            (tree / "d" / f"f{number}").write_bytes(b"before")
        time.sleep(YOUNG_SECONDS)
        self.configure()
        self.backup()
        there = EXPORT / "tree" / "d"
        there.joinpath("f1").write_bytes(b"content")
        there.joinpath("f2").chmod(0o600)
        there.joinpath("f3").unlink()
        there.joinpath("new").write_bytes(b"new")
        self.backup()
        self.assert_same(EXPORT / "tree", self.restored())
        time.sleep(YOUNG_SECONDS)
        self.backup()
        there.joinpath("f4").write_bytes(b"alone, in a folder that is as it was")
        self.backup()
        self.assert_same(EXPORT / "tree", self.restored())

    def test_a_file_that_is_the_whole_resource_is_asked_for_anew(self):
        self.unmount()
        self.mount("actimeo=600")
        tree = self.make_tree()
        (tree / "f").write_bytes(b"before")
        time.sleep(YOUNG_SECONDS)
        self.configure(tree / "f")
        self.backup()
        (EXPORT / "tree" / "f").write_bytes(b"content")
        self.backup()
        self.assertEqual((self.restored() / "srv/seen/tree/f").read_bytes(), b"content")

    def test_a_file_removed_here_while_it_is_held_open_stands_under_another_name_that_can_be_excluded(self):
        tree = self.make_tree()
        with open(tree / "held", "wb") as held:
            held.write(b"held")
            held.flush()
            (tree / "held").unlink()
            self.configure()
            self.backup()
            self.assertTrue(os.listdir(self.restored())[0].startswith(".nfs"))
            self.configure(more='exclude: [".nfs*"]')
            self.backup()
            self.assertEqual(os.listdir(self.restored()), [])

    def test_a_look_at_all_files_takes_few_calls(self):
        tree = self.make_tree()
        for number in range(1000):
            (tree / f"f{number}").write_bytes(b"x")
        time.sleep(YOUNG_SECONDS)
        self.configure()
        self.backup()
        self.unmount()
        self.mount("actimeo=1")
        for _ in range(2):
            time.sleep(1.1)  # what it was told is worth nothing any more
            before = self.calls()
            self.assertEqual(self.backup()["bytes_read"], 0)
            calls = self.calls() - before
            print(f"NFS {self.version}: {calls} calls for 1000 files", file=sys.stderr)
            self.assertLess(calls, 100)

    @staticmethod
    def calls():
        """Of all kinds, to the server."""
        found = pathlib.Path("/proc/self/mountstats").read_text().rpartition(f"mounted on {SEEN} ")[2].partition("per-op statistics")[2]
        return sum(int(line.split()[1]) for line in found.splitlines() if ":" in line)

    def read_slowly(self, change, status=0):
        """A backup during which `change` comes about on the server, while a file of 4 MB is being read."""
        tree = self.make_tree()
        (tree / "big").write_bytes(self.random.randbytes(4_000_000))
        (tree / "other").write_bytes(b"other")
        self.configure(limit="1MiB/s")
        process = self.begin("backup", "tree", "--json")
        self.await_open(process, tree / "big")
        process.send_signal(signal.SIGSTOP)
        change(EXPORT / "tree")
        sh("echo 3 >/proc/sys/vm/drop_caches")  # else the client has read ahead
        process.send_signal(signal.SIGCONT)
        return json.loads(self.end(process, status)[0])["snapshot"]

    def test_a_file_replaced_while_it_is_read_is_the_new_one(self):
        def replace(folder):
            (folder / "new").write_bytes(b"new" * 1000)
            (folder / "new").rename(folder / "big")
        made = self.read_slowly(replace)
        self.assertEqual(made["defects"], [])
        self.assertEqual((self.restored() / "big").read_bytes(), b"new" * 1000)

    def test_a_file_removed_while_it_is_read_is_not_there(self):
        made = self.read_slowly(lambda folder: (folder / "big").unlink())
        self.assertEqual(made["defects"], [])
        self.assertEqual(sorted(os.listdir(self.restored())), ["other"])

    def test_a_server_that_was_away_is_waited_for(self):
        def away(folder):
            server_goes()
            threading.Timer(8, server_comes).start()
        made = self.read_slowly(away)
        self.assertEqual(made["defects"], [])
        self.assert_same(EXPORT / "tree", self.restored())

    def test_with_a_soft_mount_what_a_server_did_not_give_is_named(self):
        self.unmount()
        self.mount("soft,timeo=10,retrans=1")
        try:
            made = self.read_slowly(lambda folder: server_goes(), status=3)
        finally:
            server_comes()
        self.assertIn("big", {defect["path"] for defect in made["defects"]})
        self.assertTrue({"big", "other"} <= {defect["path"] for defect in made["defects"]} | set(os.listdir(self.restored(made["id"]))), made)
        self.await_true(lambda: is_there(f"{SEEN}/tree/big"))
        self.assertEqual(self.backup()["defects"], [])
        self.assert_same(EXPORT / "tree", self.restored())

    def test_watch_sees_what_is_changed_here_and_there(self):
        tree = self.make_tree()
        (tree / "f").write_bytes(b"first")
        self.configure(when="every: change")
        self.begin("watch", "tree")
        for folder, content in ((tree, b"here"), (EXPORT / "tree", b"there"), (tree, b"here again")):
            (folder / "f").write_bytes(content)
            begun = time.monotonic()
            self.await_true(lambda: self.newest("f") == content, seconds=120)
            print(f"NFS {self.version}: watch took {time.monotonic() - begun:.0f} s", file=sys.stderr)

    def newest(self, name):
        target = self.folder / f"newest-{time.monotonic_ns()}"
        subprocess.run(self.command("restore", "tree", "--to", target), capture_output=True,
                       env={**ENVIRONMENT, "KURAMORI_STATE": str(self.folder / "state2")})
        return (target / name).read_bytes() if (target / name).exists() else None


class Nfs42(NfsCases, Case):
    version, has_attributes = "4.2", True

    def test_an_acl_comes_back_there_and_elsewhere_it_is_said_that_it_did_not(self):
        tree = self.make_tree()
        (tree / "f").write_bytes(b"f")
        sh(f"setfacl -m u:1234:rw {EXPORT}/tree/f")
        self.configure()
        self.backup()
        self.run_program("restore", "tree", "--to", SEEN / "again")
        acls = [sh(f"cd {EXPORT}/{folder} && getfacl -n f") for folder in ("tree", "again")]
        self.assertIn("user:1234:rw-", acls[0])
        self.assertEqual(*acls)
        done = self.run_program("restore", "tree", "--to", self.folder / "local")
        self.assertIn("1 extended attributes were left out", done.stdout + done.stderr)


class Nfs41(NfsCases, Case):  # what EFS speaks
    version = "4.1"


class Nfs3(NfsCases, Case):
    version, has_acls = "3", True


class RootSquashed(Case):
    """The server takes root for nobody."""

    def setUp(self):
        super().setUp()
        sh(f"rm -rf {EXPORT}/*")
        serve("root_squash")
        self.addCleanup(serve, "no_root_squash")
        sh(f"mount -t nfs -o vers=4.2 127.0.0.1:{EXPORT} {SEEN}")
        self.addCleanup(sh, f"umount -f -l {SEEN}")

    def test_what_nobody_may_not_read_is_named_once_and_the_rest_is_there(self):
        tree = EXPORT / "tree"
        for folder in ("open", "closed", "listed"):
            (tree / folder).mkdir(parents=True)
            (tree / folder / "within").write_bytes(b"x")
        (tree / "secret").write_bytes(b"not yours")
        (tree / "secret").chmod(0o600)
        (tree / "closed").chmod(0o700)
        (tree / "listed").chmod(0o744)  # its names can be read, what they are cannot
        self.configure(SEEN / "tree")
        made = self.backup(status=3)
        self.assertEqual(sorted(defect["path"] for defect in made["defects"]), ["closed", "listed/within", "secret"], made)
        target = self.restored()
        self.assertEqual((target / "open" / "within").read_bytes(), b"x")
        self.assertFalse((target / "secret").exists())
        shown = self.run_program("backup", "tree", status=3)
        for name in ("closed", "listed/within", "secret"):
            self.assertIn(name, shown.stdout + shown.stderr)
        # Who may read all of it captures all of it.
        for path in (tree / "secret", tree / "closed", tree / "listed"):
            path.chmod(0o755)
        self.assertEqual(self.backup()["defects"], [])
        self.assert_same(tree, self.restored())

    def test_a_restore_to_there_says_which_owners_it_could_not_set(self):
        tree = self.folder / "tree"
        tree.mkdir()
        (tree / "f").write_bytes(b"f")
        os.chown(tree / "f", 1000, 1000)
        (EXPORT / "there").mkdir()
        (EXPORT / "there").chmod(0o777)
        self.configure(tree)
        self.backup()
        done = self.run_program("restore", "tree", "--to", SEEN / "there" / "restored")
        self.assertEqual((EXPORT / "there" / "restored" / "f").read_bytes(), b"f")
        self.assertIn("belong to who restored them", done.stdout + done.stderr)


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
            new.write_text(str(self.number))
            new.rename(self.folder / name)

    def run(self):
        while not self.stopped.wait(0.01):
            self.round()

    @staticmethod
    def agrees(folder):
        a, z = (int((folder / name).read_text()) for name in ("a", "z"))
        return a in (z, z + 1)


class LvmCases:
    """The hooks of docs/files.md."""

    filesystem, options = "", "ro"
    LIVE, SHOWN = pathlib.Path("/srv/app"), "/run/kuramori/app"

    def setUp(self):
        super().setUp()
        self.LIVE.mkdir(exist_ok=True)
        sh(f"lvcreate -q -y -W y -L 600M -n app vg0 && mkfs.{self.filesystem} -q /dev/vg0/app && mount /dev/vg0/app {self.LIVE}")
        self.addCleanup(sh, f"umount {self.LIVE} && lvremove -q --yes vg0/app")
        self.app = self.LIVE / "data"
        self.app.mkdir()
        (self.app / "middle").write_bytes(self.random.randbytes(6_000_000))

    def configure(self, size="200M", **more):
        super().configure(f"{self.SHOWN}/data", more=f"""hooks: {{
          before: [
            "umount -q {self.SHOWN}; lvremove --yes vg0/app-kuramori; true",
            "lvcreate --snapshot --size {size} --name app-kuramori vg0/app",
            "mkdir -p {self.SHOWN} && mount -o {self.options} /dev/vg0/app-kuramori {self.SHOWN}" ],
          after: [ "umount {self.SHOWN}", "lvremove --yes vg0/app-kuramori" ] }}""", **more)

    def assert_gone(self):
        self.assertNotIn("app-kuramori", sh("lvs"))
        self.assertNotIn(self.SHOWN, sh("cat /proc/mounts"))

    def test_files_agree_although_they_are_written_meanwhile_and_what_did_not_change_is_not_read(self):
        with Application(self.app) as application:
            self.configure(limit="4MiB/s")
            self.backup()
            self.assert_gone()
            began = application.number
            again = self.backup()
            self.assertGreater(application.number, began, "nothing was written meanwhile")
        self.assert_gone()
        self.assertLess(again["bytes_read"], 1000, "the file that did not change was read again")
        for snapshot in json.loads(self.run_program("snapshots", "tree", "--json").stdout)["snapshots"]:
            target = self.restored(snapshot["id"])
            self.assertTrue(Application.agrees(target))
            self.assertEqual((target / "middle").read_bytes(), (self.app / "middle").read_bytes())

    def test_after_a_failure_and_a_stop_nothing_is_left_and_after_a_kill_the_next_run_removes_it(self):
        self.configure(limit="1MiB/s")
        # A failure: the vault cannot be written to.
        vault = self.folder / "vault"
        moved = vault.rename(self.folder / "away")
        self.assertNotEqual(self.run_program("backup", "tree", status=None).returncode, 0)
        moved.rename(vault)
        self.assert_gone()
        for number in (signal.SIGTERM, signal.SIGKILL):
            process = self.begin("backup", "tree")
            self.await_open(process, f"{self.SHOWN}/data/middle")
            process.send_signal(number)
            self.assertNotEqual(process.wait(COMMAND_SECONDS_MAX), 0)
            if number == signal.SIGTERM:
                self.assert_gone()
        self.assertIn("app-kuramori", sh("lvs"))
        self.assertEqual(self.backup()["defects"], [])
        self.assert_gone()
        self.assert_same(self.app, self.restored())


    def test_a_snapshot_that_ran_full_makes_none_that_looks_whole(self):
        self.configure(size="8M", limit="1MiB/s")
        process = self.begin("backup", "tree", "--json")
        self.await_open(process, f"{self.SHOWN}/data/middle")
        process.send_signal(signal.SIGSTOP)
        (self.app / "middle").write_bytes(self.random.randbytes(6_000_000))
        (self.LIVE / "more").write_bytes(self.random.randbytes(30_000_000))
        sh("sync; echo 3 >/proc/sys/vm/drop_caches")
        process.send_signal(signal.SIGCONT)
        out, _ = self.end(process, status=3)
        self.assertIn("middle", {defect["path"] for defect in json.loads(out)["snapshot"]["defects"]}, out)
        self.assert_gone()


class LvmExt4(LvmCases, Case):
    filesystem = "ext4"


class LvmXfs(LvmCases, Case):
    filesystem, options = "xfs", "ro,nouuid"


def chosen(names):
    """The cases whose names begin so: CLASS or CLASS.test."""
    suite = unittest.TestSuite()
    for group in unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"]):
        for case in group:
            if not names or any(case.id().removeprefix("__main__.").startswith(name) for name in names):
                suite.addTest(case)
    return suite


if __name__ == "__main__":
    suite = chosen([name for name in sys.argv[1:] if name])
    done = unittest.TextTestRunner(sys.stdout, verbosity=2).run(suite)
    sys.exit(not done.wasSuccessful() or done.testsRun == 0)
