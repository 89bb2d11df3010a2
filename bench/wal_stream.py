"""From a commit to its being durable in the vault, by `kuramori wal stream`, while pgbench writes: part of ./dev bench wal."""

import os
import shutil
import signal
import subprocess
import time

from cluster import BIN, as_server, give_to_server
from contenders import fresh_folder
from measure import run

PORT = 5534
CLIENTS = 4
PAUSE_SECONDS_MAX = 0.1  # between two probes
START_SECONDS_MAX = 60

# The server itself looks: what the stream has acknowledged is durable in the vault (an acknowledgment lags behind it, so this says too much rather
# than too little).
PROBE = """create table probe (id bigserial, waited interval);
create procedure probe(probes int) language plpgsql as $$
declare began timestamptz; wanted pg_lsn;
begin
  for i in 1..probes loop
    insert into probe default values;
    commit;
    began := clock_timestamp();
    wanted := pg_current_wal_flush_lsn();
    while not exists (select from pg_stat_get_wal_senders() where flush_lsn >= wanted) loop
      perform pg_sleep(0.002);
    end loop;
    update probe set waited = clock_timestamp() - began where id = (select max(id) from probe);
    commit;
    perform pg_sleep(random() * %g);
  end loop;
end $$""" % PAUSE_SECONDS_MAX


def seconds_to_durable(folder, programs, probes):
    """Of each probe, sorted, and pgbench's transactions a second meanwhile."""
    place = folder / "wal-stream"
    place.mkdir(parents=True, exist_ok=True)
    data, socket, vault = (fresh_folder(place / name) for name in ("data", "socket", "vault"))
    vault.rmdir()
    give_to_server(place)
    stream = load = None
    control = [BIN / "pg_ctl", "-D", data, "-w"]
    run(as_server([BIN / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-k", "--no-sync"]), cwd="/")
    with open(data / "postgresql.conf", "a") as settings:
        settings.write(f"\nlisten_addresses = ''\nunix_socket_directories = '{socket}'\nport = {PORT}\nmax_wal_size = 4GB\ncheckpoint_timeout = 1h\n")
    connect = ["-h", socket, "-p", str(PORT), "-U", "postgres", "postgres"]
    run(as_server([*control, "-l", place / "log", "start"]), cwd="/")
    try:
        def sql(text):
            return subprocess.run([str(word) for word in as_server([BIN / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", *connect, "-c", text])],
                                  check=True, capture_output=True, text=True, cwd="/").stdout

        run(as_server([BIN / "pgbench", "-i", "-q", "-s", "20", *connect]), cwd="/")
        for statement in PROBE.split(";\n", 1):
            sql(statement)
        options = place / "kuramori.yaml"
        options.write_text(f"""vaults:
  bench: {{ at: "file://{vault}", site: here, key_file: {place}/owner.key }}
resources:
  bench: {{ kind: postgres, connect: "host={socket} port={PORT} user=postgres dbname=postgres" }}
plans:
  bench: {{ resources: [bench], vault: bench, schedule: "0 3 * * *", timezone: UTC, wal: stream, window: 14d, keep: {{ all: 14d }} }}
""")
        shutil.rmtree(place / "state", ignore_errors=True)
        (place / "owner.key").unlink(missing_ok=True)
        environment = {"PATH": "/usr/bin:/bin", "KURAMORI_STATE": str(place / "state")}
        program = [programs / "kuramori", "--config", options]
        run(as_server([*program, "vault", "init", "bench"]), cwd="/", env=environment)
        with open(place / "stream.log", "wb") as log:
            stream = subprocess.Popen([str(word) for word in as_server([*program, "wal", "stream", "bench"])], stdin=subprocess.DEVNULL, stdout=log,
                                      stderr=log, cwd="/", env={**os.environ, **environment})
        deadline = time.monotonic() + START_SECONDS_MAX
        while int(sql("select count(*) from pg_stat_replication where flush_lsn is not null and state = 'streaming'")) == 0:
            if stream.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the stream does not stream:\n{(place / 'stream.log').read_text()}")
            time.sleep(0.1)
        before, begin = int(sql("select xact_commit from pg_stat_database where datname = 'postgres'")), time.monotonic()
        load = subprocess.Popen([str(word) for word in as_server([BIN / "pgbench", "-n", "-c", str(CLIENTS), "-T", "3600", *connect])],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
        sql(f"call probe({probes})")
        rate = (int(sql("select xact_commit from pg_stat_database where datname = 'postgres'")) - before) / (time.monotonic() - begin)
        return sorted(float(line) for line in sql("select extract(epoch from waited) from probe").split()), rate
    finally:
        for process, how in ((load, signal.SIGINT), (stream, signal.SIGTERM)):
            if process and process.poll() is None:
                process.send_signal(how)
                process.wait(START_SECONDS_MAX)
        run(as_server([*control, "-m", "immediate", "stop"]), cwd="/")
        shutil.rmtree(place, ignore_errors=True)


def percentile(values, share):
    return values[min(len(values) - 1, int(len(values) * share))]
