"""One HTTP connection, held by one thread at a time: the book's http_conn, and the twin of websrv/connection.py.

Book p. 304, listing 15-4 (http_conn); p. 318, listing 15-6.

Facts
    - A client may pipeline, stop reading, stop sending, or half-close and wait for its answer. A thread that waits for
      it is one less for the others: eight such clients, and eight threads serve nobody.
    - Each system call lets another thread have the interpreter; a call that is not made is the cheapest.
Consequence
    A worker must never wait for a client, only for the disk; the state between two turns is not on a worker's stack.
Decision
    A turn does all that can be done now: send what is owed, answer what was asked, read. When the socket is full, or
    nothing more came, it lets go (held.py): `_rest` re-arms for EPOLLOUT or EPOLLIN. A read that did not fill its
    buffer is not followed by one that would say EAGAIN: if more is there by then, epoll says so.
Price
    An epoll_ctl for each turn. What a transport does unasked is written out: partial writes, EAGAIN, the closing.

The C++ original takes an answer for sent after the first writev that got through, which cuts a 1 MiB file off at
128 KiB; it drops a client whose head is longer than 2 KiB, keeps a 1.1 connection only if ``Connection: keep-alive``
says so, answers one request a packet, has no time-out at all, and opens ``/../../../etc/passwd``.

State line: connection_made -> turn* -> close. This half reads; answering.py writes, waiting.py has the time.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from typing import TYPE_CHECKING

from aiolsp.blocking.websrv.answering import Answering
from aiolsp.http1.messages import Data, EndOfMessage, Event, ProtocolError, Request
from aiolsp.http1.parser import RequestParser
from aiolsp.http1.response import CONTINUE
from aiolsp.http1.states import ParseState
from aiolsp.linux.listener import Address
from aiolsp.linux.unsent import untaken
from aiolsp.static.methods import reads_body
from aiolsp.static.phases import Phase
from aiolsp.tracing import trace

if TYPE_CHECKING:
    from aiolsp.blocking.websrv.cgi import ProgramExchange
    from aiolsp.blocking.websrv.service import Service

PIECE, HEADS = 16 * 1024, 2 * 1024
"""Bytes of a body or a chunk, and of heads and small chunks, in one recv: of who reads no answer, no more is parsed."""

READS = 16
"""Reads of one turn, so that a client that never stops sending keeps no thread to itself."""

FLUSH = 256 * 1024
"""Bytes of ready answers that are gathered for one send, at the most."""

ENDED, HANDED = 0, -1
"""No events to wait for: the connection is over; a program's thread goes on with it."""


class HttpConnection(Answering):
    """Serves one client; held.py tells who may call what when."""

    def __init__(self, service: Service, sock: socket.socket, peer: Address) -> None:
        super().__init__(service, sock, peer)
        # Connection
        self._parser = RequestParser(service.settings.limits)
        self._events: deque[Event] = deque()
        self._fresh = True
        self.ended = False
        self._exchange: ProgramExchange | None = None
        # Turn
        self._busy = self._drained = False
        self._reads_left = 0

    # On the thread of the readiness loop

    def connection_made(self) -> None:
        """The connection is there: watch it, and refuse it politely if there are too many.

        Raises OSError, before anything is done, if it cannot be watched.
        """
        if isinstance(self.peer, tuple):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.watch()
        self._service.timers.add(self._timer)
        if not self._service.join(self):
            self._held = True
            self.refuse(ProtocolError(503, "too many connections"))
            self.work(busy=True)

    def drain(self, *, fresh_too: bool = False) -> None:
        """The server drains: close what nothing is owed to. Whoever holds a connection looks after it by itself.

        A connection on which nothing has come yet is left open for its first request, unless *fresh_too*.
        """
        if not self.take():
            return
        if self._owing or not self._parser.between_messages or (self._fresh and not fresh_too):
            self.give_back()
        else:
            self.part("the server stops")

    # On whichever thread holds the connection

    def turn(self, *, busy: bool) -> None:
        """Go on until the client must be waited for, or a program, or nobody."""
        self._busy, self._drained, self._reads_left = busy, False, READS
        while (event := self._advance()) != ENDED:
            if event == HANDED:
                self._hand_over()
                return
            if self._rest(event):
                return
        self.close("closed")

    @property
    def _blocked(self) -> bool:
        """Whether the next answer has to wait."""
        return bool(self._closing or self._transfer or self._exchange or self.output.size > FLUSH)

    @property
    def _owing(self) -> bool:
        """Whether an answer, or a part of one, is still owed to the client."""
        return self._closing or self._transfer is not None or bool(self.output.size or self._events)

    def _advance(self) -> int:
        """Send, answer and read, in this order, until something must be waited for: the event, or ENDED."""
        while True:
            while self._events and not self._blocked:
                self._act(self._events.popleft())
            if self._exchange is not None:
                return HANDED
            if not self._flush():
                return select.EPOLLOUT
            if self._closing:
                self._half_close()
            elif self._events:
                continue  # the transfer, or a full output, held them up
            if self.ended:
                return ENDED
            if self._drained:
                return select.EPOLLIN
            self.receive()

    def _act(self, event: Event) -> None:
        match event:
            case Request():
                # Its head is complete: what may be there of another one has a time of its own.
                self._patience.phase = Phase.IDLE
                self._request = event
                self._exchange = self._service.exchange(self, event)
                if self._exchange is None and event.expects_continue:
                    self._expect(event)
            case Data():
                self._patience.received += len(event.data)
            case EndOfMessage():
                request, self._request = self._request, None
                if request is not None:
                    self._keep_alive = self._keep_alive and request.keep_alive
                    self._service.answer(self, request, busy=self._busy)
            case ProtocolError():
                self.refuse(event)

    def _expect(self, request: Request) -> None:
        """The client waits before it sends the body: go on only if the answer depends on it (RFC 9110 10.1.1)."""
        if reads_body(request):
            self.output.put(CONTINUE)
        else:
            self._request = None
            self._keep_alive = False
            self._service.answer(self, request, busy=self._busy)

    # A program's answer

    def _hand_over(self) -> None:
        """Have a program's thread go on with the exchange."""
        assert self._service.gateway is not None
        self._service.gateway.threads.submit(self._run_exchange)

    def _run_exchange(self) -> None:
        """On a program's thread: hold the connection until the answer is given, then give it back to the pool."""
        exchange, self._exchange = self._exchange, None
        request, self._request = self._request, None
        assert exchange is not None and request is not None
        try:
            self._keep_alive = self._keep_alive and request.keep_alive
            exchange.run()
            if not self._persists:
                self.finish()
            self._service.pool.resume(self.work)
        except Exception as error:
            self.fail(error)

    def body_event(self) -> Event | None:
        """The next event of the request's body, if one has come."""
        event = self._events.popleft() if self._events else None
        if isinstance(event, Data):
            self._patience.received += len(event.data)
        return event

    # Bytes

    def receive(self) -> None:
        """Read once, and parse what came; the events wait for their turn. Raises OSError if the client is gone."""
        size = max(HEADS, min(PIECE, self._parser.content_left))
        try:
            data = self._socket.recv(size)
        except BlockingIOError:
            self._drained = True
            if trace.on:
                trace.event("=", "recv EAGAIN", fd=self.fd, why="read later")
            return
        if trace.on:
            why = f"while waiting for {self._patience.phase.value}" if data else "end of stream"
            trace.event("<", "recv", fd=self.fd, size=len(data), why=why)
        self._reads_left -= 1
        self._drained = len(data) < size or not self._reads_left
        if not data:
            self.ended = True
            return
        self._fresh = False
        self._patience.last_activity = self._time()
        if not self._closing:
            self._events.extend(self._parser.feed(data))

    # Closing

    def finish(self) -> None:
        """The last answer is queued, or was given: what was asked after it is not."""
        super().finish()
        self._events.clear()

    def _rest(self, event: int) -> bool:
        """Let go until *event*; False if there is more to do, since the server began to drain meanwhile.

        Its deadline counts once it is armed again: a timer that is due must not end what is about to be reported.
        """
        phase = self._waits_for(event)
        if phase is not self._patience.phase or self._transfer is not None:  # which may have waited for the disk
            self._enter(phase)
        with self._lock:
            if self._cut:
                raise ConnectionAbortedError("cut")
            if phase is Phase.IDLE and self._service.draining and not self._fresh:
                self.ended = not untaken(self._socket)  # then nothing is owed any more, as in `part`
                if not self.ended:
                    self.finish()
                return False
            self._service.rearm(self, event, f"armed again: wait for {phase.value}")
            self._held = False
            self._service.timers.hasten(self._timer, self._deadline())
        return True

    def _waits_for(self, event: int) -> Phase:
        if event == select.EPOLLOUT:
            return Phase.SENDING
        if self._closing:
            return Phase.LINGER
        if self._parser.between_messages and self._request is None:
            return Phase.IDLE
        return Phase.BODY if self._parser.state is ParseState.CONTENT else Phase.HEAD

    def close(self, why: str) -> None:
        """The connection is over, whoever ended it; whoever calls this holds it, and nobody ever does again."""
        if trace.on:
            trace.event("x", "close", fd=self.fd, why=why)
        self._service.timers.cancel(self._timer)
        # The two know each other: what was not sent would be left to the garbage collector, with all such connections.
        del self._timer
        if self._transfer is not None:
            self._end_transfer(self._transfer)
        self._events.clear()
        self._service.leave(self)
        self._socket.close()
