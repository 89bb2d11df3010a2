"""The cluster of ./dev bench incremental: PostgreSQL 17, whose pages are changed at random, and counted."""

import os
import struct
import subprocess
import time

from cluster import BIN, PGBENCH_SCALE, PORT, ROWS, Cluster, as_server

PAGE_BYTES = 8192
SLICE_BYTES = 64 << 20
# Of the rows that are updated, by table: about as the pages of these tables are to each other.
EVENTS, DOCUMENTS = 0.6, 0.2  # the rest are accounts
PAGES_A_ROW = 4  # a guess to begin with: of an update, a page of the table and some of its indexes


class ChangingCluster(Cluster):
    kind = "cluster-17"
    settings = "summarize_wal = on\nwal_keep_size = 1GB"

    def __init__(self, folder, scale, server):
        super().__init__(folder, scale, server)
        self.data_scale = scale  # of the mixed data: a grown cluster has more beside them
        self.pages_a_row = PAGES_A_ROW
        self.round = 0

    def _collect_wal(self, tool):
        """Not needed here; the copies of tables that other tables were made of are freed instead."""
        self.sql("vacuum analyze")

    def lsn(self):
        return self.number_of(self.sql("select pg_current_wal_insert_lsn()"))

    @staticmethod
    def number_of(text):
        high, low = text.split("/")
        return int(high, 16) << 32 | int(low, 16)

    def relation_files(self):
        for part in ("base", "global"):
            for place, _, files in os.walk(self.data / part):
                for name in files:
                    if name[0].isdigit():
                        yield os.path.join(place, name)

    def relation_bytes(self):
        return sum(os.path.getsize(path) for path in self.relation_files())

    def changed_since(self, lsn):
        """Bytes of pages on disk with a newer LSN than that: found by reading them all, not by anybody's book-keeping."""
        pages = 0
        for path in self.relation_files():
            with open(path, "rb", buffering=0) as file:
                while piece := file.read(SLICE_BYTES):
                    for high, low in struct.iter_unpack("<II8184x", piece[:len(piece) // PAGE_BYTES * PAGE_BYTES]):
                        pages += (high << 32 | low) > lsn
        return pages * PAGE_BYTES

    def _update(self, rows):
        self.round += 1
        chosen = "from (select distinct 1 + (hashint8({seed} + i) & 2147483647) % {of} as id from generate_series(1, {count}) i) chosen where {key} = chosen.id"
        count = {"event": rows * EVENTS, "document": rows * DOCUMENTS, "pgbench_accounts": rows * (1 - EVENTS - DOCUMENTS)}
        total = {"event": ROWS["events"] * self.data_scale, "document": ROWS["documents"] * self.data_scale,
                 "pgbench_accounts": max(1, round(PGBENCH_SCALE * self.data_scale)) * 100_000}
        new = {"event": ("amount = 1 + coalesce(amount, 0)", "id"), "document": ("updated_at = updated_at + interval '1 second'", "id"),
               "pgbench_accounts": ("abalance = abalance + 1", "aid")}
        for table, (assignment, key) in new.items():
            words = chosen.format(seed=f"{self.round}::bigint * 1000000007", of=round(total[table]), count=max(1, round(count[table])), key=f"{table}.{key}")
            # By the index, in the order of the hashes: only pages of rows that are updated are looked at, so that no other gets hints.
            self.psql("-c", "set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off; set enable_bitmapscan = off", "-c",
                      f"update {table} set {assignment} {words}")

    def change(self, wanted):
        """Updates random rows until about that many bytes of pages changed, puts them on disk and their WAL into the archives. Returns how
        many it were."""
        begin = self.lsn()
        done = 0
        while wanted and done < 0.97 * wanted:
            self._update(max(5, (wanted - done) / PAGE_BYTES / self.pages_a_row))
            self.sql("checkpoint")
            now = self.changed_since(begin)
            self.pages_a_row = max(0.5, self.pages_a_row * (now - done) / (wanted - done))
            done = now
        self.archive_all()
        return done

    def archive_all(self):
        self.sql("checkpoint; select pg_switch_wal()")
        self._await_archiver()

    def waiting(self):
        """Finished segments in pg_wal, oldest first."""
        return sorted(path for path in (self.data / "pg_wal").iterdir() if len(path.name) == 24)

    def grow_to(self, size):
        """One more table, of copies of another's rows, so that the cluster has that many bytes. No WAL of it: nobody's archive has a use for it."""
        missing = size - self.relation_bytes()
        if missing < size * 0.02:
            return
        self.stop()
        self._run("-c", "wal_level=minimal", "-c", "max_wal_senders=0", "-c", "archive_mode=off", "-c", "summarize_wal=off")
        copies = missing / int(self.sql("select pg_relation_size('event')"))
        self.sql(f"create table ballast{round(size / 1e6)} as select event.* from event, generate_series(1, {max(1, round(copies))})")
        self.sql("checkpoint")
        self.stop()
        self._run()

    def start_stop_alone(self):
        """Seconds that PostgreSQL itself spends in pg_backup_start and pg_backup_stop: nobody can be faster."""
        script = ["-c", "select pg_backup_start('bench', true)", "-c", "select 1 from pg_backup_stop(false)"]
        begin = time.monotonic()
        subprocess.run(as_server([BIN / "psql", "-XqAt", "-h", self.socket, "-p", str(PORT), "-U", "postgres", "-d", "postgres", *script]),
                       check=True, capture_output=True)
        return time.monotonic() - begin
