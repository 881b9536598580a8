"""What the kernel knows of a running server: its processes, its threads, and how often they slept (proc(5))."""

from __future__ import annotations

import os
from contextlib import suppress

from aiolsp.lab.model import Usage


def read(pid: int) -> Usage:
    """The figures of *pid* and its descendants since they began; what ends meanwhile counts as nothing."""
    sleeps = threads = 0
    pids = family(pid)
    for member in pids:
        with suppress(OSError):
            for tid in os.listdir(f"/proc/{member}/task"):
                with open(f"/proc/{member}/task/{tid}/status", encoding="latin-1") as status:
                    sleeps += sum(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt_switches"))
                threads += 1
    return Usage(sleeps, threads, len(pids))


def since(ready: Usage, last: Usage) -> Usage:
    """*last*, with the sleeps since *ready* only."""
    return Usage(max(last.sleeps - ready.sleeps, 0), last.threads, last.processes)


def family(pid: int) -> list[int]:
    """*pid* and its descendants, the dead that nobody has reaped included."""
    found = [pid]
    for member in found:
        with suppress(OSError):
            for tid in os.listdir(f"/proc/{member}/task"):
                with open(f"/proc/{member}/task/{tid}/children", encoding="ascii") as children:
                    found += [int(child) for child in children.read().split()]
    return found


def state(pid: int) -> str:
    """The letter of a process's state, ``Z`` for one that is dead and not reaped; empty if there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    except OSError:
        return ""
