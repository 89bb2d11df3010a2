"""OpenStack Swift with its S3 interface (Debian's packages), on loopback in a folder: a store of another maker that speaks S3,
and knows no conditional put and no Object Lock.

    swift = swift_server.Swift()          # swift.endpoint, swift.access, swift.secret, swift.s3 (raw_s3.Client)
    swift.stop()
"""

import atexit
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import raw_s3

PROGRAMS = ("memcached", "swift-ring-builder", "swift-proxy-server", "swift-account-server", "swift-container-server", "swift-object-server")
START_SECONDS_MAX = 90
_running = []


@atexit.register
def _clean_up():
    for one in list(_running):
        one.stop()


def missing():
    """What is not installed; empty when it can be started. Its servers read their hash from /etc/swift alone."""
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    return absent or ([] if pathlib.Path("/etc/swift/swift.conf").exists() else ["/etc/swift/swift.conf"])


def _free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


PROXY = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {folder}
user = {user}
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck listing_formats cache s3api tempauth slo dlo versioned_writes symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_owner_owner = {secret} .admin
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcache}
[filter:symlink]
use = egg:swift#symlink
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
allow_object_versioning = true
"""

BACKEND = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
user = {user}
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""


class Swift:
    access, secret = "owner:owner", "SKOWN"

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kuramori-swift-"))
        self.processes = []
        _running.append(self)
        ports = dict(zip(("proxy", "account", "container", "object"), _free_ports(4)))
        memcache = _free_ports(1)[0]
        (self.folder / "devices" / "d1").mkdir(parents=True)
        user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
        words = {"folder": self.folder, "user": user, "secret": self.secret, "memcache": memcache}
        for kind, port in ports.items():
            text = (PROXY if kind == "proxy" else BACKEND).format(kind=kind, port=port, **words)
            (self.folder / f"{kind}.conf").write_text(text)
            if kind != "proxy":
                self._ring(kind, port)
        commands = {kind: [f"swift-{kind}-server", self.folder / f"{kind}.conf"] for kind in ports}
        commands["memcached"] = ["memcached", "-l", "127.0.0.1", "-p", str(memcache), "-U", "0", "-m", "16", "-u", user]
        for name, command in commands.items():
            # It dies with this process, however that ends.
            with open(self.folder / f"{name}.log", "wb") as log:
                self.processes.append(subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        self.endpoint = f"http://127.0.0.1:{ports['proxy']}"
        self.s3 = raw_s3.Client(self.endpoint, self.access, self.secret)
        self._await_ready()

    def _ring(self, kind, port):
        builder = self.folder / f"{kind}.builder"
        for words in (["create", "4", "1", "1"], ["add", f"r1z1-127.0.0.1:{port}/d1", "1"], ["rebalance"]):
            done = subprocess.run(["swift-ring-builder", builder, *words], capture_output=True, text=True)
            if done.returncode > 1:  # 1: done, with a warning
                raise AssertionError(f"swift-ring-builder {words}: {done.stdout}{done.stderr}")

    def _await_ready(self):
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            if any(one.poll() is not None for one in self.processes) or time.monotonic() > deadline:
                raise AssertionError(f"Swift did not start:\n{self.log_text()}")
            try:
                if self.s3.request("GET").status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)

    def log_text(self):
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in sorted(self.folder.glob("*.log")))

    def stop(self):
        if self in _running:
            _running.remove(self)
        for one in self.processes:
            one.send_signal(signal.SIGKILL)
            one.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
