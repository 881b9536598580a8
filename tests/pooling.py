"""A pool of processes as its clients find it: who serves them, and a load that goes on while processes come and go."""

from __future__ import annotations

import select
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from aiolsp.linux.pidfd import PidFd
from faults import wait_until
from harness import DEADLINE, Server, Shell, receive_exactly, receive_to_end, receive_until

HOST = Path(__file__).with_name("poolhost.py")


class Hello(NamedTuple):
    """Who serves a connection."""

    slot: int
    generation: int
    pid: int


@contextmanager
def pool(shell: Shell, *options: object) -> Iterator[Server]:
    """A pool of 2 echo servers, unless *options* say otherwise; it must end by itself with status 0."""
    server = Server([sys.executable, str(HOST), shell.name, *map(str, options)])
    try:
        yield server
        server.stop()
    finally:
        server.kill()


def hello(peer: socket.socket) -> Hello:
    """Who has greeted *peer*."""
    return Hello(*map(int, receive_until(peer, b"\n").split()))


def echoes(peer: socket.socket, data: bytes = b"hello\n") -> bool:
    """Whether what *peer* says comes back."""
    peer.sendall(data)
    return receive_exactly(peer, len(data)) == data


def request(server: Server) -> Hello:
    """A whole connection: greeted, echoed to, closed."""
    with server.connect() as peer:
        who = hello(peer)
        assert echoes(peer)
        peer.shutdown(socket.SHUT_WR)
        assert receive_to_end(peer) == b""
        return who


def all_workers(server: Server, count: int = 2) -> dict[int, Hello]:
    """The worker of each slot, as connections find them."""
    found: dict[int, Hello] = {}
    end = time.monotonic() + DEADLINE
    while len(found) < count:
        assert time.monotonic() < end, f"only {found} serve"
        with ExitStack() as peers:
            for peer in [peers.enter_context(server.connect()) for _ in range(2 * count)]:
                who = hello(peer)
                found[who.slot] = who
    return found


def await_end(*pids: int) -> None:
    """Wait until these processes have ended."""
    for pid in pids:
        try:
            process = PidFd(pid)
        except ProcessLookupError:
            continue
        with process:
            assert select.select([process], [], [], DEADLINE)[0], f"process {pid} still runs"


class Load:
    """Clients that make one request after the other, until the block ends; what went wrong is kept."""

    def __init__(self, server: Server, clients: int = 3) -> None:
        self.served: list[Hello] = []
        self.failed: list[str] = []
        self._server = server
        self._over = threading.Event()
        self._clients = [threading.Thread(target=self._request) for _ in range(clients)]

    def __enter__(self) -> Load:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        for client in self._clients:
            client.join(DEADLINE)

    def await_more(self, count: int) -> None:
        """Wait until that many more have been served."""
        goal = len(self.served) + count
        wait_until(lambda: len(self.served) >= goal, f"{count} more requests")

    def await_generation(self, generation: int) -> None:
        """Wait until the last so many requests were all served by this generation."""
        wait_until(
            lambda: len(self.served) > 20 and all(who.generation == generation for who in self.served[-20:]),
            f"generation {generation} alone",
        )

    def _request(self) -> None:
        while not self._over.is_set():
            try:
                self.served.append(request(self._server))
            except (OSError, AssertionError) as error:
                self.failed.append(f"{type(error).__name__}: {error}")
