"""Real Prometheus and Alertmanager on the real daemon: they scrape it over TLS with a token, evaluate the rules that are installed, and
send what fires (M1, M2, M3, B5)."""

import http.server
import json
import re
import shutil
import subprocess
import threading
import time
import unittest
import urllib.parse
import urllib.request

import harness
import web
from daemon import SECONDS_MAX

MONITORING = harness.ROOT / "packaging" / "monitoring"
PROGRAMS = {name: shutil.which(name) for name in ("prometheus", "prometheus-alertmanager", "promtool")}


def expressions():
    """Each that the rules and the dashboard hold, the dashboard's variables filled in."""
    found = []
    for line in (MONITORING / "kuramori-dashboard.json").read_text().splitlines():
        if match := re.match(r'\s*"expr": (".*"),?$', line):
            found.append(json.loads(match[1]).replace("$instance", ".*").replace("$resource", ".*"))
    import yaml

    for group in yaml.safe_load((MONITORING / "kuramori.rules.yml").read_text())["groups"]:
        found += [rule["expr"] for rule in group["rules"]]
    return found


class Sink:
    """Takes what Alertmanager sends."""

    def __init__(self):
        self.alerts = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.alerts += [{"status": one["status"], **one["labels"], **one["annotations"]} for one in body["alerts"]]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *words):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def firing(self, name, **labels):
        return [one for one in self.alerts if one["status"] == "firing" and one["alertname"] == name
                and all(one.get(key) == value for key, value in labels.items())]


@unittest.skipUnless(all(PROGRAMS.values()), "needs prometheus and prometheus-alertmanager")
class Monitoring(web.Case):
    def setUp(self):
        super().setUp()
        self.started = []
        self.sink = Sink()

    def tearDown(self):
        for process in self.started:
            process.kill()
            process.wait()
        self.sink.server.shutdown()
        self.sink.server.server_close()
        super().tearDown()

    def start(self, name, *words):
        log = self.folder / f"{name}.log"
        with open(log, "wb") as file:
            self.started.append(subprocess.Popen([PROGRAMS[name], *map(str, words)], stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                                 env=harness.environment(), cwd=self.folder))
        return log

    def promql(self, expression):
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}", timeout=10) as answer:
            return json.load(answer)["data"]["result"]

    def is_up(self):
        try:
            return [one["value"][1] for one in self.promql('up{job="kuramori"}')] == ["1"]
        except OSError:
            return False

    def watch(self):
        """Prometheus and Alertmanager as docs/monitoring.md has them, in a hurry."""
        (self.folder / "token").write_text(self.tokens["viewer"])
        rules = (MONITORING / "kuramori.rules.yml").read_text()
        (self.folder / "kuramori.rules.yml").write_text(re.sub(r"for: \d+m", "for: 1s", rules))
        alertmanager, port = harness.free_port(), harness.free_port()
        (self.folder / "alertmanager.yml").write_text(f"""
route: {{ receiver: sink, group_by: ["..."], group_wait: 0s, group_interval: 1s, repeat_interval: 1h }}
receivers: [ {{ name: sink, webhook_configs: [ {{ url: "{self.sink.url}" }} ] }} ]
""")
        (self.folder / "prometheus.yml").write_text(f"""
global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}
rule_files: [kuramori.rules.yml]
alerting: {{ alertmanagers: [ {{ static_configs: [ {{ targets: ["127.0.0.1:{alertmanager}"] }} ] }} ] }}
scrape_configs:
  - job_name: kuramori
    scheme: https
    scrape_timeout: 1s
    tls_config: {{ ca_file: {self.tls} }}
    authorization: {{ credentials_file: {self.folder / "token"} }}
    static_configs: [ {{ targets: ["127.0.0.1:{self.port}"] }} ]
""")
        for words in (["config", "prometheus.yml"], ["rules", MONITORING / "kuramori.rules.yml"]):
            done = subprocess.run([PROGRAMS["promtool"], "check", *words], cwd=self.folder, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.start("prometheus-alertmanager", f"--config.file={self.folder}/alertmanager.yml", f"--storage.path={self.folder}/am",
                   f"--web.listen-address=127.0.0.1:{alertmanager}", "--cluster.listen-address=")
        self.prometheus = f"http://127.0.0.1:{port}"
        self.log = self.start("prometheus", f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/tsdb",
                              f"--web.listen-address=127.0.0.1:{port}")

    def test_M1_M2_prometheus_scrapes_and_alertmanager_is_told(self):
        self.certificate()
        self.listen('  p: { resources: [files], vault: here, every: 2s }\n'
                    '  q: { resources: [broken], vault: here, schedule: "0 3 * * *" }\n',
                    '  broken: { kind: command, run: ["/bin/sh", "-c", "exit 1"] }\n'
                    '  late: { kind: files, paths: ["%s"], objectives: { rpo: 3s } }\n' % (self.folder / "other"))
        self.mine("backup", "late", "--vault", "here")
        served = self.serve_web()
        self.await_runs(1, "backup p/files", "COMPLETED")
        self.mine("jobs", "--start", "backup q/broken")
        run = self.await_runs(1, "backup q/broken", "CREATED")[0]["id"]
        self.mine("jobs", "--cancel", run)  # it has failed: it shall not be tried for an hour
        self.watch()
        self.until("prometheus sees it", self.is_up)
        self.assertEqual(self.promql("kuramori_build_info")[0]["metric"]["version"], self.mine("version", "--json").json()["version"])
        # B5: what would be lost grows while nothing comes, as Prometheus sees it.
        self.until("a first look", lambda: self.promql('kuramori_resource_rpo_achieved_seconds{resource="late"}'))
        first = float(self.promql('kuramori_resource_rpo_achieved_seconds{resource="late"}')[0]["value"][1])
        self.until("it grows", lambda: float(self.promql('kuramori_resource_rpo_achieved_seconds{resource="late"}')[0]["value"][1]) > first)
        self.until("an RPO that is exceeded", lambda: self.sink.firing("KuramoriRpoExceeded", resource="late", severity="critical"))
        # Nobody backs it up; and "broken" never had a snapshot either.
        for resource in ("other", "broken"):
            told = self.until(f"that {resource} is unprotected", lambda: self.sink.firing("KuramoriUnprotected", resource=resource))
            self.assertEqual(told[0]["summary"], f"nothing of {resource} can be restored")
        # A query of Grafana's or a rule's names nothing that the daemon does not have, and is one that Prometheus understands.
        known = set(re.findall(r'"(kuramori_[a-z_]+)"', (harness.ROOT / "src/daemon/metrics.cc").read_text()))
        known |= {name + suffix for name in known for suffix in ("_bucket", "_sum", "_count")}
        for expression in expressions():
            self.promql(expression)
            named = set(re.findall(r"kuramori_[a-z_]+", expression))
            self.assertLessEqual(named, known, expression)
        # What is well is not told of.
        for name in ("KuramoriWalGap", "KuramoriVaultAway", "KuramoriDaemonStuck", "KuramoriDaemonSilent", "KuramoriProofFailed"):
            self.assertEqual(self.sink.firing(name), [], name)
        self.assertEqual(self.sink.firing("KuramoriUnprotected", resource="files"), [])
        # M2: a daemon that is gone cannot say so itself.
        served.kill()
        silent = self.until("that the daemon is silent", lambda: self.sink.firing("KuramoriDaemonSilent", severity="critical"))
        self.assertIn("does not answer", silent[0]["summary"])

    def test_promtool_takes_the_metrics_and_the_rules(self):
        self.listen('  p: { resources: [files], vault: here, every: 2s, copies: [ { to: there } ], drill: { schedule: "0 5 1 * *" } }\n',
                    more=f'pings: {{ export: {{ every: 1h, hash: "{self.hashes["viewer"][1]}" }} }}\n')
        self.serve_web()
        self.await_runs(1, "copy p/files to there", "COMPLETED")
        self.mine("drill", "files", "--vault", "here")
        wanted = ("kuramori_resource_last_proof_passed", "kuramori_ping_late", "kuramori_alerts_unacknowledged")
        text = self.until("a proof", lambda: all(name in body for name in wanted) and body if (body := self.ask("/metrics").body) else "")
        done = subprocess.run([PROGRAMS["promtool"], "check", "metrics"], input=text, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""), text)
        shutil.copy(MONITORING / "kuramori.rules.yml", self.folder)
        shutil.copy(harness.ROOT / "tests/e2e/monitoring_rules.yml", self.folder)
        done = subprocess.run([PROGRAMS["promtool"], "test", "rules", "monitoring_rules.yml"], cwd=self.folder, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        # Every alert has a case there.
        named = set(re.findall(r"alert: (Kuramori\w+)", (MONITORING / "kuramori.rules.yml").read_text()))
        tested = set(re.findall(r"alertname: (Kuramori\w+)", (harness.ROOT / "tests/e2e/monitoring_rules.yml").read_text()))
        self.assertEqual(named - tested, set())


if __name__ == "__main__":
    web.main()
