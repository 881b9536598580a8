"""Which signals ask a process to stop (signal(7)), and how to have them wait while something is made or removed.

Facts (tried on this kernel)
    - Python acts on a signal between any two of its steps: also between a system call that has made something, and the
      line that would remember it. An exception that a handler raises in the hooks of fork(2) is lost.
    - A process has the mask of the one that started it, and ignores what that ignored, but has none of its handlers.
Consequence
    To block the signals would block them in what is started meanwhile; and what is ignored must stay so.
Decision
    `uninterrupted` has handlers that only remember what came.
Price
    It is for the main thread, where handlers run; on another one it does nothing.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

UNCATCHABLE = frozenset({signal.SIGKILL, signal.SIGSTOP})
"""What no process can handle (signal(7))."""

STOP = (signal.SIGINT, signal.SIGTERM)
"""What asks a program to end, and so must not be lost between two handlers."""


def checked(numbers: tuple[int, ...]) -> tuple[signal.Signals, ...]:
    """The signals called *numbers*, each once. Raises ValueError for none, an unknown, or one that cannot be caught."""
    if not numbers:
        raise ValueError("name at least one signal")
    kinds = tuple(dict.fromkeys(signal.Signals(number) for number in numbers))
    for kind in kinds:
        if kind in UNCATCHABLE:
            raise ValueError(f"{kind.name} cannot be caught")
    return kinds


def stop_signals() -> tuple[signal.Signals, ...]:
    """What asks a process to finish and end, as a terminal that hangs up does, unless that is ignored (nohup(1))."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return STOP if ignored else (*STOP, signal.SIGHUP)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A signal to stop is acted on after the block: no process that it starts, no directory that it makes, is left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in stop_signals()
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in dict.fromkeys(came):
            signal.raise_signal(late)
