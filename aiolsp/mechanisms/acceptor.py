"""Accept connections for protocols and transports, and survive the want of descriptors.

Facts (both loops, this kernel)
    - ``loop.create_server`` accepts by itself. Out of descriptors, the stock loop logs a traceback and pauses; uvloop
      passes the error to the server, which closes its listener: the server lives on and is deaf.
    - ``loop.add_reader`` is level-triggered: a connection left in the backlog is reported again at once.
    - ``connect_accepted_socket`` is the public way from a socket to a transport: a coroutine that waits once, until
      ``connection_made`` has been called, which both loops have queued by then. A task for it is a tenth of the CPU
      time of a connection for one request. It makes the socket non-blocking, on both loops.
    - accept(2) has told the peer's address; to ask a transport of uvloop for it is to write it out a second time.
    - An accept(2) that finds nothing takes 6 us, for the kernel makes the socket first: longer than another turn of
      the loop. Of 64 clients that come back for each request, two in three are alone when they are accepted.
Consequence
    A server that must outlive EMFILE on every loop accepts by itself.
Decision
    `Acceptor` watches the listeners by ``add_reader``, takes what waits (`accept_ready`), has a protocol made for each
    socket and its peer, and gives both to ``connect_accepted_socket``, which it drives itself: up to the wait, and on
    when that is over (PEP 342, 492), for all that came in one round at once. After a connection that was alone it
    takes LONE more one in a turn, without the call that would find nothing. On overload it stops watching for PAUSE
    seconds and logs one line.
Price
    A socket object, a coroutine and a future per connection, where uvloop's own server makes none.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

from aiolsp.linux.listener import BACKLOG, BUDGET, PAUSE, Address, accept_ready, format_address
from aiolsp.tracing import trace

log = logging.getLogger("aiolsp.accept")

LONE = 8
"""Connections accepted one in a turn before all that wait are taken again: so a burst waits a few turns at the most."""

Admit: TypeAlias = "Callable[[socket.socket, Address], asyncio.BaseProtocol | None]"
"""Gives the protocol for a new connection, a blocking socket still; None turns it away."""

Connecting: TypeAlias = "Coroutine[Any, Any, object]"
"""What is giving a connection its transport."""


class Acceptor:
    """Accepts on *listeners* and gives each connection a protocol; closes the listeners at the end.

    ``start -> (pause -> start)* -> close -> wait_closed``, on the loop's thread. *admit* gives each its protocol; what
    it turns away, or fails for, is closed.
    """

    def __init__(self, listeners: Sequence[socket.socket], admit: Admit) -> None:
        self.listeners = listeners
        self._loop = asyncio.get_running_loop()
        self._admit = admit
        self._lone = 0  # rounds to come that take one connection
        self._retry: asyncio.TimerHandle | None = None
        self._overloaded = False

    def start(self) -> None:
        """Watch the listeners; also ends a pause before its time."""
        self._forget_retry()
        for listener in self.listeners:
            self._loop.add_reader(listener.fileno(), self._ready, listener)

    def pause(self, seconds: float | None = None) -> None:
        """Leave new connections in the backlog, for *seconds* or until `start`."""
        self._forget_retry()
        for listener in self.listeners:
            self._loop.remove_reader(listener.fileno())
        if seconds is not None:
            self._retry = self._loop.call_later(seconds, self.start)

    def close(self) -> None:
        """Stop accepting and close the listeners; connections that were accepted live on."""
        self.pause()
        for listener in self.listeners:
            listener.close()
        self.listeners = ()

    def take(self, connection: socket.socket, peer: Address) -> None:
        """Give a protocol to *connection*, which may have been accepted elsewhere."""
        self._begin([(connection, peer)])

    async def finish(self) -> None:
        """Take what the backlog still holds, then close: what the kernel has accepted for us is not reset."""
        for listener in self.listeners:
            for _ in range(BACKLOG // BUDGET):
                if not self._accept(listener, BUDGET):
                    break
                await asyncio.sleep(0)
        self.close()
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until each connection that was accepted has its protocol: a server that ends closes those as well."""
        await asyncio.sleep(0)  # the loop makes its calls in their order

    def _ready(self, listener: socket.socket) -> None:
        if self._lone:
            self._lone -= 1
            self._accept(listener, 1)
        elif self._accept(listener, BUDGET) == 1:
            self._lone = LONE

    def _accept(self, listener: socket.socket, budget: int) -> int:
        connections, overload = accept_ready(listener, budget, blocking=True)
        if trace.on:
            for connection, peer in connections:
                trace.event("<", "accept", fd=connection.fileno(), peer=format_address(peer))
        self._begin(connections)
        if overload and self.listeners:
            self._relieve(overload)
        elif connections:
            self._overloaded = False
        return len(connections)

    def _forget_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _begin(self, connections: list[tuple[socket.socket, Address]]) -> None:
        """Give each a protocol, and run what gives it a transport up to where that waits, as a task would."""
        waiting: list[Connecting] = []
        for connection, peer in connections:
            try:
                protocol = self._admit(connection, peer)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # as the loop does: the CancelledError of some future is nobody's end
                connection.close()
                self._fail(error)
                continue
            if protocol is None:
                connection.close()
                continue
            # A factory for one protocol: a function would take a tenth of the call's time.
            connecting = self._loop.connect_accepted_socket([protocol].pop, connection)
            try:
                connecting.send(None)
            except StopIteration:
                pass
            except Exception as error:
                connection.close()
                self._lose(error)
            else:
                waiting.append(connecting)
        if waiting:
            self._loop.call_soon(self._go_on, waiting)

    def _go_on(self, begun: list[Connecting]) -> None:
        """The loop has made the calls that end what these waited for; of one that fails, the transport closes."""
        waiting: list[Connecting] = []
        for connecting in begun:
            try:
                connecting.send(None)
            except StopIteration:
                pass
            except Exception as error:
                self._lose(error)
            else:
                waiting.append(connecting)
        if waiting:
            self._loop.call_soon(self._go_on, waiting)

    def _lose(self, error: Exception) -> None:
        if not isinstance(error, OSError):
            self._fail(error)
        elif trace.on:
            trace.event("!", "accept", why=f"the connection died at once: {error.strerror}")

    def _fail(self, error: BaseException) -> None:
        self._loop.call_exception_handler({"message": "no protocol for a connection", "exception": error})

    def _relieve(self, overload: int) -> None:
        self.pause(PAUSE)
        if trace.on:
            trace.event("!", "accept", flags=os.strerror(overload), why=f"not accepting for {PAUSE} s")
        if not self._overloaded:
            self._overloaded = True
            log.warning("%s: new connections wait until a descriptor is free", os.strerror(overload).lower())
