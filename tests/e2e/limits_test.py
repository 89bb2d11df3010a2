"""What a run may take of a shared machine and line: bytes a second, CPU time, priorities, and the server's page cache.
A limit makes a run longer and changes nothing in what comes out."""

import ctypes
import json
import os
import pathlib
import subprocess
import unittest

import harness
import kill_points

MIB = 1 << 20
OVER = 1.1  # of what a limit allows over a whole run
IOPRIO_GET, WHO_PROCESS = 252, 1  # x86-64
BEST_EFFORT, IDLE = 2, 3
libc = ctypes.CDLL(None, use_errno=True)


def io_priority(thread):
    got = libc.syscall(IOPRIO_GET, WHO_PROCESS, thread)
    return got >> 13, got & 0xff


def resident(path):
    """Bytes of the file that the page cache holds."""
    done = subprocess.run(["fincore", "--json", "--bytes", path], check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout)["fincore"][0]["res"])


def forget(path):
    """Has the page cache let go of the file."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Limits(harness.Case):
    def fill(self, server, table, mib):
        """Random text: what is stored is about as large as what is read."""
        server.sql(f"create table {table} as select i, (select string_agg(md5(random()::text || i || j), '') from generate_series(1, 30) j) text"
                   f" from generate_series(1, {mib * 1000}) i", f"vacuum (freeze, analyze) {table}", "checkpoint")

    def limited(self, limits):
        """The configuration's `limits:` of the resource."""
        text = self.config.read_text()
        self.config.write_text(text.replace("    kind: postgres\n", f"    kind: postgres\n    limits: {limits}\n"))

    def measured(self, *words):
        """The document, and seconds and CPU seconds of the process as the kernel counts them."""
        run = self.measured_run(*words, "--json")
        return run.outcome.json(), run.seconds, run.processor

    def restored(self, snapshot):
        target = self.folder / f"restored-{snapshot}"
        self.kuramori("restore", f"db@{snapshot}", "--to", target)
        return kill_points.tree_digest(target)

    def priorities(self, *words):
        """[(nice, class, level)] of every thread of the run, at its third store call."""
        process = subprocess.Popen(harness.as_server([self.programs / "kuramori", "--config", self.config, *words]),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/",
                                   env=harness.environment(KURAMORI_TEST_STOP_AT_STORE_CALL=3))
        try:
            self.assertTrue(harness.stands_still(process), "it ended before its third store call")
            found = []
            for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
                nice = int((task / "stat").read_text().rpartition(")")[2].split()[16])
                found.append((nice, *io_priority(int(task.name))))
            return found
        finally:
            process.send_signal(18)  # SIGCONT
            out, _ = process.communicate()
            self.assertEqual(process.returncode, 0, out)

    def test_reading_cpu_and_priorities_are_held_and_nothing_else_changes(self):
        server = self.server()
        self.fill(server, "entry", 4)
        server.switch_wal()
        server.sql("alter system set archive_command = '/bin/true'", "select pg_reload_conf()")
        self.kuramori("backup", "db", "--full")  # reading prunes the catalog's pages
        server.sql("checkpoint")
        free = self.kuramori("backup", "db", "--full", "--json").json()["snapshot"]
        self.assertNotIn("limits", free)

        # Bytes a second, from the configuration.
        rate = 8 * MIB
        self.limited("{ read: 8MiB/s, nice: 7, io: best-effort:6 }")
        document, seconds, _ = self.measured("backup", "db", "--full")
        slow = document["snapshot"]
        used = slow["limits"]["read"]
        self.assertEqual((used["bytes_per_second"], used["bytes"]), (rate, slow["bytes_read"]))
        self.assertEqual((slow["limits"]["nice"], slow["limits"]["io"]), (7, "best-effort:6"))
        self.assertGreater(slow["bytes_read"], 2 * rate)
        self.assertGreater(used["waited_seconds"], 0)
        self.assertLessEqual(slow["bytes_read"] / slow["seconds"], rate * OVER)
        self.assertLessEqual(slow["seconds"], seconds)
        self.assertEqual(self.restored(slow["id"]), self.restored(free["id"]))

        # The command line says it instead of the configuration, for every thread.
        for words, wanted in ((("backup", "db", "--limit-read", "1GiB/s"), (7, BEST_EFFORT, 6)),
                              (("backup", "db", "--limit-read", "1GiB/s", "--nice", "12", "--io", "idle"), (12, IDLE, 7)),
                              (("vault", "scrub", "here", "--nice", "3", "--io", "best-effort:7"), (3, BEST_EFFORT, 7))):
            found = self.priorities(*words)
            self.assertEqual(set(found), {wanted}, words)

        # CPU seconds against seconds, as the kernel counts both; a tenth of a second for what runs before.
        share = 0.2
        document, seconds, cpu = self.measured("vault", "scrub", "here", "--limit-cpu", "20%")
        self.assertEqual(document["limits"]["cpu"]["cores"], share)
        self.assertFalse(document["damaged"])
        self.assertLessEqual(cpu, seconds * share * OVER + 0.1, document["limits"])
        document, seconds, _ = self.measured("vault", "scrub", "here", "--limit-read", "32MiB/s")
        self.assertLessEqual(document["bytes"] / seconds, 32 * MIB * OVER)
        self.assertGreaterEqual(document["limits"]["read"]["bytes"], document["bytes"])

        # A server would keep the priority it was started with.
        refused = self.kuramori("restore", "db", "--to", self.folder / "no", "--start", "--nice", "5", status=2)
        self.assert_refused(refused, "--nice", "--start")
        for option, value, meant in (("--limit-cpu", "half", "write 50%"), ("--nice", "-5", "0 to 19"), ("--io", "realtime", "idle"),
                                     ("--limit-network", "1KiB/s", "20MiB/s")):
            self.assert_refused(self.kuramori("backup", "db", f"{option}={value}", status=2), option, meant)

    def test_the_page_cache_stays_as_it_was(self):
        server = self.server(plan="    drill: { schedule: \"0 5 1 * *\", counts: off }\n")
        self.fill(server, "cold", 12)
        self.fill(server, "warm", 12)
        paths = {name: server.data / server.sql(f"select pg_relation_filepath('{name}')") for name in ("cold", "warm")}
        try:
            os.close(os.open(paths["cold"], os.O_RDONLY | os.O_DIRECT))
        except OSError:
            self.skipTest("this filesystem has no direct reads")
        forget(paths["cold"])
        paths["warm"].read_bytes()
        before = {name: resident(path) for name, path in paths.items()}
        size = paths["cold"].stat().st_size
        if before["cold"] > size // 10 or before["warm"] < size // 2:
            self.skipTest("this filesystem's page cache does not do as it is told")
        snapshot = self.kuramori("backup", "db", "--full", "--json").json()["snapshot"]
        self.assertGreater(snapshot["bytes_read"], 2 * size)
        self.assertLess(resident(paths["cold"]), size // 4, "the snapshot filled the server's page cache")
        self.assertGreater(resident(paths["warm"]), before["warm"] // 2, "the snapshot took the server's pages out of the cache")


class OverTheNetwork(Limits):
    place_kind = "rgw"
    test_reading_cpu_and_priorities_are_held_and_nothing_else_changes = None
    test_the_page_cache_stays_as_it_was = None

    @unittest.skipIf(os.environ.get("KURAMORI_TEST_PLACE"), "its place is a bucket")
    def test_puts_parts_and_gets_share_one_account(self):
        server = self.server()
        self.fill(server, "entry", 20)
        server.switch_wal()
        rate = 8 * MIB
        before = sum(size for _, size in self.place.objects())
        document, seconds, _ = self.measured("backup", "db", "--full", "--limit-network", "8MiB/s")
        used = document["snapshot"]["limits"]["network"]
        stored = sum(size for _, size in self.place.objects()) - before
        self.assertGreater(stored, rate)  # long enough, and larger than a part
        self.assertGreaterEqual(used["bytes"], stored)
        self.assertLessEqual(used["bytes"] / seconds, rate * OVER)
        self.assertGreater(used["waited_seconds"], 0)

        target = self.folder / "restored"
        document, seconds, _ = self.measured("restore", f"db@{document['snapshot']['id']}", "--to", target, "--limit-network", "8MiB/s")
        used = document["restore"]["limits"]["network"]
        self.assertGreater(used["bytes"], rate)
        self.assertLessEqual(used["bytes"] / seconds, rate * OVER)
        server.stop()
        copy = self.adopt(target)
        self.assertEqual(copy.sql("select count(*) from entry"), str(20 * 1000))


if __name__ == "__main__":
    harness.main()
