"""Whom the daemon tells: a real mail server with TLS, HTTP sinks and a program, with sinks that fail, daemons that are killed,
and people who acknowledge."""

import contextlib
import email
import email.policy
import json
import pathlib
import sqlite3
import ssl
import subprocess
import time

import jsonschema
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

import daemon
import harness
from sink import Sink

TOKEN = "T0K3N-0f-a-hook"
ROUTING_KEY = "r0ut1ng-k3y-0f-pagerduty"
PASSWORD = "m41l-pa55word"
# Fails by its window, at once and for good, until somebody puts a file there.
RESOURCES = """  gated: {{ kind: command, criticality: {criticality}, run: ["/bin/sh", "-c", "test -e {folder}/up && echo here || sleep 600"] }}
"""
PLAN = "  p: { resources: [gated], vault: here, every: 4s, completion_window: 2s }\n"


class Mailbox:
    def __init__(self):
        self.mails = []

    async def handle_DATA(self, _server, session, envelope):
        self.mails.append((session, envelope, email.message_from_bytes(envelope.content, policy=email.policy.default)))
        return "250 taken"


class Alerts(daemon.Case):
    def setUp(self):
        super().setUp()
        self.sink = Sink()
        self.addCleanup(self.sink.close)

    def notify(self, entries, plans=PLAN, criticality="high", more=""):
        self.plan(plans + more + "notify:\n" + entries, RESOURCES.format(folder=self.folder, criticality=criticality))

    def mail_server(self):
        """STARTTLS or nothing, and a password."""
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", self.folder / "mail.key",
                        "-out", self.folder / "mail.pem"], check=True, capture_output=True)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.folder / "mail.pem", self.folder / "mail.key")
        box = Mailbox()
        good = lambda _server, _session, _envelope, _mechanism, data: AuthResult(  # noqa: E731
            success=(data.login, data.password) == (b"backup", PASSWORD.encode()))
        server = Controller(box, hostname="127.0.0.1", port=harness.free_port(), tls_context=context, require_starttls=True,
                            authenticator=good, auth_required=True)
        server.start()
        self.addCleanup(server.stop)
        return server, box

    def seen_so_far(self):
        return f"{super().seen_so_far()}\n{self.sink.requests}"

    def document(self, *words, status=0):
        document = self.mine(*words, "--json", status=status).json()
        name = document["schema"].split("/")[1]
        jsonschema.validate(document, json.loads((harness.ROOT / f"docs/schema/{name}.schema.json").read_text()))
        return document

    def outbox(self, sql, *values):
        return self.rows_of("alerts.sqlite", sql, *values)

    def assert_no_secret(self, *texts):
        for text in texts:
            for secret in (TOKEN, ROUTING_KEY, PASSWORD):
                self.assertNotIn(secret, text)

    def test_M2_M4_M5_B3_a_failing_job_is_told_once_on_every_channel_until_somebody_acknowledges(self):
        server, box = self.mail_server()
        (self.folder / "password").write_text(PASSWORD + "\n")
        (self.folder / "slack").write_text(f"slack:{self.sink.url}/slack/{TOKEN}\n")
        (self.folder / "hook.json").write_text('{"summary": "{{title}}", "detail": "{{what}}", "fixed": "{{kind}}", "key": "{{id}}"}')
        program = self.folder / "program"
        program.write_text(f"#!/bin/sh\n(cat; echo; env) >> {self.folder}/told\n")
        program.chmod(0o755)
        self.notify(f"""  - {{ name: slack, to_file: "{self.folder}/slack", when: [failure] }}
  - name: hook
    to: "webhook:{self.sink.url}/hook"
    template_file: "{self.folder}/hook.json"
    when: [failure]
    escalate:
      - {{ after: 2s, to: "webhook:{self.sink.url}/lead" }}
      - {{ after: 14s, to: "webhook:{self.sink.url}/boss" }}
  - name: mail
    to: "smtp://localhost:{server.port}/ops@example.jp"
    user: backup
    password_file: "{self.folder}/password"
    from: backup@example.jp
    tls: required
    ca_file: "{self.folder}/mail.pem"
    when: [failure]
  - {{ name: pager, to: "pagerduty:{ROUTING_KEY}", endpoint: "{self.sink.url}/pager", when: [failure] }}
  - {{ name: program, to: "command:{program}", when: [failure] }}
  - {{ name: good, to: "webhook:{self.sink.url}/good", when: [success] }}
""")
        served = self.serve("--stop-within", "1s", KURAMORI_TEST_SECRET=TOKEN)
        self.await_true(lambda: self.sink.got("/lead"), "the first step of the escalation")
        self.mine("ack", "1", "--by", "mori")
        acknowledged = time.monotonic()
        listed = self.document("alerts")["alerts"]
        self.assertEqual([(one["id"], one["state"], one["event"], one["resource"]) for one in listed], [(1, "acknowledged", "failure", "gated")])
        self.assertEqual(listed[0]["acknowledged_by"], "mori")
        self.assertIn("was not done", listed[0]["what"])
        self.assertEqual(self.sink.got("/good"), [], "nothing has succeeded")
        told = lambda: pathlib.Path(self.folder / "told").read_text() if (self.folder / "told").exists() else ""  # noqa: E731
        everybody = lambda count: (  # noqa: E731
            len(self.sink.got(f"/slack/{TOKEN}")) == count and len(self.sink.got("/hook")) == count and len(box.mails) == count
            and len(self.sink.got("/pager")) == count and told().count('"schema"') == count)
        self.await_true(lambda: everybody(1), "everybody was told")
        # More of its runs fail meanwhile: nobody hears of it twice, and nobody else is called.
        time.sleep(max(0.0, acknowledged + 15 - time.monotonic()))
        self.assertGreaterEqual(len(self.runs("backup p/gated", "ABORTED")), 2)
        self.assertTrue(everybody(1), self.sink.requests)
        at = self.outbox("select opened, acknowledged from alert where id = 1")[0]
        if at[1] - at[0] < 12 * 10**9:  # on a machine that is not busy beyond all measure
            self.assertEqual(self.sink.got("/boss"), [])
        status = self.document("status")
        self.assertEqual([one["to"] for one in status["alerts"][0]["told"]], ["slack", "hook", "mail", "pager", "program", "hook, step 1"])
        self.assertEqual({one["delivery"] for one in status["alerts"][0]["told"]}, {"sent"})
        self.assertIn("Who has been told", self.mine("status").out)

        (self.folder / "up").touch()
        self.await_true(lambda: everybody(2), "everybody heard that it is over")
        self.await_true(lambda: self.sink.got("/good"), "the success")
        self.assertEqual(served.stop(), 0, served.text())
        self.assertIn("failure of gated", self.sink.got(f"/slack/{TOKEN}")[0][1]["text"])
        hook = [body for _, body in self.sink.got("/hook")]
        self.assertEqual([body["fixed"] for body in hook], ["opened", "resolved"])
        session, envelope, mail = box.mails[0]
        self.assertIsNotNone(session.ssl, "the mail came in clear")
        self.assertEqual((envelope.mail_from, envelope.rcpt_tos), ("backup@example.jp", ["ops@example.jp"]))
        self.assertIn("failure of gated", mail["subject"])
        self.assertIn("acknowledge: kuramori ack 1", mail.get_content())
        pager = [body for _, body in self.sink.got("/pager")]
        self.assertEqual([body["event_action"] for body in pager], ["trigger", "resolve"])
        self.assertEqual(pager[0]["dedup_key"], pager[1]["dedup_key"])
        self.assertEqual(pager[0]["routing_key"], ROUTING_KEY)
        first = json.loads(told().splitlines()[0])
        jsonschema.validate(first, json.loads((harness.ROOT / "docs/schema/alert-message.schema.json").read_text()))
        self.assertNotIn("KURAMORI_TEST_SECRET", told())
        self.assertNotIn("KURAMORI_STATE", told())
        self.assert_no_secret(served.text(), json.dumps(status), told().split("\n", 1)[1])

    def test_M4_P70_killed_between_deciding_and_sending_and_a_sink_that_fails_twice_one_message_arrives(self):
        self.sink.fail("/hook", 10**6, 500)
        self.notify(f'  - {{ name: hook, to: "webhook:{self.sink.url}/hook", when: [failure] }}\n')
        served = self.serve("--stop-within", "1s")
        self.await_true(lambda: self.outbox("select id from outbox where tries > 0"), "a try that failed")
        served.kill()
        decided = self.outbox("select id, state from outbox")
        self.assertEqual([state for _, state in decided], ["waiting"])
        name = self.outbox("select value from meta where key = 'name'")[0][0]
        waits = self.document("alerts")["alerts"][0]["told"][0]
        self.assertRegex(waits["delivery"], "^waits: the answer was 500")
        self.sink.fail("/hook", 2, 500)
        before = len(self.sink.got("/hook", taken=False))
        served = self.serve("--stop-within", "1s")
        self.await_true(lambda: self.sink.got("/hook"), "the message")
        self.await_true(lambda: self.outbox("select id from outbox where state = 'sent'"), "that it was written down")
        tries = self.sink.got("/hook", taken=False)
        self.assertEqual(len(tries) - before, 3)
        self.assertEqual({headers["Idempotency-Key"] for headers, _ in tries}, {f"{name}-m{decided[0][0]}"})
        self.assertEqual(self.sink.got("/hook")[0][1]["items"][0]["kind"], "opened")
        served.kill()  # as if nothing of it had been heard: it stands in the outbox that it was sent
        served = self.serve("--stop-within", "1s")
        self.await_runs(len(self.runs("backup p/gated", "ABORTED")) + 1, "backup p/gated", "ABORTED")
        self.assertEqual(len(self.sink.got("/hook")), 1)
        self.assertEqual(served.stop(), 0, served.text())

    def test_M4_P70_what_was_decided_in_memory_is_in_the_file_once_there_is_one(self):
        self.notify(f'  - {{ name: hook, to: "webhook:{self.sink.url}/hook", when: [failure] }}\n')
        (self.state / "alerts.sqlite").mkdir(parents=True)  # what no daemon can open
        served = self.serve("--stop-within", "1s")
        self.await_true(lambda: self.sink.got("/hook"), "the message")
        self.await_true(lambda: "is not written down" in served.text(), "that it says so")
        (self.state / "alerts.sqlite").rmdir()
        self.await_true(lambda: self.outbox("select id from outbox where state = 'sent'"), "that it went over")
        [number] = [one["id"] for one in self.document("alerts")["alerts"]]
        self.mine("ack", number, "--by", "mori")
        self.await_true(lambda: self.outbox("select id from alert where acknowledged is not null"), "that the daemon knows")
        served.kill()
        served = self.serve("--stop-within", "1s")
        self.await_runs(len(self.runs("backup p/gated", "ABORTED")) + 1, "backup p/gated", "ABORTED")
        self.assertEqual(len(self.sink.got("/hook")), 1)
        (self.folder / "up").touch()
        self.await_true(lambda: len(self.sink.got("/hook")) == 2, "that it is over")
        items = [body["items"][0] for _, body in self.sink.got("/hook")]
        self.assertEqual([one["kind"] for one in items], ["opened", "resolved"])
        self.assertEqual(len({one["alert"] for one in items}), 1, items)
        self.assertEqual(served.stop(), 0, served.text())

    def test_quiet_hours_hold_what_is_not_critical(self):
        now = time.time()
        clock = [time.strftime("%H:%M", time.gmtime(now + offset)) for offset in (-3600, 3600)]
        quiet = f'quiet: {{ from: "{clock[0]}", until: "{clock[1]}" }}'
        entries = (f'  - {{ name: night, to: "webhook:{self.sink.url}/night", when: [failure], {quiet} }}\n'
                   f'  - {{ name: day, to: "webhook:{self.sink.url}/day", when: [failure] }}\n')
        self.notify(entries)
        served = self.serve("--stop-within", "1s")
        self.await_true(lambda: self.sink.got("/day"), "who has no quiet hours")
        self.assertEqual([json.loads(item)[0]["kind"] for (item,) in self.outbox("select item from pending where label = 'night'")], ["opened"])
        self.assertEqual(self.sink.got("/night"), [])
        # They end: nothing of it is lost.
        self.notify(entries.replace(quiet, f'quiet: {{ from: "{clock[1]}", until: "{clock[0]}" }}'))
        served.process.send_signal(daemon.signal.SIGHUP)
        self.await_true(lambda: self.sink.got("/night"), "what was held")
        self.assertEqual(served.stop(), 0, served.text())

    def test_quiet_hours_do_not_hold_what_is_critical(self):
        clock = [time.strftime("%H:%M", time.gmtime(time.time() + offset)) for offset in (-3600, 3600)]
        self.notify(f'  - {{ name: night, to: "webhook:{self.sink.url}/night", when: [failure], '
                    f'quiet: {{ from: "{clock[0]}", until: "{clock[1]}" }} }}\n', criticality="critical")
        served = self.serve("--stop-within", "1s")
        self.await_true(lambda: self.sink.got("/night"), "the critical one")
        self.assertTrue(self.sink.got("/night")[0][1]["items"][0]["critical"])
        self.assertEqual(served.stop(), 0, served.text())

    def test_P70_S18_who_cannot_be_told_is_shown_and_the_others_hear_of_it(self):
        self.sink.fail(f"/gone/{TOKEN}", 10**6, 404)
        beat = f'daemon: {{ heartbeat: {{ to: "{self.sink.url}/beat", every: 1s }} }}\n'
        self.notify(f'  - {{ name: gone, to: "slack:{self.sink.url}/gone/{TOKEN}", when: [failure] }}\n'
                    f'  - {{ name: here, to: "webhook:{self.sink.url}/here", when: [failure] }}\n', more=beat)
        served = self.serve("--stop-within", "1s")
        self.await_true(lambda: len(self.sink.got("/here")) >= 2, "the second thing that is wrong")
        self.assertIn('"gone" of notify cannot be told', json.dumps([body["items"][0]["what"] for _, body in self.sink.got("/here")]).replace('\\"', '"').replace("\\", ""))
        self.assertEqual(len(self.sink.got(f"/gone/{TOKEN}", taken=False)), 1, "a 404 stays one")
        status = self.document("status")
        self.assertEqual([one["to"] for one in status["undelivered"]], ["gone"])
        self.await_true(lambda: len(self.sink.got("/beat")) >= 2, "the heartbeat")
        self.assertEqual(served.stop(), 0, served.text())
        self.assert_no_secret(served.text(), json.dumps(status), self.mine("alerts").out)

    def test_a_labelled_snapshot_that_waits_for_a_review_is_told(self):
        self.notify(f'  - {{ name: hook, to: "webhook:{self.sink.url}/hook", when: [review] }}\n',
                    plans='  p: { resources: [files], vault: here, schedule: "0 3 * * *" }\n')
        for _ in range(2):
            self.mine("backup", "files", "--label", "pre-release")
        waits = self.mine("review", "--json").json()["reviews"]
        older = next(one["id"] for one in waits if one["newer"])
        served = self.serve("--stop-within", "1s")
        item = self.await_true(lambda: self.sink.got("/hook"), "that it waits")[0][1]["items"][0]
        self.assertEqual((item["event"], item["resource"]), ("review", "files"))
        self.assertIn(older, item["what"])
        self.assertIn(f"kuramori review {older} --vault here", item["next"])
        self.mine("review", older, "--vault", "here")
        self.mine("jobs", "--start", "backup p/files")  # after a job the vaults are looked at again
        self.await_true(lambda: [one for _, message in self.sink.got("/hook") for one in message["items"] if one["kind"] == "resolved"], "that it is over")
        self.assertEqual(served.stop(), 0, served.text())

    def test_O1_a_key_of_which_no_kit_was_ever_made_is_told_until_one_is(self):
        self.notify(f'  - {{ name: hook, to: "webhook:{self.sink.url}/hook", when: [unescrowed] }}\n',
                    plans='  p: { resources: [files], vault: here, schedule: "0 3 * * *" }\n')
        # The vaults of these tests were made just now, and whoever made them has a day.
        self.assertEqual({(one["vault"], one["kit"]) for one in self.document("status")["vaults"]}, {("here", "none"), ("there", "none")})
        clock = daemon.MovedClock(self.folder)
        clock.set(2 * 86400)
        served = self.serve("--stop-within", "1s", **clock.environment)
        items = self.await_true(lambda: self.sink.got("/hook"), "that there is no kit")[0][1]["items"]
        self.assertEqual([(one["event"], one["kind"]) for one in items], [("unescrowed", "opened")])
        self.assertIn("no recovery kit of vault here was ever made", items[0]["what"])
        self.assertIn("kuramori vault kit here --to FILE", items[0]["next"])
        # Of the copy, which has the same key.
        self.mine("vault", "kit", "there", "--to", self.folder / "kit")
        kits = {one["vault"]: one for one in self.document("status")["vaults"]}
        self.assertEqual((kits["here"]["kit"], kits["there"]["kit"]), ("none", "made"))
        self.mine("jobs", "--start", "backup p/files")  # after a job the vaults are looked at again
        self.await_true(lambda: [one for _, message in self.sink.got("/hook") for one in message["items"] if one["kind"] == "resolved"], "that it is over")
        self.assertEqual(served.stop(), 0, served.text())

    def test_a_store_that_says_nothing_of_its_room_is_measured_and_told_when_it_is_full(self):
        self.notify(f'  - {{ name: hook, to: "webhook:{self.sink.url}/hook", when: [full] }}\n',
                    plans='  p: { resources: [files], vault: here, schedule: "0 3 * * *" }\n')
        far = (f'  far: {{ at: "rclone::local:{self.folder}/disk/vault", ledger: "{self.folder}/ledger", site: far, '
               f'key_file: "{self.folder}/owner.key", capacity: 1KiB }}\n')
        self.config.write_text(self.config.read_text().replace("vaults:\n", "vaults:\n" + far, 1))
        (self.folder / "disk").mkdir()
        self.mine("vault", "init", "far")
        stored = self.document("vault", "show", "far", "--sizes")["vault"]["stored"]
        self.assertEqual(stored["bytes"], sum(path.stat().st_size for path in (self.folder / "disk/vault").rglob("*") if path.is_file()))
        self.assertIsNone(self.document("vault", "show", "far")["vault"]["stored"])
        served = self.serve("--stop-within", "1s")
        item = self.await_true(lambda: self.sink.got("/hook"), "that it is full")[0][1]["items"][0]
        self.assertEqual((item["event"], item["kind"]), ("full", "opened"))
        self.assertIn("vault far is", item["what"])
        self.assertIn("of 1.0 KiB", item["what"])
        self.assertEqual(served.stop(), 0, served.text())

    def test_M4_a_mail_server_that_speaks_tls_from_the_first_byte_and_is_who_it_says(self):
        _, box = self.mail_server()  # for its certificate
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.folder / "mail.pem", self.folder / "mail.key")
        server = Controller(box, hostname="127.0.0.1", port=harness.free_port(), ssl_context=context)
        server.start()
        self.addCleanup(server.stop)
        entry = f'name: mail, to: "smtps://localhost:{server.port}/ops@example.jp", from: backup@example.jp, when: [failure]'
        self.notify(f"  - {{ {entry} }}\n")
        [refused] = self.document("notify", "test", status=1)["targets"]
        self.assertIn("certificate", refused["why"])
        self.assertEqual(box.mails, [])
        self.notify(f"  - {{ {entry}, ca_file: \"{self.folder}/mail.pem\" }}\n")
        self.assertTrue(self.document("notify", "test")["targets"][0]["sent"])
        [(_, envelope, mail)] = box.mails
        self.assertEqual((envelope.rcpt_tos, envelope.mail_from), (["ops@example.jp"], "backup@example.jp"))
        self.assertIn("[TEST]", mail["Subject"])

    def test_M5_an_acknowledgement_counts_though_it_cannot_be_written_down_at_once(self):
        self.notify(f'  - {{ name: hook, to: "webhook:{self.sink.url}/hook", when: [failure], '
                    f'escalate: [ {{ after: 15s, to: "webhook:{self.sink.url}/lead" }} ] }}\n')
        served = self.serve("--stop-within", "1s")
        self.await_true(lambda: self.sink.got("/hook"), "the alert")
        told = time.monotonic()
        with contextlib.closing(sqlite3.connect(self.state / "alerts.sqlite", timeout=10, isolation_level=None)) as database:
            # What is decided cannot be written down, while it can be read who acknowledged what.
            database.execute("create trigger full before insert on meta begin select raise(abort, 'full'); end")
            self.mine("ack", "1", "--by", "mori")
            self.await_true(lambda: self.outbox("select 1 from acknowledged where is_taken = 1"), "it is taken")
            self.await_true(lambda: "nobody is told of anything until" in served.text(), "the warning")
            database.execute("drop trigger full")
        self.await_true(lambda: "alerts can be written down again" in served.text(), "what was decided is written down")
        self.assertLess(time.monotonic() - told, 14, "this machine is too slow for this")
        time.sleep(max(0, told + 19 - time.monotonic()))
        self.assertEqual(self.sink.got("/lead"), [], "it climbed although somebody is at it")
        self.assertEqual([(one["state"], one["acknowledged_by"]) for one in self.document("alerts")["alerts"]], [("acknowledged", "mori")])

    def test_M4_every_channel_can_be_tested(self):
        self.sink.fail(f"/gone/{TOKEN}", 10**6, 410)
        self.notify(f'  - {{ name: gone, to: "slack:{self.sink.url}/gone/{TOKEN}", when: [failure] }}\n'
                    f'  - {{ name: here, to: "webhook:{self.sink.url}/here", when: [failure], '
                    f'escalate: [ {{ after: 1h, to: "pagerduty:{ROUTING_KEY}" }} ], endpoint: "{self.sink.url}/pager" }}\n')
        found = self.document("notify", "test", status=3)
        self.assertEqual([(one["to"], one["sent"]) for one in found["targets"]], [("gone", False), ("here", True), ("here, step 1", True)])
        self.assertIn("410", found["targets"][0]["why"])
        self.assert_no_secret(json.dumps(found))
        self.assertIn("[TEST]", self.sink.got("/here")[0][1]["title"])
        self.assertEqual([body["event_action"] for _, body in self.sink.got("/pager")], ["trigger", "resolve"])
        self.assertEqual(self.document("notify", "test", "here")["targets"][0]["to"], "here")
        self.assertIn('"gone", "here"', self.mine("notify", "test", "nobody", status=2).err)
        self.assertIn("kuramori serve", self.mine("ack", "1", status=1).err)


if __name__ == "__main__":
    harness.main(at_once=3)
