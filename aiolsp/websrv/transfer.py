"""Send an answer that holds parts of files: no copy through user space, no wait for a disk on the loop's thread.

Facts
    - uvloop has no ``loop.sendfile``, and neither loop lets ``add_writer`` watch the descriptor of a transport.
    - That descriptor may be written to, and a duplicate of it watched too; they share O_NONBLOCK. What the transport
      still has in its own buffer would then be overtaken. To make and close a duplicate is five system calls.
    - A head in a packet of its own wakes the client for nothing, which costs both sides as much as 64 KiB of the file.
      MSG_MORE (send(2)) keeps it until more follows.
    - sendfile(2) to a non-blocking socket never waits for the client, but it does wait for the disk. Two hand-overs
      between threads cost as much as to send half a MiB.
Consequence
    Not before the transport's buffer is empty may a file follow. And a sendfile(2) belongs in a thread, held for as
    long as the disk needs and not as long as the client, but for what is in memory.
Decision
    What goes before a file is sent past the transport too, which is given only what the socket does not take; from then
    on its write buffer's limit is 0, so that "resume writing" means "empty". Then: a piece that is in memory
    (linux/resident.py) is sent by the loop, any other by a pool thread, until the socket is full. The loop waits until
    it is writable again, and so on. A thread, and who waits, has a duplicate that this object owns; what is one piece
    of a file that is known is tried without, since it mostly goes at once. However many files are on their way, the
    loop sends one piece in a turn (turns.py), so that who asks for little is not kept.
    Before each piece the file is looked at again: one that was truncated or written to since is not sent on.
    Until the client has shown that it reads, the kernel takes little for it (linux/unsent.py).
Price
    A file that is not in memory, or is somebody else's, costs two hand-overs for each socket buffer of bytes, and its
    head waits for the disk with it, though at most the 200 ms that the kernel grants MSG_MORE. A file
    that is written to in place after the look at its last piece may still arrive mixed, or with zeros if it is cut
    short, since the kernel sends its pages, not a copy; a file that is replaced (renamed over) never does.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable

from aiolsp.linux import unsent
from aiolsp.linux.cached import NotCached, read_slice
from aiolsp.linux.resident import Looks, OwnFile, own_file
from aiolsp.linux.sendfile import FileChanged, FileSlice, SendProgress, send_file
from aiolsp.mechanisms.threads import HalfSyncPool
from aiolsp.static.answer import Answer
from aiolsp.static.phases import Phase
from aiolsp.tracing import trace
from aiolsp.websrv.turns import LEAST, TURN, Turns

BURST = 4 << 20
"""Bytes that one job sends at the most before others in the pool get their turn."""

PIECE = 2 << 20
"""Bytes that the loop's thread sends at a time, at the most, in 0.2 ms; nginx's sendfile_max_chunk is 2 MiB as well."""

EVENT = PIECE // TURN
"""Bytes that count as one of the events that all connections share: one piece is what the loop sends in a turn."""

STEP = 64 * 1024
"""Bytes that are looked for at the least, however little the socket took the last time."""


class Transfer:
    """Sends the pieces of one answer over *transport*, then calls *done*, once, with whether all of it went out.

    *sock* is the transport's own. Meanwhile *enter* is told whether our own disk is waited for or the client: a
    thread's time is not the client's.

    ``begin -> resume* -> [abandon when the connection is lost ->] done``, which may be called within any of them.
    Raises OSError for want of a descriptor, before anything is sent; *answer* is then still its caller's. One that is
    needed later is done without, if it can be, and else the answer is cut.
    """

    __slots__ = (
        "_abandoned",
        "_answer",
        "_asked",
        "_busy",
        "_done",
        "_enter",
        "_fd",
        "_file",
        "_free",
        "_in_thread",
        "_looks",
        "_narrowed",
        "_out",
        "_phase",
        "_pieces",
        "_pool",
        "_queued",
        "_released",
        "_room",
        "_socket",
        "_transport",
        "_turns",
        "_watching",
        "sent",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        sock: socket.socket,
        pool: HalfSyncPool,
        turns: Turns,
        looks: Looks,
        answer: Answer,
        enter: Callable[[Phase], None],
        done: Callable[[bool], None],
    ) -> None:
        self.sent = 0
        self._transport = transport
        self._socket = sock
        self._pool = pool
        self._turns = turns
        self._looks = looks
        self._answer = answer
        self._enter = enter
        self._done = done
        self._pieces = deque(answer.pieces)
        self._phase = Phase.IDLE
        self._in_thread = self._busy = self._watching = self._queued = self._abandoned = self._released = False
        self._free = self._narrowed = False
        # Bytes that the socket is thought to take: there is no need to look much further ahead.
        self._room = PIECE
        # What the loop may be told of; the pieces are of one file.
        self._file: OwnFile | None = answer.own_file
        self._asked = self._file is not None
        self._out: socket.socket | None = None
        self._fd = sock.fileno()
        if not self._asked or answer.size > PIECE:
            self._duplicate()

    def begin(self, before: bytes) -> None:
        """Send *before*, and then the pieces."""
        if self._transport.get_write_buffer_size():
            self._write(before)
        else:
            self._send_bytes(before)
        self.resume()

    def resume(self) -> None:
        """The transport's buffer may be empty: send what comes next."""
        if self._busy or self._watching or self._queued or self._transport.is_closing():
            return
        while not self._transport.get_write_buffer_size():
            if not self._pieces:
                self._end(True)
                return
            piece = self._pieces[0]
            if isinstance(piece, FileSlice):
                self._send_in_turn()
                return
            self._pieces.popleft()
            self._send_bytes(piece)
            self.sent += len(piece)
        self._wait(Phase.SENDING)

    def abandon(self) -> None:
        """The connection is lost: nothing more is sent; *done* is called as soon as no thread uses the files."""
        self._abandoned = True
        if not self._busy:
            self._end(False)
            return
        # The duplicate keeps the socket alive: without this the client would wait as long as the thread.
        assert self._out is not None
        with contextlib.suppress(OSError):
            self._out.shutdown(socket.SHUT_RDWR)

    def _wait(self, phase: Phase) -> None:
        if phase is not self._phase:
            self._phase = phase
            self._enter(phase)

    def _send_bytes(self, data: bytes) -> None:
        """Send *data*; the transport, whose buffer is empty, gets what the socket does not take, and its errors."""
        sent = 0
        with contextlib.suppress(OSError):
            sent = self._socket.send(data, socket.MSG_MORE if self._pieces else 0)
        if trace.on:
            trace.event(">", "send", fd=self._fd, size=sent, why="a file follows" if self._pieces else "")
        if sent < len(data):
            self._write(data[sent:])

    def _write(self, data: bytes) -> None:
        # From here on "the client has read" means all of it: a file may only follow when nothing is left of us.
        self._narrowed = True
        self._transport.set_write_buffer_limits(0)
        self._transport.write(data)

    def _duplicate(self) -> None:
        """Get a descriptor that may be watched, and that nobody else closes. Raises OSError."""
        # A socket that a worker was passed says that it waits, and a duplicate of it would have the descriptor do so.
        self._out = out = self._transport.get_extra_info("socket").dup()
        self._fd = out.fileno()

    def _send_in_turn(self) -> None:
        """Send more as soon as it is our turn."""
        if self._turns.left > LEAST:
            self._send_more()
        else:
            self._unwatch()
            self._queue()

    def _queue(self) -> None:
        self._queued = True
        self._turns.queue(self._take_turn)

    def _take_turn(self) -> None:
        if self._queued:
            self._queued = False
            if not self._transport.is_closing():
                self._send_more()

    def _send_more(self) -> None:
        """Send a piece, here if it is in memory."""
        piece = self._pieces[0]
        assert isinstance(piece, FileSlice)
        size = piece.length if piece.length < self._room else self._room
        if not self._asked:
            self._asked = True
            self._file = self._answer.own_file = own_file(piece.fd, piece.offset)
        if self._file is None or not self._looks.find(self._file, piece.fd, piece.offset, size):
            self._hand_over(piece)
            return
        try:
            progress = send_file(self._fd, piece, size)
        except Exception as error:
            self._cut(error)
            return
        self._turns.spend(progress.sent // EVENT)
        self._go_on(progress)

    def _hand_over(self, piece: FileSlice) -> None:
        """Have a thread send, since it may have to wait for the disk."""
        self._unwatch()
        if self._out is None:
            try:
                self._duplicate()
            except OSError as error:
                self._cut(error)
                return
        self._busy = True
        self._wait(Phase.ANSWER)
        job = self._pool.resume(self._send_in_thread, piece)
        job.add_done_callback(self._sent)

    def _send_in_thread(self, piece: FileSlice) -> SendProgress:
        self._in_thread = True
        try:
            return send_file(self._fd, piece, BURST)
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
        if error is None:
            self._go_on(job.result())
        else:
            self._cut(error)

    def _writable(self) -> None:
        """The client has read."""
        if not self._free:
            self._free = True
            assert self._out is not None
            unsent.set_free(self._out)
        self._send_in_turn()

    def _go_on(self, progress: SendProgress) -> None:
        sent, rest, full = progress
        self.sent += sent
        if trace.on:
            why = "the socket is full: wait until it is writable" if full else ""
            trace.event(">", "sendfile", fd=self._fd, size=sent, why=why)
        if self._abandoned:
            self._end(False)
        elif rest is None:
            self._pieces.popleft()
            if self._watching:
                self._unwatch()
            if self._pieces or self._transport.is_closing():
                self.resume()
            else:  # a file goes only when the transport's buffer is empty
                self._end(True)
        else:
            self._pieces[0] = rest
            room = 2 * sent if sent > STEP else 2 * STEP
            self._room = room if room < PIECE else PIECE
            # To watch and to let go again is six system calls: not for a socket that is known to be writable.
            if full:
                self._watch()
            elif not self._watching:
                self._queue()

    def _watch(self) -> None:
        if self._watching:
            return
        if self._out is None:
            try:
                self._duplicate()
            except OSError as error:
                self._lend(error)
                return
        self._watching = True
        self._wait(Phase.SENDING)
        asyncio.get_running_loop().add_writer(self._fd, self._writable)

    def _lend(self, error: OSError) -> None:
        """For want of a descriptor to wait with, give the transport a copy of the rest, which is less than a piece."""
        piece = self._pieces[0]
        assert isinstance(piece, FileSlice)
        try:
            self._pieces[0] = read_slice(piece)
        except NotCached:
            self._cut(error)
        else:
            self.resume()

    def _unwatch(self) -> None:
        if self._watching:
            self._watching = False
            asyncio.get_running_loop().remove_writer(self._fd)

    def _cut(self, error: BaseException) -> None:
        if not isinstance(error, (FileChanged, OSError)):
            asyncio.get_running_loop().call_exception_handler({"message": "sending a file failed", "exception": error})
        if trace.on:
            trace.event("!", "sendfile", fd=self._fd, why=f"cut: {error}")
        self._end(False)

    def _end(self, complete: bool) -> None:
        self._release()
        if self._narrowed and not self._transport.is_closing():
            self._transport.set_write_buffer_limits()
        self._done(complete)

    def _release(self) -> None:
        if self._released:  # a second close would let go of the file for somebody else
            return
        self._released = True
        self._unwatch()
        self._queued = False
        if self._out is not None:
            self._out.close()
        self._answer.close()
