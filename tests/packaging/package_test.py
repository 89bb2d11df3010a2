"""The Debian package: made, installed over this system in a namespace of its own, run under the limits of its unit, upgraded, removed.

Nothing of this machine is changed: the root that is installed into is an overlay in memory.
"""

import configparser
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

BUILD = pathlib.Path(os.environ["KURAMORI_PROGRAMS"]).resolve().parent
SECONDS_MAX = 60
ONCE_A_YEAR = '"0 3 1 1 *"'
CONFIG = f"""vaults:
  here: {{ at: /srv/kuramori/vault, key_file: /etc/kuramori/here.key }}
resources:
  papers: {{ kind: files, paths: [/srv/papers] }}
  db: {{ kind: postgres, connect: "host=/run/postgresql port=5499 user=kuramori dbname=postgres" }}
  dumped: {{ kind: dump, connect: "host=/run/postgresql port=5499 user=kuramori dbname=postgres" }}
  sessions: {{ kind: redis, connect: "unix:///run/sessions/socket" }}
  code: {{ kind: git, url: /srv/code }}
plans:
  papers: {{ resources: [papers], vault: here, every: 2s, keep: {{ all: 14d }}, drill: {{ schedule: {ONCE_A_YEAR} }} }}
  db: {{ resources: [db], vault: here, schedule: {ONCE_A_YEAR}, wal: archive, window: 7d,
        drill: {{ schedule: {ONCE_A_YEAR}, sql: [ {{ query: "select count(*) from papers", expect: "1000" }} ] }} }}
  rest: {{ resources: [dumped, sessions, code], vault: here, schedule: {ONCE_A_YEAR}, keep: {{ all: 14d }}, drill: {{ schedule: {ONCE_A_YEAR} }} }}
"""
# As docs/postgres.md says.
ROLE = """CREATE ROLE kuramori LOGIN REPLICATION;
GRANT pg_read_all_settings, pg_read_all_data TO kuramori;
GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean), pg_backup_stop(boolean), pg_create_restore_point(text), pg_switch_wal() TO kuramori;
CREATE TABLE papers AS SELECT generate_series(1, 1000) AS number;
"""
SERVER = pathlib.Path("/usr/lib/postgresql/15/bin")
LIMITS = pathlib.Path(__file__).with_name("unit_limits.py")


UNIT = "/lib/systemd/system/kuramori.service"


def run(*words, status=0, **more):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=SECONDS_MAX, **more)
    if status is not None and done.returncode != status:
        raise AssertionError(f"{words}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done


class Root:
    """This system's root with a layer in memory above it, in a mount namespace that ends with us."""

    def __init__(self, folder):
        self.path = folder / "root"
        layers = folder / "layers"
        self.path.mkdir()
        layers.mkdir()
        self.holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-ec",
             f"mount -t tmpfs tmpfs {layers}; mkdir {layers}/upper {layers}/work; "
             f"mount -t overlay overlay -o lowerdir=/,upperdir={layers}/upper,workdir={layers}/work {self.path}; "
             f"mount -t proc proc {self.path}/proc; mount --rbind /dev {self.path}/dev; mount -t tmpfs tmpfs {self.path}/run; "
             f"mount -t tmpfs tmpfs {self.path}/tmp; "
             # Not a chroot: in one nobody may make a namespace of users, as a drill does.
             f"cd {self.path}; pivot_root . mnt; exec chroot . sh -ec 'umount -l /mnt; echo ready; exec sleep infinity'"],
            stdout=subprocess.PIPE, text=True)
        if self.holder.stdout.readline() != "ready\n":
            raise AssertionError("no root of its own could be made")

    def words(self, *words):
        return ["nsenter", "--mount", "-t", str(self.holder.pid), *[str(word) for word in words]]

    def run(self, *words, status=0, **more):
        return run(*self.words(*words), status=status, **more)

    def write(self, path, text, mode="0644"):
        self.run("sh", "-c", f"mkdir -p \"$(dirname '{path}')\" && cat > '{path}' && chmod {mode} '{path}'", input=text)

    def end(self):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()


def unit_settings(text):
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read_string(text)
    return unit["Service"]


@unittest.skipUnless(os.geteuid() == 0, "a package is installed by root")
class Package(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kuramori-package.", dir="/var/tmp"))
        self.addCleanup(shutil.rmtree, self.folder, True)
        run("cpack", "-G", "DEB", "-D", "CPACK_DEBIAN_COMPRESSION_TYPE=gzip", "-B", self.folder / "made", cwd=BUILD)
        (self.package,) = (self.folder / "made").glob("kuramori_*.deb")
        self.root = Root(self.folder)
        self.addCleanup(self.root.end)

    def install(self, package):
        with open(package, "rb") as content:
            self.root.run("sh", "-c", "cat > /tmp/kuramori.deb", stdin=content)
        return self.root.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--force-unsafe-io", "-i", "/tmp/kuramori.deb")

    def newer(self):
        """The same package under a later version."""
        tree = self.folder / "tree"
        run("dpkg-deb", "-R", self.package, tree)
        control = tree / "DEBIAN" / "control"
        control.write_text(re.sub(r"^Version: .*$", "Version: 99.0", control.read_text(), flags=re.M))
        run("dpkg-deb", "-Znone", "-b", tree, self.folder / "newer.deb")
        return self.folder / "newer.deb"

    def as_daemon(self, *words):
        """As systemd would start it: its user, its one capability, a filesystem that is read-only but for its own folders, and no system
        calls but those that it is left."""
        settings = unit_settings(self.root.run("cat", UNIT).stdout)
        capability = settings["AmbientCapabilities"]
        self.assertEqual(capability, settings["CapabilityBoundingSet"])
        self.assertEqual(settings["ProtectSystem"], "strict")
        self.assertEqual(settings["NoNewPrivileges"], "yes")
        one = capability.lower().removeprefix("cap_")
        own = ["/var/lib/kuramori", "/run/kuramori", "/srv/kuramori"]
        closed = "; ".join(f"mount --bind {path} {path}" for path in own) + "; mount -o remount,bind,ro /; mount -t tmpfs tmpfs /tmp; " + \
            "mount -t tmpfs tmpfs /var/tmp; mount -t tmpfs tmpfs /dev/shm; for path in /proc/sys /sys; do mount --bind $path $path; mount -o remount,bind,ro $path; done"
        self.root.write("/usr/local/lib/unit_limits.py", LIMITS.read_text())
        return ["unshare", "--mount", "sh", "-ec",
                f'{closed}; exec setpriv --reuid {settings["User"]} --regid {settings["Group"]} --init-groups '
                f'--inh-caps=-all,+{one} --ambient-caps=-all,+{one} --bounding-set=-all,+{one} --no-new-privs '
                f'/usr/bin/python3 /usr/local/lib/unit_limits.py {UNIT} "$@"', "sh", *words]

    def test_it_is_installed_run_upgraded_and_removed(self):
        self.install(self.package)
        self.what_is_installed()
        self.what_systemd_makes_of_the_unit()
        self.what_the_daemon_does()
        before = self.what_stays()
        self.install(self.newer())
        self.assertEqual(self.what_stays(), before)
        self.assertGreaterEqual(self.snapshots(), 1)
        self.root.run("dpkg", "-r", "kuramori")
        self.assertNotEqual(self.root.run("sh", "-c", "command -v kuramori", status=None).returncode, 0)
        self.assertEqual(self.what_stays(), before)
        purged = self.root.run("dpkg", "-P", "kuramori").stdout
        self.assertIn("/etc/kuramori stays: it may hold the only key of a vault", purged)
        self.assertEqual(self.what_stays(), before)

    def what_is_installed(self):
        version = json.loads(self.root.run("kuramori", "version", "--json").stdout)
        self.assertEqual(version["schema"], "kuramori/version/1")
        self.root.run("getent", "passwd", "kuramori")
        listed = self.root.run("dpkg", "-L", "kuramori").stdout.splitlines()
        for path in ("/usr/bin/kuramori", "/usr/bin/kuramori-wal", "/usr/share/man/man1/kuramori.1.gz", "/usr/lib/systemd/system/kuramori.service",
                     "/usr/share/bash-completion/completions/kuramori", "/usr/share/zsh/vendor-completions/_kuramori"):
            self.assertIn(path, listed)
            self.assertGreater(int(self.root.run("stat", "-c", "%s", path).stdout), 100, path)
        self.assertEqual(self.root.run("stat", "-c", "%U %G %a", "/etc/kuramori").stdout, "root kuramori 750\n")
        self.assertEqual(self.root.run("stat", "-c", "%U %G %a", "/var/lib/kuramori").stdout, "kuramori kuramori 700\n")
        self.assertIn(".TH", self.root.run("sh", "-c", "zcat /usr/share/man/man1/kuramori.1.gz | head -n 3").stdout)

    def what_systemd_makes_of_the_unit(self):
        self.root.run("systemd-analyze", "verify", "--man=no", UNIT)

    def what_the_daemon_does(self):
        root = self.root
        root.write("/etc/kuramori/kuramori.yaml", CONFIG)
        # What it protects is another's, and nobody else may look; it may, and it may write none of it.
        root.run("sh", "-ec", "install -d -m 0700 -o nobody /srv/papers; echo treasure > /srv/papers/one; chmod 600 /srv/papers/one; chown nobody /srv/papers/one; "
                              "cp /bin/true /srv/papers/program; chmod 6755 /srv/papers/program; install -d -m 2750 -g kuramori /srv/papers/shared; "
                              "install -d -o kuramori -g kuramori -m 0700 /srv/kuramori /run/kuramori; install -d -m 0770 -o root -g kuramori /etc/kuramori")
        self.as_user("kuramori", "kuramori", "vault", "init", "here")
        root.run("chmod", "0750", "/etc/kuramori")
        refused = root.run(*self.as_daemon("sh", "-c", "echo x > /srv/papers/two"), status=None)
        self.assertNotEqual(refused.returncode, 0)
        settings = unit_settings(root.run("cat", UNIT).stdout)
        root.run("chmod", settings["RuntimeDirectoryMode"], "/run/kuramori")
        # systemd's own datagram, as sd_notify(3) says.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            name = f"\0kuramori-package-{os.getpid()}"
            listener.bind(name)
            listener.settimeout(SECONDS_MAX)
            told = self.enterContext(open(self.folder / "daemon.err", "wb"))
            daemon = subprocess.Popen(
                root.words(*self.as_daemon("env", f"NOTIFY_SOCKET=@{name[1:]}", "STATE_DIRECTORY=/var/lib/kuramori", "RUNTIME_DIRECTORY=/run/kuramori",
                                           *settings["ExecStart"].split())),
                stdout=subprocess.DEVNULL, stderr=told)
            try:
                said = b""
                while b"READY=1" not in said:
                    said = listener.recv(4096)
                end = time.monotonic() + SECONDS_MAX
                while self.snapshots() < 1:
                    self.assertLess(time.monotonic(), end, (self.folder / "daemon.err").read_text())
                    time.sleep(0.2)
                status = pathlib.Path(f"/proc/{daemon.pid}/status").read_text()
                self.assertRegex(status, r"(?s)CapEff:\s*0+4\n.*NoNewPrivs:\s*1\nSeccomp:\s*2\n")
                self.who_reaches_the_socket()
                self.what_its_jobs_do()
            finally:
                daemon.send_signal(signal.SIGTERM)
                ended = daemon.wait(SECONDS_MAX)
            self.assertEqual(ended, 0, (self.folder / "daemon.err").read_text())
        root.run("sh", "-c", "kuramori restore papers --to /tmp/back && grep -rq treasure /tmp/back && rm -r /tmp/back")

    def what_its_jobs_do(self):
        """Under the same limits: what nobody else may read is captured, WAL comes through the socket, and all of it is proven."""
        self.start_postgres()
        redis = self.start_redis()
        self.root.run("sh", "-ec", "git init -q --bare /srv/code; work=$(mktemp -d); git init -q $work; cd $work; git -c user.name=a -c user.email=a@example.com "
                                   "commit -q --allow-empty -m one; git push -q /srv/code HEAD:refs/heads/main")
        try:
            for job in ("backup db/db", "drill papers/papers", "drill db/db"):
                self.start_and_await(job)
            for resource in ("dumped", "sessions", "code"):
                self.start_and_await(f"backup rest/{resource}")
                self.start_and_await(f"drill rest/{resource}")
        finally:
            self.as_user("postgres", SERVER / "pg_ctl", "-D", "/srv/pg", "-m", "immediate", "stop")
            redis.kill()
            redis.wait()

    def start_postgres(self):
        self.root.run("install", "-d", "-o", "postgres", "-g", "postgres", "-m", "0700", "/srv/pg")
        self.root.run("install", "-d", "-o", "postgres", "-g", "postgres", "/run/postgresql")
        self.root.run("adduser", "--quiet", "postgres", "kuramori")
        self.as_user("postgres", SERVER / "initdb", "-D", "/srv/pg", "-A", "trust", "--data-checksums", "--no-sync")
        self.as_user("postgres", "sh", "-c", "cat >> /srv/pg/postgresql.conf", input="listen_addresses = ''\nport = 5499\n"
                     "unix_socket_directories = '/run/postgresql'\narchive_mode = on\narchive_command = 'kuramori-wal push %p'\n")
        self.as_user("postgres", SERVER / "pg_ctl", "-D", "/srv/pg", "-l", "/srv/pg/log", "-w", "start")
        self.as_user("postgres", "psql", "-h", "/run/postgresql", "-p", "5499", "-v", "ON_ERROR_STOP=1", "-f", "-", input=ROLE)

    def start_redis(self):
        self.root.run("install", "-d", "-o", "nobody", "/run/sessions")
        server = subprocess.Popen(self.root.words("setpriv", "--reuid", "nobody", "--clear-groups", "redis-server", "--port", "0", "--dir", "/run/sessions",
                                                  "--unixsocket", "/run/sessions/socket", "--unixsocketperm", "777", "--save", ""),
                                  stdout=subprocess.DEVNULL)
        self.root.run("sh", "-ec", "for i in $(seq 300); do redis-cli -s /run/sessions/socket set one 1 && exit; sleep 0.2; done; exit 1")
        return server

    def as_user(self, user, *words, status=0, **more):
        return self.root.run("setpriv", "--reuid", user, "--regid", user, "--init-groups", *words, status=status, **more)

    def jobs(self, *words):
        return self.as_user("kuramori", "env", "KURAMORI_STATE=/var/lib/kuramori", "kuramori", "jobs", *words).stdout

    def start_and_await(self, job):
        self.jobs("--start", job)
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            runs = [run for run in json.loads(self.jobs("--json"))["jobs"] if run["job"] == job]
            if runs and runs[0]["state"] == "COMPLETED":
                return
            self.assertFalse(time.monotonic() > deadline or runs and runs[0]["why"], f"{runs}\n{(self.folder / 'daemon.err').read_text()}")
            time.sleep(0.2)

    def who_reaches_the_socket(self):
        """Whoever joins the daemon's group, as a server that archives through it does; nobody else."""
        root = self.root
        (where,) = root.run("find", "/run/kuramori", "-type", "s").stdout.split()
        self.assertEqual(root.run("stat", "-c", "%F %U %G %a", where).stdout, "socket kuramori kuramori 660\n")
        knock = "import socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.settimeout(60); s.connect(sys.argv[1]); " \
                "s.send(b'?'); print(s.recv(70000))"
        for user in ("joins", "stranger"):
            root.run("adduser", "--system", "--group", "--quiet", "--no-create-home", f"kuramori-{user}")
        root.run("adduser", "--quiet", "kuramori-joins", "kuramori")
        taken, refused = (self.as_user(user, "/usr/bin/python3", "-c", knock, where, status=None) for user in ("kuramori-joins", "kuramori-stranger"))
        self.assertEqual(taken.returncode, 0, taken)
        self.assertNotIn("may not use this socket", taken.stdout)
        self.assertIn("PermissionError", refused.stderr)

    def snapshots(self):
        done = self.root.run("kuramori", "snapshots", "--json")
        return len(json.loads(done.stdout)["snapshots"])

    def what_stays(self):
        return self.root.run("sh", "-c", "cd / && sha256sum etc/kuramori/* && find var/lib/kuramori srv/kuramori -name '*.lock' -prune -o -type f -print | sort").stdout


if __name__ == "__main__":
    unittest.main(verbosity=2)
