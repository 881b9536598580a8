"""Whatever ends a program of bench/ ends it as Ctrl-C does, so that no server and no directory of its own is left.

The servers that are started have sessions of their own: neither Ctrl-C nor the end of the terminal reaches them.

Within asyncio.run Ctrl-C cancels the main task. An exception raised there would be whose callback it happened to meet:
uvloop prints it, closes that connection, and goes on. So the other signals are passed on as SIGINT.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

from aiolsp.linux.lifetime import handler_after
from aiolsp.linux.signals import stop_signals
from aiolsp.sansio.stopping import ECHO


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT interrupts, even where a shell has let it be ignored; SIGTERM and SIGHUP are SIGINT, an echo is none."""
    came: float | None = None

    def pass_on(*_: object) -> None:
        nonlocal came
        before, came = came, time.monotonic()
        echo = _cancelled() if before is None else came - before < ECHO
        if not echo:
            signal.raise_signal(signal.SIGINT)

    numbers = stop_signals()
    interrupt = signal.default_int_handler
    before = [signal.signal(number, interrupt if number is signal.SIGINT else pass_on) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler_after(number, handler))


def _cancelled() -> bool:
    """Whether SIGINT has come before, and within asyncio.run: its handler knows the main task."""
    task = getattr(signal.getsignal(signal.SIGINT), "keywords", {}).get("main_task")
    return task is not None and task.cancelling() > 0


@contextmanager
def blocked_signals() -> Iterator[None]:
    """What multiprocessing spawns in the block does not hear a signal to stop: Ctrl-C is for its parent.

    It inherits the mask (signal(7)).
    """
    # It unblocks SIGINT and SIGTERM when it has started, and would do so as part of starting the first process.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
