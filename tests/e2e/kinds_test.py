"""Redis, programs' output and secrets, whole: into the vault, proven, and back into something that works (G1, S14, S17, A2)."""

import os
import signal
import subprocess
import time

import harness
from files_test import checked

CONFIG = """vaults:
  here: {{ at: "file://{vault}", site: here, key_file: "{key}" }}
resources:
  cache: {{ kind: redis, connect: "unix://{folder}/redis.sock" }}
  infra: {{ kind: command, run: ["/bin/sh", "{folder}/export"], restore: ["/bin/sh", "-c", "cat >'{folder}/given-back'"] }}
  keys: {{ kind: secret, paths: ["{folder}/.env"] }}
plans:
  all: {{ resources: [cache, infra, keys], vault: here, schedule: "0 * * * *", timezone: UTC, keep: {{ all: 7d }} }}
"""


class Kinds(harness.Case):
    def setUp(self):
        super().setUp()
        self.config.write_text(CONFIG.format(vault=self.vault, key=self.key, folder=self.folder))
        self.config.chmod(0o644)
        self.redis = []
        self.mine("vault", "init", "here")

    def tearDown(self):
        for process in self.redis:
            process.kill()
            process.wait()
        super().tearDown()

    def mine(self, *words, **more):
        return self.kuramori(*words, user=False, **{**more, "env": {"KURAMORI_STATE": self.folder / "state"}})

    def serve(self, folder, socket, *options):
        folder.mkdir(exist_ok=True)
        log = open(self.folder / "redis.log", "ab")
        self.redis.append(subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", "",
                                            "--daemonize", "no", *options], stdout=log, stderr=log))
        for _ in range(200):
            if self.ask(socket, "ping") == "PONG":
                return
            time.sleep(0.05)
        self.fail((self.folder / "redis.log").read_text())

    @staticmethod
    def ask(socket, *words):
        return subprocess.run(["redis-cli", "-s", str(socket), *map(str, words)], capture_output=True, text=True).stdout.strip()

    def test_G1_S17_a_redis_is_proven_and_serves_again_with_its_append_only_file(self):
        socket = self.folder / "redis.sock"
        self.serve(self.folder / "live", socket, "--repl-diskless-sync-delay", "0")
        for number in range(50):
            self.ask(socket, "mset", *[part for key in range(40) for part in (f"key:{number}:{key}", f"value {number} {key}")])
        self.ask(socket, "hset", "hash", "field", "value")
        self.ask(socket, "expire", "hash", 5000)
        self.assertEqual(self.ask(socket, "dbsize"), "2001")
        self.mine("backup", "cache")
        proof = self.mine("drill", "cache", "--json").json()["proof"]
        self.assertTrue(proof["passed"], proof)
        target = self.folder / "restored"
        self.mine("restore", "cache", "--to", target)
        again = self.folder / "again.sock"
        self.serve(target, again, "--appendonly", "yes")
        self.assertEqual(self.ask(again, "dbsize"), "2001")
        self.assertEqual(self.ask(again, "get", "key:49:39"), "value 49 39")
        self.assertGreater(int(self.ask(again, "ttl", "hash")), 4000)
        # A vault and a key are enough.
        alone = self.folder / "alone"
        self.kuramori("restore", "cache", "--vault", self.vault, "--key-file", self.key, "--to", alone, config=False, user=False)
        self.assertGreater((alone / "dump.rdb").stat().st_size, 10_000)
        # Into one that runs: refused while it has keys.
        refused = self.mine("restore", "cache", "--to", f"unix://{again}", status=5)
        self.assertIn("error:", refused.err)
        self.ask(again, "flushall")
        self.mine("restore", "cache", "--to", f"unix://{again}")
        self.assertEqual(self.ask(again, "dbsize"), "2001")

    def test_S14_a_program_is_believed_only_when_it_ends_well(self):
        program = self.folder / "export"
        program.write_text("echo '{\"resources\": 1}'; seq 1 20000\n")
        self.mine("backup", "infra")
        self.assertTrue(self.mine("drill", "infra", "--json").json()["proof"]["passed"])
        self.mine("restore", "infra", "--to", self.folder / "output")
        self.assertEqual((self.folder / "output").read_text().splitlines()[-1], "20000")
        self.mine("restore", "infra", "--to", "command:")
        self.assertEqual((self.folder / "given-back").read_bytes(), (self.folder / "output").read_bytes())
        # A short one that stays as it is did not shrink, whatever we say of the snapshot beside it.
        kept = program.read_text()
        program.write_text("echo ok\n")
        self.mine("backup", "infra", status=3)
        self.assertEqual(self.mine("backup", "infra", "--json").json()["snapshot"]["size_bytes"], 3)
        program.write_text(kept)
        self.mine("backup", "infra")
        # Half an export is no snapshot, and one that shrank is one that says so.
        program.write_text("seq 1 20000; echo 'no right to read the rest' >&2; exit 3\n")
        failed = self.mine("backup", "infra", status=1)
        self.assertIn("no right to read the rest", failed.err)
        program.write_text("echo nothing\n")
        self.assertEqual(self.mine("backup", "infra", "--json", status=3).json()["snapshot"]["defects"][0]["path"], "output")
        self.assertEqual(len(self.mine("snapshots", "infra", "--json").json()["snapshots"]), 5)

    def test_a_secret_is_kept_in_every_version_and_seen_nowhere(self):
        value = "s3cr3t-" + os.urandom(12).hex()
        secret = self.folder / ".env"
        for version in ("old", "new"):
            secret.write_text(f"API_KEY={value}-{version}\nREGION=tokyo\n")
            secret.chmod(0o600)
            outcome = self.mine("backup", "keys", "--verbose")
            self.assertNotIn(value, outcome.out + outcome.err)
            time.sleep(0.01)
        listed = self.mine("snapshots", "keys", "--json")
        first = listed.json()["snapshots"][0]["id"]
        for words in (("show", first), ("drill", "keys"), ("doctor", "keys")):
            outcome = self.mine(*words, status=None)
            self.assertNotIn(value, outcome.out + outcome.err)
        for folder in (self.vault, self.folder / "state"):
            for path in folder.rglob("*"):
                if path.is_file():
                    self.assertNotIn(value.encode(), path.read_bytes(), path)
        self.mine("restore", f"keys@{first}", "--to", self.folder / "back")
        found = [path for path in [self.folder / "back", *(self.folder / "back").rglob("*")] if path.is_file()]
        self.assertEqual(len(found), 1)
        self.assertIn(f"{value}-old", found[0].read_text())
        self.assertEqual(found[0].stat().st_mode & 0o777, 0o600)

    def test_I1_I3_a_secret_differs_by_the_names_of_its_keys(self):
        secret = self.folder / ".env"
        value = "s3cr3t-" + os.urandom(12).hex()
        secret.write_text(f"API_KEY={value}\nREGION=tokyo\nOLD=1\n")
        self.mine("backup", "keys")
        self.assert_refused(self.mine("diff", "keys", status=2), "fewer than two")
        secret.write_text(f"API_KEY={value}-2\nREGION=tokyo\nNEW={value}\n")
        self.mine("backup", "keys")
        outcome = self.mine("diff", "keys", "--json")
        changes = checked(outcome)["diff"]["changes"]
        self.assertEqual([(change["change"], change["what"]) for change in changes], [("changed", ["content"])])
        self.assertEqual([(part["name"], part["change"]) for part in changes[0]["parts"]],
                         [("API_KEY", "changed"), ("NEW", "added"), ("OLD", "removed")])
        for words in (("diff", "keys"), ("diff", "keys", "--json"), ("diff", "keys", "--lines")):
            outcome = self.mine(*words, status=None)
            self.assertNotIn(value, outcome.out + outcome.err)
        self.assertEqual(outcome.status, 5)

    def test_I7_what_drifted_is_shown_line_by_line(self):
        export = self.folder / "export"
        for groups in (1, 2, 2):
            export.write_text("printf '%s\\n' " + " ".join(f"sg-{number}" for number in range(groups)) + "\n")
            self.mine("backup", "infra")
        first = self.mine("snapshots", "infra", "--json").json()["snapshots"][0]["id"]
        self.mine("diff", "infra", "--detailed-exitcode")
        drifted = checked(self.mine("diff", first, "--lines", "--detailed-exitcode", "--json", status=10))["diff"]
        self.assertEqual([change["lines"] for change in drifted["changes"]], ["@@ -1,1 +1,2 @@\n sg-0\n+sg-1\n"])
        self.assertIn("+sg-1\n", self.mine("diff", f"infra@{first}", "--lines").out)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    harness.main()
