"""How answers leave a connection, one at a time: at once, from a file, or piece by piece; and how a connection ends.

Facts
    - What is answered may be bytes in memory, a file that sendfile(2) sends past the transport, or the output of
      something that runs (`Exchange`), whose end nobody knows.
    - A client that has not read the last answer when the connection is closed with data unread loses it to a reset
      (RFC 9112 section 9.6).
    - What is sent with MSG_MORE waits for what comes next, and the end of the stream goes into the same packet: the
      second one is a tenth of our processor time for a connection that is for one request. A close would do as well,
      but with data unread it drops what has not left.
Consequence
    While one answer is under way nothing else may be written, and the connection must know what it waits for.
Decision
    This half of `HttpConnection` writes; the other half, which reads, asks `_blocked` before it goes on, and is told by
    `_advance` to. The last answer is followed by a half-close, then reading goes on for a while; where the client has
    said that nothing comes, both leave together, and it is closed. How long is waited stands in waiting.py.
Price
    Three ways to answer, each with its end: `send`, `streamed`, `refuse`.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from aiolsp.http1.messages import ProtocolError, Request
from aiolsp.http1.response import CLOSE, KEEP_ALIVE, PERSISTENT, HeadTemplate
from aiolsp.linux.pages import Place
from aiolsp.linux.unsent import untaken
from aiolsp.static.answer import Answer
from aiolsp.static.phases import Phase
from aiolsp.tracing import trace
from aiolsp.websrv.transfer import Transfer
from aiolsp.websrv.waiting import Waiting

if TYPE_CHECKING:
    from aiolsp.websrv.exchange import Exchange
    from aiolsp.websrv.ready import ReadyAnswer

FLUSH = 256 * 1024
"""Bytes of ready answers that are gathered for one write, at the most."""

SHARED = 64 * 1024
"""Bytes of a body from which on it is written by itself: joined to its head, it would be copied for each client."""

AT_ONCE = 64 * 1024
"""Bytes of files in an answer that are copied if they are in memory, as small files are, and not sent by a thread."""

NOTHING_HOT: dict[bytes, ReadyAnswer] = {}
NO_OUTPUT: list[bytes] = []


class Answering(Waiting):
    """The half of a connection that writes; see the module."""

    # What a connection begins with stands here: for one request, most of it never changes.
    _hot = NOTHING_HOT
    _output = NO_OUTPUT
    _output_size = 0
    _full = _clogged = _awaits_disk = False
    _ended = _closing = False
    # Whether a file is being begun: if all of it goes at once, who began it goes on.
    _beginning = False
    # Whether nothing is queued, and nothing follows the answer that is being given: it need not be gathered.
    _alone = False
    _exchange: Exchange | None = None
    _sending: tuple[Request, int] | None = None
    _request: Request | None = None
    _keep_alive = True

    # The other half

    def _advance(self) -> None:
        """Go on with what comes next."""
        raise NotImplementedError

    @property
    def _all_read(self) -> bool:
        """Whether nothing has come behind the request that is being answered."""
        raise NotImplementedError

    def _stop_answering(self) -> None:
        """No answer follows: drop what was read."""
        raise NotImplementedError

    # Answers

    def wait_for_disk(self) -> None:
        """The answer comes later, by `send` or `refuse`; until then nothing else is answered."""
        self._awaits_disk = True
        self._hot = NOTHING_HOT
        self._enter(Phase.SENDING if self._full else Phase.ANSWER)

    def send(self, request: Request, answer: Answer) -> None:
        """Queue *answer*; if it was waited for, go on with what came after it."""
        waited, self._awaits_disk = self._awaits_disk, False
        if self.transport.is_closing():
            answer.close()
            return
        if waited:
            self._enter(Phase.SENDING if self._full else Phase.IDLE)
        if answer.streamed and request.method != b"HEAD" and not answer.read_cached(AT_ONCE):
            self._stream(request, answer)
        else:
            self._put_whole(request, answer)
        if waited:
            self._advance()

    def _put_whole(self, request: Request, answer: Answer) -> None:
        data = answer.head.render(self._service.clock.date(), self.connection_field(request))
        size = 0 if request.method == b"HEAD" else answer.size
        if 0 < size <= SHARED:
            data += answer.ready
        if self._alone:
            self._write(data)
        else:
            self._put(data)
        if size > SHARED:
            self._put(answer.ready)
        answer.close()
        self._service.note(self, request, answer.status, size)
        if not self._keep_alive:
            self._leave(request)

    def _stream(self, request: Request, answer: Answer) -> None:
        service = self._service
        try:
            transfer = Transfer(
                self.transport,
                self._socket,
                service.pool,
                service.turns,
                service.looks,
                answer,
                self._enter,
                self.streamed,
            )
        except OSError as error:
            answer.close()
            self._put_whole(request, self._service.error(503, (error.strerror or "").lower()))
            return
        head = answer.head.render(service.clock.date(), self.connection_field(request))
        if self._output:
            self._put(head)
            head = self._take_output()
        self._count(head)
        self._hot = NOTHING_HOT
        self._transfer = transfer
        self._sending = request, answer.status
        self._beginning = True
        transfer.begin(head)
        self._beginning = False

    def begin_stream(self, request: Request, status: int, head: HeadTemplate, *, delimited: bool) -> None:
        """Queue the head of an answer that the exchange will stream; unless it is *delimited*, the end closes."""
        self._keep_alive = self._keep_alive and request.keep_alive and delimited
        self._sending = request, status
        self._put(head.render(self._service.clock.date(), self.connection_field(request)))

    def stream(self, data: bytes) -> None:
        """Write what the exchange has for the client."""
        self._put(data)
        self._flush(why="from an exchange")

    def streamed(self, complete: bool) -> None:
        """An answer has been streamed, or cannot be: then what was announced must not be padded, but cut."""
        stream = self._transfer or self._exchange
        assert stream is not None and self._sending is not None
        if self._transfer is not None:
            self._service.metrics.sent_bytes_total += stream.sent
        request, status = self._sending
        self._service.note(self, request, status, stream.sent)
        self._transfer = self._exchange = self._sending = self._request = None
        self._awaits_disk = False
        if not complete:
            self.transport.abort()
            return
        if self._full or self._patience.phase is not Phase.IDLE:  # what went at once was not waited for
            self._enter(Phase.SENDING if self._full else Phase.IDLE)
        if not self._keep_alive:
            self._leave(request)
        elif not self._beginning:
            self._advance()

    @property
    def full(self) -> bool:
        """Whether the client has yet to read before more may be streamed."""
        return self._full

    def release(self) -> None:
        """The exchange gives up its place: the answer comes by `send` or `refuse`."""
        self._exchange = None
        self._awaits_disk = True

    def _abandon(self) -> bool:
        """Let go of an exchange, if there is one; True if a part of its answer is out, which must be cut then."""
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return False
        exchange.abandon()
        if self._sending is None:
            return False
        self._service.note(self, *self._sending, exchange.sent)
        self._sending = None
        return True

    def refuse(self, fault: ProtocolError) -> None:
        """Answer what cannot be understood, or not be served, and close."""
        if self._abandon():
            self.transport.abort()
            return
        self._keep_alive = False
        answer = self._service.error(fault.status, fault.reason)
        body = b"" if fault.to_head else answer.ready
        self._put(answer.head.render(self._service.clock.date(), CLOSE) + body)
        self._service.note(self, self._request, answer.status, len(body))
        self._request = None
        self._finish()

    def connection_field(self, request: Request) -> bytes:
        """The end of the head that answers *request*: whether the connection stays open."""
        if not self._keep_alive:
            return CLOSE
        return PERSISTENT if request.version == (1, 1) else KEEP_ALIVE

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection outlives the answer that is being given."""
        return self._keep_alive

    def _put(self, data: bytes) -> None:
        large = len(data) > SHARED
        if large:
            self._flush()
        if self._output:
            self._output.append(data)
        else:
            self._output = [data]
        self._output_size += len(data)
        if large or self._output_size > FLUSH:
            self._flush()

    def _flush(self, *, why: str = "") -> None:
        if not self._output:
            return
        if self.transport.is_closing():  # nobody is left to take it
            self._output = NO_OUTPUT
            self._output_size = 0
            return
        self._write(self._take_output(), why)

    def _write(self, data: bytes, why: str = "") -> None:
        self._count(data)
        if trace.on:
            trace.event(">", "write", fd=self.fd, size=len(data), why=why)
        self.transport.write(data)

    def _write_lent(self, data: bytes, place: Place) -> None:
        """Write *data*, which is at *place*, without a copy as far as the socket takes it at once."""
        sent = 0
        transport = self.transport
        if not transport.get_write_buffer_size() and not transport.is_closing():
            sent = place.send(self._socket.fileno())
        if sent < len(data):
            self.transport.write(data[sent:])

    def _take_output(self) -> bytes:
        """What has been put, to be written now."""
        data = b"".join(self._output)
        self._output = NO_OUTPUT
        self._output_size = 0
        return data

    def _count(self, data: bytes) -> None:
        self._service.metrics.sent_bytes_total += len(data)
        self._patience.written += len(data)

    # Closing

    def _leave(self, request: Request) -> None:
        """The last answer, to *request*, is queued.

        A client that asked for the close sends nothing more (RFC 9112 9.6), so that no reset can overtake the answer.
        """
        if request.keep_alive or not self._all_read:
            self._finish()
        else:
            self._close()

    def _part(self) -> None:
        """Nothing is owed any more: close, but not so that a request on its way resets what the client still reads."""
        if untaken(self._socket):
            self._finish()
        else:
            self._close()

    def abort(self) -> None:
        """Close at once, whatever is in flight."""
        self.transport.abort()

    def _finish(self) -> None:
        """The last answer is queued: half-close once it is sent, then read on, so that no reset overtakes it."""
        self._flush()
        self._stop_answering()
        if self._ended or self.transport.is_closing():
            self._close()
            return
        # With a limit of 0, "the client has read" means all of it: only then does the lingering begin.
        self.transport.set_write_buffer_limits(0)
        if not self._full:
            self._linger()
        self.transport.resume_reading()
        try:
            self.transport.write_eof()
        except (OSError, RuntimeError):
            self.transport.abort()

    def _linger(self) -> None:
        if self._ended:
            self._close()
        else:
            self._enter(Phase.LINGER)

    def _close(self, last: bytes = b"") -> None:
        """Close behind what is queued, or *last*: one packet has it and the end if the socket takes it at once."""
        self._closing = True
        self._hot = NOTHING_HOT
        transport = self.transport
        if self._output and not transport.is_closing():
            last = self._take_output()
            self._count(last)
        if last and not transport.get_write_buffer_size():
            if trace.on:
                trace.event(">", "send", fd=self.fd, size=len(last), flags="MSG_MORE", why="the end goes with it")
            try:
                last = last[self._socket.send(last, socket.MSG_MORE) :]
                if not last:
                    self._socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it is full, or the client is gone: the transport will know
        if last:
            self.transport.write(last)
        if transport.get_write_buffer_size():
            self._enter(Phase.SENDING)
        transport.close()
