"""Wrong keys, foreign and unknown vaults, full disks, two writers and a collector at once: refused or survived, in words."""

import hashlib
import os
import subprocess
import threading
import time
import unittest

import harness


class Refusals(harness.Case):
    def setUp(self):
        super().setUp()
        self.cluster = self.server()
        self.cluster.sql("create table entry as select i id, md5(i::text) t from generate_series(1, 2000) i")

    def vault_and_key(self, *words, key=None, vault=None, **options):
        return self.kuramori(*words, "--vault", vault or self.vault, "--key-file", key or self.key, config=False, **options)

    def three_lines(self, outcome):
        lines = [line for line in outcome.err.splitlines() if line.startswith(("error:", "why:", "next:"))]
        self.assertEqual([line.split(":")[0] for line in lines][:1], ["error"], outcome)
        self.assertIn("next:", outcome.err, outcome)

    def write_as_server(self, path, content):
        path.write_bytes(content)
        path.chmod(0o600)
        harness.give_to_server(path)

    def test_a_truncated_key_at_every_length_is_refused_with_2(self):
        whole = self.key.read_bytes()
        broken = self.folder / "broken.key"
        for length in [*range(0, len(whole) - 1, max(1, len(whole) // 40)), len(whole) - 2]:
            self.write_as_server(broken, whole[:length])
            outcome = self.vault_and_key("snapshots", key=broken, status=2)
            self.three_lines(outcome)
        changed = bytearray(whole)
        changed[len(whole) // 2] ^= 1
        self.write_as_server(broken, bytes(changed))
        self.three_lines(self.vault_and_key("snapshots", key=broken, status=2))

    def test_a_wrong_passphrase_is_refused_with_2_and_never_shown(self):
        right, wrong = self.folder / "right", self.folder / "wrong"
        self.write_as_server(right, b"a long right passphrase\n")
        self.write_as_server(wrong, b"a long wrong passphrase\n")
        text = self.config.read_text().replace('/vault"', '/sealed"').replace("owner.key\"", f'sealed.key", passphrase_file: "{right}"')
        self.config.write_text(text)
        self.kuramori("vault", "init", "here")
        self.kuramori("snapshots")
        self.config.write_text(text.replace(str(right), str(wrong)))
        outcome = self.kuramori("snapshots", status=2)
        self.three_lines(outcome)
        self.assertNotIn("a long wrong", outcome.err + outcome.out)

    def test_a_foreign_vault_is_refused_with_5(self):
        self.kuramori("backup", "db")
        other_vault, other_key = self.vault, self.folder / "other.key"
        text = self.config.read_text()
        self.config.write_text(text.replace(f"{self.folder}/vault", f"{self.folder}/other").replace("owner.key", "other.key"))
        self.kuramori("vault", "init", "here")
        outcome = self.vault_and_key("snapshots", key=other_key, vault=other_vault, status=5)
        self.three_lines(outcome)
        # Nor is anything restored or stored with it.
        self.vault_and_key("restore", "db", "--to", self.folder / "never", key=other_key, vault=other_vault, status=5)
        self.assertFalse((self.folder / "never").exists())

    def test_an_unknown_format_version_is_refused_with_5(self):
        self.kuramori("backup", "db")
        changed = 0
        for name in ("vault", "vault.2", "vault.3"):
            path = self.vault / name
            content = bytearray(path.read_bytes())
            path.chmod(0o600)
            self.assertEqual(content[FORMAT_VERSION_OFFSET], 1)
            content[FORMAT_VERSION_OFFSET] = 9
            # Whole, as a later program would have written it: not damage.
            path.write_bytes(bytes(content[:-32]) + hashlib.sha256(content[:-32]).digest())
            changed += 1
        self.assertEqual(changed, 3)
        self.three_lines(self.kuramori("snapshots", status=5))
        self.three_lines(self.kuramori("backup", "db", status=5))

    def test_an_unknown_resource_or_snapshot_is_2_and_names_the_nearest(self):
        self.kuramori("backup", "db")
        self.kuramori("backup", "dbb", status=2)
        self.kuramori("restore", "db@ffffffff", "--to", self.folder / "never", status=2)
        self.kuramori("restore", "db", "--to", self.folder / "never", "--at", "yesterday", status=2)
        self.kuramori("restore", "db", "--to", self.folder / "never", "--at", "2026-11-21 10:00:00", status=None)
        self.assertFalse((self.folder / "never").exists())


# docs/vault-format.md, "The envelope".
FORMAT_VERSION_OFFSET = 5


@unittest.skipUnless(harness.is_root(), "small file systems need root")
class FullDisks(harness.Case):
    """A disk that is full is said so, loses nothing, and is enough again when there is room (P59)."""

    def setUp(self):
        super().setUp()
        self.mounts = []

    def tearDown(self):
        for server in self.servers:
            server.kill()
        for mount in reversed(self.mounts):
            subprocess.run(["umount", "-l", mount], check=False)
        super().tearDown()

    def small_disk(self, path, megabytes):
        path.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", path], check=True)
        self.mounts.append(path)
        harness.give_to_server(path)
        path.chmod(0o700)

    def fill(self, folder, leave_bytes):
        filler = folder / "filler"
        with open(filler, "wb", buffering=0) as file:
            free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
            try:
                file.write(bytes(max(0, free - leave_bytes)))
            except OSError:
                pass  # the archiver was faster: full is full
        return filler

    def test_in_the_vault(self):
        """S14: success is told only where there is some; V25, P67: and the vault goes on."""
        disk = self.folder / "disk"
        self.small_disk(disk, 64)
        self.vault = disk / "vault"
        server = self.server()
        server.sql("create table entry as select i id, repeat(md5(i::text), 20) t from generate_series(1, 10000) i")
        self.kuramori("backup", "db")
        first = [snapshot["id"] for snapshot in self.snapshots()]
        server.sql("insert into entry select i, repeat(md5((i * 7)::text), 20) from generate_series(1, 20000) i", "checkpoint")
        for leave in (0, 20_000, 200_000):
            filler = self.fill(disk, leave)
            outcome = self.kuramori("backup", "db", status=1)
            self.assertRegex(outcome.err.lower(), "no space|full")
            filler.unlink()
            self.assertEqual([snapshot["id"] for snapshot in self.snapshots()], first)
            self.kuramori("vault", "scrub", "here")
        self.kuramori("backup", "db")
        self.kuramori("vault", "collect", "here")
        target = self.folder / "restored"
        self.kuramori("restore", "db@latest", "--to", target)
        self.assertEqual(self.adopt(target).sql("select count(*) from entry"), "30000")

    def test_in_the_target(self):
        server = self.server()
        server.sql("create table entry as select i id, md5(i::text) t from generate_series(1, 2000) i")
        self.kuramori("backup", "db")
        disk = self.folder / "disk"
        self.small_disk(disk, 12)
        outcome = self.kuramori("restore", "db@latest", "--to", disk / "restored", status=None)
        self.assertIn(outcome.status, (1, 5), outcome)
        self.assertRegex(outcome.err.lower(), "no space|full|room|free")
        # What is there cannot be taken for a cluster.
        self.assertFalse((disk / "restored" / "global" / "pg_control").exists())
        subprocess.run(["mount", "-o", "remount,size=256m", disk], check=True)
        self.kuramori("restore", "db@latest", "--to", disk / "restored")
        self.assertEqual(self.adopt(disk / "restored").sql("select count(*) from entry"), "2000")

    def test_in_the_state_folder(self):
        server = self.server()
        server.sql("create table entry as select i id from generate_series(1, 100) i")
        disk = self.folder / "state"
        self.small_disk(disk, 1)
        self.fill(disk, 0)
        # What it remembers there may be lost: the work is done all the same.
        for words in (("backup", "db"), ("snapshots",), ("drill", "db")):
            self.kuramori(*words, env={"KURAMORI_STATE": disk})


class AtOnce(harness.Case):
    def test_two_writers_a_pruner_and_a_collector_lose_nothing(self):
        server = self.server()
        server.sql("create table entry (id bigint, t text)")
        self.kuramori("backup", "db", "--keep", "1s")
        problems, done = [], threading.Event()

        def repeat(allowed, *words):
            while not done.is_set():
                outcome = self.kuramori(*words, status=None)
                if outcome.status not in allowed:
                    problems.append(str(outcome))

        # A writer that a collector fenced, or whose base was just pruned, says so and can be run again.
        workers = [threading.Thread(target=repeat, args=arguments) for arguments in (
            ({0, 1, 5}, "backup", "db", "--keep", "1s"), ({0, 1, 5}, "backup", "db", "--keep", "1s"),
            ({0, 1}, "prune"), ({0, 1}, "vault", "collect", "here"))]
        for worker in workers:
            worker.start()
        end = time.monotonic() + (60 if harness.ALL else 15)
        rows = 0
        while time.monotonic() < end:
            server.sql("insert into entry select i, md5(i::text) from generate_series(1, 200) i")
            rows += 200
            time.sleep(0.1)
        done.set()
        for worker in workers:
            worker.join()
        self.assertEqual(problems, [])
        self.kuramori("backup", "db")
        self.kuramori("vault", "scrub", "here")
        target = self.folder / "restored"
        self.kuramori("restore", "db@latest", "--to", target)
        self.assertEqual(self.adopt(target).sql("select count(*) from entry"), str(rows))


if __name__ == "__main__":
    harness.main()
