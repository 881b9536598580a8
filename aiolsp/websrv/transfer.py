"""Send an answer that holds parts of files: no copy through user space, no wait for a disk on the loop's thread.

Facts
    - uvloop has no ``loop.sendfile``, and neither loop lets ``add_writer`` watch the descriptor of a transport.
    - A duplicate of that descriptor may be watched and written to; it shares O_NONBLOCK. What the transport still has
      in its own buffer would then be overtaken.
    - sendfile(2) to a non-blocking socket never waits for the client, but it does wait for the disk.
Consequence
    Not before the transport's buffer is empty may a file follow; and each sendfile(2) belongs in a thread, held for as
    long as the disk needs and not as long as the client.
Decision
    The write buffer's limit is set to 0, so that "resume writing" means "empty". Then: a pool thread sends until the
    socket is full, the loop waits until it is writable again, and so on, over a duplicate that this object owns.
    Before each piece the file is looked at again: one that was truncated or written to since is not sent on.
    Until the client has shown that it reads, the kernel takes little for it (linux/unsent.py).
Price
    Two hand-overs between threads for each socket buffer of bytes. A file that is written to in place within its last
    piece may still arrive mixed, since the kernel sends its pages, not a copy; a file that is replaced (renamed over)
    never does.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable

from aiolsp.linux import unsent
from aiolsp.linux.sendfile import FileChanged, FileSlice, SendProgress, send_file
from aiolsp.mechanisms.threads import HalfSyncPool
from aiolsp.static.answer import Answer
from aiolsp.tracing import trace

BURST = 4 << 20
"""Bytes that one job sends at the most before others in the pool get their turn."""


class Transfer:
    """Sends the pieces of one answer over *transport*, then calls *done*, once, with whether all of it went out.

    ``begin`` (again each time the transport's buffer has emptied) -> [``abandon`` when the connection is lost ->] done.
    Raises OSError for want of a descriptor, before anything is sent; *answer* is then still its caller's.
    """

    def __init__(
        self, transport: asyncio.Transport, pool: HalfSyncPool, answer: Answer, done: Callable[[bool], None]
    ) -> None:
        self.sent = 0
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._pool = pool
        self._answer = answer
        self._done = done
        self._pieces = deque(answer.pieces)
        self._in_thread = self._busy = self._watching = self._abandoned = False
        self._out: socket.socket = transport.get_extra_info("socket").dup()
        unsent.bound(self._out)

    def begin(self) -> None:
        """The transport may be empty: send what comes next."""
        if self._busy or self._watching or self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size():
            return
        while self._pieces:
            piece = self._pieces[0]
            if isinstance(piece, FileSlice):
                self._send_slice(piece)
                return
            self._pieces.popleft()
            self._transport.write(piece)
            self.sent += len(piece)
            if self._transport.get_write_buffer_size():
                return
        self._end(True)

    def abandon(self) -> None:
        """The connection is lost: nothing more is sent; *done* is called as soon as no thread uses the files."""
        self._abandoned = True
        if not self._busy:
            self._end(False)
            return
        # The duplicate keeps the socket alive: without this the client would wait as long as the thread.
        with contextlib.suppress(OSError):
            self._out.shutdown(socket.SHUT_RDWR)

    def _send_slice(self, piece: FileSlice) -> None:
        self._busy = True
        job = self._pool.resume(self._send_in_thread, piece)
        job.add_done_callback(self._sent)

    def _send_in_thread(self, piece: FileSlice) -> SendProgress:
        self._in_thread = True
        try:
            return send_file(self._out.fileno(), piece, BURST)
        finally:
            self._in_thread = False

    def _sent(self, job: asyncio.Future[SendProgress]) -> None:
        self._busy = False
        if job.cancelled():
            # The pool was closed over a thread that is stuck in the disk: it still uses the descriptors.
            if not self._in_thread:
                self._release()
            return
        error = job.exception()
        if error is not None:
            if not isinstance(error, (FileChanged, OSError)):
                self._loop.call_exception_handler({"message": "sending a file failed", "exception": error})
            if trace.on:
                trace.event("!", "sendfile", fd=self._out.fileno(), why=f"cut: {error}")
            self._end(False)
            return
        progress = job.result()
        self.sent += progress.sent
        if trace.on:
            why = "the socket is full: wait until it is writable" if progress.full else ""
            trace.event(">", "sendfile", fd=self._out.fileno(), size=progress.sent, why=why)
        if self._abandoned:
            self._end(False)
            return
        if progress.rest is None:
            self._pieces.popleft()
        else:
            self._pieces[0] = progress.rest
        if progress.full:
            self._loop.add_writer(self._out.fileno(), self._writable)
            self._watching = True
        else:
            self.begin()

    def _writable(self) -> None:
        self._loop.remove_writer(self._out.fileno())
        self._watching = False
        unsent.set_free(self._out)
        self.begin()

    def _end(self, complete: bool) -> None:
        self._release()
        if not self._transport.is_closing():
            self._transport.set_write_buffer_limits()
        self._done(complete)

    def _release(self) -> None:
        if self._watching:
            self._loop.remove_writer(self._out.fileno())
            self._watching = False
        self._out.close()
        self._answer.close()
