"""What WAL changes is kept with it in the vault, by whoever archives it, and read back by a program that shares no code.

The sets themselves are tried in changed_blocks_test.cc; here: that they come to the vault, meet each other, and go along.
"""

import json
import subprocess
import time

import harness

READER = harness.ROOT / "tests" / "format" / "changes.py"


class ChangesKept(harness.Case):
    in_memory = True

    def changes(self, vault, key):
        """Of each segment's file, in the order of the WAL."""
        done = subprocess.run(["/usr/bin/python3", READER, vault, key, "db"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return dict(pair for pair in map(json.loads, done.stdout.splitlines()) if len(pair[0]) == 24)

    def assert_they_meet(self, changes):
        before = None
        for file, one in sorted(changes.items()):
            self.assertIsNotNone(one, file)
            if before is not None:
                self.assertEqual(one["from"], before, file)
            before = one["to"]

    def test_every_segment_says_what_it_changes_and_copies_say_it_too(self):
        # No segment outlives the checkpoint after it: what the next one needs of it was left beside.
        server = self.server(15, initdb=["--wal-segsize=1"], settings=["wal_keep_size = 0", "min_wal_size = 2MB", "max_wal_size = 3MB"])
        server.sql("create table entry (id bigint primary key, text text)",
                   "insert into entry select i, md5(i::text) from generate_series(1, 20000) i")
        server.switch_wal()
        # The whole program archives like the small one.
        small = server.sql("show archive_command")
        whole = small.replace("kuramori-wal", "kuramori")
        self.assertNotEqual(small, whole)
        server.sql(f"alter system set archive_command = '{whole}'", "select pg_reload_conf()")
        for i in range(3):
            server.sql(f"update entry set text = 'moved' where id % 10 = {i}", "select pg_logical_emit_message(false, 'test', repeat('x', 900000))",
                       "checkpoint")
            # The segment that is open now began with the rest of a record; the one before is archived and removed.
            self.await_archived(server)
            server.sql("checkpoint")
        server.sql(f"alter system set archive_command = '{small}'", "select pg_reload_conf()")
        self.kuramori("backup", "db")
        server.sql("update entry set text = 'later' where id = 77")
        relation, block = server.sql("select pg_relation_filenode('entry'), split_part(trim(both '()' from ctid::text), ',', 1) from entry "
                                     "where id = 77").split("|")
        server.switch_wal()
        changes = self.changes(self.vault, self.key)
        self.assertGreater(len(changes), 8)
        self.assert_they_meet(changes)
        self.assertTrue(any(one["from"] % 2**20 for one in changes.values()), "no record spans two segments")
        last = changes[max(changes)]
        self.assertEqual(last["system"], int(server.sql("select system_identifier from pg_control_system()")))
        self.assertIn([int(relation), "main", True], [[fork[2], fork[3], int(block) in fork[5]] for fork in last["forks"]])
        self.assertTrue((server.data / "pg_wal" / "kuramori.tail").exists())
        # Sealed anew for another family; the same with no key of the first.
        other, other_key = self.folder / "other", self.folder / "other.key"
        text = self.config.read_text()
        self.config.write_text(text.replace("vaults:\n", f'vaults:\n  other: {{ at: "{other}", site: far, copy_of: here, key_file: "{other_key}" }}\n', 1))
        self.kuramori("vault", "init", "other")
        self.kuramori("copy", "--to", "other")
        copied = self.changes(other, other_key)
        self.assertTrue(copied)
        self.assertEqual(copied, {file: changes[file] for file in copied})
        server.stop()

    def await_archived(self, server):
        status = server.data / "pg_wal" / "archive_status"
        deadline = time.monotonic() + harness.START_SECONDS_MAX
        while any(path.suffix == ".ready" for path in status.iterdir()):
            self.assertLess(time.monotonic(), deadline, f"WAL is not archived: {server.log_text()}")
            time.sleep(0.02)


if __name__ == "__main__":
    harness.main()
