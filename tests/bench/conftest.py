"""Servers that misbehave on purpose: blocking sockets in threads, one behaviour a server."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from harness import DEADLINE

Behaviour = Callable[[socket.socket, int], bool]
"""Answers one request (the n-th of the server, from 0) on a connection; False closes it."""


class MisbehavingServer:
    """Reads heads of requests and lets a behaviour answer them."""

    def __init__(self, behaviour: Behaviour, listener: socket.socket) -> None:
        self._behaviour = behaviour
        self._listener = listener
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._connections: set[socket.socket] = set()
        self.requests: list[bytes] = []
        self.accepted = 0
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    @property
    def url(self) -> str:
        """Where it listens, if it does so by TCP."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.accepted += 1
                self._connections.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(DEADLINE)
            data = b""
            while piece := connection.recv(65536):
                data += piece
                while b"\r\n\r\n" in data:
                    head, _, data = data.partition(b"\r\n\r\n")
                    with self._lock:
                        number = len(self.requests)
                        self.requests.append(head)
                    if not self._behaviour(connection, number):
                        return

    def stop(self) -> None:
        """Close everything and wait for the threads."""
        # A shutdown wakes a thread that blocks in accept or recv; a close does not.
        for sock in (self._listener, *self._connections):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._accepting, *self._threads):
            thread.join(DEADLINE)


@contextmanager
def _serving(behaviour: Behaviour, unix: str | None) -> Iterator[MisbehavingServer]:
    listener = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    listener.bind(unix or ("127.0.0.1", 0))
    listener.listen(128)
    server = MisbehavingServer(behaviour, listener)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def serve() -> Iterator[Callable[..., MisbehavingServer]]:
    """Starts servers of given behaviours; all are stopped after the test."""
    with ExitStack() as stack:
        yield lambda behaviour, unix=None: stack.enter_context(_serving(behaviour, unix))


@pytest.fixture
def program() -> list[str]:
    """The command that runs the load generator in a process of its own."""
    return [sys.executable, str(Path(__file__).parents[2] / "bench" / "stress.py")]


@pytest.fixture
def ours() -> Callable[[str], list[str]]:
    """Finds the command lines of running processes that mention a text."""
    return _command_lines


def _command_lines(marker: str) -> list[str]:
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return [line for line in lines if marker in line]
