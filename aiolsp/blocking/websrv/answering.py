"""How answers leave a connection, one at a time, and how it ends: the twin of websrv/answering.py.

What is answered is queued in the connection's output, and a file goes on as a `Transfer`, whichever thread's turn it
is. The last answer is followed by a half-close, then reading goes on for a while (RFC 9112 section 9.6).
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from aiolsp.blocking.websrv.transfer import Transfer
from aiolsp.blocking.websrv.waiting import Waiting
from aiolsp.http1.messages import ProtocolError, Request
from aiolsp.http1.response import CLOSE, KEEP_ALIVE, PERSISTENT, HeadTemplate
from aiolsp.linux.listener import Address
from aiolsp.static.answer import Answer
from aiolsp.static.phases import Phase

if TYPE_CHECKING:
    from aiolsp.blocking.websrv.service import Service


class Answering(Waiting):
    """The half of a connection that writes; see the module."""

    def __init__(self, service: Service, sock: socket.socket, peer: Address) -> None:
        super().__init__(service, sock, peer)
        # Connection
        self._closing = False
        self._transfer: Transfer | None = None
        # Request
        self._request: Request | None = None
        self._keep_alive = True

    @property
    def half_sent(self) -> bool:
        """Whether a file is on its way."""
        return self._transfer is not None

    @property
    def sent(self) -> int:
        """Bytes that were sent to the client in all."""
        return self.output.sent

    # Answers

    def send(self, request: Request, answer: Answer) -> None:
        """Queue *answer*; one that holds parts of a file is sent before anything else is answered."""
        self.output.put(answer.head.render(self._service.clock.date(), self.connection_field(request)))
        if answer.streamed and request.method != b"HEAD":
            self._transfer = Transfer(self.output, request, answer)
            return
        size = 0 if request.method == b"HEAD" else answer.size
        if size:
            self.output.put(answer.ready)
        answer.close()
        self._service.note(self, request, answer.status, size)
        if not self._persists:
            self.finish()

    def begin_stream(self, request: Request, head: HeadTemplate, *, delimited: bool) -> None:
        """Queue the head of an answer that a program streams; unless it is *delimited*, the end closes."""
        self._keep_alive = self._keep_alive and delimited
        self.output.put(head.render(self._service.clock.date(), self.connection_field(request)))

    def refuse(self, fault: ProtocolError) -> None:
        """Answer what cannot be understood, or not be served, and close."""
        answer = self._service.error(fault.status, fault.reason)
        body = b"" if fault.to_head else answer.ready
        self.output.put(answer.head.render(self._service.clock.date(), CLOSE) + body)
        self._service.note(self, self._request, answer.status, len(body))
        self._request = None
        self.finish()

    def connection_field(self, request: Request) -> bytes:
        """The end of the head that answers *request*: whether the connection stays open."""
        if not self._persists:
            return CLOSE
        return PERSISTENT if request.version == (1, 1) else KEEP_ALIVE

    @property
    def _persists(self) -> bool:
        """Whether a request may follow the one that is being answered."""
        return self._keep_alive and not self._service.draining

    def _flush(self) -> bool:
        """Send what is queued, and go on with the file that is being sent, if one is; whether nothing is left."""
        transfer = self._transfer
        if not self.output.flush(more=transfer is not None):
            return False
        if transfer is None:
            return True
        complete = transfer.send()
        if complete:
            self._end_transfer(transfer)
            if not self._persists:
                self.finish()
        return complete

    def _end_transfer(self, transfer: Transfer) -> None:
        self._service.note(self, transfer.request, transfer.answer.status, transfer.sent)
        self._transfer = None
        transfer.answer.close()

    # Closing

    def finish(self) -> None:
        """The last answer is queued, or was given."""
        self._keep_alive = False
        self._closing = True

    def _half_close(self) -> None:
        """All is sent: say so, and read on until the client closes, so that no reset overtakes the last answer."""
        if self._patience.phase is not Phase.LINGER:
            self._enter(Phase.LINGER)
            self._socket.shutdown(socket.SHUT_WR)
