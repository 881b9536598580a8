"""What all connections of a server share: the directory, the pool, the cache, the ready answers, the limits.

The book's threadpool and its queue (p. 301), seen from the loop's side: a request whose answer is in memory, ours or
the kernel's, is answered in the same callback; any other becomes a job for a thread, and a full queue answers 503 at
once.
"""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial
from typing import TYPE_CHECKING

from aiolsp.http1.messages import ProtocolError, Request
from aiolsp.http1.target import parse_target
from aiolsp.http1.whole import HeadReader
from aiolsp.linux.descriptors import make_room
from aiolsp.linux.resident import Looks
from aiolsp.mechanisms.threads import HalfSyncPool, QueueFull, in_thread
from aiolsp.mechanisms.timers import TimerDriver
from aiolsp.sansio.crowd import Crowd
from aiolsp.static.answer import DECIDING, Answer, respond
from aiolsp.static.methods import answer_without_file, asks_for_file, error_answer
from aiolsp.static.representation import Resource, Wanted
from aiolsp.static.resource import DocumentRoot
from aiolsp.static.shared import Shared, unshared
from aiolsp.tracing import trace
from aiolsp.websettings import Settings
from aiolsp.website import open_log, pages_of
from aiolsp.websrv.cache import Entry, FileCache, Key
from aiolsp.websrv.clock import SecondClock
from aiolsp.websrv.look import Look, Waiter
from aiolsp.websrv.newcomers import Newcomers
from aiolsp.websrv.ready import LARGEST, ReadyAnswer, ReadyAnswers
from aiolsp.websrv.turns import Turns

if TYPE_CHECKING:
    from aiolsp.static.scripts import Scripts
    from aiolsp.websrv.answering import Answering
    from aiolsp.websrv.cgi import Gateway
    from aiolsp.websrv.connection import HttpConnection
    from aiolsp.websrv.exchange import Exchange

STUCK = 0.5
"""Seconds that a closing server waits for threads: all are idle then, but those that a broken disk holds."""


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
        self.cache = FileCache(settings.cache_size)
        self.ready = ReadyAnswers(HeadReader(settings.limits, DECIDING))
        self.draining = False
        self.shared = unshared() if shared is None else shared
        limits = settings.limits
        self.crowd = Crowd(limits.max_connections, limits.max_per_address, self.shared.tally)
        self.metrics = self.shared.scoreboard.resume(self.shared.row)
        self.metrics.pid, self.metrics.start_time_seconds = os.getpid(), int(time.time())
        self._respond = partial(respond, max_ranges=limits.max_ranges)
        self._pages = pages_of(settings)
        self._loading: dict[Key, Look] = {}
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
            self._answer_file(connection, request)

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

    def _answer_file(self, connection: HttpConnection, request: Request) -> None:
        key = Key(request.target.partition(b"?")[0], request.fields.combined(b"accept-encoding"))
        entry = self.cache.get(key)
        if entry is not None and self._fresh(entry):
            self.metrics.cache_hits_total += 1
            self._send_kept(connection, request, entry)
            return
        self.metrics.cache_misses_total += 1
        look = self._loading.get(key)
        if look is not None:
            self._answer_after(look, connection, request)
        elif entry is None:
            self._answer_anew(connection, request, key)
        elif self.root.still_has(entry.resource.outline):
            entry.checked = self.loop.time()
            self._send_kept(connection, request, entry)
        else:
            self._load(connection, request, key, entry)

    def _answer_after(self, look: Look, connection: HttpConnection, request: Request) -> None:
        """Answer with what *look* finds, unless it takes too long."""
        if look.overdue:
            self._answer_unseen(connection, request, look.known)
        else:
            connection.wait_for_disk()
            look.waiters.append((connection, request))

    def _answer_anew(self, connection: HttpConnection, request: Request, key: Key) -> None:
        """Answer with what *key* stands for, which is read by its outline, if there is one."""
        outline = self.cache.outline(key)
        again = None if outline is None else self.root.load_again(outline)
        if again is None:
            self._load(connection, request, key, None)
            return
        entry = self.cache.put(key, again, self.loop.time()) if again.keepable else None
        if entry is None:
            self._send_own(connection, request, key, again)
        else:
            self._send_kept(connection, request, entry)

    def _load(
        self, connection: HttpConnection, request: Request, key: Key, known: Entry | None, *, alone: bool = False
    ) -> None:
        """Look at the disk, and if that would be to wait for it, have a thread look.

        Others may share the look unless it is for this request *alone*. With ``cache_valid`` 0 each is: it may have
        seen the file before they asked.
        """
        shared = not alone and self.settings.cache_valid > 0
        target = parse_target(request.target)
        if target is None:
            connection.refuse(ProtocolError(400, "bad request-target"))
            return
        accept = request.fields.combined(b"accept") if self.root.policy.spa else None
        wanted = Wanted(target, key.accept_encoding, accept)
        looked_at = known.resource if known else None
        resource = self.root.load_cached(wanted, looked_at)
        if resource is not None:
            self._take(key, resource, [(connection, request)])
            return
        try:
            job = self.pool.submit(self.root.load, wanted, looked_at)
        except QueueFull:
            self._answer_unseen(connection, request, known if shared else None)
            return
        if trace.on:
            trace.event("=", "submit", why="look at the disk in a thread, not on the loop's", queued=self.pool.queued)
        connection.wait_for_disk()
        look = Look(self.loop.time(), known, (connection, request))
        if shared:
            self._loading[key] = look
        job.add_done_callback(lambda done: self._loaded(look, key, done))

    def _loaded(self, look: Look, key: Key, job: asyncio.Future[Resource]) -> None:
        if self._loading.get(key) is look:
            del self._loading[key]
        if job.cancelled():
            for waiter, _ in look.waiters:
                waiter.abort()
        else:
            self._take(key, self._result(job), look.waiters)

    def _take(self, key: Key, resource: Resource, waiters: list[Waiter]) -> None:
        """Answer *waiters* with *resource*."""
        entry = self._entry(key, resource)
        if entry is not None:
            for waiter, asked in waiters:
                self._send_kept(waiter, asked, entry)
        elif resource.keepable:
            for waiter, asked in waiters:
                self._send_own(waiter, asked, key, resource)
        elif waiters:
            (connection, request), *others = waiters
            self._send_own(connection, request, key, resource)
            # An open file has one owner: each of the others needs one of its own.
            for waiter, asked in others:
                self._load(waiter, asked, key, None, alone=True)
        else:
            resource.close()

    def _attend_waiters(self) -> None:
        """The disk may be slow, or stuck: what was seen the last time is better than no answer, and 503 than none."""
        now = self.loop.time()
        for look in tuple(self._loading.values()):
            if not look.takes_too_long(now):
                continue
            look.overdue = True
            waiters, look.waiters = look.waiters, []
            for connection, request in waiters:
                self._answer_unseen(connection, request, look.known)
        if self._loading:
            self.clock.wake()  # and look again in a second

    def _answer_unseen(self, connection: HttpConnection, request: Request, known: Entry | None) -> None:
        """Answer without a look, by what is *known* if something is."""
        if known is None:
            connection.send(request, self.error(503, "the server is busy"))
        else:
            self._send_kept(connection, request, known)

    def _entry(self, key: Key, resource: Resource) -> Entry | None:
        """What the cache keeps for others, or what all that ask now may be answered with; None if it is neither."""
        now = self.loop.time()
        if resource.keepable:
            return self.cache.put(key, resource, now)
        self.cache.remember(key, resource.outline)
        # A path that is not there takes no place in the cache, however many of them are asked for.
        return Entry(key, resource, now) if resource.repeatable else None

    def _result(self, job: asyncio.Future[Resource]) -> Resource:
        error = job.exception()
        if error is None:
            return job.result()
        self.loop.call_exception_handler({"message": "looking at the disk failed", "exception": error})
        return self.root.error(500)

    def _send_kept(self, connection: HttpConnection, request: Request, entry: Entry) -> None:
        answer = self._respond(entry.resource, request.method, request.fields, time.time())
        connection.send(request, answer)
        # Of many files that are asked for once a second each, no answer would be sent again.
        again = entry.asked_until == self.clock.next_tick or not entry.resource.keepable
        if again and self._fresh(entry):
            self._keep_ready(connection, request, answer)
        entry.asked_until = self.clock.next_tick

    def _send_own(self, connection: HttpConnection, request: Request, key: Key, resource: Resource) -> None:
        """Answer with what is not kept, unless it is a part of a file that is asked for again in this second."""
        answer = self._respond(resource, request.method, request.fields, time.time())
        # A page that takes the place of a missing file does so for some clients and not for all.
        if resource.body is not None or resource.outline.identity is None or self.root.policy.spa:
            connection.send(request, answer)
            return
        resource.hold()
        connection.send(request, answer)
        if self.ready.asked_again((key, request.fields.combined(b"range"))):
            self._keep_ready(connection, request, answer)
        resource.close()

    # What is kept for a second

    def _fresh(self, entry: Entry) -> bool:
        """Whether *entry* counts, without a look at its file, for the rest of this second.

        That is asked, and not whether it counts right now, so that all looks fall on the first request of a second, and
        ready answers need no date of their own. With ``cache_valid`` below a second, nothing is kept ready.
        """
        self.clock.date()
        valid = self.settings.cache_valid
        if valid >= 1:
            return entry.checked + valid >= self.clock.next_tick
        return entry.checked + valid > self.loop.time()

    def _keep_ready(self, connection: HttpConnection, request: Request, answer: Answer) -> None:
        # There is more to some answers than the head that they answer, and some differ by client.
        alone = request.head and not request.has_body and connection.keeps_alive is request.keep_alive
        disputed = self._pages is not None and self._pages.disputed(request)
        if trace.on or self.settings.cache_valid < 1 or disputed or not alone:
            return
        if answer.own_file is not None:  # a look at any other might wait for a disk, or a network
            if request.keep_alive:
                self.ready.keep_open(request, answer)
        elif answer.in_memory and answer.size <= LARGEST:
            head = answer.head.render(self.clock.date(), connection.connection_field(request))
            body = b"" if request.method == b"HEAD" else answer.ready
            record = None if self.log is None else self.log.record("", request, answer.status, len(body))
            self.ready.keep(request.head, answer.status, head + body, record, closes=not request.keep_alive)

    def _end_second(self) -> None:
        self.publish()
        self.looks.forget()
        self.root.forget()
        self.ready.forget()
        if self._loading:
            # Not now: whoever sends asks the clock, which is about to begin the next second.
            self.loop.call_soon(self._attend_waiters)

    # The status and the access log

    def publish(self) -> None:
        """Bring the metrics up to date and let the other workers see them."""
        metrics = self.metrics
        for ready in self.ready.table.values():
            hits, ready.hits = ready.hits, 0
            metrics.ready_hits_total += hits
            metrics.requests_total += hits
            metrics.responded(ready.status, hits)
            metrics.sent_bytes_total += hits * len(ready.payload)
        metrics.connections = len(self.connections)
        metrics.threads_busy, metrics.queue_length = self.pool.busy, self.pool.queued
        metrics.timers = len(self.timers.timers) + len(self.newcomers)
        metrics.cache_entries, metrics.cache_bytes = len(self.cache), self.cache.used
        metrics.programs = 0 if self.gateway is None else self.gateway.running
        metrics.draining = self.draining
        self.shared.scoreboard.publish(self.shared.row, metrics)

    def note(self, connection: Answering, request: Request | None, status: int, size: int) -> None:
        """Count and log one answer; *request* is None if it could not be read. Pages of our own are not logged."""
        self.metrics.responded(status)
        self.clock.wake()
        if self.log is None:
            return
        own = request is not None and self._pages is not None and self._pages.own(request, connection.peer)
        if not own:
            self.log.add(self.log.record(connection.host, request, status, size))

    def log_again(self, connection: HttpConnection, head: bytes, ready: ReadyAnswer) -> None:
        """Log an answer to *head* that was kept ready."""
        assert self.log is not None and ready.record is not None
        self.log.add(ready.record.again(connection.host, head))

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
