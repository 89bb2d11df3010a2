"""`init` on a machine with real servers, a compose file, a .env and a repository; `init --dev` twice, and its timed restore."""

import glob
import json
import os
import pathlib
import shutil
import stat
import subprocess
import time
import unittest
import xml.etree.ElementTree

import jsonschema

import harness

REDIS = shutil.which("redis-server")


class Init(harness.Case):
    in_memory = True

    def setUp(self):
        super().setUp()
        self.cluster = harness.Server(self.folder, 15, ["listen_addresses = ''"])
        self.servers.append(self.cluster)
        self.cluster.start()
        self.cluster.sql("create role app login password 'hush-1'", "create database shop owner app")
        self.project = self.folder / "shop"
        self.project.mkdir()
        self.config = self.project / "kuramori.yaml"
        self.home = self.folder / "home"
        self.home.mkdir()
        subprocess.run(["git", "init", "-q", self.project], check=True)
        self.url = f"postgresql://app:hush-1@/shop?host={self.cluster.socket}&port=5432"
        (self.project / ".env").write_text(f"# of the application\nDATABASE_URL={self.url}\nAPI_TOKEN=hush-2\nASSETS_BUCKET=shop-assets\n")
        for path in (self.project, self.home):
            self.give(path)

    def init(self, *words, status=0, **env):
        outcome = self.kuramori("init", *words, status=status, cwd=self.project, config=False, env={
            "HOME": self.home, "KURAMORI_STATE": self.folder / "state", "TZ": "Asia/Tokyo", **env})
        self.assertNotIn("hush", outcome.out + outcome.err)
        if "--json" in words and status in (0, 4):
            document = outcome.json()
            jsonschema.validate(document, json.loads((harness.ROOT / "docs/schema/init.schema.json").read_text()))
            return document
        return outcome

    def files(self):
        """{path: (bytes, inode, mode)} of what init may have written; the vault apart."""
        found = {}
        for root in (self.project, self.home):
            for path in sorted(root.rglob("*")):
                if path.is_file() and "vault" not in path.parts and ".git" not in path.parts:
                    facts = path.stat()
                    found[str(path)] = (path.read_bytes(), facts.st_ino, stat.S_IMODE(facts.st_mode))
        return found

    def test_A5_init_names_what_is_here_and_writes_nothing(self):
        before = self.files()
        (self.project / "compose.yaml").write_text("services:\n  web: { image: shop, volumes: [\"./uploads:/uploads\", \"cache:/cache\"] }\nvolumes: { cache: {} }\n")
        (self.project / "uploads").mkdir()
        before[str(self.project / "compose.yaml")] = self.files()[str(self.project / "compose.yaml")]
        seen = self.init("--json")
        words = "\n".join(seen["found"])
        system = self.cluster.sql("select system_identifier from pg_control_system()")
        self.assertIn(f"PostgreSQL 15.", words)
        self.assertIn(f"system {system}", words)
        self.assertIn("possibly not the live database", words)
        self.assertIn("bucket shop-assets", words)
        self.assertIn("gone with `docker compose down -v`", words)
        self.assertIn("that is pushed nowhere", words)
        for part in ("kind: secret", "kind: git", "kind: files", f"paths: [\"{self.project}/uploads\"]", "possibly not the live database"):
            self.assertIn(part, seen["text"])
        self.assertEqual(self.files(), before)
        # Somebody is connected: it is the live one.
        with self.client("shop"):
            self.assertNotIn("possibly not the live database", "\n".join(self.init("--json")["found"]))

    def client(self, database):
        case = self

        class Client:
            def __enter__(self):
                self.process = subprocess.Popen(harness.as_server(["psql", "-X", case.cluster.connect(database)]), stdin=subprocess.PIPE,
                                                stdout=subprocess.PIPE, text=True)
                self.process.stdin.write("select 1;\n")
                self.process.stdin.flush()
                self.process.stdout.readline()

            def __exit__(self, *_):
                self.process.stdin.close()
                self.process.wait()
                self.process.stdout.close()

        return Client()

    @unittest.skipUnless(REDIS, "needs redis-server")
    def test_init_finds_what_compose_publishes(self):
        port = harness.free_port()
        redis = subprocess.Popen([REDIS, "--port", str(port), "--save", "", "--dir", self.folder, "--bind", "127.0.0.1"], stdout=subprocess.DEVNULL)
        try:
            (self.project / ".env").write_text(f"REDIS_PORT={port}\n")
            (self.project / "docker-compose.yml").write_text('services:\n  cache: { image: "redis:7", ports: ["127.0.0.1:${REDIS_PORT:-6379}:6379"] }\n')
            deadline = time.monotonic() + 30
            while "Redis 7." not in (words := "\n".join(self.init("--json")["found"])):
                self.assertLess(time.monotonic(), deadline, words)
                time.sleep(0.1)
            self.assertIn(f'connect: "redis://127.0.0.1:{port}"', self.init("--json")["text"])
        finally:
            redis.kill()
            redis.wait()

    def test_init_writes_once_and_makes_the_vault_and_its_key(self):
        vault = self.folder / "kept"
        done = self.init("--write", "--vault-at", vault, "--json")
        self.assertTrue(done["written"])
        self.assertEqual({one["level"] for one in done["findings"]} - {"risk", "hint"}, set())
        self.assertTrue((vault / "vault").exists())
        key = next(one["path"] for one in done["steps"] if one["what"].startswith("its key"))
        self.assertEqual(stat.S_IMODE(os.stat(key).st_mode), 0o600)
        self.kuramori("plan", "--detailed-exitcode", env={"HOME": self.home})
        before = self.files()
        self.assert_refused(self.init("--write", "--vault-at", vault, status=5), "is there already", "never written over")
        self.assertEqual(self.files(), before)

    def test_an_empty_folder_is_told_what_to_do(self):
        empty = self.folder / "empty"
        empty.mkdir()
        self.give(empty)
        if glob.glob("/var/run/postgresql/.s.PGSQL.*") or glob.glob("/tmp/.s.PGSQL.*"):
            self.skipTest("a server of this machine is found from everywhere")
        outcome = self.kuramori("init", "--dev", status=1, cwd=empty, config=False, env={"HOME": self.home})
        self.assert_refused(outcome, "no database was found", "docker compose up -d db", "--connect")
        self.assertEqual(sorted(empty.iterdir()), [])

    def test_a_server_that_does_not_answer_is_named_and_what_is_proposed_can_be_read(self):
        (self.project / ".env").write_text("")
        done = self.init("--json", PGHOST=self.folder / "nowhere")
        self.assertIn("does not answer", "\n".join(done["found"]))
        self.assertIn("does not answer", done["text"])

    def test_a_bucket_of_the_environment_is_proposed_where_it_is(self):
        (self.project / ".env").write_text("")
        done = self.init("--json", UPLOADS_BUCKET="shop-uploads", AWS_ENDPOINT_URL_S3="https://keep:hush-4@s3.example.jp", AWS_REGION="ap-northeast-1")
        self.assertIn("bucket shop-uploads", "\n".join(done["found"]))
        self.assertRegex(done["text"], r"(?s)kind: bucket.*s3://shop-uploads.*s3\.example\.jp")
        self.assertIn("ap-northeast-1", done["text"])
        self.assertNotIn("hush-4", json.dumps(done))

    def test_C4_C5_a_developers_machine_in_one_step_and_again(self):
        self.cluster.sql("create table entry as select i id, md5(i::text) t from generate_series(1, 20000) i", database="shop")
        self.cluster.sql("alter table entry owner to app", database="shop")
        done = self.init("--dev", "--form", "systemd", "--prove", "--json")
        self.assertEqual({one["state"] for one in done["steps"]} - {"made", "told"}, set(), done["steps"])
        self.assertTrue(done["measured"]["passed"])
        self.assertTrue(done["measured"]["in_time"])
        self.assertGreater(done["measured"]["restore_seconds"], 0)
        self.assertIn("/kuramori.yaml\n", (self.project / ".gitignore").read_text())
        password = self.home / ".config/kuramori/shop.password"
        self.assertEqual((password.read_text(), stat.S_IMODE(password.stat().st_mode)), ("hush-1", 0o600))
        self.assertNotIn("hush", self.config.read_text())
        outside = self.home / ".local/share/kuramori/shop/vault"
        self.assertTrue((outside / "vault").exists())
        self.assertFalse([path for path in self.project.rglob("*") if "packs" in path.parts])
        listed = self.kuramori("snapshots", "dev-db", "--json", env={"HOME": self.home}).json()["snapshots"]
        self.assertEqual([one["proof"]["passed"] for one in listed], [True])
        self.check_systemd()

        before = self.files()
        again = self.init("--dev", "--form", "systemd", "--json")
        self.assertEqual({one["state"] for one in again["steps"]} - {"there", "told"}, set(), again["steps"])
        self.assertEqual(self.files(), before)

    def check_systemd(self):
        units = self.home / ".config/systemd/user"
        self.assertEqual(sorted(path.name for path in units.iterdir()), ["kuramori-shop.service", "kuramori-shop.timer"])
        analyze = shutil.which("systemd-analyze")
        if analyze:
            calendar = next(line.split("=", 1)[1] for line in (units / "kuramori-shop.timer").read_text().splitlines() if line.startswith("OnCalendar="))
            read = subprocess.run([analyze, "calendar", "--iterations=9", calendar], capture_output=True, text=True, env={**os.environ, "TZ": "UTC", "LC_ALL": "C.UTF-8"})
            self.assertEqual(read.returncode, 0, read.stderr)
            self.assertIn("00/3:00:00", read.stdout)
        # What the timer runs, run as it stands there.
        for line in (units / "kuramori-shop.service").read_text().splitlines():
            if line.startswith("ExecStart="):
                done = subprocess.run(harness.as_server(line.split("=", 1)[1].split(" ")), capture_output=True, text=True, cwd="/",
                                      env=harness.environment(HOME=self.home, KURAMORI_STATE=self.folder / "state"))
                self.assertEqual(done.returncode, 0, done.stderr)

    def test_C4_cron_and_launchd_forms(self):
        done = self.init("--dev", "--form", "cron", "--json")
        line = (self.home / ".local/share/kuramori/shop/crontab").read_text()
        self.assertTrue(line.startswith("0 */3 * * * ( "), line)
        command = line.split(" ", 5)[5].rsplit(" # kuramori shop", 1)[0]
        ran = subprocess.run(harness.as_server(["/bin/sh", "-c", command]), cwd="/", env=harness.environment(HOME=self.home, KURAMORI_STATE=self.folder / "state"))
        self.assertEqual(ran.returncode, 0, (self.home / ".local/state/kuramori/shop.log").read_text())
        self.assertEqual(len(self.kuramori("snapshots", "dev-db", "--json", env={"HOME": self.home}).json()["snapshots"]), 1)
        self.init("--dev", "--form", "launchd")
        agent = self.home / "Library/LaunchAgents/kuramori.shop.plist"
        words = [one.text for one in xml.etree.ElementTree.parse(agent).iter("string")]
        self.assertIn("kuramori.shop", words)
        self.assertTrue(any(word and word.count(" && ") == 2 for word in words), words)


if __name__ == "__main__":
    harness.main()
