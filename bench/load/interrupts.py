"""Whatever ends a program of bench/ ends it as Ctrl-C does, so that no server and no directory of its own is left.

The servers that are started have sessions of their own: neither Ctrl-C nor the end of the terminal reaches them.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

from aiolsp.linux.lifetime import handler_after
from aiolsp.linux.signals import stop_signals


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt; SIGINT even where a shell has let it be ignored."""
    numbers = stop_signals()
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler_after(number, handler))


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
