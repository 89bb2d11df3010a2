"""What an end-to-end test stands on: real servers of any major, the real program, a scratch folder, all gone afterwards.

    class RoundTrip(harness.Case):
        def test_…(self):
            server = self.server(major=15)          # its WAL goes to the vault through `kuramori wal push`
            self.kuramori("backup", "db")
            …
    if __name__ == "__main__":
        harness.main()

PostgreSQL refuses to run as root; as root, servers and program run as user `postgres`. The programs are copied into
the scratch folder, so that this user reaches them wherever the checkout lies.
"""

import atexit
import collections
import concurrent.futures
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import xml.sax.saxutils

import libpq
import places

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAMS = pathlib.Path(os.environ.get("KURAMORI_PROGRAMS", ROOT / "build" / "release" / "bin"))
MAJORS = (13, 14, 15, 16, 17, 18)
ALL = bool(os.environ.get("KURAMORI_TEST_ALL"))  # ./dev test --all
NO_HOME = "/proc/nonexistent"  # nobody can make it, root included
START_SECONDS_MAX = 60
# An archiver that is this much late, in seconds: every test must hold whenever the WAL arrives.
ARCHIVER_DELAY = os.environ.get("KURAMORI_TEST_ARCHIVER_DELAY", "")
COMMAND_SECONDS_MAX = 300
CLIENT = "/usr/lib/postgresql/15/bin"  # its psql speaks to every major

# ./dev lets unit tests put everything into memory. Here a case says what it wants, and the program under test gets what
# the caller has.
if "KURAMORI_TEST_DISK" in os.environ:
    os.environ["TMPDIR"] = os.environ.pop("KURAMORI_TEST_DISK")

_servers = []
_folders = []


@atexit.register
def _clean_up():
    for server in list(_servers):
        server.kill()
    for folder in _folders:
        shutil.rmtree(folder, ignore_errors=True)


def _interrupted(number, _frame):
    sys.exit(128 + number)  # atexit does the rest


signal.signal(signal.SIGTERM, _interrupted)


def is_root():
    return os.geteuid() == 0


def as_server(command):
    words = [str(word) for word in command]
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *words] if is_root() else words


def give_to_server(path):
    if is_root():
        user = pwd.getpwnam("postgres")
        os.chown(path, user.pw_uid, user.pw_gid)


def new_folder(parent=None):
    """A folder of the server's user, removed when the test program ends."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="kuramori-e2e-", dir=parent))
    _folders.append(folder)
    folder.chmod(0o755)
    give_to_server(folder)
    return folder


def memory():
    """The filesystem in memory, if it takes what a disk takes: programs, attributes of users, and some gigabytes."""
    shared = pathlib.Path("/dev/shm")
    if not shared.is_dir() or not os.access(shared, os.W_OK) or os.statvfs(shared).f_flag & os.ST_NOEXEC:
        return None
    if shutil.disk_usage(shared).free < 4 * 2**30:
        return None
    with tempfile.NamedTemporaryFile(dir=shared) as probe:
        try:
            os.setxattr(probe.name, "user.kuramori", b"1")
        except OSError:
            return None
    return shared


def memory_folder():
    """The same in memory, where fsync costs nothing; on disk where there is no such memory."""
    return new_folder(memory())


def bin_folder(major):
    done = subprocess.run([ROOT / "tools" / "test_postgres.sh", "bin", str(major)], check=True, capture_output=True, text=True)
    return pathlib.Path(done.stdout.strip())


def environment(**more):
    """Of servers and programs: nothing of the caller's that could steer them."""
    kept = {name: os.environ[name] for name in ("TMPDIR", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS") if name in os.environ}
    for major in MAJORS:
        folder = _known_bins.get(major)
        if folder:
            kept[f"KURAMORI_PG_BIN_{major}"] = str(folder)
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": NO_HOME, **kept,
            **{name: str(value) for name, value in more.items()}}


_known_bins = {}


def second_reader(*words):
    """tests/format/records.py, which was written from docs/vault-format.md alone, on a vault in a folder: (status, what it said)."""
    done = subprocess.run(["/usr/bin/python3", ROOT / "tests/format/records.py", *map(str, words)], capture_output=True, text=True,
                          timeout=COMMAND_SECONDS_MAX)
    return done.returncode, done.stdout + done.stderr


def free_port():
    """One of this machine that nobody listens at just now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def stands_still(process):
    """True once SIGSTOP has stopped it (KURAMORI_TEST_STOP_AT_STORE_CALL), False once it has ended."""
    deadline = time.monotonic() + COMMAND_SECONDS_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        if pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return True
        time.sleep(0.005)
    raise AssertionError("the program neither stopped nor ended")


class Outcome:
    """What a command did."""

    def __init__(self, words, status, out, err):
        self.words, self.status, self.out, self.err = words, status, out, err

    def json(self):
        """The one document on standard output, or the last of several lines of them."""
        try:
            return json.loads(self.out)
        except ValueError:
            return json.loads(self.out.strip().splitlines()[-1])

    def documents(self):
        return [json.loads(line) for line in self.out.splitlines() if line.strip()]

    def __str__(self):
        return f"$ {' '.join(map(str, self.words))}\n[{self.status}]\n{self.out}{self.err}"


class Server:
    """A PostgreSQL of its own: data directory, unix socket, no network."""

    def __init__(self, folder, major=15, settings=(), initdb=(), data=None):
        self.folder, self.major = pathlib.Path(folder), major
        self.bin = bin_folder(major)
        _known_bins[major] = self.bin
        # A socket's path must stay below 108 bytes.
        self.socket = new_folder()
        self.data = pathlib.Path(data) if data else self.folder / "data"
        self.process = None
        self.log = self.folder / f"{self.data.name}.log"
        if data is None:
            subprocess.run(as_server([self.bin / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-k", "-E", "UTF8",
                                      "--locale=C", "--no-sync", *initdb]),
                           check=True, stdout=subprocess.DEVNULL, env=environment(), cwd="/")
            with open(self.data / "postgresql.conf", "a") as file:
                file.write("\n".join(["", "fsync = off", "autovacuum = off", "wal_level = replica", "max_wal_senders = 4",
                                      "log_min_messages = info", *settings, ""]))

    def start(self, *arguments):
        self.launch(*arguments)
        self.await_ready()
        return self

    def launch(self, *arguments):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                as_server([self.bin / "postgres", "-D", self.data, "-c", "listen_addresses=", "-c", f"unix_socket_directories={self.socket}",
                           "-c", "port=5432", *arguments]), stdout=log, stderr=log, env=environment(), cwd="/")
        _servers.append(self)

    def await_ready(self):
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log_text()}")
            done = subprocess.run([f"{CLIENT}/pg_isready", "-q", "-h", str(self.socket)])
            if done.returncode == 0:
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"the server did not start in {START_SECONDS_MAX} s:\n{self.log_text()}")
            time.sleep(0.02)

    def await_promoted(self):
        deadline = time.monotonic() + START_SECONDS_MAX
        while self.value("select pg_is_in_recovery()") != "f":
            if time.monotonic() > deadline:
                raise AssertionError(f"the server was not promoted:\n{self.log_text()}")
            time.sleep(0.02)

    def _end(self, number):
        if self.process and self.process.poll() is None:
            # setpriv has become the postmaster: the process is the server itself.
            self.process.send_signal(number)
            self.process.send_signal(signal.SIGCONT)  # a test may have stopped it
            self.process.wait(START_SECONDS_MAX)
        if self in _servers:
            _servers.remove(self)
        self.process = None

    def stop(self):
        self._end(signal.SIGINT)

    def kill(self):
        self._end(signal.SIGQUIT)

    def log_text(self):
        return self.log.read_text(errors="replace")[-4000:]

    def connect(self, database="postgres", user="postgres"):
        return f"host={self.socket} port=5432 user={user} dbname={database}"

    def sql(self, *queries, database="postgres", user="postgres", check=True):
        """Each in a transaction of its own, as `psql -XqAt -c` does it and prints it, but without a process."""
        try:
            return libpq.run(self.connect(database, user), queries)
        except libpq.Failed as problem:
            if check:
                raise AssertionError(f"{queries}: {problem}") from problem
            return problem.printed

    value = sql

    def switch_wal(self):
        """Ends the segment and waits until all are archived."""
        self.sql("select pg_switch_wal()")
        status = self.data / "pg_wal" / "archive_status"
        deadline = time.monotonic() + START_SECONDS_MAX
        while any(path.suffix == ".ready" for path in status.iterdir()):
            if time.monotonic() > deadline:
                raise AssertionError(f"WAL is not archived:\n{self.log_text()}")
            time.sleep(0.02)


# Of one run: seconds of the clock and of the processor, and the most bytes it held.
Measured = collections.namedtuple("Measured", "outcome seconds processor peak")


def _program(name, parent):
    """One copy a run, on each filesystem that cases stand on: a case only adds a name."""
    if parent not in _copies:
        _copies[parent] = new_folder(parent)
    copy = _copies[parent] / name
    if not copy.exists():
        shutil.copy2(PROGRAMS / name, copy)
    return copy


_copies = {}


class Case(unittest.TestCase):
    """A test with a scratch folder, a configuration and the program."""

    # Every fsync costs nothing there. A test that is about a disk, or about what a disk takes, says False.
    in_memory = True
    place_kind = "folder"  # where the vault stands (places.py); KURAMORI_TEST_PLACE names another

    def setUp(self):
        self.folder = memory_folder() if self.in_memory else new_folder()
        self.programs = self.folder / "bin"
        self.programs.mkdir()
        for name in ("kuramori", "kuramori-wal"):
            if (PROGRAMS / name).exists():
                os.link(_program(name, self.folder.parent), self.programs / name)
        self.vault = self.folder / "vault"
        self.key = self.folder / "owner.key"
        self.config = self.folder / "kuramori.yaml"
        self.servers = []
        self.place = places.make(places.chosen(self.place_kind), self)

    def tearDown(self):
        for server in self.servers:
            server.kill()
        failed = any(problem for _, problem in getattr(self._outcome, "errors", []) or [])
        if failed and os.environ.get("KURAMORI_TEST_KEEP"):
            _folders.remove(self.folder)
            print(f"kept {self.folder}", file=sys.stderr)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    give = staticmethod(give_to_server)

    def archive_command(self):
        client = self.programs / "kuramori-wal"
        if not client.exists():
            client = self.programs / "kuramori"
        late = f"sleep {ARCHIVER_DELAY}; " if ARCHIVER_DELAY else ""
        return f"{late}{client} --config {self.config} wal push %p"

    def server(self, major=15, settings=(), initdb=(), configure=True, plan="", init=True):
        """A running server whose WAL is archived, in a vault that is made."""
        server = Server(self.folder, major, [*settings, "archive_mode = on", f"archive_command = '{self.archive_command()}'"], initdb)
        self.servers.append(server)
        if configure:
            self.configure(server, plan)
            if init:
                self.kuramori("vault", "init", "here")
        return server.start()

    def configure(self, server, plan=""):
        self.config.write_text(f"""vaults:
  here: {{ {self.place.yaml()}, site: here, key_file: "{self.key}" }}
resources:
  db:
    kind: postgres
    connect: "{server.connect()}"
plans:
  db:
    resources: [db]
    vault: here
    schedule: "0 3 * * *"
    timezone: UTC
    wal: archive
    window: 14d
    keep: {{ all: 14d }}
{plan}""")
        self.config.chmod(0o644)

    def kuramori(self, *words, status=0, env=None, program="kuramori", config=True, cwd=None, user=True):
        command = [self.programs / program, *(["--config", self.config] if config else []), *words]
        done = subprocess.run(as_server(command) if user else [str(word) for word in command], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=COMMAND_SECONDS_MAX, env=environment(**(env or {})), cwd=cwd or "/")
        outcome = Outcome(words, done.returncode, done.stdout, done.stderr)
        if status is not None:
            self.assertEqual(done.returncode, status, outcome)
        return outcome

    def measured_run(self, *words, status=0, env=None):
        """The same, and what the kernel counted of the process."""
        outs = [self.folder / "measured.out", self.folder / "measured.err"]
        with open(outs[0], "wb") as out, open(outs[1], "wb") as err:
            begun = time.monotonic()
            process = subprocess.Popen(as_server([self.programs / "kuramori", "--config", self.config, *words]), stdin=subprocess.DEVNULL,
                                       stdout=out, stderr=err, env=environment(**(env or {})), cwd="/")
            _, ended, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(ended)
            seconds = time.monotonic() - begun
        outcome = Outcome(words, process.returncode, *[path.read_text(errors="replace") for path in outs])
        self.assertEqual(process.returncode, status, outcome)
        return Measured(outcome, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10)

    def adopt(self, data, major=15, *arguments):
        """Starts the server of a restored folder, and waits until it is promoted."""
        server = Server(self.folder, major, data=data)
        self.servers.append(server)
        server.start("-c", "archive_mode=off", *arguments)
        server.await_promoted()
        return server

    def snapshots(self):
        return self.kuramori("snapshots", "db", "--json").json()["snapshots"]

    def assert_refused(self, outcome, *parts):
        """Three lines for people, with these parts in them."""
        for part in parts:
            self.assertIn(part, outcome.err + outcome.out, outcome)


# What a snapshot leaves out or what the server makes anew when it starts.
_NOT_COMPARED = ("pg_internal.init", "postmaster.", "current_logfiles", "pgsql_tmp")


def relation_files(data, folders=("base", "global")):
    """{path: bytes} of everything that must come back unchanged while nobody writes. pg_control is written by every
    checkpoint and so compared by whoever knows which."""
    found = {}
    for folder in folders:
        for path in sorted((pathlib.Path(data) / folder).rglob("*")):
            if path.is_file() and path.name != "pg_control" and not any(word in path.name for word in _NOT_COMPARED):
                found[path.relative_to(data).as_posix()] = path.read_bytes()
    return found


def differing(one, other):
    """Names of what is not the same in both."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _write_report(name, results):
    """In GoogleTest's form, so that ./dev counts cases."""
    target = os.environ.get("GTEST_OUTPUT", "")
    if not target.startswith("xml:"):
        return
    lines = ["<testsuites>", f'<testsuite name="{name}">']
    for case, problem in results:
        text = f"<failure>{xml.sax.saxutils.escape(problem)}</failure>" if problem else ""
        lines.append(f'<testcase name={xml.sax.saxutils.quoteattr(case)} status="run" result="completed">{text}</testcase>')
    lines += ["</testsuite>", "</testsuites>"]
    (pathlib.Path(target[4:]) / f"{name}.xml").write_text("\n".join(lines))


class _Result(unittest.TextTestResult):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.all, self.begin = {}, 0.0

    def startTest(self, test):
        super().startTest(test)
        self.begin = time.monotonic()

    def addSuccess(self, test):
        super().addSuccess(test)
        self.all.setdefault(test.id(), "")
        self.stream.writeln(f"    {time.monotonic() - self.begin:.1f} s")

    def addFailure(self, test, problem):
        super().addFailure(test, problem)
        self.all[test.id()] = self.failures[-1][1]

    def addError(self, test, problem):
        super().addError(test, problem)
        self.all[getattr(test, "id", lambda: str(test))()] = self.errors[-1][1]

    def addSubTest(self, test, part, problem):
        super().addSubTest(test, part, problem)
        self.all[part.id()] = "" if problem is None else str(problem[1])


def _cases(suite):
    for part in suite:
        if isinstance(part, unittest.TestSuite):
            yield from _cases(part)
        else:
            yield part


def _run_alone(case):
    """One case in a process of its own: (its id, whether it was run, what went wrong)."""
    name = case.id().removeprefix("__main__.")
    variables = {name: value for name, value in os.environ.items() if name != "GTEST_OUTPUT"}
    done = subprocess.run([sys.executable, sys.argv[0], name], env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    print(done.stdout, file=sys.stderr, end="", flush=True)
    return case.id(), "(skipped=1)" not in done.stdout, done.stdout if done.returncode else ""


def main(at_once=1):
    """`at_once`: of a program whose cases wait for a clock most of the time, so many run side by side."""
    name = "e2e_" + pathlib.Path(sys.argv[0]).stem
    os.umask(0o022)
    if at_once > 1 and len(sys.argv) == 1:
        cases = list(_cases(unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])))
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            results = [(case, problem) for case, was_run, problem in pool.map(_run_alone, cases) if was_run]
        _write_report(name, results)
        sys.exit(1 if any(problem for _, problem in results) or not results else 0)
    program = unittest.main(module="__main__", exit=False, verbosity=2, testRunner=unittest.TextTestRunner(resultclass=_Result, verbosity=2))
    _write_report(name, list(program.result.all.items()))
    sys.exit(0 if program.result.wasSuccessful() else 1)
