"""What every stream server on an event loop is: listeners, the connections that live, and an end that leaves none.

Facts
    - A loop's own ``Server`` knows its listeners, not its connections: ``wait_closed`` returns with clients still there
      on Python 3.11 and on uvloop, and waits for them on 3.12 and later.
    - A connection that was accepted gets its protocol a turn of the loop later.
    - After ``abort`` a transport calls ``connection_lost`` in a later turn, and only then is its socket closed.
Consequence
    A server that wants to leave nothing behind keeps the set of its connections, waits for those that are being made,
    aborts them all, and waits until the last has said that it is gone.
Decision
    The set and that order stand here, once; a program adds what it does with the bytes.

Calling sequence: open -> (add | discard)* -> close; protocols call `add` when made and `discard` when lost. A process
of a pool does not open: its connections come by an `Intake`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from aiolsp.linux.listener import Address
from aiolsp.mechanisms.acceptor import Acceptor


class Connection(Protocol):
    """What a server asks of its connections."""

    def abort(self) -> None:
        """Close now; ``discard`` follows."""


ConnectionT = TypeVar("ConnectionT", bound=Connection)


class StreamServer(Generic[ConnectionT]):
    """Gives each connection to its listeners a protocol of *protocol_factory*; a program's server derives from it."""

    def __init__(self, protocol_factory: Callable[[], asyncio.Protocol]) -> None:
        self.connections: set[ConnectionT] = set()
        self.addresses: list[Address] = []
        self._protocol_factory = protocol_factory
        self._acceptor: Acceptor | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    def open(self, listeners: Sequence[socket.socket]) -> None:
        """Accept on *listeners*, which are the server's from now on."""
        self.addresses = [listener.getsockname() for listener in listeners]
        self._acceptor = Acceptor(listeners, lambda *_: self._protocol_factory())
        self._acceptor.start()

    async def close(self) -> None:
        """Accept no more, abort what is there, and return when no connection is left."""
        await self.close_listeners()
        for connection in list(self.connections):
            connection.abort()
        await self.empty()

    async def close_listeners(self) -> None:
        """Accept no more; what was accepted has its protocol by the time this returns."""
        if self._acceptor is not None:
            self._acceptor.close()
            await self._acceptor.wait_closed()

    async def empty(self) -> None:
        """Wait until no connection is left."""
        await self._empty.wait()

    def add(self, connection: ConnectionT) -> None:
        """A peer has connected."""
        self.connections.add(connection)
        self._empty.clear()

    def discard(self, connection: ConnectionT) -> None:
        """The connection has ended, whoever ended it."""
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()
