"""A stream server leaves no connection behind, whenever it is closed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from aiolsp.linux.listener import listen
from aiolsp.mechanisms.server import StreamServer
from harness import receive_to_end

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class Member(asyncio.Protocol):
    """A connection that tells its server of itself."""

    def __init__(self, server: StreamServer[Member]) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.add(self)
        self._transport.write(b"made")

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.discard(self)

    def abort(self) -> None:
        self._transport.abort()


def new_server() -> StreamServer[Member]:
    server: StreamServer[Member] = StreamServer(lambda: Member(server))
    server.open(listen("127.0.0.1", 0))
    return server


def connect(server: StreamServer[Member]) -> socket.socket:
    host, port, *_ = cast(tuple[str, int], server.addresses[0])
    return socket.create_connection((host, port), timeout=10)


def test_closing_aborts_what_is_there_and_waits_until_it_is_gone(loop_factory: LoopFactory) -> None:
    async def run() -> None:
        server = new_server()
        with connect(server) as peer:
            assert await asyncio.to_thread(peer.recv, 4) == b"made"
            assert len(server.connections) == 1
            await server.close()
            assert not server.connections
            assert await asyncio.to_thread(receive_to_end, peer) == b""

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())


def test_a_connection_that_is_being_made_when_the_server_closes_is_closed_too(loop_factory: LoopFactory) -> None:
    async def run() -> None:
        server = new_server()
        with connect(server) as peer:
            accepted = asyncio.Event()
            assert server._acceptor is not None
            server._acceptor._admit = lambda *_: accepted.set() or Member(server)  # type: ignore[func-returns-value]
            await accepted.wait()  # the socket is there, its protocol not yet
            await server.close()
            assert not server.connections
            assert await asyncio.to_thread(receive_to_end, peer) in (b"", b"made")

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())


def test_empty_returns_when_the_last_peer_has_gone_by_itself(loop_factory: LoopFactory) -> None:
    async def run() -> None:
        server = new_server()
        with connect(server) as peer:
            assert await asyncio.to_thread(peer.recv, 4) == b"made"
        await server.empty()
        assert not server.connections
        await server.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())
