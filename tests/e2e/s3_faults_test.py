"""Faults of a real S3 store under the real program: its disks freeze, its gateway dies, the line is cut, the program is
killed. Whatever happens, what the vault lists restores, and the next command goes on.

A fault comes at the n-th request of a run whose requests were counted first: by number, not by the clock."""

import pathlib
import subprocess
import sys
import time

import harness
import slow_proxy

LONG = pathlib.Path(sys.argv[0]).name.startswith("slow_")  # slow_s3_faults_test.py
DELAY_MS = 30  # a request: long enough to do something between two of them
WAIT_SECONDS_MAX = 120


def wait_until(fact, what):
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not fact():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {WAIT_SECONDS_MAX} s for {what}")
        time.sleep(0.01)


class Faults(harness.Case):
    place_kind = "rgw"

    def setUp(self):
        super().setUp()
        self.cluster = self.place.cluster
        self.proxy = slow_proxy.Proxy(self.cluster, delay_ms=DELAY_MS)
        self.addCleanup(self.proxy.stop)
        self.place.endpoint = self.proxy.endpoint

    def database(self):
        server = self.server(initdb=["--wal-segsize=1"])
        server.sql("create table item (id bigint primary key, text text)",
                   "insert into item select i, md5(i::text) from generate_series(1, 30000) i")
        return server

    def start(self, *words):
        """The program in the background."""
        command = harness.as_server([self.programs / "kuramori", "--config", self.config, *words])
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=harness.environment(), cwd="/")

    def at_request(self, number, running):
        """Returns when so many more requests have come, or the program has ended."""
        wanted = self.proxy.requests() + number
        wait_until(lambda: self.proxy.requests() >= wanted or running.poll() is not None, f"request {number}")

    def requests_of(self, *words):
        before = self.proxy.requests()
        self.kuramori(*words)
        return self.proxy.requests() - before

    def straight(self):
        """From now on the program speaks to the store itself: what is looked at, not how fast."""
        self.config.write_text(self.config.read_text().replace(self.proxy.endpoint, self.cluster.endpoint))

    def assert_all_restore(self):
        """Every snapshot the vault lists is whole, and restores to the rows it says it has."""
        self.straight()
        self.kuramori("vault", "scrub", "here")
        listed = self.snapshots()
        for snapshot in {listed[0]["id"], listed[-1]["id"]}:
            target = self.folder / f"r-{snapshot}-{time.monotonic_ns()}"
            self.kuramori("restore", f"db@{snapshot}", "--to", target)
            copy = self.adopt(target)
            copy.sql("set enable_seqscan = off; select count(text) from item")
            self.assertEqual(copy.sql("select count(*) from item where text is null or id is null"), "0")
            copy.stop()
        return len(listed)

    def finish(self, running, status=0):
        out, err = running.communicate(timeout=harness.COMMAND_SECONDS_MAX)
        self.assertEqual(running.returncode, status, out + err)

    def test_a_frozen_store_and_puts_that_land_later_V28(self):
        server = self.database()
        total = self.requests_of("backup", "db")
        for share in (0.5, 1.0) if not LONG else [n / 12 for n in range(1, 13)]:
            with self.subTest(share=share):
                server.sql("update item set text = md5(text) where id % 7 = 0")
                before = len(self.snapshots())
                running = self.start("backup", "db", "--full")
                self.at_request(max(1, int(total * share) - 1), running)
                self.cluster.freeze("osd")
                try:
                    # What is on its way now hangs in the gateway; who asked dies; then it is done after all.
                    time.sleep(0.3)
                    running.kill()
                    running.wait()
                finally:
                    self.cluster.cont("osd")
                running.stdout.close()
                running.stderr.close()
                self.kuramori("backup", "db")
                self.assertIn(len(self.snapshots()) - before, (1, 2))  # its own, and the killed one's if that was decided
        self.assert_all_restore()
        self.kuramori("vault", "collect", "here")

    def test_a_backup_waits_for_a_frozen_store(self):
        server = self.database()
        total = self.requests_of("backup", "db")
        server.sql("update item set text = md5(text) where id % 7 = 0")
        running = self.start("backup", "db", "--full")
        self.at_request(total // 2, running)
        self.cluster.freeze("osd")
        try:
            time.sleep(2)
            self.assertIsNone(running.poll(), "it ended while the store was frozen")
        finally:
            self.cluster.cont("osd")
        self.finish(running)
        self.assertEqual(self.assert_all_restore(), 2)

    def test_a_gateway_that_dies_in_the_middle_of_a_backup_P71(self):
        server = self.database()
        total = self.requests_of("backup", "db")
        for share in (0.3, 0.9) if LONG else (0.6,):
            server.sql("update item set text = md5(text) where id % 7 = 0")
            running = self.start("backup", "db", "--full")
            self.at_request(int(total * share), running)
            self.cluster.kill("rgw")
            self.cluster.restart("rgw")
            self.finish(running)
        self.assertEqual(self.assert_all_restore(), 3 if LONG else 2)

    def test_a_backup_killed_in_its_store_calls_leaves_a_sound_vault_V6(self):
        server = self.database()
        self.straight()
        self.kuramori("backup", "db")
        counted = self.folder / "calls"
        self.kuramori("backup", "db", env={"KURAMORI_TEST_COUNT_STORE_CALLS": counted})
        calls = int(counted.read_text())
        step = 1 if LONG else max(1, calls // 5)
        for call in range(step, calls + 1, step):
            for after in ("", "1"):
                server.sql("update item set text = md5(text) where id % 97 = 0")
                killed = {"KURAMORI_TEST_KILL_AT_STORE_CALL": call, **({"KURAMORI_TEST_KILL_AT_STORE_CALL_AFTER": after} if after else {})}
                self.kuramori("backup", "db", status=None, env=killed)
        self.kuramori("backup", "db")
        self.assert_all_restore()

    def test_wal_pushed_through_faults_is_whole_P28(self):
        """One answer in ten is lost after the store did what was asked: the outcome is unknown to who asked."""
        self.proxy.stop()
        self.proxy = slow_proxy.Proxy(self.cluster, lost=0.1)
        self.place.endpoint = self.proxy.endpoint
        server = self.database()
        self.kuramori("backup", "db")
        for number in range(6):
            server.sql(f"insert into item select i, 'late' from generate_series({40000 + number * 100}, {40099 + number * 100}) i")
            server.switch_wal()
        wanted = server.sql("select count(*) from item")
        target = self.folder / "restored"
        self.kuramori("restore", "db", "--latest", "--to", target)
        copy = self.adopt(target)
        self.assertEqual(copy.sql("select count(*) from item"), wanted)
        copy.stop()
        self.assert_all_restore()


class Archive(harness.Case):
    """What an S3 store says of WAL is the end of the archive only when it is."""

    place_kind = "rgw"

    def test_a_hole_a_refusal_and_a_missing_bucket_are_not_the_end_P44(self):
        server = self.server(initdb=["--wal-segsize=1"])
        server.sql("create table item (id int)")
        self.kuramori("backup", "db")
        for number in range(3):
            server.sql(f"insert into item values ({number})")
            server.switch_wal()
        found = sorted(name for name, _ in self.place.objects("wal/") if ".seg." in name)
        lsn = lambda name: int(name.rpartition("/")[2][:16], 16)
        segment = lambda at: "%08X%08X%08X" % (1, at >> 32, (at & 0xffffffff) >> 20)
        hole, beyond = segment(lsn(found[-2])), segment(lsn(found[-1]) + (1 << 20))
        got = self.folder / "got"
        get = lambda name: self.kuramori("wal", "get", "--resource", "db", name, got, status=None).status
        self.assertEqual((get(hole), get(beyond)), (0, 1))
        content = self.place.get(found[-2])
        self.place.s3.delete(self.place.bucket, "vault/" + found[-2]).expect(204)
        self.assertEqual((get(hole), get(beyond)), (200, 1))
        # Damaged: the right bytes (what is kept twice), or nothing.
        broken = content[:len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1:]
        self.place.s3.put(self.place.bucket, "vault/" + found[-2], broken).expect(200)
        self.assertIn(get(hole), (0, 200))
        # The credential was withdrawn, or the bucket is another: nobody knows then, and 200 says so.
        secret = self.place.keys["secret"].read_text()
        self.place.keys["secret"].write_text("0" * 40 + "\n")
        self.assertEqual((get(hole), get(beyond)), (200, 200))
        self.place.keys["secret"].write_text(secret)
        self.config.write_text(self.config.read_text().replace(f"s3://{self.place.bucket}/", f"s3://{self.place.bucket}-gone/"))
        self.assertEqual((get(hole), get(beyond)), (200, 200))


class CutLine(harness.Case):
    """The program in a network of its own, whose line to the store is cut and mended: packets vanish, nobody says so."""

    place_kind = "rgw"

    def setUp(self):
        super().setUp()
        self.name = f"kura{self.place.cluster.port % 10000}"
        self.addCleanup(lambda: subprocess.run(["ip", "netns", "del", self.name], capture_output=True))
        inside = ["ip", "netns", "exec", self.name]
        steps = [["ip", "netns", "add", self.name],
                 ["ip", "link", "add", self.name, "type", "veth", "peer", "name", "store", "netns", self.name],
                 ["ip", "addr", "add", "198.51.100.1/30", "dev", self.name], ["ip", "link", "set", self.name, "up"],
                 [*inside, "ip", "addr", "add", "198.51.100.2/30", "dev", "store"], [*inside, "ip", "link", "set", "store", "up"],
                 [*inside, "ip", "link", "set", "lo", "up"], [*inside, "iptables", "-S"]]
        for step in steps:
            try:
                done = subprocess.run(step, capture_output=True, text=True)
            except FileNotFoundError as problem:
                self.skipTest(str(problem))
            if done.returncode != 0:
                self.skipTest(f"no network of its own here: {' '.join(step)}: {done.stderr.strip()}")
        self.inside = inside
        self.proxy = slow_proxy.Proxy(self.place.cluster, delay_ms=DELAY_MS, address="198.51.100.1", secure=False)
        self.addCleanup(self.proxy.stop)
        self.place.endpoint, self.place.ca = self.proxy.endpoint, None

    def rule(self, action):
        subprocess.run([*self.inside, "iptables", action, "OUTPUT", "-p", "tcp", "--dport", str(self.proxy.port), "-j", "DROP"], check=True)

    def test_a_backup_survives_a_line_that_is_cut_for_a_while_P71(self):
        server = self.server(initdb=["--wal-segsize=1"])
        server.sql("create table item as select i as id, md5(i::text) as text from generate_series(1, 30000) i")
        before = self.proxy.requests()
        self.kuramori("backup", "db")
        total = self.proxy.requests() - before
        wanted = self.proxy.requests() + total // 2
        running = subprocess.Popen([*self.inside, *harness.as_server([self.programs / "kuramori", "--config", self.config, "backup", "db", "--full"])],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=harness.environment(), cwd="/")
        wait_until(lambda: self.proxy.requests() >= wanted or running.poll() is not None, "half of the backup")
        self.assertIsNone(running.poll(), "it ended before the line was cut")
        self.rule("-A")
        time.sleep(3)
        self.assertIsNone(running.poll(), "it ended while the line was cut")
        self.rule("-D")
        out, err = running.communicate(timeout=harness.COMMAND_SECONDS_MAX)
        self.assertEqual(running.returncode, 0, out + err)
        self.config.write_text(self.config.read_text().replace(f"endpoint: \"{self.proxy.endpoint}\"", f"endpoint: \"{self.place.cluster.endpoint}\", ca_file: \"{self.place.cluster.ca}\""))
        self.kuramori("vault", "scrub", "here")
        self.kuramori("restore", "db", "--to", self.folder / "restored")
        copy = self.adopt(self.folder / "restored")
        self.assertEqual(copy.sql("select count(*), sum(hashtext(text)::bigint) from item"),
                         server.sql("select count(*), sum(hashtext(text)::bigint) from item"))


if not LONG:
    for each in ("test_a_backup_waits_for_a_frozen_store", "test_a_gateway_that_dies_in_the_middle_of_a_backup_P71",
                 "test_a_backup_killed_in_its_store_calls_leaves_a_sound_vault_V6"):
        delattr(Faults, each)

if __name__ == "__main__":
    harness.main()
