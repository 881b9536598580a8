"""A connection under a private epoll, and what an event loop was told of it."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from harness import DEADLINE

Run = Callable[[Coroutine[Any, Any, None]], None]
Pair = tuple[socket.socket, socket.socket]

IN, OUT, PRI, RDHUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLPRI, select.EPOLLRDHUP
ET, ONESHOT = select.EPOLLET, select.EPOLLONESHOT


@contextmanager
def connection() -> Iterator[Pair]:
    """Both ends of a TCP connection, the first non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        served, _ = listener.accept()
    served.setblocking(False)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with peer, served:
        yield served, peer


class Seen:
    """Records events, and lets a test wait for the next."""

    def __init__(self) -> None:
        self.events: list[tuple[int, int]] = []
        self._arrived = asyncio.Event()

    def __call__(self, fd: int, events: int) -> None:
        self.events.append((fd, events))
        self._arrived.set()

    async def wait(self, count: int = 1) -> list[int]:
        """The masks seen, once there are *count*."""
        async with asyncio.timeout(DEADLINE):
            while len(self.events) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return [events for _, events in self.events]


async def turns(count: int = 20) -> None:
    """Give the loop turns in which a level-triggered event would come again, and a spinning watch would be seen."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        reader, writer = os.pipe()
        os.write(writer, b"x")
        ready = asyncio.Event()
        loop.add_reader(reader, ready.set)
        await ready.wait()
        loop.remove_reader(reader)
        os.close(reader)
        os.close(writer)
