"""Answers with files: those that are at hand at once, the others when the disk has been looked at.

The book's threadpool and its queue (p. 301), seen from the loop's side: a request whose answer is in memory, ours or
the kernel's, is answered in the same callback; any other becomes a job for a thread, and a full queue answers 503 at
once.

Owned by the loop: no lock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from aiolsp.http1.messages import ProtocolError, Request
from aiolsp.http1.target import parse_target
from aiolsp.mechanisms.threads import QueueFull
from aiolsp.sansio.timers import MOST
from aiolsp.static.answer import Answer, respond
from aiolsp.static.representation import Resource, Wanted
from aiolsp.tracing import trace
from aiolsp.websrv.cache import Entry, FileCache, Key
from aiolsp.websrv.look import Look, Waiter
from aiolsp.websrv.ready import LARGEST

if TYPE_CHECKING:
    from aiolsp.websrv.connection import HttpConnection
    from aiolsp.websrv.service import Service


FEW = MOST // 8
"""Who waited for an open file, and for whom it is looked for anew, in a turn: eight times as long as an answer."""


class Files:
    """The files of one server: in the cache, in the kernel's memory, or looked for by a thread of the pool."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._root, self._pool, self._ready = service.root, service.pool, service.ready
        self._loop, self._clock, self._metrics = service.loop, service.clock, service.metrics
        self._settings = service.settings
        self._max_ranges = service.settings.limits.max_ranges
        self.cache = FileCache(service.settings.cache_size)
        self.loading: dict[Key, Look] = {}
        """The looks at the disk that are under way, and may be shared."""

    def answer(self, connection: HttpConnection, request: Request) -> None:
        """See to it that *connection* gets the file that *request* asks for, at once or later."""
        key = request.target.partition(b"?")[0], request.fields.combined(b"accept-encoding")
        entry = self.cache.get(key)
        if entry is not None and self._fresh(entry):
            self._metrics.cache_hits_total += 1
            self._send_kept(connection, request, entry)
            return
        self._metrics.cache_misses_total += 1
        look = self.loading.get(key)
        if look is not None:
            self._answer_after(look, connection, request)
        elif entry is None:
            self._answer_anew(connection, request, key)
        elif self._root.still_has(entry.resource.outline):
            entry.checked = self._loop.time()
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
        again = None if outline is None else self._root.load_again(outline)
        if again is None:
            self._load(connection, request, key, None)
            return
        entry = self.cache.put(key, again, self._loop.time()) if again.keepable else None
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
        shared = not alone and self._settings.cache_valid > 0
        target = parse_target(request.target)
        if target is None:
            connection.refuse(ProtocolError(400, "bad request-target", request.method == b"HEAD"))
            return
        accept = request.fields.combined(b"accept") if self._root.policy.spa else None
        wanted = Wanted(target, key[1], accept)
        looked_at = known.resource if known else None
        resource = self._root.load_cached(wanted, looked_at)
        if resource is not None:
            self._take(key, resource, [(connection, request)])
            return
        try:
            job = self._pool.submit(self._root.load, wanted, looked_at)
        except QueueFull:
            self._answer_unseen(connection, request, known if shared else None)
            return
        if trace.on:
            trace.event("=", "submit", why="look at the disk in a thread, not on the loop's", queued=self._pool.queued)
        connection.wait_for_disk()
        look = Look(self._loop.time(), known, (connection, request))
        if shared:
            self.loading[key] = look
        job.add_done_callback(lambda done: self._loaded(look, key, done))

    def _loaded(self, look: Look, key: Key, job: asyncio.Future[Resource]) -> None:
        if self.loading.get(key) is look:
            del self.loading[key]
        if job.cancelled():
            for waiter, _ in look.waiters:
                waiter.abort()
        else:
            self._take(key, self._result(job), look.waiters)

    def _take(self, key: Key, resource: Resource, waiters: list[Waiter]) -> None:
        """Answer *waiters* with *resource*."""
        entry = self._entry(key, resource)
        if entry is not None:
            self._answer_each(waiters, lambda waiter, asked: self._send_kept(waiter, asked, entry))
        elif resource.keepable:
            self._answer_each(waiters, lambda waiter, asked: self._send_own(waiter, asked, key, resource))
        elif waiters:
            (connection, request), *others = waiters
            self._send_own(connection, request, key, resource)
            # An open file has one owner: each of the others needs one of its own.
            self._answer_each(others, lambda waiter, asked: self._load_for(waiter, asked, key), FEW)
        else:
            resource.close()

    def _answer_each(
        self, waiters: list[Waiter], answer: Callable[[HttpConnection, Request], None], most: int = MOST
    ) -> None:
        """Call *answer* for each of *waiters*, *most* of them in a turn of the loop."""
        for waiter, asked in waiters[:most]:
            answer(waiter, asked)
        if len(waiters) > most:
            self._loop.call_soon(self._answer_each, waiters[most:], answer, most)

    def _load_for(self, waiter: HttpConnection, asked: Request, key: Key) -> None:
        if not waiter.transport.is_closing():
            self._load(waiter, asked, key, None, alone=True)

    def attend_waiters(self) -> None:
        """The disk may be slow, or stuck: what was seen the last time is better than no answer, and 503 than none."""
        now = self._loop.time()
        for look in tuple(self.loading.values()):
            if not look.takes_too_long(now):
                continue
            look.overdue = True
            waiters, look.waiters = look.waiters, []
            self._answer_each(waiters, partial(self._answer_unseen, known=look.known))
        if self.loading:
            self._clock.wake()  # and look again in a second

    def _answer_unseen(self, connection: HttpConnection, request: Request, known: Entry | None) -> None:
        """Answer without a look, by what is *known* if something is."""
        if known is None:
            connection.send(request, self._service.error(503, "the server is busy"))
        else:
            self._send_kept(connection, request, known)

    def _entry(self, key: Key, resource: Resource) -> Entry | None:
        """What the cache keeps for others, or what all that ask now may be answered with; None if it is neither."""
        now = self._loop.time()
        if resource.keepable and (entry := self.cache.put(key, resource, now)) is not None:
            return entry
        self.cache.remember(key, resource.outline)
        # A path that is not there takes no place in the cache, however many of them are asked for.
        return Entry(key, resource, now) if resource.repeatable else None

    def _result(self, job: asyncio.Future[Resource]) -> Resource:
        error = job.exception()
        if error is None:
            return job.result()
        self._loop.call_exception_handler({"message": "looking at the disk failed", "exception": error})
        return self._root.error(500)

    def _send_kept(self, connection: HttpConnection, request: Request, entry: Entry) -> None:
        answer = respond(entry.resource, request.method, request.fields, time.time(), self._max_ranges)
        connection.send(request, answer)
        # Of many files that are asked for once a second each, no answer would be sent again.
        again = entry.asked_until == self._clock.next_tick or not entry.resource.keepable
        if again and self._fresh(entry):
            self._keep_ready(connection, request, answer)
        entry.asked_until = self._clock.next_tick

    def _send_own(self, connection: HttpConnection, request: Request, key: Key, resource: Resource) -> None:
        """Answer with what is not kept, unless it is a part of a file that is asked for again in this second."""
        answer = respond(resource, request.method, request.fields, time.time(), self._max_ranges)
        # A page that takes the place of a missing file does so for some clients and not for all.
        if resource.body is not None or resource.outline.identity is None or self._root.policy.spa:
            connection.send(request, answer)
            return
        resource.hold()
        connection.send(request, answer)
        if self._ready.asked_again((key, request.fields.combined(b"range"))):
            self._keep_ready(connection, request, answer)
        resource.close()

    def _fresh(self, entry: Entry) -> bool:
        """Whether *entry* counts, without a look at its file, for the rest of this second.

        That is asked, and not whether it counts right now, so that all looks fall on the first request of a second, and
        ready answers need no date of their own. With ``cache_valid`` below a second, nothing is kept ready.
        """
        self._clock.date()
        valid = self._settings.cache_valid
        if valid >= 1:
            return entry.checked + valid >= self._clock.next_tick
        return entry.checked + valid > self._loop.time()

    def _keep_ready(self, connection: HttpConnection, request: Request, answer: Answer) -> None:
        # There is more to some answers than the head that they answer, and some differ by client.
        alone = request.head and not request.has_body and connection.keeps_alive is request.keep_alive
        pages, log = self._service.pages, self._service.log
        disputed = pages is not None and pages.disputed(request)
        if trace.on or self._settings.cache_valid < 1 or disputed or not alone:
            return
        if answer.own_file is not None:  # a look at any other might wait for a disk, or a network
            if request.keep_alive:
                self._ready.keep_open(request, answer)
        elif answer.in_memory and answer.size <= LARGEST:
            head = answer.head.render(self._clock.date(), connection.connection_field(request))
            body = b"" if request.method == b"HEAD" else answer.ready
            record = None if log is None else log.record("", request, answer.status, len(body))
            self._ready.keep(request.head, answer.status, head + body, record, closes=not request.keep_alive)
