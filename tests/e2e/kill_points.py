"""Kills: one command, SIGKILLed at the k-th call to its store, for every k of a run that was counted first.

A Scene is made once: a small cluster, a snapshot of it, more changes. Each lane of a sweep works on a copy of the
scene's vault, with a configuration of its own, so that two can run at once on two cores."""

import hashlib
import pathlib
import shutil
import signal
import subprocess
import threading

import harness

LANES = 2


def collect_all(run, vault, *words):
    """Collects until nothing is left to do and no session of a killed one stands. `run`: Case.kuramori, or a lane's."""
    for _ in range(100):
        said = run("vault", "collect", "here", "--json", *words).json()
        open_sessions = [path for path in vault.glob("sessions/*") if path.is_file()]
        if said["outcome"] == "nothing_to_do" and not said["compacted"]["packs"] and not open_sessions:
            return
    raise AssertionError(f"a collection does not end: {said}")


def tree_digest(folder, folders=("base", "global", "pg_xact", "pg_multixact")):
    """One digest over the names and bytes of everything that nobody changed since the snapshot."""
    total = hashlib.sha256()
    for name, content in sorted(harness.relation_files(folder, folders).items()):
        total.update(f"{name} {len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()


class Lane:
    """A vault, a configuration, a scratch folder, and the program on them."""

    def __init__(self, case, name, connect, keep="all: 14d", drill="", window="window: 14d"):
        self.case, self.killed = case, 0
        self.folder = case.folder / name
        self.folder.mkdir()
        harness.give_to_server(self.folder)
        self.vault = self.folder / "vault"
        self.config = self.folder / "kuramori.yaml"
        self.target = self.folder / "target"
        self.sandboxes = self.folder / "sandboxes"
        self.sandboxes.mkdir()
        harness.give_to_server(self.sandboxes)
        self.config.write_text(f"""vaults:
  here: {{ at: "file://{self.vault}", site: here, key_file: "{case.key}" }}
resources:
  db: {{ kind: postgres, connect: "{connect}" }}
plans:
  db:
    resources: [db]
    vault: here
    schedule: "0 3 * * *"
    timezone: UTC
    wal: archive
    {window}
    keep: {{ {keep} }}
{drill}""")

    def run(self, *words, status=0, cwd=None, program="kuramori", **env):
        command = harness.as_server([self.case.programs / program, "--config", self.config, *words])
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=cwd or "/",
                              timeout=harness.COMMAND_SECONDS_MAX, env=harness.environment(TMPDIR=self.sandboxes, **env))
        outcome = harness.Outcome(words, done.returncode, done.stdout, done.stderr)
        if status is not None and done.returncode != status:
            raise AssertionError(f"expected status {status}: {outcome}")
        return outcome

    def take(self, vault):
        """A fresh copy of that vault, and an empty place to restore into."""
        shutil.rmtree(self.vault, ignore_errors=True)
        subprocess.run(["cp", "-a", vault, self.vault], check=True)
        self.clear_target()

    def clear_target(self):
        for path in self.folder.glob("target*"):
            shutil.rmtree(path)

    def count_calls(self, *words, status=0, **more):
        counted = self.folder / "calls"
        self.run(*words, status=status, KURAMORI_TEST_COUNT_STORE_CALLS=counted, **more)
        return int(counted.read_text())

    def kill_at(self, call, *words, after=False, **more):
        """True when the process was killed; False when it made fewer calls and so ended by itself."""
        env = {"KURAMORI_TEST_KILL_AT_STORE_CALL": call}
        if after:
            env["KURAMORI_TEST_KILL_AT_STORE_CALL_AFTER"] = 1
        outcome = self.run(*words, status=None, **env, **more)
        if outcome.status == -signal.SIGKILL:
            self.killed += 1
            return True
        if outcome.status != 0:
            raise AssertionError(f"neither killed at store call {call} nor done: {outcome}")
        return False

    def snapshots(self):
        return self.run("snapshots", "db", "--json").json()["snapshots"]

    def scrub_is_sound(self):
        """Nothing is damaged, unreadable or unreached (V6, V12)."""
        found = self.run("vault", "scrub", "here", "--json").json()
        problems = [finding for finding in found["findings"] if finding["severity"] != "note"]
        if found["damaged"] or problems or found["objects_left"]:
            raise AssertionError(f"scrub: {found}")

    def restored_digest(self, snapshot):
        self.clear_target()
        self.run("restore", f"db@{snapshot}", "--to", self.target)
        return tree_digest(self.target)


class Scene(harness.Case):
    """A cluster nobody writes to any more, a vault with one snapshot of an earlier state of it, and digests of both."""

    in_memory = True

    def setUp(self):
        super().setUp()
        # Whatever the snapshot needs of WAL the backup itself must file then.
        server = self.cluster = self.server(settings=["full_page_writes = on"], initdb=["--wal-segsize=1"])
        server.sql("create table entry (id bigint primary key, text text)",
                   "insert into entry select i, md5(i::text) from generate_series(1, 4000) i",
                   # Two of three databases say nothing more, and each kill copies, restores and reads them all again.
                   "update pg_database set datistemplate = false", "drop database template0", "drop database template1",
                   "vacuum (freeze, analyze)", "checkpoint")
        self.first = self.kuramori("backup", "db", "--json").json()["snapshot"]["id"]
        self.digests = {self.first: tree_digest(server.data)}
        server.sql("update entry set text = 'changed' where id % 50 = 0", "create table later as select generate_series(1, 100) id",
                   "vacuum (freeze, analyze)", "checkpoint")
        server.switch_wal()
        # From here on the archiver delivers nothing: each lane has a vault of its own.
        server.sql("alter system set archive_command = '/bin/true'", "select pg_reload_conf()")
        self.lanes = [Lane(self, f"lane{i}", server.connect()) for i in range(LANES)]
        self.settle()
        self.assertNotEqual(self.now, self.digests[self.first])

    def settle(self):
        """Reading prunes pages of the catalog: a backup of the final state first, to be thrown away, then no more changes."""
        lane = self.lanes[0]
        lane.take(self.vault)
        lane.run("backup", "db")
        self.cluster.sql("checkpoint")
        self.now = tree_digest(self.cluster.data)

    def sweep(self, calls, one, least=0.75):
        """one(lane, k) for every k, on all lanes at once; the first failure names its k. `least`: the share of runs that
        must have been killed. Threads that want the same frame at once read it twice, so that a run may be a good deal
        shorter than the one that was counted."""
        calls = list(calls)
        waiting, lock, failures = iter(calls), threading.Lock(), []
        for lane in self.lanes:
            lane.killed = 0

        def work(lane):
            while not failures:
                with lock:
                    call = next(waiting, None)
                if call is None:
                    return
                try:
                    one(lane, call)
                except Exception as problem:  # noqa: BLE001: told below, with its call
                    failures.append((call, problem))

        threads = [threading.Thread(target=work, args=(lane,)) for lane in self.lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            call, problem = failures[0]
            raise AssertionError(f"killed at store call {call}: {problem}") from problem
        self.assertGreaterEqual(sum(lane.killed for lane in self.lanes), least * len(calls))

    def cannot_be_started(self, folder):
        """P47: without pg_control no server of any version opens the folder."""
        self.assertFalse((pathlib.Path(folder) / "global" / "pg_control").exists(), f"{folder} could be started half restored")
