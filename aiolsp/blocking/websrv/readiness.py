"""The readiness loop of one process: what a loop is to the other shell, in one thread that waits in epoll_wait.

Book p. 301, listing 15-3; p. 318, listing 15-6: a thread that waits in epoll_wait, and worker threads behind a queue.

Facts
    - Many connections are silent most of the time; a thread for each costs memory for nothing.
    - A look at the disk blocks its thread, whatever epoll says; a few threads are enough to keep a disk busy.
Consequence
    Half-sync/half-reactor: one thread knows which sockets are ready, some do what may block.
Decision
    The readiness loop accepts, hands each connection that is ready to the pool, and keeps the timers: its only wait is
    epoll_wait with the first deadline as its time-out. It never touches a file. Signals come through the self-pipe,
    other threads ring an eventfd.
Price
    Two hand-overs a request, queue and epoll_ctl, where asyncio's loop answers in the same callback; and Python lets
    one thread run at a time.

The C++ original has its loop read and write as well (a simulated proactor), and ends only by being killed.

Calling sequence: (watch | turn)* -> finish.
"""

from __future__ import annotations

import math
import os
import select
import socket
import time
from collections.abc import Callable

from aiolsp.blocking.mechanisms.acceptor import Acceptor
from aiolsp.blocking.mechanisms.intake import Intake
from aiolsp.blocking.websrv.connection import HttpConnection
from aiolsp.blocking.websrv.service import Service
from aiolsp.linux.listener import Address
from aiolsp.sansio.timers import MOST
from aiolsp.static.ending import FRESH, STUCK
from aiolsp.tracing import trace


class ReadinessLoop:
    """Serves what comes from *source*, which hands each connection to `accepted`; for one thread, but for `abort`."""

    def __init__(self, service: Service, source: Acceptor | Intake) -> None:
        self._service = service
        self._source = source
        self._watched: dict[int, Callable[[], object]] = {}
        self._latest = math.inf

    def watch(self, fd: int, callback: Callable[[], object]) -> None:
        """Call *callback* whenever *fd* is readable."""
        self._watched[fd] = callback
        self._service.poller.register(fd, select.EPOLLIN)

    def turn(self, latest: float = math.inf) -> None:
        """Wait until something is ready, a timer is due, or it is *latest*, and act on it."""
        service, source, clock = self._service, self._source, self._service.clock
        ends = (latest, source.next_deadline(), clock.next_deadline())
        timeout = service.timers.timeout(min(end for end in ends if end is not None))
        for fd, events in service.poller.poll(timeout):
            if fd == service.bell:
                os.eventfd_read(fd)
            elif fd in source:
                source.accept(fd)
            elif connection := service.connections.get(fd):
                connection.ready(events)
            elif (callback := self._watched.get(fd)) is not None:
                callback()
        service.timers.fire()
        now = time.monotonic()
        source.tick(now)
        clock.tick(now)

    def abort(self) -> None:
        """Cut every connection at once; `finish` then waits no longer than for threads that are about to notice."""
        self._latest = time.monotonic() + STUCK
        for connection in tuple(self._service.connections.values()):
            connection.abort()
        self._service.wake()

    def finish(self, grace: float) -> None:
        """No connection comes any more: finish what is in flight within *grace* seconds, cut the rest, close all."""
        service = self._service
        # A request that the kernel holds already is in flight as well: let it be read first.
        self.turn(0.0)
        if trace.on:
            why = f"finish what is in flight within {grace} s"
            trace.event("=", "drain", why=why, connections=len(service.connections))
        service.draining = True
        service.publish()
        self._drain(grace)
        self.abort()
        self._wait_until_empty()
        service.close()

    def _drain(self, grace: float) -> None:
        begin = time.monotonic()
        for fresh_too, seconds in ((False, min(FRESH, grace)), (True, grace)):
            for number, connection in enumerate(tuple(self._service.connections.values()), 1):
                connection.drain(fresh_too=fresh_too)
                if not number % MOST:
                    self.turn(0.0)
            self._wait_until_empty(begin + seconds)

    def _wait_until_empty(self, end: float = math.inf) -> None:
        while self._service.connections and time.monotonic() < min(end, self._latest):
            self.turn(min(end, self._latest))


def accepted(service: Service, sock: socket.socket, peer: Address) -> None:
    """Serve the new connection *sock*, if there is room for it."""
    try:
        if service.admits():
            HttpConnection(service, sock, peer).connection_made()
            return
    except OSError as error:
        if trace.on:
            trace.event("!", "accept", fd=sock.fileno(), why=f"cannot be watched: {error.strerror}")
    sock.close()
