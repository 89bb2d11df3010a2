"""Two vaults under everything at once: backups, WAL, copies both ways, prunes, collections, scrubs and restores by processes
of their own, some of them killed at a store call or at any moment, some frozen until others take them for dead, the line
to one store cut now and then. What becomes of one command is free; what is left in the end is not:

    every snapshot a vault lists restores byte for byte as it did right after it was made, with every row of its time;
    the same snapshot in both vaults is the same; nothing referred to is missing; no orphan outlives two collections;
    and no command ever tells of damage, dies by itself or takes more memory than it may.

KURAMORI_SOAK_SECONDS says how long (./dev test --all: an hour), KURAMORI_SOAK_SEED replays the same choices (V3, V4, V6, P57, P62)."""

import contextlib
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import threading
import time
import zlib

import harness
import kill_points
import places
import rgw
import slow_proxy

SECONDS = float(os.environ.get("KURAMORI_SOAK_SECONDS") or (3600 if harness.ALL else 30))
SEED = int(os.environ.get("KURAMORI_SOAK_SEED") or int.from_bytes(os.urandom(4), "big"))
KEPT_SECONDS = 12
DEAD_SECONDS = 3  # without a sign of life: shorter than some are frozen
FROZEN_SECONDS_MAX = 5
CUT_SECONDS_MAX = 3
SLOW_SECONDS_MAX = 240
VERBS = ("backup", "copy", "prune", "collect", "scrub", "restore")
MEMORY_MAX_KIB = 192 * 1024
# Done, failed for now, in part, refused, and killed by us. Never: wrong usage (2), damage (4), another signal.
ALLOWED = {0, 1, 3, 5, -signal.SIGKILL}

STEP = """create function step() returns bigint language plpgsql as $$
declare k bigint := nextval('steps');
begin
  insert into one select k * 20 + i, md5((k * 20 + i)::text) from generate_series(1, 20) i;
  insert into other select k * 20 + i, md5((k * 20 + i)::text) from generate_series(1, 20) i;
  update one set text = md5(text) where id % 97 = k % 97;
  update other set text = md5(text) where id % 97 = k % 97;
  delete from one where id < k * 20 - 20000;
  delete from other where id < k * 20 - 20000;
  return k;
end $$"""
# Both tables change in the same transactions alone.
UNLIKE = "select count(*) from (select * from one except select * from other union all (select * from other except select * from one)) x"


class Fate:
    """What is done to one process."""

    def __init__(self, dice, calm):
        kind = dice.random()
        self.env, self.kill_after, self.freeze_after, self.freeze_for = {}, None, None, 0.0
        if calm or kind < 0.4:
            return
        if kind < 0.65:
            self.env = {"KURAMORI_TEST_KILL_AT_STORE_CALL": int(2 ** dice.uniform(0, 9))}
            if dice.random() < 0.3:
                self.env["KURAMORI_TEST_KILL_AT_STORE_CALL_AFTER"] = 1
        elif kind < 0.8:
            self.kill_after = dice.uniform(0.02, 2)
        else:
            self.freeze_after = dice.uniform(0.02, 1)
            self.freeze_for = dice.uniform(0.2, FROZEN_SECONDS_MAX)
            if dice.random() < 0.2:
                self.kill_after = self.freeze_after + self.freeze_for


class Soak(harness.Case):
    in_memory = True
    place_kind = "rgw"

    def setUp(self):
        super().setUp()
        self.problems, self.over, self.counts, self.said, self.memory_kib = [], threading.Event(), {}, {}, 0
        self.digests, self.floors, self.lock, self.settled = {}, {}, threading.Lock(), False
        self.state = self.folder / "state"
        self.scratch = self.folder / "scratch"
        for folder in (self.state, self.scratch):
            folder.mkdir()
            harness.give_to_server(folder)
        # Osaka is a store over a line that is cut. Tokyo a folder; in the long form another store, its own line whole.
        self.proxy = slow_proxy.Proxy(self.place.cluster)
        self.addCleanup(self.proxy.stop)
        self.place.endpoint = self.proxy.endpoint
        tokyo = places.Bucket(self, "rgw", rgw.RgwCluster(tls=True)) if harness.ALL else places.Folder(self)
        self.places = {"tokyo": tokyo, "osaka": self.place}
        self.clusters = {name: self.database(name) for name in ("db", "db2")}
        homes = {"db": ("tokyo", "osaka"), "db2": ("osaka", "tokyo")}
        keep = f"{{ all: {KEPT_SECONDS}s, last: 2 }}"
        self.config.write_text(
            "vaults:\n" + "".join(f'  {name}: {{ {place.yaml()}, site: {name}, key_file: "{self.key}" }}\n' for name, place in self.places.items())
            + "resources:\n" + "".join(f'  {name}: {{ kind: postgres, connect: "{server.connect()}" }}\n' for name, server in self.clusters.items())
            + "plans:\n" + "".join(f"""  {name}:
    resources: [{name}]
    vault: {homes[name][0]}
    schedule: "0 3 * * *"
    timezone: UTC
    wal: archive
    keep: {keep}
    copies: [ {{ to: {homes[name][1]}, keep: {keep} }} ]
""" for name in homes))
        self.homes = homes
        for vault in self.places:
            self.kuramori("vault", "init", vault)
        for server in self.clusters.values():
            server.start()
            server.sql("create sequence steps", "create table one (id bigint primary key, text text)", "create table other (like one including all)", STEP)
        for name in homes:
            self.kuramori("backup", name)

    def database(self, name):
        """A server whose archiver is killed at some store calls too; a push that died is tried again."""
        folder = self.folder / name
        folder.mkdir()
        harness.give_to_server(folder)
        push = folder / "push"
        push.write_text(f"""#!/bin/sh
tries=$(cat {folder}/tries 2>/dev/null || echo 0)
echo $((tries + 1)) >{folder}/tries
case $(($(echo {SEED} {name} $tries | cksum | cut -d' ' -f1) % 40)) in
  [1-6]) export KURAMORI_TEST_KILL_AT_STORE_CALL=$(($(echo $tries {SEED} | cksum | cut -d' ' -f1) % 6 + 1)) ;;
esac
[ ! -e {folder}/calm ] || unset KURAMORI_TEST_KILL_AT_STORE_CALL
{self.programs}/kuramori-wal --config {self.config} wal push "$1" || exit 1
""")
        push.chmod(0o755)
        server = harness.Server(folder, 15, ["autovacuum = on", "archive_mode = on", f"archive_command = '{push} %p'"], ["--wal-segsize=1"])
        self.servers.append(server)
        return server

    # One command.

    def run_one(self, dice, *words, calm=False):
        """(status, output), whatever was done to it. What must never be is remembered as a problem."""
        fate = Fate(dice, calm)
        log = self.scratch / f"log-{threading.get_ident()}-{time.monotonic_ns()}"
        command = harness.as_server([self.programs / "kuramori", "--config", self.config, *words])
        with open(log, "wb") as out:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, cwd="/",
                                       env=harness.environment(KURAMORI_STATE=self.state, TMPDIR=self.scratch, **fate.env))
        err = []
        reading = threading.Thread(target=lambda: err.append(process.stderr.read()))
        reading.start()
        status, began, frozen = None, time.monotonic(), False
        while status is None:
            # Signals go by number: whatever else Popen offers for them waits for the process, and takes what wait4 tells.
            pid, code, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                status = process.returncode = os.waitstatus_to_exitcode(code)
                break
            passed = time.monotonic() - began
            if fate.freeze_after is not None and not frozen and passed > fate.freeze_after:
                os.kill(process.pid, signal.SIGSTOP)
                frozen = True
            if fate.kill_after is not None and passed > fate.kill_after:
                os.kill(process.pid, signal.SIGKILL)
            elif frozen and (passed > fate.freeze_after + fate.freeze_for or self.over.is_set()):
                os.kill(process.pid, signal.SIGCONT)
            if passed > harness.COMMAND_SECONDS_MAX:
                os.kill(process.pid, signal.SIGKILL)
                self.problem(f"{words} did not end")
            time.sleep(0.01)
        reading.join()
        process.stderr.close()
        text = log.read_text(errors="replace")
        log.unlink()
        told = err[0].decode(errors="replace")
        name = next(str(word) for word in words if str(word) in (*VERBS, "snapshots"))
        with self.lock:
            # What we had ourselves when we started it counts as its own: only more than that is certainly its.
            if usage.ru_maxrss > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:
                self.memory_kib = max(self.memory_kib, usage.ru_maxrss)
            self.counts[(name, status)] = self.counts.get((name, status), 0) + 1
            if status not in (0, -signal.SIGKILL):
                self.said.setdefault((name, status), (text.strip() or told.strip())[-700:])
        pruned_meanwhile = status == 2 and "names no snapshot" in told
        if status not in ALLOWED and not pruned_meanwhile:
            self.problem(f"{' '.join(map(str, words))} ended with {status}:\n{text[-3000:]}{told[-3000:]}")
        return status, text, told

    def problem(self, text):
        with self.lock:
            self.problems.append(text)
        self.over.set()

    def restored(self, dice, vault, resource, snapshot, calm):
        """Its digest; None when the restore did not end well, for whatever reason."""
        target = self.scratch / f"r-{vault}-{snapshot}-{time.monotonic_ns()}"
        status, _, told = self.run_one(dice, "--vault", vault, "restore", f"{resource}@{snapshot}", "--to", target, calm=calm)
        digest = kill_points.tree_digest(target) if status == 0 else None
        shutil.rmtree(target, ignore_errors=True)
        if digest:
            with self.lock:
                known = self.digests.setdefault(snapshot, digest)
            if known != digest:
                self.problem(f"{resource}@{snapshot} of {vault} restores to other bytes than before")
        elif self.settled:
            self.problem(f"{resource}@{snapshot} of {vault} cannot be restored: {told}")
        return digest

    def listed(self, vault):
        status, text, told = self.run_one(random.Random(0), "--vault", vault, "snapshots", "--json", calm=True)
        return harness.Outcome((), status, text, told).json()["snapshots"] if status == 0 else []

    # Who is at work.

    def back_up(self, dice, name):
        floor = int(self.clusters[name].sql("select coalesce(max(id), 0) from one"))
        more = ["--full"] if dice.random() < 0.2 else []
        status, text, told = self.run_one(dice, "backup", name, "--json", *more)
        if status == 0:
            made = harness.Outcome((), status, text, told).json()["snapshot"]["id"]
            with self.lock:
                self.floors[made] = floor
            self.restored(dice, self.homes[name][0], name, made, calm=True)

    def copy(self, dice):
        name = dice.choice(list(self.homes))
        home, away = self.homes[name]
        self.run_one(dice, "copy", name, "--from", home, "--to", away, "--json")

    def keep(self, dice, vault):
        what = dice.random()
        if what < 0.35:
            self.run_one(dice, "--vault", vault, "prune")
        elif what < 0.8:
            dead = ["--dead-after", f"{DEAD_SECONDS}s"] if dice.random() < 0.7 else []
            self.run_one(dice, "vault", "collect", vault, "--share-max", "100", *dead)
        else:
            self.run_one(dice, "vault", "scrub", vault)

    def read(self, dice):
        vault = dice.choice(list(self.places))
        there = self.listed(vault)
        if there:
            snapshot = dice.choice(there)
            self.restored(dice, vault, snapshot["resource"], snapshot["id"], calm=False)

    def cut(self, dice):
        if self.over.wait(dice.uniform(1, 8)):
            return
        self.proxy.cut()
        self.over.wait(dice.uniform(0.2, CUT_SECONDS_MAX))
        self.proxy.mend()

    def at_work(self):
        def again(what, *words):
            dice = random.Random(zlib.crc32(repr((SEED, what.__name__, words)).encode()))

            def loop():
                while not self.over.is_set():
                    try:
                        what(dice, *words)
                    except Exception as problem:  # noqa: BLE001: told at the end
                        self.problem(f"{what.__name__}{words}: {problem!r}")
            return threading.Thread(target=loop)

        workers = [again(self.back_up, name) for name in self.homes] + [again(self.copy), again(self.read), again(self.cut)]
        return workers + [again(self.keep, vault) for vault in self.places]

    def changes(self, server):
        """A client that never stops; ended by `stop`."""
        client = subprocess.Popen([f"{harness.CLIENT}/psql", "-XqAt", server.connect()], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, env=harness.environment())
        client.stdin.write(b"select step() \\watch 0.2\n")
        client.stdin.flush()
        return client

    def test_everything_at_once_loses_nothing_V3_V4_V6_P57_P62(self):
        print(f"\n    KURAMORI_SOAK_SEED={SEED} KURAMORI_SOAK_SECONDS={SECONDS:g}", flush=True)
        clients = [self.changes(server) for server in self.clusters.values()]
        workers = self.at_work()
        for worker in workers:
            worker.start()
        began = time.monotonic()
        while not self.over.wait(1):
            passed = time.monotonic() - began
            # As long as asked for, and on a slow machine until each of them has been through once.
            if passed > SECONDS and (passed > SECONDS + SLOW_SECONDS_MAX or all(self.counts.get((name, 0)) for name in VERBS)):
                break
        self.over.set()
        for worker in workers:
            worker.join()
        for client in clients:
            client.kill()
            client.wait()
            with contextlib.suppress(BrokenPipeError):  # a line that was being written as it ended
                client.stdin.close()
        self.proxy.mend()
        print("    " + ", ".join(f"{name} [{status}] {count}" for (name, status), count in sorted(self.counts.items()))
              + f"; at most {self.memory_kib // 1024} MiB", flush=True)
        for (name, status), text in sorted(self.said.items()):
            print(f"    the first {name} [{status}]: " + " | ".join(text.splitlines()), flush=True)
        self.assertEqual(self.problems, [], f"seed {SEED}")
        self.assertLess(self.memory_kib, MEMORY_MAX_KIB)
        for name in VERBS:
            self.assertGreater(self.counts.get((name, 0), 0), 0, f"no {name} ever succeeded: {self.counts}")
        self.calm_down()
        self.no_orphans()
        self.all_restore()

    # What is left.

    def calm_down(self):
        """Nobody disturbs any more: every command does its work now, and both vaults catch up."""
        for name, server in self.clusters.items():
            (server.folder / "calm").touch()
            self.archive_all(server)
            self.kuramori("backup", name)
            self.archive_all(server)
            self.wanted = {**getattr(self, "wanted", {}), name: server.sql("select max(id) from one")}
        self.settled = True
        for server in self.clusters.values():
            server.stop()
        for name, (home, away) in self.homes.items():
            self.kuramori("copy", name, "--from", home, "--to", away, env={"KURAMORI_STATE": str(self.state)})

    def archive_all(self, server):
        """There may be many segments left, and the archiver asleep after three pushes that were killed."""
        status = server.data / "pg_wal" / "archive_status"
        deadline = time.monotonic() + harness.COMMAND_SECONDS_MAX
        server.sql("select pg_switch_wal()")
        while any(path.suffix == ".ready" for path in status.iterdir()):
            self.assertLess(time.monotonic(), deadline, f"WAL is not archived:\n{server.log_text()}")
            time.sleep(0.1)

    def no_orphans(self):
        time.sleep(1.1)  # whoever was killed has been silent for a second
        for vault, place in self.places.items():
            self.kuramori("--vault", vault, "prune")
            for _ in range(2):
                self.kuramori("vault", "collect", vault, "--share-max", "100", "--dead-after", "1s")
            left = self.kuramori("vault", "collect", vault, "--dry-run", "--json").json()
            self.assertEqual((left["outcome"], left["planned"]["objects"], left["left"]["objects"]), ("nothing_to_do", 0, 0), (vault, left))
            self.assertEqual(place.objects("sessions/"), [], vault)
            found = self.kuramori("vault", "scrub", vault, "--json").json()
            self.assertEqual([one for one in found["findings"] if one["severity"] != "note"], [], vault)
            self.assertFalse(found["damaged"])
            self.assertEqual(found["objects_left"], 0)

    def all_restore(self):
        """Byte for byte; and as a database, with every row that was committed before the snapshot began."""
        for vault in self.places:
            there = self.listed(vault)
            self.assertEqual({snapshot["resource"] for snapshot in there}, set(self.homes), vault)
            for snapshot in there:
                self.assertTrue(self.restored(random.Random(0), vault, snapshot["resource"], snapshot["id"], calm=True), snapshot)
            for name in self.homes:
                newest = [snapshot["id"] for snapshot in there if snapshot["resource"] == name]
                for snapshot in newest if harness.ALL else newest[:1]:
                    database = self.opened(vault, f"{name}@{snapshot}")
                    self.assertGreaterEqual(int(database.sql("select max(id) from one")), self.floors.get(snapshot, 0))
                    database.stop()
                # To the last commit, by the WAL that was pushed and copied through all of this.
                database = self.opened(vault, name, "--latest")
                self.assertEqual(database.sql("select max(id) from one"), self.wanted[name])
                database.stop()
        self.assertEqual(self.problems, [], f"seed {SEED}")

    def opened(self, vault, *words):
        target = self.scratch / f"o-{vault}-{time.monotonic_ns()}"
        self.kuramori("--vault", vault, "restore", *words, "--to", target)
        database = self.adopt(target)
        self.assertEqual(database.sql(UNLIKE), "0")
        self.assertNotEqual(database.sql("select count(*) from one"), "0")
        return database


if __name__ == "__main__":
    harness.main()
