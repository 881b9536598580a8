"""Listeners on a free port, their peers, and what they accept of them."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from aiolsp.linux.listener import (
    Accepted,
    accept_ready,
    listen,
)

DEADLINE = 10.0


@contextmanager
def listening(host: str, port: int = 0) -> Iterator[list[socket.socket]]:
    """Listeners on *host*, closed at the end."""
    with ExitStack() as stack:
        yield [stack.enter_context(listener) for listener in listen(host, port)]


def connect(address: tuple[str, int]) -> socket.socket:
    """A connected peer with a deadline."""
    return socket.create_connection(address, DEADLINE)


def accept_once_ready(listener: socket.socket, budget: int = 64) -> Accepted:
    """What accept_ready gives as soon as poll(2) says that there is something."""
    assert select.select([listener], [], [], DEADLINE)[0]
    return accept_ready(listener, budget)


def close_all(accepted: Accepted) -> int:
    """Close what was accepted; how many there were."""
    connections, _ = accepted
    for connection, _ in connections:
        connection.close()
    return len(connections)


def open_descriptors() -> int:
    """How many descriptors this process holds."""
    return len(os.listdir("/proc/self/fd"))
