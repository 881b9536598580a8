"""What a test must leave as it found it: descriptors, children, threads, how signals are met; and silence of the loop.

A test may leave what ends by itself at once, as the thread does that reads the output of a killed process: the
difference is looked at until it has gone, and what stays is a leak. A test that leaves nothing costs two looks.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

PATIENCE = 5.0
"""Seconds that what ends by itself may take for it on a busy machine; only a leak waits so long."""


class Footprint(NamedTuple):
    """What this process holds, by names that a person can search for."""

    descriptors: frozenset[str]
    children: frozenset[str]
    threads: frozenset[threading.Thread]
    signals: tuple[object, ...]
    blocked: frozenset[int]

    def grown_to(self, later: Footprint) -> list[str]:
        """What *later* has that was not there before, and how signals are met otherwise; empty if nothing."""
        found = [f"descriptor {name}" for name in sorted(later.descriptors - self.descriptors)]
        found += [f"child {name}" for name in sorted(later.children - self.children)]
        found += [f"thread {thread.name}" for thread in later.threads - self.threads]
        for number, before, after in zip(NUMBERS, self.signals, later.signals, strict=True):
            if before != after:
                found.append(f"handler of {number.name}: {after} in place of {before}")
        if self.blocked != later.blocked:
            found.append(f"blocked signals: {sorted(later.blocked)} in place of {sorted(self.blocked)}")
        return found


NUMBERS = sorted(set(signal.Signals) - {signal.SIGALRM})
"""Signals whose handlers are compared; SIGALRM is pytest-timeout's, which takes its own away when a test has failed."""


def footprint() -> Footprint:
    """What this process holds now."""
    return Footprint(
        frozenset(descriptors()),
        frozenset(children()),
        frozenset(threading.enumerate()),
        tuple(map(signal.getsignal, NUMBERS)),
        frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    )


def descriptors() -> Iterator[str]:
    """Each open descriptor with what it is (proc(5)), but for the fonts that matplotlib keeps open."""
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that lists them
            name = os.readlink(f"/proc/self/fd/{fd}")
            if not name.endswith(".ttf"):
                yield f"{fd} -> {name}"


def children() -> Iterator[str]:
    """Each child, zombies included."""
    for task in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError), open(f"/proc/self/task/{task}/children") as table:
            yield from table.read().split()


def left_since(before: Footprint) -> list[str]:
    """What this process holds more than *before*, after everything had time to end; empty if nothing."""
    end = time.monotonic() + PATIENCE
    while left := before.grown_to(footprint()):
        if time.monotonic() > end:
            return left
        gc.collect()
        time.sleep(0.002)
    return left


class _Complaints(logging.Handler):
    """Keeps what an event loop says that nobody caught: in a callback, or of a task that was destroyed pending."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it with its traceback."""
        self.texts.append(logging.Formatter().format(record))


@contextmanager
def quiet_loops() -> Iterator[None]:
    """AssertionError if the default exception handler of any loop of this process is called within the block."""
    complaints, logger = _Complaints(), logging.getLogger("asyncio")
    logger.addHandler(complaints)
    try:
        yield
    finally:
        logger.removeHandler(complaints)
    assert not complaints.texts, "the loop complained:\n" + "\n".join(complaints.texts)
