"""Git repositories, whole: mirrored from real servers, every ref ever seen kept, proven, and back into what git clones (I4)."""

import base64
import getpass
import hashlib
import http.server
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request

import harness

CONFIG = """vaults:
  here: {{ at: "file://{vault}", site: here, key_file: "{key}" }}
resources:
  code: {{ kind: git, url: "{url}"{more} }}
plans:
  all: {{ resources: [code], vault: here, schedule: "*/5 * * * *", timezone: UTC, keep: {{ all: 7d }} }}
"""

LIGHTTPD = """server.document-root = "{root}"
server.bind = "127.0.0.1"
server.port = {port}
server.errorlog = "{root}/lighttpd.log"
server.modules = ("mod_alias", "mod_setenv", "mod_cgi", "mod_auth", "mod_authn_file", "mod_proxy")
auth.backend = "plain"
auth.backend.plain.userfile = "{root}/users"
auth.require = ("" => ("method" => "basic", "realm" => "git", "require" => "valid-user"))
$HTTP["url"] =~ "/info/lfs/" {{
  proxy.server = ("" => (("host" => "127.0.0.1", "port" => {lfs})))
}} else $HTTP["url"] =~ "^/git" {{
  alias.url = ("/git" => "/usr/lib/git-core/git-http-backend")
  cgi.assign = ("" => "")
  setenv.add-environment = ("GIT_PROJECT_ROOT" => "{root}/served", "GIT_HTTP_EXPORT_ALL" => "1", "HOME" => "{root}",
                            "GIT_CONFIG_COUNT" => "1", "GIT_CONFIG_KEY_0" => "http.receivepack", "GIT_CONFIG_VALUE_0" => "true")
}}
"""

SECRET = "s3cr3t-pass word"
IDENTITY = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org",
            "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.org", "HOME": harness.NO_HOME, "GIT_TERMINAL_PROMPT": "0"}


def git(*words, at=None, check=True, env=None, data=None):
    done = subprocess.run(["git", *map(str, words)], cwd=at or "/", capture_output=True, text=True, input=data,
                          env={"PATH": os.environ["PATH"], **IDENTITY, **(env or {})})
    if check and done.returncode != 0:
        raise AssertionError(f"git {words}: {done.stderr}")
    return done.stdout.strip() if check else done


class LfsServer(http.server.ThreadingHTTPServer):
    """The server's half of the LFS batch API with the basic transfer, as its specification has it: none is packaged."""

    def __init__(self, folder, site):
        self.folder, self.site, self.asked = pathlib.Path(folder), site, []
        self.folder.mkdir(exist_ok=True)
        super().__init__(("127.0.0.1", 0), LfsRequest)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class LfsRequest(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", kind="application/vnd.git-lfs+json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        base = self.path.removesuffix("/objects/batch")
        objects = []
        for one in request["objects"]:
            there = (self.server.folder / one["oid"]).exists()
            answer = {"oid": one["oid"], "size": one["size"], "authenticated": False}
            if request["operation"] == "download" and not there:
                answer["error"] = {"code": 404, "message": "nobody has it"}
            elif request["operation"] == "download" or not there:
                answer["actions"] = {request["operation"]: {"href": f"{self.server.site}{base}/objects/{one['oid']}"}}
            objects.append(answer)
        self.server.asked.append(request["operation"])
        self.answer(200, json.dumps({"transfer": "basic", "objects": objects}).encode())

    def do_GET(self):
        path = self.server.folder / self.path.rsplit("/", 1)[1]
        self.answer(200, path.read_bytes(), "application/octet-stream") if path.exists() else self.answer(404)

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        oid = self.path.rsplit("/", 1)[1]
        if hashlib.sha256(body).hexdigest() != oid:
            return self.answer(422)
        (self.server.folder / oid).write_bytes(body)
        return self.answer(200)


class Git(harness.Case):
    def setUp(self):
        super().setUp()
        self.running = []
        self.served = self.folder / "served"
        self.served.mkdir()
        self.remote = self.served / "app.git"
        git("init", "--quiet", "--bare", "--initial-branch=main", self.remote)
        self.work = self.folder / "work"
        git("init", "--quiet", "--initial-branch=main", self.work)
        git("remote", "add", "origin", self.remote, at=self.work)
        self.first = self.commit("one")
        self.push()

    def tearDown(self):
        for process in self.running:
            process.kill()
            process.wait()
        super().tearDown()

    def configure(self, url, more=""):
        self.config.write_text(CONFIG.format(vault=self.vault, key=self.key, url=url, more=more))
        self.config.chmod(0o644)
        if not self.vault.exists():
            self.mine("vault", "init", "here")

    def mine(self, *words, env=None, **more):
        return self.kuramori(*words, user=False, **{**more, "env": {"KURAMORI_STATE": self.folder / "state", **(env or {})}})

    def backup(self, **more):
        return self.mine("backup", "code", "--json", **more).json()["snapshot"]

    def proven(self):
        proof = self.mine("drill", "code", "--json").json()["proof"]
        self.assertTrue(proof["passed"], proof)
        self.assertEqual([check["verdict"] for check in proof["checks"]], ["passed"] * len(proof["checks"]), proof)
        return proof

    def commit(self, text, name="file"):
        (self.work / name).write_text(text)
        git("add", name, at=self.work)
        git("commit", "--quiet", "-m", text[:50], at=self.work)
        return git("rev-parse", "HEAD", at=self.work)

    def push(self, *words):
        git("push", "--quiet", "origin", *(words or ["main"]), at=self.work)

    def forget(self):
        """The remote loses what no ref leads to."""
        git("reflog", "expire", "--expire=now", "--all", at=self.remote)
        git("gc", "--quiet", "--prune=now", at=self.remote)

    def start(self, command, port):
        log = open(self.folder / "server.log", "ab")
        self.running.append(subprocess.Popen([str(word) for word in command], stdout=log, stderr=log,
                                             env={"PATH": "/usr/sbin:/usr/bin:/bin", **IDENTITY, "HOME": str(self.folder)}))
        for _ in range(200):
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        self.fail((self.folder / "server.log").read_text())

    def refs(self, at):
        return git("for-each-ref", "--format=%(objectname) %(refname)", at=at)

    # --- what the remote does to itself ---

    def test_I4_what_was_forced_away_or_deleted_is_restorable_and_fsck_is_clean(self):
        self.configure(self.remote)
        git("checkout", "--quiet", "-b", "topic", at=self.work)
        topic = self.commit("a topic")
        self.push("topic")
        self.backup()
        git("checkout", "--quiet", "main", at=self.work)
        git("commit", "--quiet", "--amend", "-m", "rewritten", at=self.work)
        self.push("--force", "main")
        self.push("--delete", "topic")
        self.forget()
        self.assertNotEqual(git("cat-file", "-e", self.first, at=self.remote, check=False).returncode, 0)
        self.assertEqual(self.backup()["defects"], [])
        self.proven()
        target = self.folder / "back"
        self.mine("restore", "code", "--to", target)
        self.assertEqual(git("fsck", "--full", "--strict", at=target), "")
        git("gc", "--quiet", "--prune=now", at=target)
        for oid in (self.first, topic):
            git("cat-file", "-e", oid, at=target)
        self.assertEqual([line for line in self.refs(target).splitlines() if "kuramori" not in line], self.refs(self.remote).splitlines())
        git("clone", "--quiet", target, self.folder / "clone")
        # The same without this machine's mirror, and with a remote that is gone for good: a vault and a key are enough.
        shutil.rmtree(self.folder / "state")
        self.commit("later")
        self.push()
        self.backup()
        shutil.rmtree(self.remote)
        self.mine("backup", "code", status=1)
        alone = self.folder / "alone"
        self.kuramori("restore", "code", "--vault", self.vault, "--key-file", self.key, "--to", alone, config=False, user=False,
                      env={"KURAMORI_STATE": self.folder / "other"})
        for oid in (self.first, topic):
            git("cat-file", "-e", oid, at=alone)
        self.proven()

    def test_nothing_moved_costs_a_question_and_what_moved_is_all_that_is_read(self):
        self.configure(self.remote)
        for number in range(20):
            self.commit(os.urandom(20_000).hex(), f"file{number}")
        self.push()
        first = self.backup()
        self.assertGreater(first["bytes_read"], 300_000)
        again = self.backup()
        self.assertEqual((again["bytes_read"], again["files_as_before"]), (0, again["files"]))
        self.commit("small")
        self.push()
        moved = self.backup()
        self.assertLess(moved["bytes_read"], 20_000)
        # A mirror that is lost is made again from the vault, and nothing of it is stored twice.
        shutil.rmtree(self.folder / "state")
        lost = self.backup()
        self.assertLess(lost["added_bytes"], 50_000)
        self.proven()

    def test_a_writer_s_key_that_cannot_read_says_what_a_lost_mirror_costs(self):
        self.configure(self.remote)
        self.backup()
        writer = self.folder / "writer.key"
        self.mine("vault", "key", "new", "here", "--role", "writer", "--to", writer)
        self.config.write_text(self.config.read_text().replace(str(self.key), str(writer)))
        shutil.rmtree(self.folder / "state")
        outcome = self.mine("backup", "code", "--json", status=3)
        self.assertIn("older snapshots", outcome.json()["snapshot"]["defects"][0]["why"])
        self.assertEqual(self.backup()["defects"], [])

    def test_killed_anywhere_the_next_run_is_whole(self):
        self.configure(self.remote)
        kept = [self.first]
        chance = random.Random(20261122)
        command = [str(self.programs / "kuramori"), "--config", str(self.config), "backup", "code"]
        environment = harness.environment(KURAMORI_STATE=self.folder / "state")
        killed = 0
        for number in range(24):
            git("checkout", "--quiet", "-B", "main", self.first, at=self.work)
            kept.append(self.commit(os.urandom(200_000).hex() + str(number)))
            self.push("--force", "main")
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
            time.sleep(chance.uniform(0.003, 0.12))
            process.kill()
            killed += process.wait() == -signal.SIGKILL
            if number % 4 == 3:
                self.backup()
                continue
            # Of what no run has seen to its end nothing is promised.
            lists = [path.read_text() for name in ("seen", "kept") for path in (self.folder / "state" / "git").glob(f"*/{name}")]
            if not any(kept[-1] in text for text in lists):
                kept.pop()
        self.assertGreater(killed, 8)
        self.backup()
        self.proven()
        target = self.folder / "back"
        self.mine("restore", "code", "--to", target)
        for oid in kept:
            git("cat-file", "-e", oid, at=target)
        self.assertGreater(len(kept), 6)
        for left in ("tmp_pack*", "*.lock", "incoming-*"):
            self.assertEqual(list((self.folder / "state" / "git").rglob(left)), [], left)

    # --- servers ---

    def http(self):
        port = harness.free_port()
        self.lfs = LfsServer(self.folder / "lfs-objects", f"http://127.0.0.1:{port}")
        (self.folder / "users").write_text(f"backup:{SECRET}\n")
        config = self.folder / "lighttpd.conf"
        config.write_text(LIGHTTPD.format(root=self.folder, port=port, lfs=self.lfs.server_address[1]))
        self.start(["lighttpd", "-D", "-f", config], port)
        return port

    def assert_nowhere(self, secret):
        """In no file of the vault or of this machine's memory."""
        for folder in (self.vault, self.folder / "state"):
            for path in folder.rglob("*"):
                if path.is_file():
                    self.assertNotIn(secret.encode(), path.read_bytes(), path)

    def arguments_seen(self, run):
        """The arguments of all processes while `run` runs."""
        seen, done = set(), threading.Event()

        def look():
            while not done.is_set():
                for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
                    try:
                        seen.add(path.read_bytes())
                    except OSError:
                        pass

        looking = threading.Thread(target=look)
        looking.start()
        try:
            run()
        finally:
            done.set()
            looking.join()
        return b"\n".join(seen)

    def test_I4_over_http_with_a_password_that_nobody_sees_and_LFS(self):
        port = self.http()
        password = self.folder / "password"
        password.write_text(SECRET + "\n")
        password.chmod(0o600)
        url = f"http://127.0.0.1:{port}/git/app.git"
        big = os.urandom(300_000)
        oid = hashlib.sha256(big).hexdigest()
        (self.lfs.folder / oid).write_bytes(big)
        (self.work / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
        (self.work / ".lfsconfig").write_text("[lfs]\n\turl = http://127.0.0.1:9/stolen\n")
        git("add", ".", at=self.work)
        self.commit(f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(big)}\n", "big.bin")
        self.push()
        self.configure(url, f', user: backup, password_file: "{password}"')
        arguments = self.arguments_seen(self.backup)
        self.assertIn(b"git-lfs", arguments)
        self.assertNotIn(SECRET.encode(), arguments)
        self.proven()
        self.assert_nowhere(SECRET)
        self.assertEqual(self.mine("doctor", "code", status=None).err.count(SECRET), 0)
        # An object the server has no more, and one it never had.
        (self.lfs.folder / oid).unlink()
        absent = hashlib.sha256(b"never pushed").hexdigest()
        self.commit(f"version https://git-lfs.github.com/spec/v1\noid sha256:{absent}\nsize 12\n", "other.bin")
        self.push()
        partial = self.backup(status=3)
        self.assertEqual([defect["path"] for defect in partial["defects"]], [f"lfs/objects/{absent[:2]}/{absent[2:4]}/{absent}"])
        # Into an empty remote of the same server: refs and LFS objects.
        git("init", "--quiet", "--bare", "--initial-branch=main", self.served / "new.git")
        pushed = self.mine("restore", "code", "--to", f"http://127.0.0.1:{port}/git/new.git")
        self.assertNotIn(SECRET, pushed.out + pushed.err)
        self.assertEqual(self.refs(self.served / "new.git"), self.refs(self.remote))
        self.assertEqual((self.lfs.folder / oid).read_bytes(), big)
        self.assertIn("upload", self.lfs.asked)
        refused = self.mine("restore", "code", "--to", f"http://127.0.0.1:{port}/git/new.git", status=5)
        self.assertIn("--overwrite", refused.err)
        # A wrong password, and none.
        for text, more in ((f"http://backup:wrong-pw@127.0.0.1:{port}/git/app.git", ""), (url, "")):
            self.configure(text, more)
            denied = self.mine("backup", "code", status=1)
            self.assertNotIn("wrong-pw", denied.err + denied.out)
            self.assertIn("password_file", denied.err)
            doctor = self.mine("doctor", "code", status=None)
            self.assertNotIn("wrong-pw", doctor.err + doctor.out)

    def test_a_redirect_elsewhere_gets_no_password(self):
        heard = []

        class Thief(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                heard.append(self.headers.get("Authorization"))
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="yours"')
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        thief = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Thief)
        threading.Thread(target=thief.serve_forever, daemon=True).start()

        class Redirect(Thief):
            def do_GET(self):
                self.send_response(302)
                self.send_header("Location", f"http://127.0.0.1:{thief.server_address[1]}{self.path}")
                self.send_header("Content-Length", "0")
                self.end_headers()

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirect)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.configure(f"http://backup:{SECRET.replace(' ', '%20')}@127.0.0.1:{server.server_address[1]}/app.git")
        self.mine("backup", "code", status=1)
        thief.shutdown()
        server.shutdown()
        self.assertTrue(heard)
        self.assertEqual(set(heard), {None})

    def test_over_the_git_protocol_there_and_back(self):
        port = harness.free_port()
        git("config", "daemon.receivepack", "true", at=self.remote)
        self.start(["/usr/lib/git-core/git-daemon", "--listen=127.0.0.1", f"--port={port}", f"--base-path={self.served}", "--export-all", "--reuseaddr",
                    "--enable=receive-pack"], port)
        self.configure(f"git://127.0.0.1:{port}/app.git")
        self.backup()
        self.proven()
        git("init", "--quiet", "--bare", self.served / "new.git")
        self.mine("restore", "code", "--to", f"git://127.0.0.1:{port}/new.git")
        self.assertEqual(self.refs(self.served / "new.git"), self.refs(self.remote))
        self.configure(f"git://127.0.0.1:{port}/none.git")
        self.assertIn("next:", self.mine("backup", "code", status=1).err)
        self.running[-1].kill()
        self.running[-1].wait()
        self.assertIn("host answers", self.mine("backup", "code", status=1).err)

    def test_over_ssh_with_a_key_of_its_own(self):
        port = harness.free_port()
        os.makedirs("/run/sshd", exist_ok=True)
        ssh = self.folder / "ssh"
        ssh.mkdir(mode=0o700)
        for name in ("host", "client", "stranger"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh / name], check=True)
        shutil.copy(ssh / "client.pub", ssh / "authorized")
        (ssh / "authorized").chmod(0o600)
        (ssh / "known").write_text(f"[127.0.0.1]:{port} {(ssh / 'host.pub').read_text()}")
        (ssh / "other").write_text(f"[127.0.0.1]:{port} {(ssh / 'stranger.pub').read_text()}")
        (ssh / "sshd_config").write_text(f"""Port {port}
ListenAddress 127.0.0.1
HostKey {ssh}/host
AuthorizedKeysFile {ssh}/authorized
PidFile {ssh}/pid
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
""")
        self.start(["/usr/sbin/sshd", "-D", "-e", "-f", ssh / "sshd_config"], port)
        url = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{self.remote}"
        keys = ', ssh_key_file: "{0}/{1}", known_hosts_file: "{0}/{2}"'
        self.configure(url, keys.format(ssh, "client", "known"))
        self.backup()
        self.proven()
        self.configure(url, keys.format(ssh, "client", "other"))
        self.assertIn("known_hosts_file", self.mine("backup", "code", status=1).err)
        self.configure(url, keys.format(ssh, "stranger", "known"))
        self.assertIn("ssh_key_file", self.mine("backup", "code", status=1).err)

    def test_addresses_that_run_programs_are_refused(self):
        for url in ("ext::sh -c 'touch %s'" % (self.folder / "run"), "--upload-pack=touch", "ssh://-oProxyCommand=touch/x", "relative"):
            self.configure(url)
            outcome = self.mine("backup", "code", status=2)
            self.assertIn("next:", outcome.err)
        self.assertFalse((self.folder / "run").exists())

    def test_only_some_refs(self):
        git("checkout", "--quiet", "-b", "secret", at=self.work)
        secret = self.commit("not for all")
        self.push("secret")
        self.configure(self.remote)
        self.backup()
        target = self.folder / "some"
        self.mine("restore", "code", "--to", target, "--only", "refs/heads/main")
        self.assertEqual(self.refs(target), f"{self.first} refs/heads/main")
        self.assertNotEqual(git("cat-file", "-e", secret, at=target, check=False).returncode, 0)
        self.mine("restore", "code", "--to", target, status=5)
        self.assertIn("refs/heads/main", self.mine("restore", "code", "--to", self.folder / "none", "--only", "refs/heads/nope", status=2).err)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    harness.main()
