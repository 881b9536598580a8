"""What all connections of a server share: the directory, the pool, the epoll, the timers, the limits.

The asyncio service is one thread's, and keeps answers in memory; this one is everybody's: what more than one thread
changes is behind a lock, and every request for a file is a look at the disk, by the thread that serves it.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from typing import TYPE_CHECKING

from aiolsp.blocking.mechanisms.threads import HalfSyncPool
from aiolsp.blocking.mechanisms.timers import PollDriver
from aiolsp.blocking.websrv.clock import SecondClock
from aiolsp.http1.messages import ProtocolError, Request
from aiolsp.http1.target import parse_target
from aiolsp.linux.descriptors import make_room
from aiolsp.linux.epoll_flags import flag_names
from aiolsp.sansio.crowd import Crowd
from aiolsp.sansio.metrics import Metrics
from aiolsp.static.answer import Answer, respond
from aiolsp.static.ending import STUCK
from aiolsp.static.methods import answer_without_file, asks_for_file, error_answer
from aiolsp.static.representation import Resource, Wanted
from aiolsp.static.resource import DocumentRoot
from aiolsp.static.shared import Shared, unshared
from aiolsp.tracing import trace
from aiolsp.websettings import Settings
from aiolsp.website import open_log, pages_of

if TYPE_CHECKING:
    from aiolsp.blocking.websrv.answering import Answering
    from aiolsp.blocking.websrv.cgi import Gateway, ProgramExchange
    from aiolsp.blocking.websrv.connection import HttpConnection
    from aiolsp.static.scripts import Scripts

log = logging.getLogger("aiolsp.websrv")

SMALL = 64 * 1024
"""Bytes of a file that is read, and sent in one piece with its head; larger ones go by sendfile(2)."""


class Service:
    """Shared by the connections of one server, on any thread, and what it has in common with other workers."""

    def __init__(self, root: DocumentRoot, settings: Settings, shared: Shared | None = None) -> None:
        make_room(settings.limits.max_connections)  # before there are threads
        self.root = root
        self.settings = settings
        self.log = open_log(settings)
        self.pool = HalfSyncPool(settings.threads, settings.max_queue)
        self.poller = select.epoll()
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.poller.register(self.bell, select.EPOLLIN)
        self.timers = PollDriver(self.wake)
        self.clock = SecondClock(self._end_second, self.wake)
        self.connections: dict[int, HttpConnection] = {}
        self.draining = False
        """Whether no connection is to be kept for another request."""
        self.shared = unshared() if shared is None else shared
        limits = settings.limits
        self.crowd = Crowd(limits.max_connections, limits.max_per_address, self.shared.tally)
        self.metrics = self.shared.scoreboard.resume(self.shared.row)
        self.metrics.pid, self.metrics.start_time_seconds = os.getpid(), int(time.time())
        self._pages = pages_of(settings)
        self.gateway = None if root.scripts is None else self._make_gateway(root.scripts)
        self._lock = threading.Lock()

    def _make_gateway(self, scripts: Scripts) -> Gateway:
        # Here, because most servers run no programs, and start sooner without what it takes to.
        from aiolsp.blocking.websrv.cgi import Gateway

        return Gateway(self, scripts)

    # Connections

    def join(self, connection: HttpConnection) -> bool:
        """Count *connection* among the live ones; False if it is one too many."""
        with self._lock:
            self.connections[connection.fd] = connection
            self.metrics.connections_total += 1
            admitted = self.crowd.join(connection.host)
            self.metrics.refused_total += not admitted
        self.clock.wake()
        return admitted

    def leave(self, connection: HttpConnection) -> None:
        """*connection* is about to close its socket."""
        with self._lock:
            del self.connections[connection.fd]
            self.crowd.leave(connection.host)
            self.metrics.sent_bytes_total += connection.sent
            empty = not self.connections
        self.poller.unregister(connection.fd)
        self.clock.wake()
        if empty and self.draining:
            self.wake()

    def admits(self) -> bool:
        """Whether there is room for one more connection, if only to be told that it is one too many."""
        with self._lock:
            room = self.crowd.has_room
            if not room:
                self.metrics.connections_total += 1
                self.metrics.refused_total += 1
        return room

    def rearm(self, connection: HttpConnection, event: int, why: str) -> None:
        """Have *event* reported once; at once, if it has come already."""
        flags = event | select.EPOLLONESHOT
        if trace.on:
            trace.event("=", "epoll_ctl MOD", fd=connection.fd, flags=flag_names(flags), why=why)
        self.poller.modify(connection.fd, flags)

    def wake(self) -> None:
        """Have the readiness loop look around; nothing once there is none."""
        with self._lock:
            if self.bell >= 0:
                os.eventfd_write(self.bell, 1)

    # Answers

    def exchange(self, connection: HttpConnection, request: Request) -> ProgramExchange | None:
        """What takes the body of *request* and answers it; None if *answer* does, for which no body matters."""
        return None if self.gateway is None else self.gateway.exchange(connection, request)

    def answer(self, connection: HttpConnection, request: Request, *, busy: bool) -> None:
        """Give *connection* the answer to *request*; *busy* says that no thread is free to ask the disk."""
        fault = None if self.gateway is None else self.gateway.refusal(request)
        if fault is not None:
            connection.send(request, self.error(fault.status, fault.reason))
            return
        if not asks_for_file(request):
            connection.send(request, answer_without_file(self.root, request))
            return
        if (page := self._page(connection, request)) is not None:
            connection.send(request, page)
            return
        target = parse_target(request.target)
        if target is None:
            connection.refuse(ProtocolError(400, "bad request-target", request.method == b"HEAD"))
        elif busy:
            connection.send(request, self.error(503, "the server is busy"))
        else:
            fields = request.fields
            wanted = Wanted(target, fields.combined(b"accept-encoding"), fields.combined(b"accept"))
            limits = self.settings.limits
            answer = respond(self._load(wanted), request.method, fields, time.time(), max_ranges=limits.max_ranges)
            connection.send(request, answer)

    def error(self, status: int, detail: str = "") -> Answer:
        """An answer that says what is wrong, and no more."""
        return error_answer(self.root, status, detail)

    def _page(self, connection: HttpConnection, request: Request) -> Answer | None:
        """What the server has to tell of itself, if *request* asks for that."""
        if self._pages is None:
            return None
        if self._pages.is_health(request):
            return self._pages.health(draining=self.draining)
        if self._pages.is_status(request, connection.peer):
            self.publish()
            return self._pages.status(request, self.shared.scoreboard.workers())
        return None

    def _load(self, wanted: Wanted) -> Resource:
        with self._lock:
            self.metrics.cache_misses_total += 1
        try:
            return self.root.load(wanted)
        except Exception:
            log.exception("looking at the disk failed")
            return self.root.error(500)

    def _end_second(self) -> None:
        self.publish()
        self.root.forget()

    # The status and the access log

    def publish(self) -> None:
        """Bring the metrics up to date and let the other workers see them."""
        # All of it under the lock: of two threads that publish, the later one must know as much as the other.
        with self._lock:
            metrics = Metrics(*self.metrics.values())
            metrics.connections = len(self.connections)
            metrics.sent_bytes_total += sum(connection.sent for connection in self.connections.values())
            metrics.threads_busy, metrics.queue_length = self.pool.busy, self.pool.queued
            metrics.timers = len(self.timers.timers)
            metrics.programs = 0 if self.gateway is None else self.gateway.running
            metrics.draining = self.draining
            self.shared.scoreboard.publish(self.shared.row, metrics)

    def note(self, connection: Answering, request: Request | None, status: int, size: int) -> None:
        """Count and log one answer; *request* is None if it could not be read. Pages of our own are not logged."""
        with self._lock:
            self.metrics.requests_total += request is not None
            self.metrics.responded(status)
        self.clock.wake()
        own = request is not None and self._pages is not None and self._pages.own(request, connection.peer)
        if self.log is not None and not own:
            self.log.add(self.log.record(connection.host, request, status, size))

    def close(self) -> None:
        """After the last connection: end programs and threads, and let go of the directory."""
        if self.gateway is not None:
            self.gateway.close()
        self.publish()
        if self.pool.close(STUCK):
            self.root.close()
            with self._lock:
                self.poller.close()
                os.close(self.bell)
                self.bell = -1
        elif trace.on:
            trace.event("!", "close", why="a thread is stuck in the disk: what it may still use stays open")
        if self.log is not None:
            self.log.close(1.0)
