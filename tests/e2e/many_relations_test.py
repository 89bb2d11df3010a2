"""A cluster of very many relations: what each command takes of memory for it, and how long.

A real cluster, and beside its own files as many of one page as KURAMORI_TEST_RELATIONS says (8,000; a million with
KURAMORI_TEST_ALL=1). They are copies of a real table's first page, so that every checksum fits, in 100 more databases' folders.

What a limit can catch with few files is growth: so the same commands run for a hundredth of the files first, and what the
rest takes beyond that is divided by their number.
"""

import os
import pathlib
import subprocess
import threading

import harness

RELATIONS = int(os.environ.get("KURAMORI_TEST_RELATIONS", 1_000_000 if harness.ALL else 8_000))
MEMORY_BYTES_MAX = 512 << 20  # of any command, whatever it is about
# Of what a command takes for each relation: a million times this, and what none of them costs, stays within the limit.
GROWTH_BYTES_MAX = 480
STEADY_BYTES = 32 << 20  # buffers that are full only where there is something to read
FOLDERS = 100
PAGE = 8192


class ManyRelations(harness.Case):
    def setUp(self):
        # Not in memory: this is about what programs hold there.
        self.scratch = harness.new_folder("/var/tmp")
        super().setUp()

    def measured(self, what, *words, status=0):
        """Runs a command; (its seconds, the most memory it held)."""
        run = self.measured_run(*words, status=status, env={"KURAMORI_STATE": self.state})
        print(f"  {what:<28} {run.seconds:8.1f} s, {run.processor:8.1f} s of processor, {run.peak / 2**20:6.0f} MiB", flush=True)
        if run.peak > MEMORY_BYTES_MAX:
            self.too_much.append(f"{what} held {run.peak >> 20} MiB")
        return run.peak

    def add_relations(self, page, first, count):
        """Files of one page, in as many folders as there are databases."""
        def fill(worker):
            for i in range(first + worker, first + count, 4):
                path = self.data / "base" / str(100_000 + i % FOLDERS) / str(200_000 + i)
                path.write_bytes(page)
                harness.give_to_server(path)
        threads = [threading.Thread(target=fill, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def test_every_command_keeps_within_its_memory(self):
        self.state = harness.new_folder()
        self.too_much = []
        self.vault = self.scratch / "vault"
        self.place.vault = self.vault
        server = harness.Server(self.scratch, 15, ["archive_mode = on", f"archive_command = '{self.archive_command()}'"])
        self.servers.append(server)
        self.data = server.data
        self.configure(server)
        self.config.write_text(self.config.read_text().replace("{ all: 14d }", "{ all: 1h }").replace("window: 14d", "window: 1h")
                               .replace(str(self.folder / "vault"), str(self.vault)))
        self.kuramori("vault", "init", "here")
        server.start()
        server.sql("create table one as select 1 as n", "checkpoint")
        page = (self.data / server.value("select pg_relation_filepath('one')")).read_bytes()[:PAGE]
        for i in range(FOLDERS):
            folder = self.data / "base" / str(100_000 + i)
            folder.mkdir(mode=0o700)
            harness.give_to_server(folder)

        few = max(RELATIONS // 100, FOLDERS)
        self.add_relations(page, 0, few)
        print(f"\n{few:,} relations", flush=True)
        small = self.run_all("few", few)
        self.add_relations(page, few, RELATIONS - few)
        print(f"{RELATIONS:,} relations", flush=True)
        large = self.run_all("all", RELATIONS)
        for what, peak in large.items():
            grown = max(0, peak - small[what] - STEADY_BYTES) / (RELATIONS - few)
            print(f"  {what:<28} {grown:8.0f} bytes for each relation more", flush=True)
            if grown > GROWTH_BYTES_MAX:
                self.too_much.append(f"{what} holds {grown:.0f} bytes for each relation")
        self.assertEqual(self.too_much, [])

    def run_all(self, name, count):
        peaks = {}

        def run(what, *words, **more):
            peaks[what] = self.measured(what, *words, **more)

        restored = self.scratch / f"restored-{name}"
        run("backup, full", "backup", "db", "--full")
        run("backup, nothing changed", "backup", "db")
        run("snapshots", "snapshots")
        run("restore", "restore", "db", "--to", restored)
        for i in (0, count // 2, count - 1):
            path = pathlib.Path("base") / str(100_000 + i % FOLDERS) / str(200_000 + i)
            self.assertEqual((restored / path).read_bytes(), (self.data / path).read_bytes())
        subprocess.run(["rm", "-rf", restored], check=True)
        run("vault scrub", "vault", "scrub", "here")
        run("prune", "prune")
        run("vault collect", "vault", "collect", "here")
        return peaks


if __name__ == "__main__":
    harness.main()
