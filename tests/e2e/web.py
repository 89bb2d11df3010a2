"""What tests of the daemon's HTTP interface stand on: tokens, a certificate, and requests."""

import http.client
import json
import re
import ssl
import subprocess
import time

import daemon
import harness
from daemon import SECONDS_MAX


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __str__(self):
        return f"{self.status} {dict(self.headers)}\n{self.body}"


class Case(daemon.Case):
    """A daemon that shows what it knows; tokens "viewer" and "operator"."""

    def setUp(self):
        super().setUp()
        self.tokens, self.hashes = {}, {}
        for role in ("viewer", "operator"):
            self.token(role, role)
        self.tls = None

    def token(self, name, role):
        made = self.mine("token", "new", name, "--role", role, "--json").json()
        self.tokens[name] = made["token"]
        self.hashes[name] = (role, made["hash"])

    def certificate(self, name="127.0.0.1"):
        """Made anew: another one each time."""
        self.tls = self.folder / "tls.crt"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=kuramori", "-addext",
                        f"subjectAltName=IP:{name}", "-keyout", self.folder / "tls.key", "-out", self.tls],
                       check=True, capture_output=True)

    def listen(self, plans, resources="", port=0, more=""):
        self.plan(plans, resources)
        tokens = "".join(f'    - {{ name: {name}, role: {role}, hash: "{digest}" }}\n' for name, (role, digest) in self.hashes.items())
        tls = f"  tls: {{ cert_file: {self.tls}, key_file: {self.folder / 'tls.key'} }}\n" if self.tls else ""
        with open(self.config, "a") as file:
            file.write(f'listen:\n  address: "127.0.0.1:{port}"\n{tls}  tokens:\n{tokens}{more}')

    def serve_web(self, *words, **env):
        served = self.serve(*words, **env)
        self.port = self.await_shown(served)
        return served

    def await_shown(self, served, times=1):
        deadline = time.monotonic() + SECONDS_MAX
        while len(found := re.findall(r"showing at https?://[^ ]*:(\d+)", served.text())) < times:
            self.assertLess(time.monotonic(), deadline, served.text())
            self.assertIsNone(served.process.poll(), served.text())
            time.sleep(0.02)
        return int(found[-1])

    def ask(self, path, token="viewer", method="GET", body=None, headers=None, timeout=30):
        if self.tls:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=ssl.create_default_context(cafile=self.tls))
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        sent = dict(headers or {})
        if token:
            sent["Authorization"] = f"Bearer {self.tokens.get(token, token)}"
        try:
            connection.request(method, path, body=body, headers=sent)
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read().decode())
        finally:
            connection.close()

    def wish(self, document, token="operator"):
        deadline = time.monotonic() + SECONDS_MAX
        while (answer := self.ask("/api/1/jobs", token, "POST", json.dumps(document))).status == 503:  # it has only just begun
            self.assertLess(time.monotonic(), deadline, answer)
            time.sleep(0.05)
        return answer

    def metrics(self):
        """Samples by name and labels."""
        answer = self.ask("/metrics")
        self.assertEqual(answer.status, 200, answer)
        samples = {}
        for line in answer.body.splitlines():
            if line.startswith("#"):
                continue
            name, labels, value = re.fullmatch(r"([a-z_]+)(?:\{(.*)\})? (\S+)", line).groups()
            pairs = re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', labels or "")
            samples[(name, *(text for _, text in pairs))] = float(value)
        return samples

    def until(self, what, found, seconds=SECONDS_MAX):
        return self.await_true(found, what, seconds)


main = harness.main
