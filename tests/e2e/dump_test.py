"""Dumps of a database, whole: into the vault, proven, and back as a database, as single tables, as files (C1-C3, C5, S10-S13, L5)."""

import subprocess
import threading
import time

import harness

CONFIG = """vaults:
  here: {{ at: "file://{vault}", site: here, key_file: "{key}" }}
resources:
  shop: {{ kind: dump, connect: "{connect}" }}
  hot: {{ kind: dump, connect: "{connect}", tables: [left_side, public.right_side] }}
  gone: {{ kind: dump, connect: "host={folder}/nowhere dbname=shop" }}
plans:
  all: {{ resources: [shop, hot, gone], vault: here, schedule: "0 * * * *", timezone: UTC, keep: {{ all: 7d }} }}
"""


class Dump(harness.Case):
    def setUp(self):
        super().setUp()
        self.live = self.other_server()
        self.live.sql("CREATE ROLE app LOGIN PASSWORD 'pass-that-nobody-sees'")
        self.live.sql("CREATE DATABASE shop OWNER app")
        self.shop("CREATE TABLE users (id bigserial PRIMARY KEY, name text UNIQUE)",
                  "CREATE TABLE orders (id bigserial PRIMARY KEY, buyer bigint REFERENCES users, note text)",
                  "CREATE INDEX orders_buyer ON orders (buyer)",
                  "INSERT INTO users (name) SELECT 'user ' || i FROM generate_series(1, 2000) i",
                  "INSERT INTO orders (buyer, note) SELECT 1 + i % 2000, repeat(md5(i::text), 10) FROM generate_series(1, 30000) i",
                  "CREATE TABLE left_side (v bigint)", "CREATE TABLE right_side (v bigint)",
                  *(f"ALTER TABLE {name} OWNER TO app" for name in ("users", "orders", "left_side", "right_side")))
        self.config.write_text(CONFIG.format(vault=self.vault, key=self.key, folder=self.folder, connect=self.live.connect("shop")))
        self.config.chmod(0o644)
        self.mine("vault", "init", "here")

    def other_server(self):
        server = harness.Server(harness.new_folder())
        server.start()
        self.addCleanup(server.kill)
        return server

    def shop(self, *queries, database="shop"):
        return self.live.sql(*queries, database=database)

    def mine(self, *words, **more):
        return self.kuramori(*words, user=False, **{**more, "env": {"KURAMORI_STATE": self.folder / "state"}})

    @staticmethod
    def url(server, name):
        return f"postgresql://postgres@/{name}?host={server.socket}"

    def test_C2_C5_L5_a_database_is_proven_and_comes_back_where_nothing_of_it_is_known(self):
        first = self.mine("backup", "shop", "--json").json()["snapshot"]
        self.assertEqual(first["entries"], 6)
        again = self.mine("backup", "shop", "--json").json()["snapshot"]
        # The dump is not compressed, so that what did not change is found again.
        self.assertLess(again["added_bytes"], first["added_bytes"] / 2)
        shown = self.mine("show", first["id"])
        self.assertNotIn("pass-that-nobody-sees", shown.out + shown.err)
        proof = self.mine("drill", "shop", "--json").json()["proof"]
        self.assertTrue(proof["passed"], proof)
        self.assertIn("32000 rows in 4 tables", [check["detail"] for check in proof["checks"] if check["name"] == "rows of every table"][0])
        fresh = self.other_server()
        begun = time.monotonic()
        outcome = self.kuramori("restore", "shop", "--vault", self.vault, "--key-file", self.key, "--to", self.url(fresh, "shop"),
                                config=False, user=False)
        self.assertLess(time.monotonic() - begun, 15 * 60)
        self.assertIn("made the roles app", outcome.err)
        self.assertEqual(fresh.sql("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM orders), pg_get_userbyid(relowner), "
                                   "(SELECT count(*) FROM pg_indexes WHERE schemaname = 'public') FROM pg_class WHERE relname = 'users'",
                                   database="shop"), "2000|30000|app|4")
        files = self.folder / "files"
        self.mine("restore", "shop", "--to", files)
        self.assertEqual(sorted(path.name for path in files.iterdir()),
                         ["README.txt", "database.dump", "database.json", "extensions.json", "globals.sql"])
        # Without us.
        fresh.sql("CREATE DATABASE by_hand")
        done = subprocess.run([harness.CLIENT + "/pg_restore", "--exit-on-error", "-h", fresh.socket, "-U", "postgres", "-d", "by_hand",
                               files / "database.dump"], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(fresh.sql("SELECT count(*) FROM orders", database="by_hand"), "30000")

    def test_C3_S12_what_is_there_is_refused_and_kept_beside(self):
        self.mine("backup", "shop")
        self.shop("INSERT INTO users (name) VALUES ('newer than the dump')")
        refused = self.mine("restore", "shop", "--to", self.url(self.live, "shop"), status=5)
        self.assertIn("--overwrite", refused.err)
        self.assertEqual(self.shop("SELECT count(*) FROM users"), "2001")
        outcome = self.mine("restore", "shop", "--to", self.url(self.live, "shop"), "--overwrite", "--json").json()["restore"]
        self.assertEqual(self.shop("SELECT count(*) FROM users"), "2000")
        old = outcome["moved_aside"].removeprefix("the database ")
        self.assertTrue(old.startswith("shop.old-"), outcome)
        self.assertEqual(self.shop("SELECT count(*) FROM users", database=old), "2001")

    def test_S10_S11_single_tables_come_back_whole_or_not_at_all(self):
        self.mine("backup", "shop")
        self.shop("DROP TABLE users CASCADE")
        self.mine("restore", "shop", "--to", self.url(self.live, "shop"), "--only", "public.users")
        self.assertEqual(self.shop("SELECT count(*), max(id), (SELECT count(*) FROM pg_indexes WHERE tablename = 'users'), "
                                   "(SELECT last_value FROM users_id_seq) FROM users"), "2000|2000|2|2000")
        self.assertEqual(self.shop("INSERT INTO users (name) VALUES ('next') RETURNING id"), "2001")
        self.mine("restore", "shop", "--to", self.url(self.live, "shop"), "--only", "users", status=5)
        self.assertEqual(self.shop("SELECT count(*) FROM users"), "2001")
        wrong = self.mine("restore", "shop", "--to", self.url(self.live, "beside"), "--only", "user", status=2)
        self.assertIn("public.users", wrong.err)
        alone = self.mine("restore", "shop", "--to", self.url(self.live, "beside"), "--only", "orders")
        self.assertIn("ADD CONSTRAINT", alone.err)
        self.assertEqual(self.shop("SELECT count(*) FROM orders", database="beside"), "30000")

    def test_C1_S13_two_tables_are_of_one_moment(self):
        stop = threading.Event()

        def write():
            writer = subprocess.Popen(harness.as_server([harness.CLIENT + "/psql", "-qX", self.live.connect("shop")]), stdin=subprocess.PIPE, text=True,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            number = 0
            while not stop.is_set():
                number += 1
                empty = "TRUNCATE left_side, right_side;" if number % 3000 == 0 else ""
                writer.stdin.write(f"BEGIN; {empty} INSERT INTO left_side VALUES ({number}); INSERT INTO right_side VALUES ({number}); COMMIT;\n")
                writer.stdin.flush()
                time.sleep(0.001)
            writer.stdin.close()
            writer.wait()

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(3):
                self.mine("backup", "hot")
        finally:
            stop.set()
            thread.join()
        for number, snapshot in enumerate(self.mine("snapshots", "hot", "--json").json()["snapshots"]):
            name = f"moment{number}"
            self.mine("restore", f"hot@{snapshot['id']}", "--to", self.url(self.live, name))
            self.assertEqual(self.shop("SELECT (SELECT coalesce(sum(v), 0) FROM left_side) = (SELECT coalesce(sum(v), 0) FROM right_side), "
                                       "to_regclass('public.users') IS NULL", database=name), "t|t")
        self.assertTrue(self.mine("drill", "hot", "--json").json()["proof"]["passed"])

    def test_doctor_and_a_server_that_is_not_there(self):
        self.mine("doctor", "shop", status=None)
        looked = self.mine("doctor", "gone", status=None)
        self.assertIn("cannot connect", looked.out + looked.err)
        failed = self.mine("backup", "gone", status=None)
        self.assertNotEqual(failed.status, 0)
        self.assertIn("error:", failed.err)
        self.assertEqual(self.mine("snapshots", "gone", "--json", status=None).json().get("snapshots", []), [])
        # A restore that is killed leaves nothing that the next one does not remove.
        self.mine("backup", "shop")
        program = subprocess.Popen([str(self.programs / "kuramori"), "--config", str(self.config), "restore", "shop", "--to", self.url(self.live, "half")],
                                   env=harness.environment(KURAMORI_STATE=self.folder / "state"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while self.shop("SELECT count(*) FROM pg_database WHERE datname = 'half.kuramori-new'") == "0":
            self.assertIsNone(program.poll(), "it ended before it was killed")
        program.kill()
        program.wait()
        for _ in range(100):
            if self.shop("SELECT count(*) FROM pg_stat_activity WHERE datname = 'half.kuramori-new'") == "0":
                break
            time.sleep(0.1)
        self.assertEqual(self.shop("SELECT count(*) FROM pg_database WHERE datname = 'half'"), "0")
        self.mine("restore", "shop", "--to", self.url(self.live, "half"))
        self.assertEqual(self.shop("SELECT count(*) FROM orders", database="half"), "30000")
        self.assertEqual(self.shop("SELECT count(*) FROM pg_database WHERE datname LIKE '%kuramori%'"), "0")


if __name__ == "__main__":
    harness.main()
