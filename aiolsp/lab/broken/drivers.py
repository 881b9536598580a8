"""One interface to an event loop of asyncio and to a bare epoll(7), so that a mistake is written once.

Both drive callbacks from one thread. The asyncio one is the stock loop: uvloop takes no handler for SIGCHLD.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Protocol, TypeAlias

from aiolsp.linux.epoll_flags import flag_names
from aiolsp.linux.signals import STOP
from aiolsp.mechanisms.epoll import EpollWatcher
from aiolsp.mechanisms.loop import run
from aiolsp.tracing import trace

Ready: TypeAlias = Callable[[int, int], object]
"""Called with a descriptor and its events."""

Begin: TypeAlias = "Callable[[Driver], object]"
"""Sets a server up on its driver."""


class Driver(Protocol):
    """What a server asks of its loop."""

    def watch(self, fd: int, flags: int, ready: Ready) -> None:
        """Call *ready* when *fd* has one of *flags*."""

    def modify(self, fd: int, flags: int) -> None:
        """Watch *fd* for other *flags*; arms it again, if it is one-shot."""

    def unwatch(self, fd: int) -> None:
        """Forget *fd*, before it is closed."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Callable[[], object]:
        """Call *callback* in so many *seconds*; what cancels that."""

    def on_signal(self, number: signal.Signals, callback: Callable[[], object]) -> None:
        """Call *callback* as an event when the signal has come."""

    def in_thread(self, job: Callable[[], object], done: Callable[[], object]) -> None:
        """Run *job* in a thread, then *done* here."""


class LoopDriver:
    """A `Driver` on the running event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watcher = EpollWatcher()
        self._numbers: list[signal.Signals] = []
        self.watch = self._watcher.add
        self.modify = self._watcher.modify
        self.unwatch = self._watcher.remove

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Callable[[], object]:
        """Call *callback* in so many *seconds*; what cancels that."""
        return self._loop.call_later(seconds, callback).cancel

    def on_signal(self, number: signal.Signals, callback: Callable[[], object]) -> None:
        """Call *callback* as an event when the signal has come."""
        self._numbers.append(number)
        self._loop.add_signal_handler(number, _told(number, callback))

    def in_thread(self, job: Callable[[], object], done: Callable[[], object]) -> None:
        """Run *job* in a thread, then *done* here."""
        self._loop.run_in_executor(None, job).add_done_callback(lambda _: done())

    def close(self) -> None:
        """Take all back, before the loop closes."""
        for number in self._numbers:
            self._loop.remove_signal_handler(number)
        self._watcher.close()


class EpollDriver:
    """A `Driver` of its own: ``with EpollDriver() as driver: driver.run()``, on the main thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Ready] = {}
        self._timers: list[tuple[float, int, Callable[[], object]]] = []
        self._cancelled: set[int] = set()
        self._numbers = count()
        self._handlers: dict[int, Callable[[], object]] = {}
        self._finished: list[Callable[[], object]] = []
        self._reader, self._writer = socket.socketpair()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopped = False

    def __enter__(self) -> EpollDriver:
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._epoll.register(self._reader, select.EPOLLIN)
        self._epoll.register(self._bell, select.EPOLLIN)
        return self

    def __exit__(self, *exc_info: object) -> None:
        signal.set_wakeup_fd(-1)
        self._epoll.close()
        self._reader.close()
        self._writer.close()
        os.close(self._bell)

    def watch(self, fd: int, flags: int, ready: Ready) -> None:
        """Call *ready* when *fd* has one of *flags*."""
        self._ready[fd] = ready
        self._epoll.register(fd, flags)
        trace.event("=", "epoll_ctl ADD", fd=fd, flags=flag_names(flags))

    def modify(self, fd: int, flags: int) -> None:
        """Watch *fd* for other *flags*; arms it again, if it is one-shot."""
        self._epoll.modify(fd, flags)
        trace.event("=", "epoll_ctl MOD", fd=fd, flags=flag_names(flags))

    def unwatch(self, fd: int) -> None:
        """Forget *fd*, before it is closed."""
        del self._ready[fd]
        self._epoll.unregister(fd)
        trace.event("=", "epoll_ctl DEL", fd=fd)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Callable[[], object]:
        """Call *callback* in so many *seconds*; what cancels that."""
        number = next(self._numbers)
        heapq.heappush(self._timers, (time.monotonic() + seconds, number, callback))
        return lambda: self._cancelled.add(number)

    def on_signal(self, number: signal.Signals, callback: Callable[[], object]) -> None:
        """Call *callback* as an event when the signal has come."""
        self._handlers[number] = _told(number, callback)
        signal.signal(number, lambda number, frame: None)  # the byte in the pipe is what counts

    def in_thread(self, job: Callable[[], object], done: Callable[[], object]) -> None:
        """Run *job* in a thread, then *done* here."""

        def work() -> None:
            job()
            self._finished.append(done)
            os.eventfd_write(self._bell, 1)

        threading.Thread(target=work, name="worker", daemon=True).start()

    def stop(self) -> None:
        """Let `run` return."""
        self._stopped = True

    def run(self) -> None:
        """Wait and call, until stopped."""
        while not self._stopped:
            wait = max(self._timers[0][0] - time.monotonic(), 0) if self._timers else -1
            for fd, events in self._epoll.poll(wait):
                if fd == self._reader.fileno():
                    for number in self._reader.recv(4096):
                        self._handlers[number]()
                elif fd == self._bell:
                    os.eventfd_read(fd)
                    while self._finished:
                        self._finished.pop(0)()
                elif (ready := self._ready.get(fd)) is not None:
                    trace.event("<", "epoll_wait", fd=fd, flags=flag_names(events))
                    ready(fd, events)
            self._fire()

    def _fire(self) -> None:
        while self._timers and self._timers[0][0] <= time.monotonic():
            _, number, callback = heapq.heappop(self._timers)
            if number not in self._cancelled:
                callback()
            self._cancelled.discard(number)


def run_asyncio(begin: Begin) -> None:
    """Run what *begin* sets up until SIGINT or SIGTERM, on an event loop."""

    async def main() -> None:
        stopped = asyncio.Event()
        driver = LoopDriver()
        try:
            for number in STOP:
                driver.on_signal(number, stopped.set)
            begin(driver)
            await stopped.wait()
        finally:
            driver.close()

    run(main(), loop="asyncio")


def run_blocking(begin: Begin) -> None:
    """Run what *begin* sets up until SIGINT or SIGTERM, on a bare epoll."""
    with EpollDriver() as driver:
        for number in STOP:
            driver.on_signal(number, driver.stop)
        begin(driver)
        driver.run()


def _told(number: signal.Signals, callback: Callable[[], object]) -> Callable[[], object]:
    def call() -> None:
        trace.event("<", "signal", flags=number.name)
        callback()

    return call
