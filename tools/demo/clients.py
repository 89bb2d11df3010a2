"""Clients that write all the time, each through a connection of its own, until they are told to stop.

    clients.py LOG COUNT RATE PSQL…

Every commit is one numbered row of `ledger` with an order and an event beside it. After the server has acknowledged it,
the client asks for the commit's time and writes `client number microseconds` to LOG: what the outside world knows was
committed, and when, whatever happens to the database. A connection that breaks ends its client.
"""

import random
import signal
import subprocess
import sys
import threading
import time

stopping = threading.Event()


class Client(threading.Thread):
    def __init__(self, name, log, pause, command):
        super().__init__(daemon=True)
        self.label, self.log, self.pause, self.command = name, log, pause, command
        self.random = random.Random(name)

    def run(self):
        psql = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1)
        number = 0
        try:
            while not stopping.is_set():
                number += 1
                order = 10_000_000 * self.label + number
                customer = self.random.randint(1, 150_000)
                psql.stdin.write(
                    "begin; "
                    f"insert into ledger (client, number) values ({self.label}, {number}); "
                    f"insert into orders values ({order}, {customer}, now(), 'paid', {self.random.randint(100, 90000) / 100}); "
                    f"insert into order_item values ({order}, 1, {self.random.randint(1, 5000)}, 1, 9.90); "
                    f"insert into event values ({order}, now(), {customer}, 'order', '{{\"order\": {order}}}'); "
                    f"update product set price = price + 0.01 where id = {self.random.randint(1, 5000)}; "
                    "commit; "
                    "select 'acknowledged ' || (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000000)::bigint "
                    f"from ledger where client = {self.label} and number = {number};\n")
                psql.stdin.flush()
                while True:
                    line = psql.stdout.readline()
                    if not line:
                        return
                    if line.startswith("acknowledged "):
                        break
                self.log.write(f"{self.label} {number} {line.split()[1]}\n")
                self.log.flush()
                time.sleep(self.pause)
        except (BrokenPipeError, ValueError):
            pass
        finally:
            psql.kill()


def main():
    # Set here in so many words: a shell's background job ignores SIGINT, and Python then does too.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    log = open(sys.argv[1], "a", buffering=1)
    count, rate = int(sys.argv[2]), float(sys.argv[3])
    clients = [Client(n + 1, log, count / rate, sys.argv[4:]) for n in range(count)]
    for client in clients:
        client.start()
    while any(client.is_alive() for client in clients):
        time.sleep(0.1)


if __name__ == "__main__":
    main()
