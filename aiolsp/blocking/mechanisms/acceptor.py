"""Accept connections in a readiness loop, and survive the want of descriptors: the twin of mechanisms/acceptor.py.

Calling sequence: start -> (accept | next_deadline | tick)* -> close.

Facts
    - After EMFILE, ENFILE, ENOBUFS or ENOMEM the connection stays in the backlog, and poll(2) and epoll_wait(2) report
      the listener again at once: a loop that only retries spins at 100 % CPU.
    - The readiness loop is the one place that waits, so a pause is nothing but a time-out given to that wait.
Decision
    On overload `Acceptor` takes its listeners out of the poller and says by `next_deadline` when they go back; one log
    line says it to a person.
Price
    The owner of the loop must ask for the deadline before each wait and call `tick` after it.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from aiolsp.linux.listener import BACKLOG, BUDGET, PAUSE, Address, accept_ready, format_address
from aiolsp.tracing import trace

log = logging.getLogger("aiolsp.accept")


class Poller(Protocol):
    """What ``select.poll()`` and ``select.epoll()`` have in common; POLLIN and EPOLLIN are the same bit."""

    def register(self, fd: int, eventmask: int, /) -> object:
        """Watch *fd*."""

    def unregister(self, fd: int, /) -> object:
        """Watch *fd* no longer."""


class Acceptor:
    """Accepts on *listeners* and hands each connection on, non-blocking; closes the listeners at the end.

    Owned by the thread of the readiness loop, which calls `accept` for each ready descriptor that is ``in`` it. What
    *on_accept* fails for is closed, and logged.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        poller: Poller,
        on_accept: Callable[[socket.socket, Address], None],
    ) -> None:
        self.listeners = {listener.fileno(): listener for listener in listeners}
        self._poller = poller
        self._on_accept = on_accept
        self._watching = False
        self._retry: float | None = None
        self._overloaded = False

    def __contains__(self, fd: int) -> bool:
        """Whether *fd* is one of the listeners."""
        return fd in self.listeners

    def start(self) -> None:
        """Watch the listeners; also ends a pause before its time."""
        self._retry = None
        if not self._watching:
            self._watching = True
            for fd in self.listeners:
                self._poller.register(fd, select.POLLIN)

    def pause(self, seconds: float | None = None) -> None:
        """Leave new connections in the backlog, for *seconds* or until `start`."""
        if self._watching:
            self._watching = False
            for fd in self.listeners:
                self._poller.unregister(fd)
        self._retry = None if seconds is None else time.monotonic() + seconds

    def next_deadline(self) -> float | None:
        """When the loop must wake to `tick`, by ``time.monotonic``; None while there is no pause with an end."""
        return self._retry

    def tick(self, now: float) -> None:
        """End a pause whose time has come."""
        if self._retry is not None and self._retry <= now:
            self.start()

    def close(self) -> None:
        """Stop accepting and close the listeners; connections that were accepted live on."""
        self.pause()
        for listener in self.listeners.values():
            listener.close()
        self.listeners = {}

    def take(self, connection: socket.socket, peer: Address) -> None:
        """Hand *connection* on, which may have been accepted elsewhere."""
        try:
            self._on_accept(connection, peer)
        except Exception:
            connection.close()
            log.exception("nothing could be made of a connection")

    def finish(self) -> None:
        """Take what the backlog still holds, then close: what the kernel has accepted for us is not reset."""
        for fd in self.listeners:
            self.accept(fd, BACKLOG)
        self.close()

    def accept(self, fd: int, budget: int = BUDGET) -> None:
        """Take what waits on the ready listener *fd*; nothing if it was closed or paused meanwhile."""
        if not self._watching or fd not in self.listeners:
            return
        connections, overload = accept_ready(self.listeners[fd], budget)
        for connection, peer in connections:
            if trace.on:
                trace.event("<", "accept", fd=connection.fileno(), peer=format_address(peer))
            self.take(connection, peer)
        if overload:
            self._relieve(overload)
        elif connections:
            self._overloaded = False

    def _relieve(self, overload: int) -> None:
        self.pause(PAUSE)
        if trace.on:
            trace.event("!", "accept", flags=os.strerror(overload), why=f"not accepting for {PAUSE} s")
        if not self._overloaded:
            self._overloaded = True
            log.warning("%s: new connections wait until a descriptor is free", os.strerror(overload).lower())
