"""Runs a command and says what it cost: wall seconds, CPU seconds and memory of all its processes.

CPU is what the kernel charged to the command and everything it waited for. Memory is the highest sum of resident
bytes over the command's process tree, sampled; shared pages count once a process.
"""

import os
import pathlib
import statistics
import subprocess
import threading
import time

SAMPLE_SECONDS = 0.02
TICK = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Cost:
    def __init__(self, wall, cpu, memory, output=""):
        self.wall, self.cpu, self.memory, self.output = wall, cpu, memory, output
        self.bytes = self.read = None

    def __repr__(self):
        return f"{self.wall:.2f} s wall, {self.cpu:.2f} s CPU, {self.memory / 2**20:.0f} MiB"


def _stat(pid):
    """(parent, CPU ticks of it and its waited-for children, resident bytes) or None."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2:].split()
    return int(fields[1]), sum(map(int, fields[11:15])), int(fields[21]) * PAGE_BYTES


def _processes():
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            stat = _stat(entry)
            if stat:
                found[int(entry)] = stat
    return found


def _tree(root, processes):
    children = {}
    for pid, (parent, _, _) in processes.items():
        children.setdefault(parent, []).append(pid)
    reached, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        if pid in processes:
            reached.append(pid)
        waiting += children.get(pid, [])
    return reached


def _high_water(pid):
    """The most memory a process held, by the kernel, since it became the program that it is."""
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def tree_cpu(root):
    """CPU seconds so far of a process, its children and everything they waited for."""
    processes = _processes()
    return sum(processes[pid][1] for pid in _tree(root, processes)) / TICK


def _bytes_read(pid):
    """What a process read so far by any call, its threads included: of one that has ended, too, until it is waited for."""
    try:
        text = pathlib.Path(f"/proc/{pid}/io").read_text()
    except OSError:
        return None
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("rchar:")))


def run(command, check=True, sample_seconds=SAMPLE_SECONDS, **options):
    """Runs `command` to its end. A failure shows its output and raises."""
    peak = 0
    begin = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    ended = threading.Event()

    def watch():
        nonlocal peak
        while not ended.wait(sample_seconds):
            processes = _processes()
            tree = _tree(process.pid, processes)
            peak = max(peak, sum(processes[pid][2] for pid in tree), *map(_high_water, tree), 0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output = process.stdout.read()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    read = _bytes_read(process.pid)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    ended.set()
    watcher.join()
    if check and process.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}\nended with {process.returncode}:\n{output}")
    # ru_maxrss counts what this very process held when it started the other: only for one shorter than a sample.
    cost = Cost(wall, usage.ru_utime + usage.ru_stime, peak or usage.ru_maxrss * 1024, output)
    cost.read = read
    return cost


def folder_bytes(folder, but=()):
    total = 0
    for place, folders, files in os.walk(folder):
        if pathlib.Path(place) == pathlib.Path(folder):
            folders[:] = [name for name in folders if name not in but]
        total += sum(os.lstat(os.path.join(place, name)).st_size for name in files)
    return total


def settle(folder, seconds=2.0, trim=True):
    """Everything on disk, freed blocks given back, caches empty: every run begins alike."""
    os.sync()
    if os.geteuid() == 0:
        if trim:
            subprocess.run(["fstrim", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            mount = subprocess.run(["findmnt", "-no", "TARGET", "-T", str(folder)], capture_output=True, text=True).stdout.strip()
            if mount:
                subprocess.run(["fstrim", mount], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
        except OSError:
            pass
    time.sleep(seconds)


def median(values):
    return statistics.median(values)


def machine_line():
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown CPU")
    memory = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemTotal")) / 2**20
    system = next(line.split("=", 1)[1].strip().strip('"') for line in open("/etc/os-release") if line.startswith("PRETTY_NAME"))
    return f"{os.cpu_count()} × {model}, {memory:.0f} GiB memory, Linux {os.uname().release.split('-')[0]}, {system}"
