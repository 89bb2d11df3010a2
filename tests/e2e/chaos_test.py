"""Everything at once: daemons and jobs killed, the clock put forward and back, the disks of the vault and of the daemon's
state full, the line to the copy's store cut, whoever is told out of reach; and snapshots that go when their time is over.
Afterwards there is what the plans ask for, no more and no less, nothing that had to stay ever went, and everybody has been
told once what they had to be told.

As root only, in a mount namespace of its own, which holds the small disks.
"""

import collections
import contextlib
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest
import urllib.parse

import daemon
import harness
import kept
import places
import rgw
from daemon import LATER_LIBRARY, SECONDS_MAX
from sink import Sink

OWN_MOUNTS = "KURAMORI_TEST_OWN_MOUNTS"
EVERY = 2 * 10**9
# RGW believes no request whose time is more than 15 minutes from its own.
CLOCK_MOST, CLOCK_AFTERWARDS = 400, 600
SECOND = 10**9
PLANS = """  p: {{ resources: [files], vault: here, every: 2s, keep: {{ last: 3, all: 5s }}, copies: [ {{ to: there, keep: {{ last: 2, all: 4s }} }} ],
       drill: {{ schedule: "* * * * *", vault: alternate }} }}
  w: {{ resources: [other], vault: here, every: 2s, keep: {{ all: 3s }}, window: 7s, copies: [ {{ to: there, keep: {{ all: 20s }}, window: 30s }} ],
       drill: {{ schedule: "* * * * *", vault: alternate }} }}
{more}notify:
  - {{ name: hook, to: "webhook:{url}/hook", when: [failure] }}
"""
RULES = {"here": {"files": kept.Rule(last=3), "other": kept.Rule(window=7 * SECOND)},
         "there": {"files": kept.Rule(last=2), "other": kept.Rule(window=30 * SECOND)}}
LEAST_COPIED = {"files": 2, "other": 1}
PRUNES, DRILLS = ("prune here", "prune there"), ("drill p/files", "drill w/other")


class Line:
    """Between us and a store: cut, it takes connections and nothing more (silent), or drops them."""

    def __init__(self, endpoint):
        self.target = urllib.parse.urlsplit(endpoint)
        self.listener = socket.create_server(("localhost", 0), backlog=256)
        self.flows = threading.Event()
        self.flows.set()
        self.drops = False
        self.open = set()
        self.lock = threading.Lock()
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def endpoint(self):
        return f"{self.target.scheme}://localhost:{self.listener.getsockname()[1]}"

    def cut(self, how):
        self.drops = how == "drops"
        self.flows.clear()
        if self.drops:
            with self.lock:
                for end in self.open:
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)

    def mend(self):
        self.drops = False
        self.flows.set()

    def accept(self):
        while True:
            ours = self.listener.accept()[0]
            if self.drops:
                ours.close()
                continue
            theirs = socket.create_connection((self.target.hostname, self.target.port))
            with self.lock:
                self.open |= {ours, theirs}
            for source, sink in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=self.pump, args=(source, sink), daemon=True).start()

    def pump(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self.flows.wait()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self.lock:
            self.open -= {source}
        source.close()


class Disk:
    def __init__(self, folder, size):
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
        self.filler = folder / ".filler"

    def fill(self):
        with open(self.filler, "wb", buffering=0) as file:
            for piece in (1 << 16, 1 << 12):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(piece))

    def free(self):
        self.filler.unlink(missing_ok=True)


@unittest.skipUnless(os.environ.get(OWN_MOUNTS), "needs root and a mount namespace")
@unittest.skipUnless(LATER_LIBRARY, "needs libfaketime")
class Chaos(daemon.Case):
    place = None

    def prepare(self):
        self.disks = [Disk(self.folder / "vault", "24m"), Disk(self.state, "8m")]
        self.addCleanup(lambda: [subprocess.run(["umount", "-l", disk.filler.parent], check=True) for disk in self.disks])
        # Without TLS: its certificate is of today, and not valid yet for a clock that was put back.
        self.far = places.Bucket(self, "rgw", cluster=rgw.shared())
        self.line = Line(self.far.endpoint)
        self.far.endpoint = self.line.endpoint
        self.sink = Sink()
        self.addCleanup(self.sink.close)

    def plan(self, plans, resources=""):
        super().plan(plans, resources)
        text = self.config.read_text()
        start = text.index("  there:")
        upkeep = 'upkeep: { prune: "* * * * *", collect: off, scrub: off }'
        far = f'  there: {{ {self.far.yaml()}, site: there, key_file: "{self.key}", copy_of: here, {upkeep} }}\n'
        self.config.write_text(text[:start].replace("upkeep: { prune: off, collect: off, scrub: off }", upkeep) + far + text[text.index("resources:"):])

    def told(self, kind, resource=None):
        """What has arrived of that kind; the same message twice, under one key, is one: its taker knows it by that."""
        taken = {(headers["Idempotency-Key"], item["alert"]): item for headers, body in self.sink.got("/hook") for item in body["items"]}
        return [item for item in taken.values() if item["kind"] == kind and resource in (None, item["resource"])]

    def put_clock(self, seconds):
        self.clock.set(seconds)
        self.offsets.note(time.time_ns(), seconds * SECOND)

    def keep_one(self, choose):
        """Some snapshot is kept by hand, while whatever goes on goes on. Its id, if that worked."""
        if there := self.snapshots(choose.choice(["files", "other"])):
            chosen = choose.choice(there)["id"]
            words = choose.choice([["hold", "add", chosen, "--name", "chaos"], ["extend", chosen, "--keep", "1h"]])
            if self.mine(*words, "--vault", "here", status=None).status == 0:
                return {chosen}
        return set()

    def is_at_work(self, child):
        """It has opened something. Before that nobody is killed: libfaketime locks something then which all jobs of a daemon share."""
        with contextlib.suppress(OSError):
            for link in (os.readlink(path) for path in pathlib.Path(f"/proc/{child}/fd").iterdir()):
                if link.startswith((str(self.folder / "vault"), str(self.state), "socket:")):
                    return True
        return False

    def start_upkeep(self, choose, served):
        job = choose.choice([*PRUNES, *DRILLS])
        self.mine("jobs", "--start", job, status=None)  # who is not there hears nothing
        if job in DRILLS or choose.random() < 0.4:
            return
        # Killed in the middle, if it is still there.
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            for child in served.children():
                with contextlib.suppress(OSError):
                    if b"\0prune\0" in pathlib.Path(f"/proc/{child}/cmdline").read_bytes() and self.is_at_work(child):
                        time.sleep(choose.uniform(0, 0.05))
                        os.kill(child, signal.SIGKILL)
                        return
            time.sleep(0.001)

    def records(self):
        """What stands in both vaults, while nothing is done."""
        here = kept.of_folder(self.folder / "vault", self.key, RULES["here"])
        there = kept.of_bucket(self.far, harness.new_folder(), self.key, RULES["there"], here)
        return {"here": here, "there": there}

    def runs_of_snapshots(self, resource):
        return [one.run for one in self.found["here"].ever(resource)]

    def assert_kept(self, vault):
        """A prune in peace leaves what must stay, and nothing else."""
        self.await_true(lambda: self.prune_once(vault), f"a moment at which nothing of {vault} becomes due")
        for resource in ("files", "other"):
            self.assertEqual({one.id for one in self.found[vault].visible(resource)}, {one["id"] for one in self.snapshots(resource, vault)})
        self.assertEqual(self.found[vault].wrongly_pruned(self.offsets), [])

    def prune_once(self, vault):
        moments, before = [time.time_ns() + CLOCK_AFTERWARDS * SECOND], self.records()[vault]
        self.kuramori("prune", "--vault", vault, user=False, env={"KURAMORI_STATE": self.state, **self.clock.environment})
        moments.append(time.time_ns() + CLOCK_AFTERWARDS * SECOND)
        first, last = (before.must_stay(moment) for moment in moments)
        self.found = self.records()
        if first.keys() != last.keys():
            return False
        self.assertEqual({one.id for one in self.found[vault].visible()}, first.keys(), first)
        return True

    def test_B11_P57_P69_P72_everything_at_once_leaves_what_the_plans_ask_for_and_everybody_told_once(self):
        seed = int(os.environ.get("KURAMORI_SOAK_SEED", "5"))
        seconds = float(os.environ.get("KURAMORI_SOAK_SECONDS") or (240 if harness.ALL else 25))
        choose = random.Random(seed)
        self.plan(PLANS.format(more="", url=self.sink.url))
        self.clock, self.offsets = daemon.MovedClock(self.folder), kept.Offsets()
        served = self.serve("--stop-within", "1s", **self.clock.environment)
        begun = time.monotonic()
        done, undo, by_hand = collections.Counter(), [], set()
        acts = ("daemon", "job", "clock", "disk", "line", "sink", "keep", "upkeep", "upkeep")
        while time.monotonic() < begun + seconds or not all(done[act] for act in acts):
            self.assertLess(time.monotonic(), begun + seconds + SECONDS_MAX, done)
            time.sleep(choose.uniform(0.05, 1.0))
            for when, act in list(undo):
                if time.monotonic() >= when:
                    undo.remove((when, act))
                    act()
            act = choose.choice(acts)
            if act == "daemon":
                served.kill()
                served = self.serve("--stop-within", "1s", **self.clock.environment)
            elif act == "job":
                children = [child for child in served.children() if self.is_at_work(child)]
                if not children:
                    continue
                with contextlib.suppress(ProcessLookupError):
                    os.kill(choose.choice(children), signal.SIGKILL)
            elif act == "clock":
                self.put_clock(choose.randrange(-CLOCK_MOST, CLOCK_MOST))
            elif act == "disk":
                disk = choose.choice(self.disks)
                disk.fill()
                undo.append((time.monotonic() + choose.uniform(0.2, 3), disk.free))
            elif act == "line":
                self.line.cut(choose.choice(["silent", "drops"]))
                undo.append((time.monotonic() + choose.uniform(0.2, 3), self.line.mend))
            elif act == "keep":
                by_hand |= self.keep_one(choose)
            elif act == "upkeep":
                self.start_upkeep(choose, served)
            else:
                self.sink.fail("/hook", choose.randrange(1, 4), 503)
            done[act] += 1
        for _, act in undo:
            act()
        # Quiet again, and later than ever.
        self.put_clock(CLOCK_AFTERWARDS)
        quiet = time.time_ns() + CLOCK_AFTERWARDS * SECOND
        self.sink.fail("/hook", 0, 0)
        # One plan more. One of its sources fails, and then the other, with a daemon killed in between; both are mended.
        gates = {name: self.folder / f"{name}-is-open" for name in ("east", "west")}
        gates["west"].touch()
        self.plan(PLANS.format(more="  q: { resources: [east, west], vault: here, every: 4s, completion_window: 3s }\n", url=self.sink.url),
                  "".join(f'  {name}: {{ kind: command, run: ["/bin/sh", "-c", "test -e {gate} && echo here || sleep 600"] }}\n'
                          for name, gate in gates.items()))
        self.await_true(lambda: "listening" in served.text(), "that it hears")
        served.process.send_signal(signal.SIGHUP)
        for name, gate in gates.items():
            gate.unlink(missing_ok=True)
            self.await_true(lambda: self.told("opened", name), "an alarm")
            served.kill()
            served = self.serve("--stop-within", "1s", **self.clock.environment)
            gate.touch()
            self.await_true(lambda: self.told("resolved", name), "its end")
        jobs = {"files": "backup p/files", "other": "backup w/other"}
        for resource, job in jobs.items():
            self.await_true(lambda: sum(run["due"] > quiet for run in self.runs(job, "COMPLETED")) > 4, f"runs of {resource}")
        for job in (*PRUNES, *DRILLS):
            self.await_true(lambda: self.mine("jobs", "--start", job, status=None).status == 0, f"{job} is heard of")
            self.await_true(lambda: any(run["due"] > quiet for run in self.runs(job, "COMPLETED")), job)
        self.await_true(lambda: len(self.told("opened")) == len(self.told("resolved")), "the end of every alarm")
        newest = {resource: self.snapshots(resource)[-1]["id"] for resource in jobs}
        self.await_true(lambda: all(any(f"/{wanted}." in name for name, _ in self.far.objects("commits/")) for wanted in newest.values()), "the copies")
        served.stop()
        self.found = self.records()
        for vault, records in self.found.items():
            print(f"{vault}: {len(records.first)} snapshots, {len(records.pruned)} went in {len(records.finals)} prunes")
            self.assertTrue(records.pruned, vault)
        print(f"{dict(done)}, {len(by_hand)} kept by hand")
        self.assert_no_moment_twice()
        for resource in jobs:
            self.assert_no_run_twice(resource)
            self.assert_none_left_out(resource, quiet, EVERY)
            here, there = ([one.id for one in self.found[vault].ever(resource)] for vault in RULES)
            self.assertLessEqual(set(there), set(here))
            wanted = here[:here.index(newest[resource]) + 1][-LEAST_COPIED[resource]:]
            self.assertLessEqual(set(wanted), set(there))
        for vault in RULES:
            self.assert_kept(vault)
            self.assertEqual(self.mine("vault", "scrub", vault).status, 0)
        self.assertLessEqual(by_hand, {one.id for one in self.found["here"].visible()})
        for vault, records in self.found.items():
            for resource in jobs:
                for one in (records.visible(resource)[0], records.visible(resource)[-1]):
                    back = harness.new_folder() / one.id
                    self.mine("restore", f"{resource}@{one.id}", "--vault", vault, "--to", back)
                    self.assertEqual(subprocess.run(["diff", "-r", self.folder / resource, back]).returncode, 0, one)
        # Each alarm once, and none that was not due: of others only what the journal says went wrong, or had to be tried again.
        opened, resolved = self.told("opened"), self.told("resolved")
        troubled = {run["job"] for run in self.runs() if run["attempt"] > 1 or run["state"] in ("FAILED", "PARTIAL", "ABORTED")}
        for item in opened:
            if item["resource"] not in gates:
                self.assertTrue(any(item["what"].startswith(job) for job in troubled), (item, served.text()))
        self.assertEqual([len(self.told("opened", name)) for name in gates], [1, 1], opened)
        self.assertEqual(sorted(item["alert"] for item in opened), sorted({item["alert"] for item in opened}), "told twice")
        self.assertEqual(sorted(item["alert"] for item in resolved), sorted(item["alert"] for item in opened))
        # One that was sent when that could not be written down may come again, once: a daemon's disk was full, and it was killed.
        arrived = collections.Counter(headers["Idempotency-Key"] for headers, _ in self.sink.got("/hook"))
        self.assertLessEqual(max(arrived.values()), 2, arrived)


if __name__ == "__main__":
    if harness.is_root() and OWN_MOUNTS not in os.environ and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0:
        os.environ[OWN_MOUNTS] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
    harness.main()
