"""What a worker thread does with a socket that it holds: read until nothing more came for a while, then let it go.

Book p. 157, listing 9-4. Workers are threads in both shells, and wait where the loop must not.

The wait is a poll of the socket for POLLRDHUP and of the server's eventfd, so that the peer's end and the server's stop
end it at once. Who holds the socket is known by name: two at a time are what EPOLLONESHOT is there to prevent.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from aiolsp.tracing import trace

READ_SIZE = 64 * 1024
"""Bytes of one recv."""

SHOWN = 64
"""Bytes of one read that are printed; the rest is only counted."""


class Holder(Protocol):
    """The server whose workers hold sockets."""

    wait: float
    """Seconds that a worker gives more bytes to come."""
    stop: int
    """An eventfd, readable once it stops; nobody reads it."""
    stopping: bool

    def tell(self, line: str) -> None:
        """Print a line, from any thread, and whole."""


class WorkerHold:
    """The non-blocking *sock* of *peer*, and the threads that hold it; `read_on` is for workers."""

    def __init__(self, server: Holder, sock: socket.socket, peer: str) -> None:
        self.holders: list[str] = []
        """Names of the threads that are on the socket."""
        self.most = 0
        """Threads that were on the socket at one time, at most."""
        self.received = 0
        self._server = server
        self._socket = sock
        self._fd = sock.fileno()
        self._peer = peer
        self._lock = threading.Lock()

    def read_on(self) -> str:
        """Read until nothing more came in a wait; why the connection has ended, or nothing if it has not."""
        name = threading.current_thread().name
        with self._held(name), trace.span(f"{self._peer} held", fd=self._fd):
            return self._read_on(name)

    @contextmanager
    def _held(self, name: str) -> Iterator[None]:
        with self._lock:
            self.holders.append(name)
            self.most = max(self.most, len(self.holders))
            told = f"{' and '.join(self.holders)} have the socket at the same time"
            self._server.tell(f"{self._peer} {told if len(self.holders) > 1 else f'{name} has the socket'}")
        try:
            yield
        finally:
            with self._lock:
                self.holders.remove(name)

    def _read_on(self, name: str) -> str:
        waited = False
        while not self._server.stopping:
            try:
                data = self._socket.recv(READ_SIZE)
            except BlockingIOError:
                if waited:
                    self._let_go(name)
                    break
                self._wait()
                waited = True
                continue
            except OSError as error:
                return (error.strerror or "broken").lower()
            if not data:
                if trace.on:
                    trace.event("<", "recv", fd=self._fd, size=0, why="end of stream")
                return "end of stream"
            self._take(name, data)
            waited = False
        return ""

    def _take(self, name: str, data: bytes) -> None:
        if trace.on:
            trace.event("<", "recv", fd=self._fd, size=len(data), why="read until EAGAIN")
        with self._lock:
            self.received += len(data)
        self._server.tell(f"{self._peer} {name} read {len(data)} bytes {data[:SHOWN]!r}")

    def _wait(self) -> None:
        """Give more bytes time to come; the end of the stream and the server's stop end the wait at once."""
        if trace.on:
            trace.event("=", "recv EAGAIN", fd=self._fd, why=f"wait {self._server.wait:g} s for more")
        waiting = select.poll()
        waiting.register(self._fd, select.POLLRDHUP)
        waiting.register(self._server.stop, select.POLLIN)
        waiting.poll(self._server.wait * 1000)

    def _let_go(self, name: str) -> None:
        if trace.on:
            trace.event("-", "recv EAGAIN", fd=self._fd, why="read later: nothing came, let the socket go")
        self._server.tell(f"{self._peer} {name} lets the socket go, silent for {self._server.wait:g} s")
