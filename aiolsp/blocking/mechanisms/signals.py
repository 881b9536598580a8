"""Signals as events of a blocking program: the self-pipe.

Book p. 184, listing 10-1 (sig_handler, addsig, the pipefd of the main loop): the unified event source.

Facts (signal(7), tried on CPython 3.11 to 3.13)
    - A signal interrupts anywhere, so a handler may do next to nothing; Python runs its handlers later, between two
      bytecodes of the main thread, and restarts the system call that was interrupted (PEP 475). A program waiting in
      epoll_wait would run the handler and go on waiting.
    - ``signal.set_wakeup_fd(fd)`` makes the C handler write the number as a byte to *fd* at once, on whichever thread
      the kernel chose: the wait ends.
    - A full pipe takes no more bytes: 10,000 signals lose most. Python then prints a complaint for each, unless told
      not to (``warn_on_full_buffer``). A different signal behind them would be lost with its byte.
    - The kernel keeps one pending bit for a signal: equal signals coalesce before anybody sees them.
Consequence
    The byte is good for waking up, not for counting, and must not be the only record.
Decision
    `SelfPipe` takes both: the byte wakes, the Python handler records the number. The handler runs whether or not there
    was room for the byte, and a full pipe is readable anyway, so nothing that differs is lost.
Price
    A signal means "at least once", never a count: who needs a count needs another channel.

The C++ original writes the byte in the handler itself, blind to a full pipe, and its loop acts on each byte.

Calling sequence: ``enter -> (fileno is readable -> receive)* -> exit``, on the main thread.
"""

from __future__ import annotations

import signal
import socket
import time
from collections import deque
from types import FrameType
from typing import Any

from aiolsp.linux.lifetime import handler_after
from aiolsp.linux.signals import STOP, checked
from aiolsp.tracing import trace


class SelfPipe:
    """The signals *numbers* as a readable descriptor, while the ``with`` block runs.

    Raises ValueError for no signal, one that cannot be caught, or an unknown number; and, entered on another thread
    than the main one, as `signal.signal` does; entered within its block, RuntimeError. On exit handlers and wake-up
    descriptor are again what they were. A request to stop (SIGINT, SIGTERM) that came too late to be received is raised
    again, if none was received before.
    """

    def __init__(self, *numbers: int) -> None:
        self.numbers = checked(numbers)
        self._arrived: deque[signal.Signals] = deque()
        self._times: dict[signal.Signals, float] = {}
        self._received: set[signal.Signals] = set()
        self._previous: dict[signal.Signals, Any] = {}
        self._open = False

    def __enter__(self) -> SelfPipe:
        if self._open:
            raise RuntimeError("this self-pipe is entered already")
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        try:
            self._previous_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        except ValueError:
            self._close()
            raise
        self._open = True
        for number in self.numbers:
            self._previous[number] = signal.getsignal(number)
            signal.signal(number, self._caught)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._open = False
        for number, handler in self._previous.items():
            if handler is not None:  # None: it was not installed from Python and cannot be put back
                signal.signal(number, handler_after(number, handler))
        signal.set_wakeup_fd(self._previous_fd)
        self._close()
        if self._received.isdisjoint(STOP):
            for number in set(self._arrived).intersection(STOP):
                signal.raise_signal(number)

    def fileno(self) -> int:
        """The descriptor to watch: readable when a signal has come."""
        return self._reader.fileno()

    def receive(self) -> list[signal.Signals]:
        """The signals that came since the last call, each once, in the order of arrival; does not wait."""
        woken = self._drain()
        arrived = dict.fromkeys(self._arrived.popleft() for _ in range(len(self._arrived)))
        # A byte can be here before its handler has run, if another thread took the signal.
        arrived.update(dict.fromkeys(number for number in self.numbers if number in woken))
        self._received.update(arrived)
        if trace.on:
            for number in arrived:
                trace.event("<", "signal", fd=self._reader.fileno(), flags=number.name, why="from the self-pipe")
        return list(arrived)

    def came(self, number: signal.Signals) -> float:
        """When the last *number* that was received came (``time.monotonic``), which may be long before that."""
        return self._times.get(number) or time.monotonic()  # its handler may not have run yet: see `receive`

    def _caught(self, number: int, frame: FrameType | None) -> None:
        kind = signal.Signals(number)
        self._times[kind] = time.monotonic()
        if kind not in self._arrived:
            self._arrived.append(kind)

    def _drain(self) -> set[int]:
        woken: set[int] = set()
        try:
            while data := self._reader.recv(4096):
                woken.update(data)
        except BlockingIOError:
            pass
        return woken

    def _close(self) -> None:
        self._reader.close()
        self._writer.close()
