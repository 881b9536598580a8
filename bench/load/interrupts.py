"""Whatever ends a program of bench/ ends it as Ctrl-C does, so that no server and no directory of its own is left.

The servers that are started have sessions of their own: neither Ctrl-C nor the end of the terminal reaches them.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt; SIGINT even where a shell has let it be ignored."""
    numbers = stop_signals()
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A signal to stop waits for the end of the block: for what must not be started without being known.

    A mask would do so too, but a process that is started in the block would inherit it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: set[int] = set()
    before = {number: signal.signal(number, lambda number, _: came.add(number)) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


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


def stop_signals() -> tuple[signal.Signals, ...]:
    """SIGINT, SIGTERM, and SIGHUP unless nohup(1) has it ignored."""
    hang_up = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
    return (signal.SIGINT, signal.SIGTERM, *hang_up)
