"""A proxy in front of a store that behaves like a bad line and a busy shop: haproxy, so that it is not what is slow.

    proxy = slow_proxy.Proxy(cluster, delay_ms=50, busy=0.2)    # proxy.endpoint, proxy.ca
    proxy.stop()

busy: so many requests of one are answered 503 SlowDown, before the store has seen them.
lost: of so many the store's answer is lost after it did what was asked; 502: the outcome is unknown to who asked.
"""

import atexit
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse

HAPROXY = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/sbin:/bin") or "haproxy"
START_SECONDS_MAX = 30
SLOW_DOWN = "<Error><Code>SlowDown</Code><Message>try later</Message></Error>"
_proxies = []
_shared = {}


@atexit.register
def _clean_up():
    for proxy in list(_proxies):
        proxy.stop()


def shared(cluster, **options):
    """The proxy of these options that this test program has in front of the cluster; started when first asked for."""
    key = (cluster.endpoint, tuple(sorted(options.items())))
    if key not in _shared:
        _shared[key] = Proxy(cluster, **options)
    return _shared[key]


class Proxy:
    def __init__(self, cluster, delay_ms=0, busy=0.0, lost=0.0, address="127.0.0.1", secure=None):
        """`secure=False`: plain HTTP to whoever asks here, whatever the store speaks."""
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kuramori-proxy-"))
        listener = socket.create_server((address, 0), backlog=256)
        self.port = listener.getsockname()[1]
        store_secure = cluster.endpoint.startswith("https:")
        secure = store_secure if secure is None else secure
        self.endpoint, self.ca = f"{'https' if secure else 'http'}://{address}:{self.port}", cluster.ca if secure else None
        target = urllib.parse.urlsplit(cluster.endpoint).netloc
        listen = f"fd@{listener.fileno()}" + (f" ssl crt {cluster.folder}/gateway.pem" if secure else "")
        server = target + (f" ssl ca-file {cluster.ca} verify required verifyhost localhost" if store_secure else "")
        busy_answer = f"return status 503 content-type application/xml string '{SLOW_DOWN}'"
        lost_answer = "return status 502 content-type text/html string '<h1>502 Bad Gateway</h1>'"
        (self.folder / "delay.lua").write_text(
            f'core.register_action("delay", {{"http-req"}}, function(txn) core.msleep({int(delay_ms)}) end)\n')
        (self.folder / "haproxy.cfg").write_text(f"""global
  lua-load {self.folder}/delay.lua
  stats socket {self.folder}/control mode 600 level admin
  tune.ssl.default-dh-param 2048
  maxconn 1000
defaults
  mode http
  timeout connect 10s
  timeout client 120s
  timeout server 120s
  timeout http-keep-alive 120s
frontend line
  bind {listen}
  {'http-request lua.delay' if delay_ms else ''}
  http-request {busy_answer} if {{ rand(1000) lt {int(busy * 1000)} }}
  http-response {lost_answer} if {{ rand(1000) lt {int(lost * 1000)} }}
  default_backend store
backend store
  server s {server}
""")
        self.log = open(self.folder / "log", "wb")
        # It dies with this process, however that ends.
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", HAPROXY, "-db", "-f", str(self.folder / "haproxy.cfg")],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, pass_fds=[listener.fileno()])
        _proxies.append(self)
        # Our own copy stays open until haproxy has its own, so that nobody else is given the port.
        self._await_ready()
        listener.close()

    def _await_ready(self):
        deadline = time.monotonic() + START_SECONDS_MAX
        control = self.folder / "control"
        while not control.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"haproxy did not start:\n{(self.folder / 'log').read_text()}")
            time.sleep(0.01)

    def command(self, text):
        """One line to haproxy's control socket; what it says."""
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(self.folder / "control"))
            line.sendall(text.encode() + b"\n")
            return b"".join(iter(lambda: line.recv(4096), b"")).decode()

    def requests(self):
        """How many have come so far."""
        for row in self.command("show stat").splitlines():
            cells = row.split(",")
            if cells[:2] == ["line", "FRONTEND"]:
                return int(cells[48])
        raise AssertionError("haproxy shows no statistics")

    def cut(self):
        """No request reaches the store from now on (503 for all)."""
        self.command("disable server store/s")

    def mend(self):
        self.command("enable server store/s")

    def stop(self):
        if self in _proxies:
            _proxies.remove(self)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
