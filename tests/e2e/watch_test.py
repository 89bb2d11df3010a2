"""A snapshot whenever something changes (`kuramori watch`): files in real time, a version of a secret for every change (I1)."""

import hashlib
import hmac
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request

import harness

CONFIG = """vaults:
  here: {{ at: "file://{vault}", site: here, key_file: "{key}" }}
resources:
  uploads: {{ kind: files, paths: ["{folder}/uploads"], exclude: ["*.part"] }}
  env: {{ kind: secret, paths: ["{folder}/app/.env"] }}
  export: {{ kind: command, run: ["/bin/true"] }}
  code: {{ kind: git, url: "{folder}/code.git" }}
  hooked: {{ kind: git, url: "{folder}/code.git", webhook: {{ listen: "127.0.0.1:{port}", path: /code, secret_file: "{folder}/hook.secret" }} }}
plans:
  all: {{ resources: [uploads, env, export, code, hooked], vault: here, every: change, keep: {{ all: 14d }} }}
"""
SECONDS_TO_SETTLE = 30  # on a machine at work; alone it takes three


class Watch(harness.Case):
    def setUp(self):
        super().setUp()
        self.port = harness.free_port()
        self.config.write_text(CONFIG.format(vault=self.vault, key=self.key, folder=self.folder, port=self.port))
        self.uploads = self.folder / "uploads"
        self.uploads.mkdir()
        (self.folder / "app").mkdir()
        self.watchers = []
        self.mine("vault", "init", "here")

    def tearDown(self):
        for process in self.watchers:
            if process.poll() is None:
                process.kill()
            process.wait()
        super().tearDown()

    @property
    def environment(self):
        return {"KURAMORI_STATE": self.folder / "state"}

    def mine(self, *words, **more):
        return self.kuramori(*words, user=False, **{**more, "env": self.environment})

    def watch(self, resource, *words):
        log = open(self.folder / "watch.log", "ab")
        process = subprocess.Popen([self.programs / "kuramori", "--config", self.config, "watch", resource, *words], stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=log, env=harness.environment(**self.environment), cwd="/")
        self.watchers.append(process)
        return process

    def count(self, resource):
        listed = self.mine("snapshots", resource, "--json", status=None)
        return 0 if listed.status else len(listed.json()["snapshots"])  # before the first, nobody knows the resource

    def await_count(self, resource, least):
        """How many seconds until there are so many snapshots."""
        begun = time.monotonic()
        while self.count(resource) < least:
            self.assertLess(time.monotonic() - begun, SECONDS_TO_SETTLE, (self.folder / "watch.log").read_text())
            time.sleep(0.1)
        return time.monotonic() - begun

    def newest(self, resource):
        target = self.folder / f"restored-{time.monotonic_ns()}"
        self.mine("restore", f"{resource}@latest", "--to", target, status=None)
        return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}

    def await_newest(self, resource, expected):
        begun = time.monotonic()
        while (found := self.newest(resource)) != expected:
            self.assertLess(time.monotonic() - begun, SECONDS_TO_SETTLE, (found, (self.folder / "watch.log").read_text()))
            time.sleep(0.3)

    def test_files_are_safe_seconds_after_they_change(self):
        (self.uploads / "before").write_bytes(b"1")
        watcher = self.watch("uploads", "--settle", "1s")
        self.await_count("uploads", 1)
        # What is excluded makes no snapshot, and what changes together makes one.
        (self.uploads / "big.part").write_bytes(b"half")
        time.sleep(3)
        self.assertEqual(self.count("uploads"), 1)
        for number in range(20):
            (self.uploads / f"f{number}").write_bytes(b"%d" % number)
        (self.uploads / "folder").mkdir()
        (self.uploads / "folder/deep").write_bytes(b"deep")
        self.await_newest("uploads", {"before": b"1", "folder/deep": b"deep", **{f"f{number}": b"%d" % number for number in range(20)}})
        self.assertLess(self.count("uploads"), 6)
        # A folder that came after the watch began is watched like any.
        (self.uploads / "folder/deep").write_bytes(b"deeper")
        (self.uploads / "before").unlink()
        self.await_newest("uploads", {"folder/deep": b"deeper", **{f"f{number}": b"%d" % number for number in range(20)}})
        watcher.send_signal(signal.SIGTERM)
        self.assertEqual(watcher.wait(20), 0, (self.folder / "watch.log").read_text())

    def test_what_happened_while_nobody_watched_is_in_the_next(self):
        expected = {}
        for round_ in range(6):
            watcher = self.watch("uploads", "--settle", "1s")
            for number in range(5):
                name, content = f"r{round_}-{number}", os.urandom(1000 + number)
                (self.uploads / name).write_bytes(content)
                expected[name] = content
                time.sleep(0.15 * round_)
            watcher.kill()
            watcher.wait()
        self.watch("uploads", "--settle", "1s")
        self.await_newest("uploads", expected)
        self.mine("vault", "scrub", "here")

    def test_a_vault_that_is_away_is_waited_for(self):
        watcher = self.watch("uploads", "--settle", "1s")
        self.await_count("uploads", 1)
        self.vault.rename(self.folder / "away")
        (self.uploads / "meanwhile").write_bytes(b"m")
        time.sleep(3)
        self.assertIsNone(watcher.poll())
        self.assertIn("tried again in", (self.folder / "watch.log").read_text())
        (self.folder / "away").rename(self.vault)
        self.await_newest("uploads", {"meanwhile": b"m"})

    def test_I1_every_change_of_a_secret_is_a_version(self):
        secret = self.folder / "app/.env"
        secret.write_text("TOKEN=0\n")
        self.watch("env", "--settle", "1s")
        self.await_count("env", 1)
        for version in range(1, 4):
            # As editors do it: another file takes the name.
            (self.folder / "app/.env.new").write_text(f"TOKEN={version}\n")
            (self.folder / "app/.env.new").rename(secret)
            self.assertLess(self.await_count("env", version + 1), 60)
        listed = self.mine("snapshots", "env", "--json").json()["snapshots"]
        versions = []
        for number, snapshot in enumerate(listed):
            self.mine("restore", f"env@{snapshot['id']}", "--to", self.folder / f"version{number}")
            versions.append((self.folder / f"version{number}").read_text())
        self.assertEqual(versions, [f"TOKEN={version}\n" for version in range(4)])
        self.assertNotIn("TOKEN", (self.folder / "watch.log").read_text())

    def git(self, *words):
        settings = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": str(self.folder)}
        return subprocess.run(["git", "-c", "user.name=A", "-c", "user.email=a@example", *map(str, words)], check=True, capture_output=True,
                              text=True, env={**os.environ, **settings}).stdout.strip()

    def test_I4_a_repository_is_mirrored_as_it_moves(self):
        work, remote = self.folder / "work", self.folder / "code.git"
        self.git("init", "--quiet", "--bare", "--initial-branch=main", remote)
        self.git("init", "--quiet", "--initial-branch=main", work)
        tips = []
        for number in range(2):
            (work / "file").write_text(f"{number}\n")
            self.git("-C", work, "add", "file")
            self.git("-C", work, "commit", "--quiet", "-m", f"commit {number}")
            tips.append(self.git("-C", work, "rev-parse", "HEAD"))
        self.git("-C", work, "push", "--quiet", remote, "main")
        self.watch("code", "--settle", "1s")
        self.await_count("code", 1)
        # Somebody rewrites history and the remote forgets.
        self.git("-C", work, "reset", "--quiet", "--hard", tips[0])
        self.git("-C", work, "push", "--quiet", "--force", remote, "main")
        self.git("-C", remote, "gc", "--quiet", "--prune=now")
        self.await_count("code", 2)
        self.mine("restore", "code@latest", "--to", self.folder / "back")
        self.assertEqual(self.git("-C", self.folder / "back", "rev-parse", "main"), tips[0])
        self.git("-C", self.folder / "back", "cat-file", "-e", tips[1])

    def call(self, body, secret):
        """What the webhook answers to one who signs so."""
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/code", data=body, headers={"X-Hub-Signature-256": f"sha256={signature}"})
        try:
            return urllib.request.urlopen(request, timeout=20).status
        except urllib.error.HTTPError as refused:
            return refused.code

    def test_I4_a_push_is_captured_at_once_where_the_server_tells(self):
        work, remote = self.folder / "work", self.folder / "code.git"
        self.git("init", "--quiet", "--bare", "--initial-branch=main", remote)
        self.git("init", "--quiet", "--initial-branch=main", work)
        self.git("-C", work, "commit", "--quiet", "--allow-empty", "-m", "first")
        self.git("-C", work, "push", "--quiet", remote, "main")
        secret = "a secret of some length"
        (self.folder / "hook.secret").write_text(secret + "\n")
        (self.folder / "hook.header").write_text(f"X-Gitlab-Token: {secret}\n")
        hook = remote / "hooks/post-receive"
        hook.write_text(f"#!/bin/sh\nexec curl -sS --fail --max-time 20 -H @{self.folder}/hook.header -d '{{}}' http://127.0.0.1:{self.port}/code >&2\n")
        hook.chmod(0o755)
        watcher = self.watch("hooked", "--settle", "1s")
        self.await_count("hooked", 1)
        # By the clock the remote is asked once a minute.
        for number in range(2):
            self.git("-C", work, "commit", "--quiet", "--allow-empty", "-m", f"pushed {number}")
            self.git("-C", work, "push", "--quiet", remote, "main")
            self.await_count("hooked", 2 + number)
        self.mine("restore", "hooked@latest", "--to", self.folder / "back")
        self.assertEqual(self.git("-C", self.folder / "back", "rev-parse", "main"), self.git("-C", work, "rev-parse", "HEAD"))
        # Who cannot sign changes nothing.
        hook.unlink()
        self.git("-C", work, "commit", "--quiet", "--allow-empty", "-m", "silent")
        self.git("-C", work, "push", "--quiet", remote, "main")
        self.assertEqual(self.call(b"{}", "another secret of length"), 403)
        time.sleep(3)
        self.assertEqual(self.count("hooked"), 3)
        self.assertEqual(self.call(b"{}", secret), 202)
        self.await_count("hooked", 4)
        # The address is taken: said, and not waited for.
        self.assert_refused(self.mine("watch", "hooked", status=1), "ss -ltnp")
        watcher.send_signal(signal.SIGTERM)
        self.assertEqual(watcher.wait(20), 0, (self.folder / "watch.log").read_text())
        self.assertNotIn(secret, (self.folder / "watch.log").read_text())

    def test_what_tells_nobody_is_refused_in_words(self):
        self.assert_refused(self.mine("watch", "export", status=2), "every:")
        self.assert_refused(self.mine("watch", "nothing", status=2), "nothing")


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    harness.main()
