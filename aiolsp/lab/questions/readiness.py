"""What readiness means: who is woken, how often, and what it costs. Book p. 154 and 157."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from aiolsp.lab.actors import PATIENCE, Failed
from aiolsp.lab.questions.question import Figures, Question
from aiolsp.mechanisms.epoll import EpollWatcher
from aiolsp.mechanisms.loop import run

THREADS = 4
REQUESTS = 200
MESSAGES = 2000
PIECE = 64
"""Bytes of one recv."""

LT = select.EPOLLIN
ET = select.EPOLLIN | select.EPOLLET
ONESHOT = ET | select.EPOLLONESHOT


class Told:
    """Counts how often a thread is told of a request, and how often in vain; a new request follows each answer."""

    def __init__(self) -> None:
        self.ours, self._peer = socket.socketpair()
        self.ours.setblocking(False)
        self.times = 0
        self.in_vain = 0
        self._lock = threading.Lock()
        self._answered = threading.Semaphore(0)

    def send(self) -> None:
        """Send the requests, one after the other."""
        for _ in range(REQUESTS):
            self._peer.send(b"request")
            if not self._answered.acquire(timeout=PATIENCE):
                raise Failed("a request is not answered")

    def take(self) -> None:
        """A thread has been told: take the request, if it is still there."""
        try:
            self.ours.recv(PIECE)
        except BlockingIOError:
            with self._lock:
                self.times += 1
                self.in_vain += 1
            return
        with self._lock:
            self.times += 1
        self._answered.release()

    def close(self) -> None:
        """Close both ends."""
        self.ours.close()
        self._peer.close()

    def row(self) -> tuple[str, str]:
        """The two counts."""
        return f"{self.times}", f"{self.in_vain}"


def told_blocking(flags: int) -> tuple[str, str]:
    """Threads that all wait on one epoll."""
    told, stop = Told(), os.eventfd(0, os.EFD_NONBLOCK)
    with select.epoll() as epoll:
        epoll.register(told.ours, flags)
        epoll.register(stop, select.EPOLLIN)

        def wait() -> None:
            while stop not in dict(found := epoll.poll()):
                if found:
                    told.take()
                    if flags & select.EPOLLONESHOT:
                        epoll.modify(told.ours, flags)

        threads = [threading.Thread(target=wait) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        try:
            told.send()
        finally:
            os.eventfd_write(stop, 1)
            for thread in threads:
                thread.join()
            os.close(stop)
            told.close()
    return told.row()


def told_asyncio(flags: int) -> tuple[str, str]:
    """A loop that hands each report to a pool of threads."""
    told = Told()

    async def main() -> None:
        watcher = EpollWatcher()
        with ThreadPoolExecutor(THREADS) as pool:

            def work() -> None:
                told.take()
                if flags & select.EPOLLONESHOT:
                    watcher.rearm(told.ours.fileno(), flags)

            watcher.add(told.ours.fileno(), flags, lambda fd, events: pool.submit(work))
            try:
                await asyncio.get_running_loop().run_in_executor(None, told.send)
            finally:
                watcher.remove(told.ours.fileno())
                watcher.close()

    try:
        run(main())
    finally:
        told.close()
    return told.row()


def told() -> Figures:
    """Each way to watch, in both shells."""
    return [
        (f"{REQUESTS} requests, {name}", (*told_asyncio(flags), *told_blocking(flags)))
        for name, flags in (("LT", LT), ("ET", ET), ("ET and ONESHOT", ONESHOT))
    ]


class Exchange:
    """Messages of *size* bytes to ourselves, the next when the last has been read; counts recv."""

    def __init__(self, size: int) -> None:
        self.ours, self._peer = socket.socketpair()
        self.ours.setblocking(False)
        self.recv = 0
        self.wake_ups = 0
        self._message = bytes(size)
        self._unread = 0
        self._left = MESSAGES

    def next(self) -> bool:
        """Send the next message, if the last has been read; False when all have been."""
        if not self._unread:
            if not self._left:
                return False
            self._left -= 1
            self._unread = len(self._message)
            self._peer.send(self._message)
        return True

    def read(self, *, drain: bool) -> None:
        """Read a piece, or all there is."""
        self.wake_ups += 1
        with suppress(BlockingIOError):
            while True:
                self.recv += 1
                self._unread -= len(self.ours.recv(PIECE))
                if not drain:
                    return

    def close(self) -> None:
        """Close both ends."""
        self.ours.close()
        self._peer.close()


def exchange_blocking(exchange: Exchange, *, edge: bool) -> None:
    """All messages by a bare epoll."""
    with select.epoll() as epoll:
        epoll.register(exchange.ours, ET if edge else LT)
        while exchange.next():
            epoll.poll()
            exchange.read(drain=edge)


def exchange_asyncio(exchange: Exchange, *, edge: bool) -> None:
    """All messages by an event loop: add_reader for LT, a private epoll for ET."""

    async def main() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def ready(*_: object) -> None:
            exchange.read(drain=edge)
            if not exchange.next():
                done.set()

        fd, watcher = exchange.ours.fileno(), EpollWatcher()
        watcher.add(fd, ET, ready) if edge else loop.add_reader(fd, ready)
        exchange.next()
        await done.wait()
        watcher.remove(fd) if edge else loop.remove_reader(fd)
        watcher.close()

    run(main())


def cost(way: Callable[..., None], size: int, *, edge: bool) -> tuple[str, str]:
    """Microseconds and recv calls of a message."""
    exchange = Exchange(size)
    begun = time.perf_counter()
    try:
        way(exchange, edge=edge)
    finally:
        exchange.close()
    elapsed = time.perf_counter() - begun
    return f"{elapsed / MESSAGES * 1e6:.1f} us", f"{exchange.recv / MESSAGES:.1f}"


def costs() -> Figures:
    """Both triggers, for messages of one piece and of ten."""
    return [
        (
            f"{size} bytes, {PIECE} a recv, {'ET' if edge else 'LT'}",
            (*cost(exchange_asyncio, size, edge=edge), *cost(exchange_blocking, size, edge=edge)),
        )
        for size in (PIECE, 10 * PIECE)
        for edge in (False, True)
    ]


def accepts() -> Figures:
    """Connections that are accepted and left, from the matrix of the program `trigger`."""
    found: dict[str, list[str]] = {}
    for package in ("aiolsp", "aiolsp.blocking"):
        command = [sys.executable, "-m", f"{package}.trigger", "matrix", "--connections", "20", "--bytes", "10"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3 * PATIENCE)
        for line in done.stdout.splitlines():
            words = line.split()
            if words[:1] == ["listener"]:
                found.setdefault(" ".join(words[:-7]), []).extend((words[-7], *words[-2:]))
    if not found:
        raise Failed("the matrix of trigger says nothing of listeners")
    return [(f"20 connections, {name}", row) for name, row in found.items()]


TOLD = ("asyncio: told", "in vain", "blocking: told", "in vain")
COST = ("asyncio: a message", "recv", "blocking: a message", "recv")
ACCEPTED = ("asyncio: told", "done", "left", "blocking: told", "done", "left")

QUESTIONS = (
    Question(
        "lt",
        "Does level triggering wake two threads for one request?",
        TOLD,
        told,
        "Yes: until a thread has read it the request is still there, so the next wait reports it again, to any "
        "thread, and that one finds nothing (EAGAIN). An edge is reported once, but a second segment is another "
        "edge, and then two threads are on one socket. Only EPOLLONESHOT keeps the others away until the one that "
        "has it arms it again.",
    ),
    Question(
        "accept",
        "Why accept in a loop under edge triggering?",
        ACCEPTED,
        accepts,
        "Several connections that come before the wait are one edge, and so one report. Whoever accepts once for "
        "it leaves the others in the backlog, and a newcomer's edge frees one of them only. Accept until EAGAIN, "
        "or leave the listener level triggered, where one accept a wake-up is right.",
    ),
    Question(
        "et",
        "Is edge triggering faster?",
        COST,
        costs,
        "Where one recv takes all, no: edge triggering has to ask once more, to be told EAGAIN, and asyncio pays "
        "for a second epoll besides. Where the buffer is much smaller than what comes it saves a wake-up for each "
        "piece, which a larger buffer does as well. It is chosen for what it means, with EPOLLONESHOT or "
        "EPOLLOUT, not for its speed.",
    ),
)
