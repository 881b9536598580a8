"""One HTTP connection: a protocol that feeds the request machine and answers in order (the book's http_conn).

How an answer leaves, and how a connection ends, stands in answering.py.

Book p. 304, listing 15-4; p. 318, listing 15-6.

Facts
    - Most requests of a busy client are those of a moment ago, to the byte or but for fields that decide nothing.
    - Within one second the answers to these are the same bytes too (see clock.py).
    - A client may pipeline: many requests in one packet, whose answers must leave in their order (RFC 9112 9.3.2).
    - A client may send faster than it reads, stop reading, stop sending, or half-close and wait for its answer.
Consequence
    The usual request needs no parser; the unusual one needs bounds on everything that could pile up.
Decision
    `data_received` looks the packet up among the ready answers (ready.py) and writes: no task, no future, no timer
    call. `_hot` is that table while the connection is at rest and an empty one otherwise, so that one look-up decides.
    A request that is not there may be for a large file that is open already, which is sent again; or else, if it came
    whole and alone, it is read in one step (http1/whole.py) and answered.
    All else goes the long way: input -> parser -> events -> one answer after the other, `_advance` being the only loop.
    It stops while an answer waits for the disk, for a file to be sent, or for the client to read; then reading is
    paused as well, so that a connection holds at most one packet of input.
Price
    Four ways to answer; they share what builds the answer, and tests ask all of them the same questions.

State line: connection_made -> (data_received | pause_writing -> resume_writing)* -> eof_received? -> connection_lost.
Each connection that stays has one timer (newcomers.py): what it waits for (`Phase`) says how long, and activity only
stores the time.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import TYPE_CHECKING

from aiolsp.http1.limits import Limits
from aiolsp.http1.messages import Data, EndOfMessage, Event, ProtocolError, Request
from aiolsp.http1.parser import RequestParser
from aiolsp.http1.response import CONTINUE
from aiolsp.http1.states import ParseState
from aiolsp.linux.listener import Address
from aiolsp.static.methods import reads_body
from aiolsp.static.phases import Phase
from aiolsp.tracing import trace
from aiolsp.websrv.answering import FLUSH, NOTHING_HOT, Answering
from aiolsp.websrv.ready import more_than_a_head
from aiolsp.websrv.turns import LEAST

if TYPE_CHECKING:
    from aiolsp.websrv.service import Service

PIECE = 16 * 1024
"""Bytes of a body, or of one chunk of it, that are parsed at a time."""

HEADS = 2 * 1024
"""Bytes of heads, or of small chunks, at a time: an answer that has to wait leaves no more parsed requests behind."""

READ = 64 * 1024
"""Bytes that the stock loop is to make room for at a read; uvloop has one buffer for all.

Its own 256 KiB are more than the C library keeps at hand, once a heap with many connections in it ends in small things:
it asks the kernel for them, and gives them back, at each read. That tripled the system time of requests on 2,000.
"""

READY = 16
"""Ready answers that cost as much as one event of the long way."""

NO_PARSER = RequestParser(Limits())
NO_INPUT: deque[bytes | memoryview] = deque()
NO_EVENTS: deque[Event] = deque()
"""What takes the place of a connection's own, 2 KiB, until it goes the long way: many never do."""


class HttpConnection(Answering):
    """Serves one client; see the module for its states."""

    _parser, _input, _events = NO_PARSER, NO_INPUT, NO_EVENTS
    _fresh = True
    # Whether a packet held several requests; then the next may, and is looked at before it is tried as one head.
    _pipelines = False

    # Protocol interface

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there: watch its silence, and refuse it politely if there are too many."""
        self.transport = transport  # type: ignore[assignment]  # uvloop's are no instances of asyncio's
        if hasattr(transport, "max_size"):
            transport.max_size = READ
        if trace.on:
            self.fd = self._socket.fileno()
        service = self._service
        service.newcomers.add(self)
        if service.join(self):
            self._hot = service.ready.table
        else:
            self.refuse(ProtocolError(503, "too many connections"))
            self._flush()

    def data_received(self, data: bytes) -> None:
        """Answer at once what was answered a moment ago, or is one usual request; else go the long way."""
        ready, rest = self._hot.get(data), None
        if ready is None and self._hot is not NOTHING_HOT and not (self._pipelines and more_than_a_head(data)):
            rest = self._service.ready.heads.rest(data)
            # The rest of anything but one head has more empty lines than any key of the table.
            if rest is not None and (ready := self._hot.get(rest)) is not None:
                self._service.ready.note(data, ready)
        if ready is not None:
            ready.hits += 1
            self._patience.last_activity = self._service.timers.time()
            if ready.place is not None:
                self._write_lent(ready.payload, ready.place)
                if ready.closes:
                    self._close()
            elif ready.closes:
                self._close(ready.payload)
            else:
                self.transport.write(ready.payload)
            if self._service.log is not None:
                self._service.log_again(self, data, ready)
            return
        if trace.on:
            why = f"while waiting for {self._patience.phase.value}"
            trace.event("<", "data_received", fd=self.fd, size=len(data), why=why)
        self._patience.last_activity = self._service.timers.time()
        if rest is not None and self._answer_alone(data, rest):
            return
        if self._hot and (self._pipelines or more_than_a_head(data)):
            data = self._answer_ready(data)
        if data:
            self._receive(data)

    def _answer_ready(self, data: bytes) -> bytes:
        """Answer the requests that *data* begins with, as far as their answers are ready; the bytes that are left."""
        taken = 0
        turns = self._service.turns
        while self._hot and turns.left > LEAST and (found := self._service.ready.find_first(data, taken, FLUSH)):
            if self.transport.is_closing():  # the last write found the client gone
                return b""
            turns.spend(sum(times for _, _, times in found) // READY)
            self.transport.write(b"".join([ready.payload * times for _, ready, times in found]))
            for head, ready, times in found:
                ready.hits += times
                taken += len(head) * times
                if self._service.log is not None:
                    for _ in range(times):
                        self._service.log_again(self, head, ready)
                if ready.closes:
                    self._close() if taken == len(data) else self._finish()
                    return b""
        self._pipelines = taken > 0
        return data[taken:]

    def _answer_alone(self, data: bytes, rest: bytes) -> bool:
        """Answer *data*, which came at rest and of which *rest* is left, if it is one usual request; True if so."""
        service = self._service
        if service.ready.files and self._stream_again(data, rest):
            return True
        request = service.ready.heads.request(data, rest) if service.gateway is None else None
        if request is None:
            return False
        self._fresh = False
        self._alone = self._keep_alive = request.keep_alive
        service.answer(self, request)
        self._alone = False
        if self._hot is NOTHING_HOT and not self._blocked:
            self._rest()
        return True

    def _stream_again(self, data: bytes, rest: bytes) -> bool:
        """Answer *data*, of which *rest* is left, from a file that is open already, if it asks for one; True if so."""
        service = self._service
        found = service.ready.files.get(rest)
        if found is None:
            return False
        request, answer = found
        if service.log is not None and data != request.head:
            return False  # the log is to tell what this client says of itself
        if not answer.hold():
            return False
        self._fresh = False
        service.metrics.requests_total += 1
        service.metrics.ready_hits_total += 1
        self._stream(request, answer)
        self._flush()
        if not self._blocked:
            self._rest()
        return True

    def eof_received(self) -> bool:
        """The client will send nothing more; what it asked for is still owed to it (half-close)."""
        if trace.on:
            trace.event(
                "<", "eof_received", fd=self.fd, why="owe it an answer" if self._owing else "nothing is owed: close"
            )
        self._ended = True
        self._hot = NOTHING_HOT
        if self._patience.phase is Phase.LINGER or not self._owing:
            self._close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, whoever ended it."""
        if trace.on:
            trace.event("x", "connection_lost", fd=self.fd, why=str(exc) if exc else "closed")
        if not self._closing or self._parser is not NO_PARSER:
            self._stop_answering()
        self._unwatch()
        if self._transfer is not None:
            self._transfer.abandon()
        if self._exchange is not None:
            self._abandon()
        self._service.leave(self)

    def pause_writing(self) -> None:
        """The client reads more slowly than we write: answer nothing more, and read nothing more, until it has."""
        self._full = self._clogged = True
        self._hot = NOTHING_HOT
        if self._exchange is not None or (self._transfer is None and not self._awaits_disk):
            self._enter(Phase.SENDING)

    def resume_writing(self) -> None:
        """The client has read."""
        self._clogged = False
        # Not now: the stock loop, closed from within this call, reports the connection's end twice.
        self._service.loop.call_soon(self._resume)

    def _resume(self) -> None:
        if self._clogged or not self._full:
            return
        self._full = False
        if self._transfer is not None:
            self._transfer.resume()
        elif self._closing:
            self._linger()
        elif self._exchange is not None:
            self._enter(Phase.ANSWER)
            self._exchange.resume()
            self._advance()
        elif not self._awaits_disk:
            self._enter(Phase.IDLE)
            self._advance()

    # What the service asks of it

    def drain(self, *, fresh_too: bool = False) -> None:
        """The server stops: finish what is in flight, then close.

        A connection on which nothing has come yet is left open for its first request, unless *fresh_too*.
        """
        self._keep_alive = False
        self._hot = NOTHING_HOT
        if self._owing or not self._parser.between_messages:
            return
        if fresh_too or not self._fresh:
            self._part()

    # What the exchange asks of it

    def take_more(self) -> None:
        """The exchange is no longer full: go on with the body."""
        self._advance()

    # The long way

    @property
    def _blocked(self) -> bool:
        """Whether what comes next has to wait."""
        if self._exchange is not None and self._request is not None:
            return self._closing or self._exchange.full
        return self._full or self._closing or self._transfer is not None or self._awaits_disk

    @property
    def _owing(self) -> bool:
        """Whether an answer, or a part of one, is still owed to the client."""
        return self._blocked or bool(self._events or self._input)

    def _receive(self, data: bytes) -> None:
        self._fresh = False
        if self._parser is NO_PARSER:
            self._parser = RequestParser(self._service.settings.limits)
            self._input, self._events = deque(), deque()
        if self._closing:
            return
        if self._blocked:
            self.transport.pause_reading()
        self._input.append(data)
        self._advance()

    def _advance(self) -> None:
        """Answer, in order, what can be answered now and in one turn, and write it at once."""
        turns = self._service.turns
        allowed = left = turns.left
        while left and (self._events or self._input) and not self._blocked:
            if self._events:
                left -= 1
                self._act(self._events.popleft())
            else:
                self._parse(self._input.popleft())
        self._flush()
        turns.spend(allowed - left)
        blocked = self._blocked
        if not left and not blocked:
            self._hot = NOTHING_HOT
            if not self.transport.is_closing():
                self.transport.pause_reading()
            turns.queue(self._advance)
        elif not blocked:
            self._rest()
        elif self._exchange is not None and self._patience.phase in (Phase.IDLE, Phase.BODY):
            self._enter(Phase.ANSWER)

    def _parse(self, data: bytes | memoryview) -> None:
        size = max(HEADS, min(PIECE, self._parser.content_left))
        if len(data) > size:
            self._input.appendleft(memoryview(data)[size:])
            data = data[:size]
        self._events.extend(self._parser.feed(bytes(data)))

    def _act(self, event: Event) -> None:
        match event:
            case Request():
                # Its head is complete: what may be there of another one has a time of its own.
                self._patience.phase = Phase.IDLE
                self._request = event
                self._exchange = self._service.exchange(self, event)
                if self._exchange is not None:
                    self._hot = NOTHING_HOT
                elif event.expects_continue:
                    self._expect(event)
            case Data():
                self._patience.received += len(event.data)
                if self._exchange is not None:
                    self._exchange.feed(event.data)
            case EndOfMessage():
                request, self._request = self._request, None
                if request is not None:
                    self._keep_alive = self._keep_alive and request.keep_alive
                    self._answer(request)
            case ProtocolError():
                self.refuse(event)

    def _answer(self, request: Request) -> None:
        if self._exchange is None:
            self._service.answer(self, request)
        else:
            self.wait_for_disk()
            self._exchange.receive_eof()

    def _expect(self, request: Request) -> None:
        """The client waits before it sends the body: go on only if the answer depends on it (RFC 9110 10.1.1)."""
        if reads_body(request):
            self._put(CONTINUE)
        else:
            self._request = None
            self._keep_alive = False
            self._service.answer(self, request)

    def _rest(self) -> None:
        """Nothing to do until the client sends: wait for as long as what it has begun allows."""
        if self._closing:
            return
        if self._ended:
            self._close()
            return
        if self._parser.between_messages and self._request is None:
            if not self._keep_alive:  # the server stops, and the client has taken what it was owed
                self._finish()
                return
            self._hot = self._service.ready.table
            if self._patience.phase is not Phase.IDLE:
                self._enter(Phase.IDLE)
        else:
            self._hot = NOTHING_HOT
            waiting_for = Phase.BODY if self._parser.state is ParseState.CONTENT else Phase.HEAD
            if self._patience.phase is not waiting_for:
                self._enter(waiting_for)
        self.transport.resume_reading()

    @property
    def _all_read(self) -> bool:
        return self._parser.between_messages and not self._events and not self._input

    def _stop_answering(self) -> None:
        self._closing = True
        self._hot = NOTHING_HOT
        if self._parser is not NO_PARSER:
            self._events.clear()
            self._input.clear()


def accepted(service: Service, sock: socket.socket, peer: Address) -> HttpConnection | None:
    """What serves the new connection *sock*, if there is room for it."""
    if service.crowd.has_room:
        return HttpConnection(service, sock, peer)
    service.turn_away()
    return None
