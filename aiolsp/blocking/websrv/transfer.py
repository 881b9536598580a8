"""Send an answer that holds parts of files, as much as the socket takes: the twin of websrv/transfer.py.

Facts
    - sendfile(2) to a non-blocking socket never waits for the client, but it does wait for the disk.
    - A head in a packet of its own, and then the file, is one packet too many: MSG_MORE (send(2)) keeps what is sent
      until more follows.
Consequence
    The thread that looked at the disk may send as well; it only must not wait for the client.
Decision
    `send` goes on until the socket is full, or for one burst, and is called again when epoll reports room: what is left
    is a few numbers, so the thread serves others meanwhile. No duplicate of the descriptor, no buffer to be drained
    first, no second thread: that is the whole of what a transport made difficult. Until the client has shown that it
    reads, the kernel takes little for it (linux/unsent.py).
Price
    A burst keeps a thread for as long as the disk needs.
"""

from __future__ import annotations

import socket
from collections import deque

from aiolsp.http1.messages import Request
from aiolsp.linux import unsent
from aiolsp.linux.sendfile import FileSlice, send_file
from aiolsp.static.answer import Answer
from aiolsp.tracing import trace

BURST = 4 << 20
"""Bytes that are sent at the most before others in the pool get their turn."""


class Output:
    """Bytes on their way to *sock*, which must be non-blocking; *size* of them wait, *sent* have gone in all."""

    def __init__(self, sock: socket.socket) -> None:
        self.size = self.sent = 0
        self._socket = sock
        self._waiting: list[bytes | memoryview] = []

    def put(self, data: bytes) -> None:
        """Queue *data*."""
        if data:
            self._waiting.append(data)
            self.size += len(data)

    def set_free(self) -> None:
        """The client reads."""
        unsent.set_free(self._socket)

    def flush(self, *, more: bool = False) -> bool:
        """Send what waits; False if the socket is full before. *more*: other bytes follow at once, by any call.

        Raises ConnectionError if the client is gone.
        """
        if not self.size:
            return True
        data = memoryview(self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting))
        try:
            sent = self._socket.send(data, socket.MSG_MORE if more else 0)
        except BlockingIOError:
            sent = 0
        self._count(sent, "send", full=sent < len(data))
        self.size -= sent
        self._waiting = [data[sent:]] if self.size else []
        return not self.size

    def send_file(self, piece: FileSlice, limit: int) -> FileSlice | None:
        """Send *limit* bytes of *piece* at the most; what is left of it. Raises as `linux.sendfile.send_file` does."""
        progress = send_file(self._socket.fileno(), piece, limit)
        self._count(progress.sent, "sendfile", full=progress.full)
        return progress.rest

    def _count(self, sent: int, call: str, *, full: bool) -> None:
        self.sent += sent
        if trace.on:
            why = "the socket is full: wait until it is writable" if full else ""
            trace.event(">", call, fd=self._socket.fileno(), size=sent, why=why)


class Transfer:
    """Sends the pieces of the *answer* to *request*, whose head is in *output* already; its owner closes the answer."""

    def __init__(self, output: Output, request: Request, answer: Answer) -> None:
        self.request = request
        self.answer = answer
        self._output = output
        self._pieces = deque(answer.pieces)
        self._begin = output.sent + output.size
        self._turns = 0

    @property
    def sent(self) -> int:
        """Bytes of the body that have gone."""
        return max(0, self._output.sent - self._begin)

    def send(self) -> bool:
        """Send until the socket is full or a burst has gone; whether all of it has.

        Raises FileChanged, ConnectionError if the client is gone, and OSError for a broken disk.
        """
        output = self._output
        self._turns += 1
        if self._turns == 2:  # the socket was full, and is writable again
            output.set_free()
        end = output.sent + BURST
        while self._pieces and output.sent < end and output.flush(more=True):
            piece = self._pieces.popleft()
            if isinstance(piece, bytes):
                output.put(piece)
            elif rest := output.send_file(piece, end - output.sent):
                self._pieces.appendleft(rest)
                return False
        return not self._pieces and output.flush()
