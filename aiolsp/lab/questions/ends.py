"""The end of a stream while an answer is owed: EPOLLRDHUP, EOF, half-close."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from aiolsp.lab.actors import PATIENCE
from aiolsp.lab.questions.question import Figures, Question
from aiolsp.linux.epoll_flags import flag_names
from aiolsp.mechanisms.loop import run

ANSWER = b"the answer\n"
WORK = 0.05
"""Seconds that the answer takes."""


@contextmanager
def half_closed() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection whose client has sent its request and said no more; the client's side, the server's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), PATIENCE)
        server, _ = listener.accept()
    with client, server:
        client.sendall(b"request\n")
        client.shutdown(socket.SHUT_WR)
        yield client, server


def blocking(*, keep: bool) -> tuple[str, str]:
    """What epoll reports, and the bytes that the client gets: closed at EPOLLRDHUP, or answered first."""
    with half_closed() as (client, server), select.epoll() as epoll:
        epoll.register(server, select.EPOLLIN | select.EPOLLRDHUP)
        flags = 0
        while not flags & select.EPOLLRDHUP:
            [(_, flags)] = epoll.poll(PATIENCE)
        server.recv(100)
        if keep:
            server.sendall(ANSWER)
        server.close()
        return flag_names(flags), f"{received(client)} B"


class Half(asyncio.Protocol):
    """Answers a while after the request; *keep* says whether the connection outlives the peer's end of stream."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self.told = ""
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """The answer takes its time."""
        asyncio.get_running_loop().call_later(WORK, self._answer)

    def eof_received(self) -> bool:
        """True keeps the transport open for what is still to be written."""
        self.told = "eof_received"
        return self._keep

    def connection_lost(self, exc: Exception | None) -> None:
        """All is done."""
        self.lost.set_result(None)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(ANSWER)
            self._transport.close()


def on_loop(*, keep: bool) -> tuple[str, str]:
    """The same by a protocol: what it is told, and the bytes that the client gets."""

    async def main() -> tuple[str, str]:
        with half_closed() as (client, server):
            loop = asyncio.get_running_loop()
            _, protocol = await loop.connect_accepted_socket(lambda: Half(keep=keep), server.dup())
            server.close()
            await protocol.lost
            return protocol.told, f"{received(client)} B"

    return run(main())


def received(client: socket.socket) -> int:
    """Bytes until the end."""
    count = 0
    while data := client.recv(100):
        count += len(data)
    return count


def measure() -> Figures:
    """Both policies."""
    return [
        ("close at the end of stream", (*on_loop(keep=False), *blocking(keep=False))),
        ("answer first, then close", (*on_loop(keep=True), *blocking(keep=True))),
    ]


QUESTIONS = (
    Question(
        "rdhup",
        "What does EPOLLRDHUP mean when an answer is still owed?",
        ("asyncio: told by", "client got", "blocking: told by", "client got"),
        measure,
        "It means that the peer sends no more (a FIN), not that it reads no more: shutdown(SHUT_WR) is how a "
        "client says that its request is complete. A server that closes at EPOLLRDHUP, or whose eof_received "
        "returns None, throws the answer away. Whether the peer has really gone is told by EPOLLERR or EPOLLHUP, "
        "after a reset, or by a time-out.",
    ),
)
