"""Accept connections for protocols and transports, and survive the want of descriptors.

Facts (both loops, this kernel)
    - ``loop.create_server`` accepts by itself. Out of descriptors, the stock loop logs a traceback and pauses; uvloop
      passes the error to the server, which closes its listener: the server lives on and is deaf.
    - ``loop.add_reader`` is level-triggered: a connection left in the backlog is reported again at once.
    - ``connect_accepted_socket`` is the public way from a socket to a transport: a coroutine that waits once, until
      ``connection_made`` has been called, which both loops have queued by then. A task for it is a tenth of the CPU
      time of a connection for one request.
    - An accept(2) that finds nothing takes 6 us, for the kernel makes the socket first: longer than another turn of
      the loop. Of 64 clients that come back for each request, two in three are alone when they are accepted.
Consequence
    A server that must outlive EMFILE on every loop accepts by itself.
Decision
    `Acceptor` watches the listeners by ``add_reader``, takes what waits (`accept_ready`), and gives each socket to
    ``connect_accepted_socket``, which it drives itself: up to the wait, and on when that is over (PEP 342, 492), for
    all that came in one round at once. After a connection that was alone it takes LONE more one in a turn, without the
    call that would find nothing. On overload it stops watching for PAUSE seconds and logs one line.
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

from aiolsp.linux.listener import BACKLOG, Address, accept_ready, format_address
from aiolsp.tracing import trace

log = logging.getLogger("aiolsp.accept")

PAUSE = 0.5
"""Seconds without accepting after EMFILE, ENFILE, ENOBUFS or ENOMEM; the stock loop waits 1 s, nginx 0.5 s."""

BUDGET = 64
"""Connections accepted in one callback, so that those that are there get a turn."""

LONE = 8
"""Connections accepted one in a turn before all that wait are taken again: so a burst waits a few turns at the most."""

Connecting: TypeAlias = "Coroutine[Any, Any, object]"
Begun: TypeAlias = "tuple[socket.socket, Connecting]"
"""A connection, and what is giving it a transport."""


class Acceptor:
    """Accepts on *listeners* and gives each connection a protocol; closes the listeners at the end.

    ``start -> (pause -> start)* -> close -> wait_closed``, on the loop's thread. *admit*, if given, sees each new
    socket first; what it turns away (by returning False) is closed.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        *,
        admit: Callable[[socket.socket, Address], bool] | None = None,
    ) -> None:
        self.listeners = listeners
        self._loop = asyncio.get_running_loop()
        self._protocol_factory = protocol_factory
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
        """Give a protocol to *connection*, non-blocking, which may have been accepted elsewhere."""
        begun: list[Begun] = []
        self._begin(connection, peer, begun)
        self._go_on_later(begun)

    async def finish(self) -> None:
        """Take what the backlog still holds, then close: what the kernel has accepted for us is not reset."""
        for listener in self.listeners:
            self._accept(listener, BACKLOG)
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
        connections, overload = accept_ready(listener, budget)
        begun: list[Begun] = []
        for connection, peer in connections:
            if trace.on:
                trace.event("<", "accept", fd=connection.fileno(), peer=format_address(peer))
            self._begin(connection, peer, begun)
        self._go_on_later(begun)
        if overload and self.listeners:
            self._relieve(overload)
        elif connections:
            self._overloaded = False
        return len(connections)

    def _forget_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _begin(self, connection: socket.socket, peer: Address, begun: list[Begun]) -> None:
        if self._admit is not None and not self._admit(connection, peer):
            connection.close()
            return
        connecting = self._loop.connect_accepted_socket(self._protocol_factory, connection)
        self._drive(connection, connecting, begun)

    def _go_on_later(self, begun: list[Begun]) -> None:
        """Go on with *begun* once the loop has made the calls that are queued by now, which end what they wait for."""
        if begun:
            self._loop.call_soon(self._go_on, begun)

    def _go_on(self, begun: list[Begun]) -> None:
        waiting: list[Begun] = []
        for connection, connecting in begun:
            self._drive(connection, connecting, waiting)
        self._go_on_later(waiting)

    def _drive(self, connection: socket.socket, connecting: Connecting, waiting: list[Begun]) -> None:
        """Run *connecting* as a task would, to its end or up to where it waits; then it is one of those *waiting*."""
        try:
            connecting.send(None)
        except StopIteration:
            pass
        except OSError as error:
            connection.close()
            if trace.on:
                trace.event("!", "accept", why=f"the connection died at once: {error.strerror}")
        except Exception as error:
            connection.close()
            self._loop.call_exception_handler({"message": "no protocol for a connection", "exception": error})
        else:
            waiting.append((connection, connecting))

    def _relieve(self, overload: int) -> None:
        self.pause(PAUSE)
        if trace.on:
            trace.event("!", "accept", flags=os.strerror(overload), why=f"not accepting for {PAUSE} s")
        if not self._overloaded:
            self._overloaded = True
            log.warning("%s: new connections wait until a descriptor is free", os.strerror(overload).lower())
