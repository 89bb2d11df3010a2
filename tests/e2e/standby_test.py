"""A standby is captured instead of its primary."""

import pathlib
import subprocess
import threading
import time

import harness


class Standby(harness.Case):
    def standby_of(self, primary):
        data = self.folder / "standby"
        subprocess.run(harness.as_server([primary.bin / "pg_basebackup", "-d", primary.connect(), "-D", data, "-R", "-X", "stream",
                                          "--checkpoint=fast"]), check=True, env=harness.environment(), cwd="/")
        server = harness.Server(self.folder, primary.major, data=data)
        self.servers.append(server)
        return server.start("-c", "archive_mode=off", "-c", "hot_standby=on")

    def await_replay(self, primary, standby):
        lsn = primary.sql("select pg_current_wal_flush_lsn()")
        deadline = time.monotonic() + harness.START_SECONDS_MAX
        while standby.sql(f"select pg_last_wal_replay_lsn() >= '{lsn}'") != "t":
            self.assertLess(time.monotonic(), deadline, standby.log_text())
            time.sleep(0.02)

    def test_a_half_received_segment_never_takes_its_name_in_the_archive_P31(self):
        primary = self.server(15)
        primary.sql("create table entry (id bigint primary key)", "insert into entry select generate_series(1, 5000)")
        standby = self.standby_of(primary)
        primary.sql("insert into entry select generate_series(5001, 6000)", "checkpoint")
        self.await_replay(primary, standby)
        self.configure(standby)

        # The primary writes on, in the middle of the segment that the standby's snapshot ends in.
        stop = threading.Event()

        def write():
            for number in range(6001, 7000):
                if stop.wait(0.5):
                    return
                primary.sql(f"insert into entry values ({number})")
                if number % 10 == 0:
                    primary.sql("select pg_switch_wal()")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            self.kuramori("backup", "db")
        finally:
            stop.set()
            writer.join()
        primary.sql("insert into entry values (10000)")
        primary.switch_wal()  # the archive takes what the primary has
        self.assertEqual(primary.sql("select count(*) from entry where id = 10000"), "1")
        self.assertEqual(primary.sql("select failed_count from pg_stat_archiver"), "0", primary.log_text())

        wanted = primary.sql("select count(*) from entry")
        target = self.folder / "restored"
        self.kuramori("restore", "db", "--to", target, "--latest")
        restored = self.adopt(target, 15)
        self.assertEqual(restored.sql("select count(*) from entry"), wanted)


if __name__ == "__main__":
    harness.main()
