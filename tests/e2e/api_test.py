"""The daemon's HTTP interface: what it answers is what the command line prints, to whom it is meant for, whatever comes in and
however slow a vault is (M1, B5)."""

import json
import signal
import socket
import sqlite3
import time

import jsonschema

import harness
import web
from daemon import SECONDS_MAX

PLAN = '  p: { resources: [files], vault: here, every: 2s, copies: [ { to: there } ] }\n'
DAILY = '  p: { resources: [files, endless], vault: here, schedule: "0 3 * * *" }\n'
PATHS = ["/metrics", "/api/1/status", "/api/1/resources", "/api/1/jobs", "/api/1/snapshots?resource=files&vault=here",
         "/api/1/vaults", "/api/1/vault?name=here", "/api/1/lint", "/api/1/plans", "/api/1/alerts?last=5", "/api/1/version", "/api/1/window?resource=files",
         "/api/1/wal?resource=files", "/api/1/snapshot?id=ffffffff", "/api/1/status?resource=none", "/healthz", "/nothing"]


def schema_of(document):
    name = document["schema"].split("/")[1]
    return json.loads((harness.ROOT / f"docs/schema/{name}.schema.json").read_text())


class Api(web.Case):
    def test_M1_it_answers_what_the_command_line_prints(self):
        self.listen(PLAN)
        self.serve_web()
        self.await_runs(1, "copy p/files to there", "COMPLETED")
        for path, words in {
            "/api/1/resources": ["resources"],
            "/api/1/vaults": ["vault", "list"],
            "/api/1/version": ["version"],
            "/api/1/lint": ["lint"],
            "/api/1/status?resource=other": ["status", "other"],
            "/api/1/vault?name=there": ["vault", "show", "there"],
        }.items():
            answer = self.ask(path)
            self.assertEqual(answer.status, 200, answer)
            self.assertEqual(answer.headers["Content-Type"], "application/json")
            told, printed = answer.json(), self.mine(*words, "--json", status=None).json()
            jsonschema.validate(told, schema_of(told))
            for document in (told, printed):  # what moves between two looks
                document.pop("time", None)
                if "vault" in document and isinstance(document["vault"], dict):
                    document["vault"].pop("snapshots", None), document["vault"].pop("resources", None)
                for key in ("copies", "sites"):
                    document.pop(key, None)
            self.assertEqual(told, printed)
        # What was just asked is answered again from memory, and its age is said.
        first, again = self.ask("/api/1/snapshots?resource=files&vault=here"), self.ask("/api/1/snapshots?resource=files&vault=here")
        self.assertEqual(first.body, again.body)
        self.assertEqual(first.headers["Kuramori-As-Of"], again.headers["Kuramori-As-Of"])
        self.assertLess(int(again.headers["Age"]), SECONDS_MAX)
        one = first.json()["snapshots"][0]["id"]
        self.assertEqual(self.ask(f"/api/1/snapshot?id={one}&vault=here").json()["snapshot"]["id"], one)
        jobs = self.ask("/api/1/jobs?name=files&last=3").json()
        jsonschema.validate(jobs, schema_of(jobs))
        self.assertTrue(all("files" in job["job"] for job in jobs["jobs"]))

    def test_M1_metrics_say_what_status_says(self):
        self.listen('  p: { resources: [files], vault: here, every: 2s, copies: [ { to: there } ], drill: { schedule: "0 5 1 * *" } }\n'
                    '  q: { resources: [flaky], vault: here, schedule: "0 3 * * *" }\n',
                    '  loose: { kind: files, paths: [/nothing], objectives: { rpo: 90s, rto: 1h }, criticality: high }\n')
        self.serve_web()
        self.await_runs(2, "copy p/files to there", "COMPLETED")
        self.assertEqual(self.wish({"start": "backup q/flaky"}).status, 202)
        self.await_runs(1, "backup q/flaky")
        time.sleep(0.3)
        self.until("a look at it after its snapshots", lambda: self.metrics().get(("kuramori_resource_restorable", "files")) == 1)
        seen = self.metrics()
        self.assertEqual(seen[("kuramori_resource_protected", "loose")], 0)
        self.assertEqual(seen[("kuramori_resource_restorable", "loose")], 0)
        self.assertEqual(seen[("kuramori_resource_rpo_promised_seconds", "loose")], 90)
        self.assertEqual(seen[("kuramori_resource_rto_promised_seconds", "loose")], 3600)
        self.assertEqual(seen[("kuramori_resource_protected", "files")], 1)
        self.assertNotIn(("kuramori_resource_rpo_achieved_seconds", "loose"), seen)  # unknown is absent, not zero
        self.assertLess(abs(seen[("kuramori_resource_last_snapshot_timestamp_seconds", "files", "here")] - time.time()), SECONDS_MAX)
        self.assertGreater(seen[("kuramori_resource_proof_due_timestamp_seconds", "files")], time.time() - 60)
        self.assertGreaterEqual(seen[("kuramori_job_runs_total", "backup p/files", "COMPLETED")], 2)
        self.assertGreaterEqual(seen[("kuramori_job_duration_seconds_count", "backup")], 2)
        self.assertEqual(seen[("kuramori_vault_reachable", "here")], 1)
        self.assertGreater(seen[("kuramori_vault_stored_bytes", "here")], 0)
        self.assertIn(("kuramori_resource_copy_lag_seconds", "files", "there"), seen)
        self.assertEqual(seen[("kuramori_jobs", "RUNNING")] + seen[("kuramori_jobs", "CREATED")] >= 1, True)
        # B5: what would be lost grows by the second.
        before = seen[("kuramori_resource_restorable_to_timestamp_seconds", "files")]
        self.assertAlmostEqual(seen[("kuramori_resource_rpo_achieved_seconds", "files")], time.time() - before, delta=SECONDS_MAX)

    def test_M2_M5_plans_and_alerts_as_the_command_line_prints_them(self):
        self.listen("  p: { resources: [endless], vault: here, every: 4s, completion_window: 2s }\n",
                    more='notify:\n  - { name: nobody, to: "command:/bin/true", when: [failure] }\n')
        self.serve_web("--stop-within", "1s")
        plans = self.until("the plans", lambda: (answer := self.ask("/api/1/plans")).status == 200 and answer.json())
        jsonschema.validate(plans, schema_of(plans))
        printed = self.mine("plan", "--json", status=None).json()
        for document in (plans, printed):
            self.assertIn(("p", "backup"), [(run["plan"], run["what"].split()[0]) for run in document.pop("next")])  # its moment moves
        self.assertEqual(plans, printed)
        alerts = lambda: self.ask("/api/1/alerts").json()  # noqa: E731
        self.until("the alert", lambda: alerts().get("alerts"))
        told, printed = alerts(), self.mine("alerts", "--json").json()
        jsonschema.validate(told, schema_of(told))
        for document in (told, printed):
            self.assertEqual([one.pop("told") is None for one in document["alerts"]], [False])  # it may be sent between two looks
        self.assertEqual(told, printed)
        self.until("it is counted", lambda: [value for key, value in self.metrics().items() if key[:2] == ("kuramori_alerts_open", "failure")] == [1])
        self.assertIn("1 alert", self.mine("top", "--once").out)
        self.mine("ack", "1", "--by", "mori")
        self.until("nobody is needed", lambda: self.metrics().get(("kuramori_alerts_unacknowledged",)) == 0)
        self.assertIn("mori", self.mine("top", "--once").out)

    def test_tokens_roles_and_guessing(self):
        self.listen(DAILY)
        self.serve_web()
        self.assertEqual(self.ask("/healthz", token=None).status, 200)
        for path in ("/metrics", "/api/1/status"):
            answer = self.ask(path, token=None)
            self.assertEqual((answer.status, answer.headers["WWW-Authenticate"]), (401, 'Bearer realm="kuramori"'))
            jsonschema.validate(answer.json(), schema_of(answer.json()))
        answer = self.wish({"start": "backup p/files"}, token="viewer")
        self.assertEqual((answer.status, answer.json()["error"]["kind"]), (403, "denied"))
        self.assertIn("viewer may not do this", answer.json()["error"]["what"])
        self.assertEqual(self.runs(), [])
        self.assertEqual(self.ask("/api/1/version").status, 200)
        answers = [self.ask("/api/1/version", token=f"kuramori-{'0' * 63}{i}").status for i in range(7)]
        self.assertEqual((answers[:6], answers[6]), ([401] * 6, 429), answers)
        slowed = self.ask("/api/1/version")  # also with the right one: whoever guesses learns nothing meanwhile
        self.assertEqual(slowed.status, 429, slowed)
        time.sleep(int(slowed.headers["Retry-After"]) + 0.1)
        self.assertEqual(self.ask("/api/1/version").status, 200)

    def test_an_operator_starts_and_ends_jobs(self):
        self.listen(DAILY)
        served = self.serve_web()
        answer = self.wish({"start": "backup p/files"})
        self.assertEqual((answer.status, answer.json()["schema"], answer.json()["object"]), (202, "kuramori/done/1", "backup p/files"))
        made = self.await_runs(1, "backup p/files", "COMPLETED")
        self.assertEqual([one["id"] for one in self.snapshots()], [made[0]["snapshot"]])
        self.mine("jobs", "--start", "backup p/endless")  # what HTTP does, a command does
        run = self.await_runs(1, "backup p/endless", "RUNNING")[0]["id"]
        self.assertEqual(self.wish({"cancel": run}).status, 202)
        self.await_runs(1, "backup p/endless", "CANCELLED")
        again = self.wish({"cancel": run})
        self.assertEqual((again.status, again.json()["error"]["what"]), (409, f"run {run} is over: CANCELLED"))
        self.assertEqual(self.wish({"cancel": 4711}).status, 404)
        self.assertEqual(self.wish({"start": "backup p/nothing"}).status, 404)
        for wrong in ({}, {"start": 1}, {"cancel": -1}, {"start": "backup p/files", "cancel": 1}, [1], {"drop": "everything"}):
            self.assertEqual(self.wish(wrong).status, 400, wrong)
        self.assertIn("operator (operator, from 127.0.0.1) asked to start backup p/files", served.text())
        self.assertEqual(self.mine("jobs", "--start", "backup p/nothing", status=2).out, "")

    def test_no_secret_is_ever_in_an_answer(self):
        planted = "planted-5d2c-secret-2f91"
        (self.folder / "secret").write_text(planted)
        self.tokens["ci"] = f"{planted}-of-a-token-0123456789"
        (self.folder / "ci.token").write_text(self.tokens["ci"] + "\n")
        self.listen('  p: { resources: [files, cache, script], vault: here, every: 1h }\n',
                    f'  cache: {{ kind: redis, connect: "redis://127.0.0.1:1", password_file: "{self.folder}/secret" }}\n'
                    f'  script: {{ kind: command, run: ["/bin/sh", "-c", "exit 3"], environment: {{ API_TOKEN_file: "{self.folder}/secret" }} }}\n',
                    more=f"    - {{ name: ci, role: operator, token_file: {self.folder / 'ci.token'} }}\n")
        served = self.serve_web()
        for resource in ("files", "cache", "script"):
            self.assertEqual(self.wish({"start": f"backup p/{resource}"}, token="ci").status, 202)
        self.await_runs(1, "backup p/files", "COMPLETED")
        self.until("the script's failure", lambda: any(run["why"] for run in self.runs("backup p/script")))
        secrets = [planted, *self.tokens.values(), (self.folder / "owner.key").read_bytes().decode("latin-1").strip()]
        said = []
        for path in PATHS:
            for token in ("ci", "viewer", None):
                answer = self.ask(path, token)
                said.append(f"{answer}")
        self.assertEqual(self.ask("/api/1/status", token="Basic").status, 401)
        said.append(served.text())
        for secret in secrets:
            self.assertTrue(secret)
            self.assertFalse([text for text in said if secret in text], secret)

    def test_what_is_too_much_or_wrong_is_refused_in_words(self):
        self.listen(DAILY)
        self.serve_web()
        for path, method, status in (("/nothing", "GET", 404), ("/api/1/", "GET", 404), ("/api/2/status", "GET", 404),
                                     ("/api/1/status", "DELETE", 405), ("/metrics", "POST", 405), ("/healthz", "PUT", 405),
                                     ("/api/1/status?resource=nobody", "GET", 400), ("/api/1/status?resource=--help", "GET", 400),
                                     ("/api/1/status?config=/etc/passwd", "GET", 400), ("/api/1/jobs?last=-1", "GET", 400),
                                     ("/api/1/snapshot?id=../../x", "GET", 400), ("/api/1/snapshot", "GET", 400),
                                     ("/api/1/window", "GET", 400), ("/api/1/status?vault=/etc", "GET", 400)):
            answer = self.ask(path, method=method)
            self.assertEqual(answer.status, status, (path, str(answer)))
            document = answer.json()
            jsonschema.validate(document, schema_of(document))
            self.assertTrue(document["error"]["what"])
            for header in ("X-Content-Type-Options", "Content-Security-Policy", "Cache-Control", "Referrer-Policy"):
                self.assertTrue(answer.headers[header], header)
        self.assertEqual(self.ask("/api/1/jobs", "operator", "POST", "x" * 5000).status, 413)
        self.assertEqual(self.ask("/api/1/jobs", "operator", "POST", '{"start":' * 400).status, 400)
        # More connections than there are places: the daemon stays, and serves again when they are gone.
        crowd = []
        for _ in range(80):
            one = socket.create_connection(("127.0.0.1", self.port))
            one.sendall(b"GET /healthz HTTP/1.1\r\n")
            crowd.append(one)
        time.sleep(0.3)
        for one in crowd:
            one.close()
        self.until("a place that is free", lambda: self.is_answered())
        self.mine("jobs", "--start", "backup p/files")
        self.await_runs(1, "backup p/files", "COMPLETED")

    def is_answered(self):
        try:
            return self.ask("/healthz", token=None, timeout=5).status == 200
        except OSError:
            return False

    def test_P71_a_vault_that_hangs_stops_neither_jobs_nor_health(self):
        silent = socket.create_server(("127.0.0.1", 0))  # takes connections and never says a word
        self.addCleanup(silent.close)
        (self.folder / "secret").write_text("secret")
        self.listen('  q: { resources: [other], vault: there, every: 2s }\n')
        self.serve_web()
        self.await_runs(1, "backup q/other", "COMPLETED")
        self.assertEqual(self.ask("/api/1/status").status, 200)
        # From now on whoever looks at all vaults waits for one of them.
        self.config.write_text(self.config.read_text().replace("vaults:\n", f'''vaults:
  far: {{ at: "s3://bucket/far", endpoint: "http://127.0.0.1:{silent.getsockname()[1]}", region: us-east-1, site: far, key_file: "{self.folder}/owner.key",
         credentials: {{ access_key: AK, secret_key_file: "{self.folder}/secret" }} }}
''', 1))
        done = len(self.runs("backup q/other", "COMPLETED"))
        time.sleep(7)
        begun = time.monotonic()
        answer = self.ask("/api/1/status")
        self.assertEqual(answer.status, 200)
        self.assertGreaterEqual(int(answer.headers["Age"]), 7)  # what was known before, with its age
        self.assertLess(time.monotonic() - begun, 20)
        unknown = self.ask("/api/1/status?resource=files")
        self.assertEqual((unknown.status, unknown.json()["error"]["what"]), (503, "there is no answer yet"))
        self.assertEqual(self.ask("/healthz", token=None).status, 200)
        self.assertEqual(self.ask("/api/1/resources").status, 200)
        self.assertIn(("kuramori_resource_restorable", "other"), self.metrics())
        self.await_runs(done + 2, "backup q/other", "COMPLETED")

    def test_M2_health_is_progress_not_a_socket(self):
        self.listen('  p: { resources: [files], vault: here, every: 2s }\n')
        served = self.serve_web()
        self.await_runs(1, "backup p/files", "COMPLETED")
        self.assertEqual(self.ask("/healthz", token=None).json(), {"schema": "kuramori/health/1", "healthy": True, "problems": []})
        blocker = sqlite3.connect(self.state / "jobs.sqlite", timeout=SECONDS_MAX, isolation_level=None)
        blocker.execute("begin exclusive")
        try:
            sick = self.until("it is noticed", lambda: (answer := self.ask("/healthz", token=None)).status == 503 and answer)
            self.assertEqual(sick.json()["problems"], ["the journal cannot be written: no job is started"])
            jsonschema.validate(sick.json(), schema_of(sick.json()))
        finally:
            blocker.execute("rollback")
            blocker.close()
        self.until("it is well again", lambda: self.ask("/healthz", token=None).status == 200)
        self.assertEqual(served.stop(), 0, served.text())

    def test_tls_and_what_a_hangup_changes(self):
        self.certificate()
        self.listen(DAILY)
        served = self.serve_web()
        answer = self.ask("/api/1/version")
        self.assertEqual((answer.status, answer.headers["Strict-Transport-Security"]), (200, "max-age=31536000"))
        with socket.create_connection(("127.0.0.1", self.port)) as plain:
            plain.settimeout(20)
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertNotIn(b"healthy", plain.recv(4096))
        # A token that is gone opens nothing any more, and a renewed certificate is shown.
        port = self.port
        del self.hashes["viewer"]
        self.certificate()
        self.listen(DAILY, port=port)
        served.process.send_signal(signal.SIGHUP)
        self.port = self.await_shown(served, times=2)
        self.assertEqual(self.port, port)
        self.assertEqual(self.ask("/api/1/version").status, 401)
        self.assertEqual(self.ask("/api/1/version", "operator").status, 200)
        # What cannot be used is said, and what was shown before stays.
        (self.folder / "tls.key").write_text("no key")
        served.process.send_signal(signal.SIGHUP)
        self.until("the warning", lambda: "nothing is shown over HTTP" in served.text())

    def test_what_is_applied_holds_for_all_of_the_daemon(self):
        self.listen(DAILY)
        told = f'notify:\n  - {{ name: told, to: "command:/usr/bin/touch {self.folder}/told", when: [success] }}\n'
        with open(self.config, "a") as file:
            file.write(told.replace("/told", "/told-before"))
        served = self.serve_web()
        self.until("the journal", lambda: self.query("select id from jobs"))
        self.assertEqual(self.ask("/api/1/version").status, 200)
        revoked, port = self.hashes.pop("viewer"), self.port
        self.listen(DAILY, port=port)
        with open(self.config, "a") as file:
            file.write(told)
        self.assertEqual(self.mine("apply", "--despite-lint", "--json").json()["daemon"], "read it")
        self.until("the token that is gone opens nothing", lambda: self.ask("/api/1/version").status == 401)
        self.assertEqual(served.text().count("the configuration was read anew"), 1, served.text())
        self.mine("jobs", "--start", "backup p/files")
        self.until("who is to be told now is told", lambda: (self.folder / "told").exists())
        self.assertFalse((self.folder / "told-before").exists())
        self.assertEqual(served.stop(), 0, served.text())
        # A daemon without a job hears of it all the same.
        self.hashes["viewer"] = revoked
        self.listen("", port=0)
        served = self.serve_web()
        self.assertEqual(self.ask("/api/1/version").status, 200)
        del self.hashes["viewer"]
        self.listen("", port=self.port)
        self.assertEqual(self.mine("apply", "--despite-lint", "--yes", "--json").json()["daemon"], "read it")
        self.until("the token that is gone opens nothing", lambda: self.ask("/api/1/version").status == 401)

    def test_others_reach_it_by_tls_or_not_at_all(self):
        self.listen(DAILY)
        text = self.config.read_text()
        self.config.write_text(text.replace("127.0.0.1:0", "0.0.0.0:0"))
        refused = self.mine("serve", "--socket", self.folder / "socket", status=2)
        self.assertIn("would show tokens to the network", refused.err)
        self.config.write_text(text.replace("127.0.0.1:0", "0.0.0.0:0").replace("  tokens:", "  insecure: true\n  tokens:"))
        self.serve_web()
        self.assertEqual(self.ask("/api/1/version").status, 200)
        self.config.write_text(text.replace('hash: "sha256:', 'token: "'))
        self.assertIn("holds a token in clear", self.mine("resources", status=2).err)
        (self.folder / "short").write_text("short")
        first = text.index("hash:")
        self.config.write_text(text[:first] + f"token_file: {self.folder / 'short'}" + text[text.index(" }", first):])
        served = self.serve(at="socket2")
        self.until("the warning", lambda: "is too short to be safe" in served.text())


if __name__ == "__main__":
    web.main()
