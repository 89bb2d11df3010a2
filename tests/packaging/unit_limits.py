"""Puts on the limits of system calls that a unit file states, as systemd.exec(5) describes them, and becomes the command:

    unit_limits.py UNIT COMMAND...

For a machine without systemd. Each setting is a filter of its own, as there; the strictest word counts.
"""
import configparser
import errno
import os
import pathlib
import subprocess
import sys

import seccomp

NAMESPACES = {"cgroup": 0x02000000, "ipc": 0x08000000, "mnt": 0x00020000, "net": 0x40000000, "pid": 0x20000000, "user": 0x10000000, "uts": 0x04000000,
              "time": 0x00000080}
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16, "AF_PACKET": 17}
FAMILIES_END = 64
SCHED_FIFO, SCHED_RR, SCHED_DEADLINE = 1, 2, 6
SET_ID_BITS = (0o4000, 0o2000)


def settings_of(unit):
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string(pathlib.Path(unit).read_text())
    return parser["Service"]


def calls_of(group):
    """The calls of "@system-service", say; what it is is systemd's to say."""
    listed = subprocess.run(["systemd-analyze", "syscall-filter", group], check=True, capture_output=True, text=True).stdout
    for line in listed.splitlines()[1:]:
        word = line.split("#")[0].strip()
        if word.startswith("@"):
            yield from calls_of(word)
        elif word:
            yield word


def refuse(rules, action=None):
    """A filter that refuses the calls whose arguments are such."""
    made = seccomp.SyscallFilter(seccomp.ALLOW)
    for call, *arguments in rules:
        made.add_rule(action or seccomp.ERRNO(errno.EPERM), call, *arguments)
    made.load()


def allow_only(groups):
    made = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    for call in sorted({call for group in (*groups.split(), "@default") for call in calls_of(group)}):
        try:
            made.add_rule(seccomp.ALLOW, call)
        except (RuntimeError, OSError):
            continue  # not one of this machine's
    made.load()


def restrict_families(allowed):
    refused = set(range(FAMILIES_END)) - {FAMILIES[name] for name in allowed.split()}
    rules = [("socket", seccomp.Arg(0, seccomp.EQ, family)) for family in sorted(refused)]
    refuse([*rules, ("socket", seccomp.Arg(0, seccomp.GE, FAMILIES_END))], seccomp.ERRNO(errno.EAFNOSUPPORT))


def restrict_namespaces(allowed):
    rules = [("setns", seccomp.Arg(1, seccomp.EQ, 0))]
    for name in sorted(set(NAMESPACES) - set(allowed.split())):
        flag = NAMESPACES[name]
        rules += [(call, seccomp.Arg(argument, seccomp.MASKED_EQ, flag, flag)) for call, argument in (("unshare", 0), ("setns", 1))]
        if name != "time":  # clone(2) has no flag for it: its low byte is a signal
            rules.append(("clone", seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag)))
    refuse(rules)
    refuse([("clone3",)], seccomp.ERRNO(errno.ENOSYS))  # its flags lie where a filter cannot look


def restrict_set_id():
    rules = []
    for bit in SET_ID_BITS:
        for call, argument in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("mkdir", 1), ("mkdirat", 2), ("mknod", 1), ("mknodat", 2), ("creat", 1)):
            rules.append((call, seccomp.Arg(argument, seccomp.MASKED_EQ, bit, bit)))
        for call, flags in (("open", 1), ("openat", 2)):
            rules.append((call, seccomp.Arg(flags, seccomp.MASKED_EQ, os.O_CREAT, os.O_CREAT), seccomp.Arg(flags + 1, seccomp.MASKED_EQ, bit, bit)))
    refuse(rules)
    refuse([("openat2",)], seccomp.ERRNO(errno.ENOSYS))  # as clone3


def restrict_realtime():
    refuse([("sched_setscheduler", seccomp.Arg(1, seccomp.EQ, policy)) for policy in (SCHED_FIFO, SCHED_RR, SCHED_DEADLINE)])


def main():
    unit, *command = sys.argv[1:]
    settings = settings_of(unit)
    restrict_families(settings["RestrictAddressFamilies"])
    restrict_namespaces(settings["RestrictNamespaces"])
    if settings["RestrictSUIDSGID"] == "yes":
        restrict_set_id()
    if settings["RestrictRealtime"] == "yes":
        restrict_realtime()
    if settings["LockPersonality"] == "yes":
        refuse([("personality", seccomp.Arg(0, seccomp.NE, 0))])
    allow_only(settings["SystemCallFilter"])
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
