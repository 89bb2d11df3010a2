"""Everything at once: daemons and jobs killed, the clock put forward and back, the disks of the vault and of the daemon's
state full, the line to the copy's store cut, whoever is told out of reach. Afterwards there is what the plan asks for, no
more and no less, and everybody has been told once what they had to be told.

As root only, in a mount namespace of its own, which holds the small disks.
"""

import collections
import contextlib
import os
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
import places
import rgw
from daemon import LATER_LIBRARY, SECONDS_MAX
from sink import Sink

OWN_MOUNTS = "KURAMORI_TEST_OWN_MOUNTS"
EVERY = 2 * 10**9
# RGW believes no request whose time is more than 15 minutes from its own.
CLOCK_MOST, CLOCK_AFTERWARDS = 400, 600


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
        far = f'  there: {{ {self.far.yaml()}, site: there, key_file: "{self.key}", copy_of: here, upkeep: {{ prune: off, collect: off, scrub: off }} }}\n'
        self.config.write_text(text[:start] + far + text[text.index("resources:"):])

    def told(self, kind, resource=None):
        """What has arrived of that kind; the same message twice, under one key, is one: its taker knows it by that."""
        taken = {(headers["Idempotency-Key"], item["alert"]): item for headers, body in self.sink.got("/hook") for item in body["items"]}
        return [item for item in taken.values() if item["kind"] == kind and resource in (None, item["resource"])]

    def test_B11_P69_P72_everything_at_once_leaves_what_the_plan_asks_for_and_everybody_told_once(self):
        seed = int(os.environ.get("KURAMORI_SOAK_SEED", "5"))
        seconds = float(os.environ.get("KURAMORI_SOAK_SECONDS") or (240 if harness.ALL else 25))
        choose = random.Random(seed)
        plan = "  p: { resources: [files, other], vault: here, every: 2s, copies: [ { to: there } ] }\n"
        notify = f'notify:\n  - {{ name: hook, to: "webhook:{self.sink.url}/hook", when: [failure] }}\n'
        self.plan(plan + notify)
        clock = daemon.MovedClock(self.folder)
        served = self.serve("--stop-within", "1s", **clock.environment)
        begun = time.monotonic()
        done, undo = collections.Counter(), []
        acts = ("daemon", "job", "clock", "disk", "line", "sink")
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
                served = self.serve("--stop-within", "1s", **clock.environment)
            elif act == "job":
                children = served.children()
                if not children:
                    continue
                with contextlib.suppress(ProcessLookupError):
                    os.kill(choose.choice(children), signal.SIGKILL)
            elif act == "clock":
                clock.set(choose.randrange(-CLOCK_MOST, CLOCK_MOST))
            elif act == "disk":
                disk = choose.choice(self.disks)
                disk.fill()
                undo.append((time.monotonic() + choose.uniform(0.2, 3), disk.free))
            elif act == "line":
                self.line.cut(choose.choice(["silent", "drops"]))
                undo.append((time.monotonic() + choose.uniform(0.2, 3), self.line.mend))
            else:
                self.sink.fail("/hook", choose.randrange(1, 4), 503)
            done[act] += 1
        for _, act in undo:
            act()
        # Quiet again, and later than ever.
        clock.set(CLOCK_AFTERWARDS)
        quiet = time.time_ns() + CLOCK_AFTERWARDS * 10**9
        self.sink.fail("/hook", 0, 0)
        # One plan more. One of its sources fails, and then the other, with a daemon killed in between; both are mended.
        gates = {name: self.folder / f"{name}-is-open" for name in ("east", "west")}
        gates["west"].touch()
        self.plan(plan + "  q: { resources: [east, west], vault: here, every: 4s, completion_window: 3s }\n" + notify,
                  "".join(f'  {name}: {{ kind: command, run: ["/bin/sh", "-c", "test -e {gate} && echo here || sleep 600"] }}\n'
                          for name, gate in gates.items()))
        self.await_true(lambda: "listening" in served.text(), "that it hears")
        served.process.send_signal(signal.SIGHUP)
        for name, gate in gates.items():
            gate.unlink(missing_ok=True)
            self.await_true(lambda: self.told("opened", name), "an alarm")
            served.kill()
            served = self.serve("--stop-within", "1s", **clock.environment)
            gate.touch()
            self.await_true(lambda: self.told("resolved", name), "its end")
        for resource in ("files", "other"):
            self.await_true(lambda: sum(run["due"] > quiet for run in self.runs(f"backup p/{resource}", "COMPLETED")) > 4, f"runs of {resource}")
        newest = {resource: self.snapshots(resource)[-1]["id"] for resource in ("files", "other")}
        self.await_true(lambda: all(any(one["id"] == wanted for one in self.snapshots(resource, "there")) for resource, wanted in newest.items()),
                        "the copies")
        served.stop()
        self.assert_no_moment_twice()
        for resource in ("files", "other"):
            self.assert_no_run_twice(resource)
            self.assert_none_left_out(resource, quiet, EVERY)
            here, there = ([one["id"] for one in self.snapshots(resource, vault)] for vault in ("here", "there"))
            self.assertLessEqual(set(there), set(here))
            # All but what was made since we looked.
            self.assertLessEqual(set(here) - set(there), set(here[here.index(newest[resource]) + 1:]))
        for vault in ("here", "there"):
            self.assertEqual(self.mine("vault", "scrub", vault).status, 0)
        self.mine("restore", "files", "--vault", "there", "--to", self.folder / "back")
        self.assertEqual(subprocess.run(["diff", "-r", self.folder / "files", self.folder / "back"]).returncode, 0)
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
