"""An alert is acknowledged by the link in its message: looking changes nothing, a button does, and only that link (M5)."""

import http.client
import re
import signal
import sqlite3
import time

import alerts_test
import harness
import sink
import web

PLAN = "  p: { resources: [endless], vault: here, every: 4s, completion_window: 2s }\n"


class Links(web.Case):
    def setUp(self):
        super().setUp()
        self.sink = sink.Sink()
        self.addCleanup(self.sink.close)
        self.port = harness.free_port()

    def begin(self, public=True):
        url = f"  public_url: http://127.0.0.1:{self.port}/\n" if public else ""
        self.listen(PLAN, port=self.port, more=url + "notify:\n" + f"""  - name: hook
    to: "webhook:{self.sink.url}/hook"
    when: [failure]
    escalate: [ {{ after: 3s, to: "webhook:{self.sink.url}/lead" }}, {{ after: 16s, to: "webhook:{self.sink.url}/boss" }} ]
""")
        served = self.serve_web("--stop-within", "1s")
        return served

    def items(self, path):
        return self.until(f"a message to {path}", lambda: self.sink.got(path))[0][1]["items"]

    def alert(self):
        return self.mine("alerts", "--json").json()["alerts"][0]

    def go(self, method, link, body=None):
        host, path = re.fullmatch(r"http://([^/]+)(/.*)", link).groups()
        connection = http.client.HTTPConnection(host, timeout=30)
        try:
            connection.request(method, path, body=body, headers={"Content-Type": "application/x-www-form-urlencoded"} if body is not None else {})
            answer = connection.getresponse()
            return web.Reply(answer.status, answer.headers, answer.read().decode())
        finally:
            connection.close()

    def test_M5_a_look_changes_nothing_the_button_does_and_only_this_link(self):
        served = self.begin()
        link = self.items("/hook")[0]["link"]
        self.assertRegex(link, rf"^http://127\.0\.0\.1:{self.port}/ack/1\.\d+\.[0-9a-f]{{64}}$")
        self.assertIn(f"or here: {link}", self.sink.got("/hook")[0][1]["text"])
        for method in ("GET", "HEAD", "GET"):  # as mail scanners do
            looked = self.go(method, link)
            self.assertEqual((looked.status, looked.headers["Content-Type"]), (200, "text/html; charset=utf-8"), looked)
        self.assertIn("<form method=\"post\">", looked.body)
        self.assertIn("was not done in time", looked.body)
        self.assertIn("frame-ancestors 'none'", looked.headers["Content-Security-Policy"])
        self.assertEqual(looked.headers["Referrer-Policy"], "no-referrer")
        self.assertEqual(self.items("/lead")[0]["kind"], "escalated")
        self.assertEqual((self.alert()["state"], self.alert()["acknowledged_by"]), ("open", ""))
        # Nothing else opens it: not a changed byte, not the next alert, not a later end.
        number, until, mark = link.rsplit("/", 1)[1].split(".")
        base = link.rsplit("/", 1)[0]
        for forged in (f"2.{until}.{mark}", f"{number}.{int(until) + 1}.{mark}", f"{number}.{until}.{mark[:-1]}{'0' if mark[-1] != '0' else '1'}",
                       f"{number}.{until}.", "", "1", f"{number}.{until}.{'0' * 64}", "%3Cscript%3E"):
            for method in ("GET", "POST"):
                refused = self.go(method, f"{base}/{forged}", body="" if method == "POST" else None)
                self.assertEqual(refused.status, 403, (forged, refused))
                self.assertIn("this link acknowledges nothing", refused.body)
                self.assertNotIn("<script", refused.body)
        self.assertEqual(self.alert()["state"], "open")

        done = self.go("POST", link, body="")
        self.assertEqual(done.status, 200, done)
        self.assertIn("acknowledged by link", done.body)
        self.assertEqual((self.alert()["state"], self.alert()["acknowledged_by"]), ("acknowledged", "link"))
        when = self.alert()["acknowledged"]
        again = self.go("POST", link, body="")  # replayed
        self.assertEqual(again.status, 200, again)
        self.assertNotIn("<form", again.body)
        self.assertEqual(self.alert()["acknowledged"], when)
        self.assertIn("acknowledged by link", self.mine("alerts").out)
        self.assertIn("alert 1 was acknowledged by link, from 127.0.0.1", served.text())
        self.assertNotIn(mark, served.text())
        # Nobody else is called, also by a daemon that begins anew; its links are the same key's.
        served.kill()
        served = self.serve_web("--stop-within", "1s")
        time.sleep(14)
        self.assertEqual(self.sink.got("/boss"), [])
        self.assertEqual(self.go("GET", link).status, 200)
        self.assertEqual((self.state_file("ack.key").stat().st_mode & 0o777), 0o600)
        self.assertEqual(served.stop(), 0, served.text())

    def test_M5_a_link_sent_while_the_alert_was_in_memory_is_that_alerts_when_it_is_in_a_file_that_held_others(self):
        served = self.begin()
        first = self.items("/hook")[0]
        self.assertEqual(served.stop(), 0, served.text())
        # What no daemon can open stands in the way of what is written there.
        store, kept = self.state_file("alerts.sqlite"), self.folder / "kept.sqlite"
        store.rename(kept)
        store.mkdir()
        told = len(self.sink.got("/hook"))
        served = self.begin()
        self.until("a message without a file", lambda: len(self.sink.got("/hook")) > told)
        second = self.sink.got("/hook")[-1][1]["items"][0]
        self.assertNotEqual(second["alert"], first["alert"])
        number = re.search(r"acknowledge: kuramori ack (\d+)", self.sink.got("/hook")[-1][1]["text"])[1]
        store.rmdir()
        kept.rename(store)
        self.until("that it went over", lambda: "is written down from now on" in served.text())
        [alert] = self.mine("alerts", "--json").json()["alerts"]
        self.assertEqual(alert["state"], "open")
        looked = self.go("GET", second["link"])
        self.assertEqual(looked.status, 200, looked)
        self.assertEqual(self.go("GET", first["link"]).status, 200)
        # By its number as well, which none of those in the file can have.
        self.assertGreater(int(number), 1_000_000_000)
        forged = second["link"][:-1] + ("0" if second["link"][-1] != "0" else "1")
        self.assertEqual(self.go("POST", forged, body="").status, 403)
        self.assertEqual(self.go("POST", second["link"], body="").status, 200)
        [alert] = self.mine("alerts", "--json").json()["alerts"]
        self.assertEqual((alert["state"], alert["acknowledged_by"]), ("acknowledged", "link"))
        self.mine("ack", number, "--by", "mori")
        self.mine("ack", str(int(number) + 1), status=1)
        self.assertEqual([one["acknowledged_by"] for one in self.mine("alerts", "--json").json()["alerts"]], ["link"], "it was, before")
        # That it is over is told of both names.
        self.listen('  p: { resources: [files], vault: here, schedule: "0 3 * * *" }\n', port=self.port,
                    more=f'notify:\n  - {{ name: hook, to: "webhook:{self.sink.url}/hook", when: [failure] }}\n')
        served.process.send_signal(signal.SIGHUP)
        over = self.until("its end", lambda: [item for _, body in self.sink.got("/hook") for item in body["items"] if item["kind"] == "resolved"])[0]
        self.assertEqual([over["alert"], *over["also_known_as"]], [first["alert"], second["alert"]])
        self.assertEqual(served.stop(), 0, served.text())

    def state_file(self, name):
        return self.folder / "state" / name

    def test_one_that_is_over_says_so_and_without_an_address_there_is_none(self):
        served = self.begin()
        link = self.items("/hook")[0]["link"]
        self.assertEqual(served.stop(), 0, served.text())
        with sqlite3.connect(self.folder / "state" / "alerts.sqlite") as database:
            database.execute("update alert set closed = opened + 1000000000")
        database.close()
        self.listen('  p: { resources: [files], vault: here, schedule: "0 3 * * *" }\n', port=self.port)
        served = self.serve_web("--stop-within", "1s")
        self.assertIn("There is nothing to acknowledge", self.go("GET", link).body)
        over = self.go("POST", link, body="")
        self.assertEqual(over.status, 409, over)
        self.assertIn("alert 1 is over", over.body)
        self.assertEqual(served.stop(), 0, served.text())
        seen = len(self.sink.got("/hook"))
        for name in ("alerts.sqlite", "alerts.sqlite-wal", "alerts.sqlite-shm"):
            (self.folder / "state" / name).unlink(missing_ok=True)
        served = self.begin(public=False)
        self.until("a message without a link", lambda: len(self.sink.got("/hook")) > seen)
        message = self.sink.got("/hook")[-1][1]
        self.assertEqual(message["items"][0]["link"], "")
        self.assertNotIn("/ack/", message["text"])
        self.assertEqual(served.stop(), 0, served.text())


if __name__ == "__main__":
    web.main()
