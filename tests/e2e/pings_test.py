"""Other people's scripts call when they are done: what they do not say is noticed, by whom they may, across restarts (M2)."""

import time

import jsonschema

import sink
import web
from api_test import schema_of


class Pings(web.Case):
    def setUp(self):
        super().setUp()
        self.sink = sink.Sink()
        self.addCleanup(self.sink.close)

    def begin(self, every="6s", grace="4s"):
        for name in ("nightly", "weekly"):
            if name not in self.tokens:
                made = self.mine("token", "new", name, "--json").json()
                self.tokens[name] = made["token"]
                self.hash = {**getattr(self, "hash", {}), name: made["hash"]}
        self.listen('  p: { resources: [files], vault: here, schedule: "0 3 * * *" }\n', more=f"""pings:
  nightly: {{ every: {every}, grace: {grace}, criticality: high, hash: "{self.hash['nightly']}" }}
  weekly: {{ schedule: "0 3 * * 1", timezone: Asia/Tokyo, resource: files, hash: "{self.hash['weekly']}" }}
notify:
  - {{ name: hook, to: "webhook:{self.sink.url}/hook", when: [late, failure] }}
""")
        return self.serve_web("--stop-within", "1s")

    def told(self, kind, event):
        return [item for _, message in self.sink.got("/hook") for item in message["items"] if (item["kind"], item["event"]) == (kind, event)]

    def ping(self, name):
        document = self.mine("status", "--json").json()
        jsonschema.validate(document, schema_of(document))
        return next(one for one in document["pings"] if one["name"] == name)

    def call(self, path, token="nightly", method="GET"):
        return self.ask(path, token=token, method=method, body="made 3 files\n" if method == "POST" else None)

    def test_M2_silence_is_late_a_failure_is_one_and_a_word_ends_both(self):
        served = self.begin()
        self.assertEqual(self.ping("nightly")["state"], "waiting")
        late = self.until("that it is late", lambda: self.told("opened", "late"))[0]
        self.assertIn("nightly should have been done", late["what"])
        self.assertIn("has never been heard of", late["what"])
        self.assertEqual((self.ping("nightly")["state"], self.ping("weekly")["state"]), ("late", "waiting"))
        self.assertEqual(self.mine("status", "--check", status=4).status, 4)
        self.until("it is counted", lambda: self.metrics().get(("kuramori_ping_late", "nightly")) == 1)
        self.assertEqual(self.metrics()[("kuramori_ping_late", "weekly")], 0)
        self.until("the alert is counted", lambda: self.metrics().get(("kuramori_alerts_open", "late", "high")) == 1)
        self.assertEqual(self.call("/ping/nightly/start").status, 200)
        self.assertEqual(self.ping("nightly")["state"], "late")  # to begin is not to be done
        done = self.call("/ping/nightly", method="POST")
        self.assertEqual((done.status, done.json()["object"]), (200, "nightly"))
        self.until("that it is over", lambda: self.told("resolved", "late"))
        self.assertEqual(self.call("/ping/nightly/fail").status, 200)
        self.assertEqual(self.ping("nightly")["state"], "failed")
        failed = self.until("that it failed", lambda: self.told("opened", "failure"))[0]
        self.assertIn("that it failed", failed["what"])
        self.assertIn("nightly", self.mine("status").out)
        self.call("/ping/nightly")
        self.until("that it is over", lambda: self.told("resolved", "failure"))
        self.until("it is known when", lambda: abs(self.metrics().get(("kuramori_ping_last_done_timestamp_seconds", "nightly"), 0) - time.time()) < 60)
        self.assertEqual(served.stop(), 0, served.text())

    def test_M2_what_was_said_is_known_after_a_kill(self):
        served = self.begin(every="1h", grace="1h")
        self.assertEqual(self.until("it is listened", lambda: self.call("/ping/nightly")).status, 200)
        self.assertEqual(self.call("/ping/weekly/start", "weekly").status, 200)
        before = self.ping("nightly"), self.ping("weekly")
        self.assertEqual((before[0]["state"], before[1]["state"]), ("good", "running"))
        self.assertEqual(before[0]["due"] > before[0]["done"], True)
        served.kill()
        self.assertEqual((self.ping("nightly"), self.ping("weekly")), before)
        served = self.begin(every="1h", grace="1h")
        self.assertEqual((self.ping("nightly"), self.ping("weekly")), before)
        self.assertEqual(self.sink.got("/hook"), [])
        self.assertEqual(served.stop(), 0, served.text())

    def test_a_token_calls_for_its_own_name_and_for_nothing_else(self):
        served = self.begin(every="1h", grace="1h")
        self.assertEqual(self.call("/ping/weekly").status, 403)
        self.assertIn("this token calls for nightly alone", self.call("/ping/weekly").body)
        for path in ("/ping/", "/ping/nothing", "/ping/nightl"):
            self.assertEqual(self.call(path).status, 403, path)
        self.assertEqual(self.call("/ping/nightly/finish").status, 404)
        self.assertEqual(self.ask("/ping/nightly", token=None).status, 401)
        self.assertEqual(self.ask("/ping/nightly", token="operator").status, 401)
        self.assertEqual(self.ask("/api/1/status", token="nightly").status, 401)
        self.assertEqual(self.call("/ping/nightly", method="HEAD").status, 405)
        self.assertEqual(self.ping("nightly")["state"], "waiting")
        self.assertEqual(self.call("/ping/nightly").status, 200)
        for text in (served.text(), self.mine("status", "--json").out):
            self.assertNotIn(self.tokens["nightly"], text)
        # Nobody could call where nobody listens.
        text = self.config.read_text()
        self.config.write_text(text[:text.index("listen:")] + text[text.index("pings:"):])
        self.assertIn("cannot be called", self.mine("resources", status=2).err)


if __name__ == "__main__":
    web.main()
