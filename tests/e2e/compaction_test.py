"""Compaction (P62): when little is needed of packs that old snapshots left, a keeper thins them without a key to the content. What
stays is restored byte for byte, also when the keeper is killed at any of its store calls."""

import os
import pathlib
import subprocess
import sys
import time
import unittest

import harness
import kill_points

ALL = bool(os.environ.get("KURAMORI_TEST_ALL"))
INCREMENTALS = 30 if ALL else 3
ROWS = 150000 if ALL else 100000
KILLS = 1000000 if ALL else 5
READER = pathlib.Path(__file__).resolve().parents[1] / "format/reader.py"
KEPT = 3 if ALL else 2


class WithHistory(harness.Case):
    """A cluster of which every snapshot changed a hundredth of the rows here and there; the newest are left, the rest is pruned."""

    in_memory = True

    def make_history(self):
        self.cluster = server = self.server(initdb=["--wal-segsize=1"])
        server.sql("create table entry (id bigint primary key, text text) with (fillfactor = 80)",
                   f"insert into entry select i, md5(i::text) || md5((-i)::text) from generate_series(1, {ROWS}) i",
                   "vacuum (freeze, analyze)", "checkpoint")
        made = [self.backup()]
        for number in range(INCREMENTALS):
            # In runs of rows, so that a hundredth of the pages changes.
            width = ROWS // 100
            server.sql(f"update entry set text = md5({number}::text || text) where id between {number * 2 * width} and {number * 2 * width + width}",
                       "checkpoint")
            made.append(self.backup())
        # Most of the first snapshot's pages are written anew: of its packs little is needed from here on.
        server.sql(f"update entry set text = 'anew ' || md5(text) where id <= {ROWS * 4 // 5}", "vacuum entry", "checkpoint")
        made += [self.backup() for _ in range(KEPT)]
        self.keeper = self.folder / "keeper.key"
        self.kuramori("vault", "key", "new", "here", "--role", "keeper", "--name", "keeper", "--to", self.keeper)
        # What is due is due by `last` alone.
        text = self.config.read_text()
        self.config.write_text(text.replace("    window: 14d\n", "").replace("all: 14d", f"all: 1s, last: {KEPT}"))
        time.sleep(1.1)
        return made

    def backup(self):
        return self.kuramori("backup", "db", "--keep", "1s", "--json").json()["snapshot"]["id"]

    def packs_bytes(self):
        return sum(size for _, size in self.place.objects("packs/"))

    def as_keeper(self, *words, **options):
        return self.kuramori("--key-file", self.keeper, *words, **options)

    def digest(self, snapshot):
        target = self.folder / f"restored-{snapshot}"
        self.kuramori("restore", f"db@{snapshot}", "--to", target)
        found = kill_points.tree_digest(target)
        subprocess.run(["rm", "-rf", target], check=True)
        return found

    def collect_all(self, *words):
        kill_points.collect_all(lambda *each: self.as_keeper(*each), self.vault, *words)


class Compaction(WithHistory):
    def test_what_old_snapshots_left_goes_and_the_rest_is_as_it_was(self):
        self.make_history()
        self.as_keeper("prune")
        kept = [snapshot["id"] for snapshot in self.snapshots()]
        self.assertLessEqual(len(kept), KEPT + 1)
        first, last = kept[0], kept[-1]
        digests = {snapshot: self.digest(snapshot) for snapshot in (first, last)}
        self.as_keeper("vault", "collect", "here", "--no-compact", "--share-max", "100")
        before = self.packs_bytes()
        dry = self.as_keeper("vault", "collect", "here", "--dry-run", "--json").json()["compacted"]
        self.assertGreater(dry["packs"], 0)
        self.assertEqual(self.packs_bytes(), before)
        template, counted = self.folder / "template", self.folder / "calls"
        if self.vault.exists():
            subprocess.run(["cp", "-a", self.vault, template], check=True)
        # One run thins, and gives up what was thinned.
        said = self.as_keeper("vault", "collect", "here", "--json", env={"KURAMORI_TEST_COUNT_STORE_CALLS": counted}).json()["compacted"]
        self.assertEqual((said["packs"], said["stored_bytes"], said["kept_bytes"]), (dry["packs"], dry["stored_bytes"], dry["kept_bytes"]))
        self.assertEqual((said["replaced"]["objects"], said["replaced"]["bytes"]), (said["packs"], said["stored_bytes"]))
        self.assertEqual(said["pending_bytes"], 0)
        once = self.packs_bytes()
        self.assertLess(once, before - said["stored_bytes"] / 2 + 100000, (once, before, said))
        self.collect_all()
        after = self.packs_bytes()
        self.assertLessEqual(after, once)
        for snapshot, digest in digests.items():
            self.assertEqual(self.digest(snapshot), digest)
        self.kuramori("vault", "scrub", "here")
        if self.vault.exists():
            # Another reader, written from the format's page alone, reads the thinned vault too.
            target = self.folder / "by-another-reader"
            subprocess.run([sys.executable, READER, self.vault, self.key, "restore", first, target], check=True)
            self.assertEqual(kill_points.tree_digest(target), digests[first])
        self.build_on_it(after)
        self.copy_it(last, digests[last])
        if template.exists():
            self.kill_it(template, int(counted.read_text()), after, digests)

    def build_on_it(self, stored):
        """The next snapshot builds on thinned packs, stores what changed, and is whole."""
        self.cluster.sql("update entry set text = 'after' where id < 50", "checkpoint")
        later = self.kuramori("backup", "db", "--json").json()["snapshot"]
        self.assertLess(later["added_bytes"], stored / 3)
        content = "select count(*), sum(hashtext(id::text || text)::bigint) from entry"
        wanted = self.cluster.sql(content)
        target = self.folder / "later"
        self.kuramori("restore", f"db@{later['id']}", "--to", target)
        restored = self.adopt(target)
        self.assertEqual(restored.sql(content), wanted)
        restored.stop()

    def copy_it(self, snapshot, digest):
        """A copy has all of it when the first vault is gone."""
        copy = self.folder / "copy"
        text = self.config.read_text()
        self.config.write_text(text.replace("vaults:\n", f'vaults:\n  there: {{ at: "file://{copy}", site: there, copy_of: here, key_file: "{self.key}" }}\n', 1))
        self.kuramori("vault", "init", "there")
        self.kuramori("copy", "--to", "there")
        if self.vault.exists():
            os.rename(self.vault, self.folder / "away")
        target = self.folder / "from-the-copy"
        self.kuramori("restore", f"db@{snapshot}", "--vault", "there", "--to", target)
        self.assertEqual(kill_points.tree_digest(target), digest)
        self.kuramori("vault", "scrub", "there")

    def kill_it(self, template, calls, wanted_bytes, digests):
        """Killed at any store call of the run that thinned, nothing is lost, and who comes next ends it."""
        step, killed = max(1, calls // KILLS), 0
        for call in range(1 if ALL else step, calls + 1, step):
            with self.subTest(call=call):
                subprocess.run(["rm", "-rf", self.vault], check=True)
                subprocess.run(["cp", "-a", template, self.vault], check=True)
                env = {"KURAMORI_TEST_KILL_AT_STORE_CALL": str(call)}
                if call % 3 == 0:
                    env["KURAMORI_TEST_KILL_AT_STORE_CALL_AFTER"] = "1"
                killed += self.as_keeper("vault", "collect", "here", env=env, status=None).status == -9
                found = self.kuramori("vault", "scrub", "here", "--json").json()
                self.assertFalse(found["damaged"], found)
                snapshot = list(digests)[call % 2]
                self.assertEqual(self.digest(snapshot), digests[snapshot])
                # Until what the killed one left open was fenced, and is gone.
                self.collect_all("--dead-after", "1s")
                self.assertLessEqual(self.packs_bytes(), wanted_bytes)
                self.assertEqual(self.digest(snapshot), digests[snapshot])
        self.assertGreater(killed, calls // 2 if ALL else KILLS // 2)


@unittest.skipUnless(ALL, "a cluster of its own")
class OnS3(Compaction):
    place_kind = "rgw"


if __name__ == "__main__":
    harness.main()
