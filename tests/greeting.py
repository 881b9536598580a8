"""A server on an event loop that greets its peers, and how a test of accepting runs: nothing may leak or complain."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import cast

from aiolsp.linux.listener import listen
from aiolsp.mechanisms.acceptor import Acceptor, Admit

DEADLINE = 10.0

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class Greeter(asyncio.Protocol):
    """Says hello to each peer and counts those that are connected."""

    connected: set[Greeter]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(b"hello")
        self.connected.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count."""
        self.connected.discard(self)


class Passer(asyncio.Protocol):
    """Closes at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hang up."""
        transport.close()


def greet(*_: object) -> Greeter:
    """Admit anybody."""
    return Greeter()


def accepting(admit: Admit = greet) -> Acceptor:
    """A started acceptor."""
    acceptor = Acceptor(listen("127.0.0.1", 0), admit)
    acceptor.start()
    return acceptor


def connect(acceptor: Acceptor, peers: ExitStack) -> socket.socket:
    """A blocking peer with a deadline; connected as soon as it is in the backlog."""
    peer = socket.create_connection(acceptor.listeners[0].getsockname(), DEADLINE)
    return peers.enter_context(peer)


async def receive(peer: socket.socket, count: int = 5) -> bytes:
    """What the peer receives, while the loop runs."""
    return await asyncio.to_thread(peer.recv, count)


async def hang_up() -> None:
    """Close every connection and wait until it is gone."""
    for greeter in list(Greeter.connected):
        greeter.transport.abort()
    await until(lambda: not Greeter.connected)


async def let_another_be_served(peers: ExitStack) -> None:
    """Serve a peer that comes now to another acceptor: whoever could be accepted before has its protocol by then.

    So a test that nobody is accepted can fail, and does not have to wait for a time.
    """
    another = Acceptor(listen("127.0.0.1", 0), lambda *_: Passer())
    another.start()
    assert await receive(connect(another, peers)) == b""
    another.close()


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop run until something *holds* that no event tells."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def run(main: Callable[[], Awaitable[None]], loop_factory: LoopFactory, peers: ExitStack) -> None:
    """Run a test's coroutine; what went wrong in a callback, or leaked, fails it."""
    faults: list[dict[str, object]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
        async with asyncio.timeout(DEADLINE):
            await main()

    before = open_descriptors()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(watched())
    peers.close()
    assert faults == []
    assert open_descriptors() == before


def open_descriptors() -> int:
    """How many descriptors this process holds."""
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Within the block nothing can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as gaps:
        highest = max(map(int, os.listdir("/proc/self/fd")))
        while (fd := os.open(os.devnull, os.O_RDONLY)) < highest:
            gaps.callback(os.close, fd)
        os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (fd, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
