"""Move bytes from one descriptor to another through a pipe, never through this process: splice(2).

Book p. 125, listing 6-4 (splice), and p. 165, listing 9-6 (the chat client).
Calling sequence: (wait for `waits_for` -> move)* -> close.

Facts (tried on this kernel)
    - splice(2) moves between a pipe and anything; between two that are no pipes there must be a pipe of our own.
    - SPLICE_F_NONBLOCK covers the pipe's end only. A terminal, or a socket that blocks, blocks the call all the same.
    - O_NONBLOCK belongs to the open file description: setting it on fd 0 of a terminal sets it on stdout and in the
      shell that started us, for good.
    - /dev/null as the source and a file opened for appending as the target are refused: EINVAL.
    - A regular file is always ready, and epoll(7) refuses it with EPERM.
Consequence
    Each end is asked for one splice per readiness event, which cannot block even where O_NONBLOCK is not set: something
    is there to be read, or there is room to be written to.
Decision
    `SplicePipe` fills the pipe only when it is empty and then empties it: what it waits for is one descriptor and one
    event at a time, and a slow target stops the source by itself. Where splice refuses, read and write take its place.
Price
    Two system calls per piece, as with read and write; what is saved is the copy. A terminal that was stopped (^S)
    stops the process with it.
The book's client watches stdin with POLLIN alone and spins when the terminal or pipe has ended.
"""

from __future__ import annotations

import errno
import os
import select
from types import TracebackType

from aiolsp.tracing import trace

PIECE = 64 * 1024
"""Bytes asked for at once: what a pipe holds by default (pipe(7))."""

FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class SplicePipe:
    """Carries what comes from *source* to *target*; owns the pipe between them, not these two."""

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.target = target
        self.moved = 0
        self._outlet, self._inlet = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._held = 0
        self._rest: bytes | memoryview = b""
        self._ended = False
        self._can_fill = self._can_empty = True

    def __enter__(self) -> SplicePipe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def waits_for(self) -> tuple[int, int] | None:
        """The descriptor and the event (EPOLLIN or EPOLLOUT) that `move` needs next; None at the end."""
        if self._held or self._rest:
            return self.target, select.EPOLLOUT
        return None if self._ended else (self.source, select.EPOLLIN)

    def move(self) -> None:
        """Do what the event that was waited for allows: one piece in, or what is held out. Raises OSError."""
        if not (self._held or self._rest):
            self._fill()
        else:
            self._empty()

    def close(self) -> None:
        """Close the pipe; what it still holds is lost."""
        os.close(self._outlet)
        os.close(self._inlet)

    def _fill(self) -> None:
        try:
            count = self._splice_in() if self._can_fill else self._read()
        except BlockingIOError:
            self._later(self.source)
            return
        if count == 0:
            self._ended = True
            if trace.on:
                trace.event("=", "end", fd=self.source, why=f"no more input after {self.moved} B")

    def _splice_in(self) -> int:
        try:
            count = os.splice(self.source, self._inlet, PIECE, flags=FLAGS)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._can_fill = False
            self._fall_back(self.source)
            return self._read()
        self._held = count
        if count and trace.on:
            trace.event("<", "splice", fd=self.source, size=count, why="into the pipe; wait for room at the target")
        return count

    def _read(self) -> int:
        self._rest = os.read(self.source, PIECE)
        if self._rest and trace.on:
            trace.event("<", "read", fd=self.source, size=len(self._rest))
        return len(self._rest)

    def _empty(self) -> None:
        try:
            count = self._splice_out() if self._held else self._write()
        except BlockingIOError:
            self._later(self.target)
            return
        self.moved += count

    def _splice_out(self) -> int:
        if self._can_empty:
            try:
                count = os.splice(self._outlet, self.target, self._held, flags=FLAGS)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._can_empty = False
                self._fall_back(self.target)
            else:
                self._held -= count
                if trace.on:
                    trace.event(">", "splice", fd=self.target, size=count, why="out of the pipe")
                return count
        self._rest = os.read(self._outlet, self._held)
        self._held -= len(self._rest)
        return self._write()

    def _write(self) -> int:
        count = os.write(self.target, self._rest)
        if trace.on:
            trace.event(">", "write", fd=self.target, size=count)
        self._rest = memoryview(self._rest)[count:]
        return count

    def _later(self, fd: int) -> None:
        if trace.on:
            trace.event("=", "EAGAIN", fd=fd, why="later")

    def _fall_back(self, fd: int) -> None:
        if trace.on:
            trace.event("!", "splice", fd=fd, flags="EINVAL", why="read and write instead")
