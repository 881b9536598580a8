"""What all connections of a server share: the directory and its files, the pool, the ready answers, the limits.

Owned by the loop: no lock.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from aiolsp.http1.messages import Request
from aiolsp.http1.whole import HeadReader
from aiolsp.linux.descriptors import make_room
from aiolsp.linux.resident import Looks
from aiolsp.mechanisms.threads import HalfSyncPool, in_thread
from aiolsp.mechanisms.timers import TimerDriver
from aiolsp.sansio.crowd import Crowd
from aiolsp.static.answer import DECIDING, Answer
from aiolsp.static.ending import STUCK
from aiolsp.static.methods import answer_without_file, asks_for_file, error_answer
from aiolsp.static.resource import DocumentRoot
from aiolsp.static.shared import Shared, unshared
from aiolsp.tracing import trace
from aiolsp.websettings import Settings
from aiolsp.website import open_log, pages_of
from aiolsp.websrv.clock import SecondClock
from aiolsp.websrv.files import Files
from aiolsp.websrv.newcomers import Newcomers
from aiolsp.websrv.ready import ReadyAnswer, ReadyAnswers
from aiolsp.websrv.turns import Turns

if TYPE_CHECKING:
    from aiolsp.static.scripts import Scripts
    from aiolsp.websrv.answering import Answering
    from aiolsp.websrv.cgi import Gateway
    from aiolsp.websrv.connection import HttpConnection
    from aiolsp.websrv.exchange import Exchange


class Service:
    """Shared by the connections of one server, on the loop's thread, and what it has in common with other workers."""

    def __init__(self, root: DocumentRoot, settings: Settings, shared: Shared | None = None) -> None:
        make_room(settings.limits.max_connections)  # before there are threads
        self.loop = asyncio.get_running_loop()
        self.root = root
        self.settings = settings
        self.log = open_log(settings)
        self.pool = HalfSyncPool(settings.threads, settings.max_queue)
        # Time-outs are seconds long: a tenth late, many postponed timers go back into the list in one merge.
        self.timers = TimerDriver(self.loop, resolution=0.1)
        self.newcomers = Newcomers(self.loop)
        self.clock = SecondClock(self._end_second)
        self.turns = Turns()
        self.looks = Looks()
        self.connections: set[HttpConnection] = set()
        self.ready = ReadyAnswers(HeadReader(settings.limits, DECIDING))
        self.draining = False
        self.shared = unshared() if shared is None else shared
        limits = settings.limits
        self.crowd = Crowd(limits.max_connections, limits.max_per_address, self.shared.tally)
        self.metrics = self.shared.scoreboard.resume(self.shared.row)
        self.metrics.pid, self.metrics.start_time_seconds = os.getpid(), int(time.time())
        self.pages = pages_of(settings)
        self.files = Files(self)
        self._emptied: asyncio.Future[None] | None = None
        self.gateway = None if root.scripts is None else self._make_gateway(root.scripts)

    def _make_gateway(self, scripts: Scripts) -> Gateway:
        # Here, because most servers run no programs, and start sooner without what it takes to.
        from aiolsp.websrv.cgi import Gateway

        return Gateway(self, scripts)

    # Connections

    def join(self, connection: HttpConnection) -> bool:
        """Count *connection* among the live ones; False if it is one too many."""
        self.connections.add(connection)
        self.metrics.connections_total += 1
        if self.clock.stopped:
            self.clock.wake()
        admitted = self.crowd.join(connection.host)
        if not admitted:
            self.metrics.refused_total += 1
        return admitted

    def leave(self, connection: HttpConnection) -> None:
        """*connection* is gone."""
        self.connections.discard(connection)
        self.crowd.leave(connection.host)
        if self.clock.stopped:
            self.clock.wake()
        if self._emptied is not None and not self.connections and not self._emptied.done():
            self._emptied.set_result(None)

    def abort(self) -> None:
        """Cut every connection at once."""
        for connection in tuple(self.connections):
            connection.abort()

    async def empty(self) -> None:
        """Wait until no connection is left."""
        if self.connections:
            self._emptied = self.loop.create_future()
            await self._emptied

    def turn_away(self) -> None:
        """There is no room for one more connection, not even to be told that it is one too many."""
        self.metrics.connections_total += 1
        self.metrics.refused_total += 1

    # Answers

    def exchange(self, connection: HttpConnection, request: Request) -> Exchange | None:
        """What takes the body of *request* and answers it; None if *answer* does, for which no body matters."""
        exchange = None if self.gateway is None else self.gateway.exchange(connection, request)
        self.metrics.requests_total += exchange is not None
        return exchange

    def answer(self, connection: HttpConnection, request: Request) -> None:
        """See to it that *connection* gets the answer to *request*, at once or later."""
        self.metrics.requests_total += 1
        self.answer_instead(connection, request)

    def answer_instead(self, connection: HttpConnection, request: Request) -> None:
        """As `answer`, for a *request* that stands for another, which was counted."""
        fault = None if self.gateway is None else self.gateway.refusal(request)
        if fault is not None:
            connection.send(request, self.error(fault.status, fault.reason))
        elif not asks_for_file(request):
            connection.send(request, answer_without_file(self.root, request))
        elif (page := self._page(connection, request)) is not None:
            connection.send(request, page)
        else:
            self.files.answer(connection, request)

    def error(self, status: int, detail: str = "") -> Answer:
        """An answer that says what is wrong, and no more."""
        return error_answer(self.root, status, detail)

    def _page(self, connection: HttpConnection, request: Request) -> Answer | None:
        """What the server has to tell of itself, if *request* asks for that."""
        if self.pages is None:
            return None
        if self.pages.is_health(request):
            return self.pages.health(draining=self.draining)
        if self.pages.is_status(request, connection.peer):
            self.publish()
            return self.pages.status(request, self.shared.scoreboard.workers())
        return None

    def _end_second(self) -> None:
        self.publish()
        self.looks.forget()
        self.root.forget()
        self.ready.forget()
        if self.files.loading:
            # Not now: whoever sends asks the clock, which is about to begin the next second.
            self.loop.call_soon(self.files.attend_waiters)

    # The status and the access log

    def publish(self) -> None:
        """Bring the metrics up to date and let the other workers see them."""
        metrics = self.metrics
        for ready in self.ready.table.values():
            if not ready.hits:  # as of most, where thousands of paths are asked for once
                continue
            hits, ready.hits = ready.hits, 0
            metrics.ready_hits_total += hits
            metrics.requests_total += hits
            metrics.responded(ready.status, hits)
            metrics.sent_bytes_total += hits * len(ready.payload)
        metrics.connections = len(self.connections)
        metrics.threads_busy, metrics.queue_length = self.pool.busy, self.pool.queued
        metrics.timers = len(self.timers.timers) + len(self.newcomers)
        metrics.cache_entries, metrics.cache_bytes = len(self.files.cache), self.files.cache.used
        metrics.programs = 0 if self.gateway is None else self.gateway.running
        metrics.draining = self.draining
        self.shared.scoreboard.publish(self.shared.row, metrics)

    def note(self, connection: Answering, request: Request | None, status: int, size: int) -> None:
        """Count and log one answer; *request* is None if it could not be read. Pages of our own are not logged."""
        self.metrics.responded(status)
        self.clock.wake()
        if self.log is None:
            return
        own = request is not None and self.pages is not None and self.pages.own(request, connection.peer)
        if not own:
            self.log.add(self.log.record(connection.host, request, status, size))

    def log_again(self, connection: HttpConnection, head: bytes, ready: ReadyAnswer) -> None:
        """Log an answer to *head* that was kept ready."""
        log, host = self.log, connection.host
        assert log is not None and ready.record is not None
        if not log.repeats:
            log.add(ready.record.again(host, head))
            return
        record = ready.told.get(host)
        if record is None:
            record = ready.told[host] = ready.record.again(host, head)
        log.add(record)

    async def close(self) -> None:
        """After the last connection: end programs, threads and timers, and let go of the directory."""
        if self.gateway is not None:
            await self.gateway.close()
        self.publish()
        self.ready.forget()
        self.clock.close()
        self.newcomers.close()
        self.timers.close()
        if await self.pool.close(STUCK):
            self.root.close()
        elif trace.on:
            trace.event("!", "close", why="a thread is stuck in the disk: the directory stays open for it")
        if self.log is not None:
            await in_thread(self.log.close, 1.0)
