"""A program on the loop: what it is to read, what it writes and complains of, and its end.

Facts
    - A pipe holds 64 KiB. Who writes more waits for the reader, and a reader that has gone is EPIPE.
    - uvloop gives a child a socket where asyncio gives it a pipe, and either transport reads ahead of its user.
    - A program's end is seen in two ways, in any order: its output ends, and its pidfd is readable. Others may hold its
      pipe open for longer: those that left its process group are not even killed with it.
Consequence
    Back-pressure needs the pipe itself: read from the client only while the program reads, and the other way round.
    And the output is whole when its leader has ended and all has been read that was in the pipe then (FIONREAD).
Decision
    Bare non-blocking descriptors, watched by ``add_reader`` and ``add_writer`` only while there is something to do, and
    never closed while watched.
Price
    A system call for each piece, as by a transport, but no buffer in between. What somebody writes into the pipe after
    the leader's end is lost.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable
from typing import Protocol

from aiolsp.linux.unread import unread
from aiolsp.static.complaints import Complaints
from aiolsp.static.scripts import Launched
from aiolsp.tracing import trace

PIPE_SIZE = 64 * 1024
"""Bytes of a pipe (pipe(7)): as many as are read at once, and as may wait to be written before the sender must."""


class InputPipe:
    """What a program is to read: ``feed* -> receive_eof``, and ``attach`` at any time; *took* is called as it reads.

    A program that stops reading, or has gone, ends it: what is fed then is dropped.
    """

    def __init__(self, took: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._took = took
        self._waiting: deque[bytes] = deque()
        self._fd = -1
        self._eof = self._watching = False
        self.closed = False
        self.size = 0
        """Bytes that wait for the program."""

    def attach(self, fd: int) -> None:
        """The program is there: *fd* is its pipe, from now on this object's, or -1 if it reads nothing."""
        self._fd = fd
        self.closed = fd < 0
        self._write()

    def feed(self, data: bytes) -> None:
        """Have *data* written as soon as the program reads."""
        if not self.closed:
            self._waiting.append(data)
            self.size += len(data)
            if not self._watching:
                self._write()

    def receive_eof(self) -> None:
        """Nothing more will be fed."""
        self._eof = True
        if not self._watching:
            self._write()

    def close(self) -> None:
        """Drop what waits, and close the pipe. May be called again."""
        self.closed = True
        self._waiting.clear()
        self.size = 0
        if self._watching:
            self._loop.remove_writer(self._fd)
            self._watching = False
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self) -> None:
        if self._fd < 0:
            if self.closed:
                self.close()
            return
        try:
            while self._waiting:
                data = self._waiting.popleft()
                written = os.write(self._fd, data)
                self.size -= written
                if trace.on:
                    trace.event(">", "write", fd=self._fd, size=written, why="to the program")
                if written < len(data):
                    self._waiting.appendleft(data[written:])
        except BlockingIOError:
            self._waiting.appendleft(data)
            self._watch()
        except OSError as error:
            if trace.on:
                trace.event("!", "write", fd=self._fd, why=f"the program reads no more: {error.strerror}")
            self.close()
        else:
            if self._watching:
                self._loop.remove_writer(self._fd)
                self._watching = False
            if self._eof:
                self.close()

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._loop.add_writer(self._fd, self._writable)

    def _writable(self) -> None:
        self._write()
        self._took()


class ErrorPipe:
    """Reads a program's stderr from *fd*, which it owns, and calls *say* with each line."""

    def __init__(self, fd: int, say: Callable[[bytes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._fd = fd
        self._complaints = Complaints(say)
        self._loop.add_reader(fd, self._read)

    def close(self) -> None:
        """Take what is there, and close the pipe. May be called again."""
        if self._fd >= 0:
            self._read()
        if self._fd >= 0:
            self._end()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, PIPE_SIZE)
        except BlockingIOError:
            return
        self._complaints.feed(data)
        if not data:
            self._end()

    def _end(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1
        self._complaints.receive_eof()


class RunReader(Protocol):
    """Whom a `ProgramRun` tells what happens."""

    def complain(self, line: bytes) -> None:
        """The program wrote *line* to its stderr."""

    def output(self, data: bytes) -> None:
        """The program wrote *data*; whoever cannot take more calls ``pause``."""

    def gone(self) -> None:
        """The program has ended and was reaped; there may be output of it still."""

    def over(self, status: int) -> None:
        """There is no more output, and the program has ended with *status* (-N: by signal N). Not after ``kill``."""


class ProgramRun:
    """A program from its start to its end, told to *reader*: ``(pause | resume)* -> [kill]``."""

    def __init__(self, launched: Launched, reader: RunReader) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = reader
        self._program = launched.program
        self._stdout = launched.stdout
        self._errors = ErrorPipe(launched.stderr, reader.complain)
        self._watching = self._told = False
        self._status: int | None = None
        self._left = sys.maxsize
        self._loop.add_reader(self._program.fileno(), self._exited)
        self.resume()

    @property
    def output_ended(self) -> bool:
        """Whether the program closed its output; it may still run."""
        return self._stdout < 0

    def pause(self) -> None:
        """Take no more output for now."""
        if self._watching:
            self._loop.remove_reader(self._stdout)
            self._watching = False

    def resume(self) -> None:
        """Go on with the output."""
        if self._stdout >= 0 and not self._watching:
            self._loop.add_reader(self._stdout, self._readable)
            self._watching = True

    def kill(self) -> None:
        """End it with its group, at once, and drop what it wrote; ``gone`` will come. May be called again."""
        self._told = True
        self._program.kill()
        self._close_output()

    def _readable(self) -> None:
        try:
            data = os.read(self._stdout, min(PIPE_SIZE, self._left))
        except BlockingIOError:
            return
        self._left -= len(data)
        if trace.on:
            trace.event("<", "read", fd=self._stdout, size=len(data), why="" if data else "the program's output ended")
        if data:
            self._reader.output(data)
        else:
            self._close_output()
        self._end_if_over()

    def _exited(self) -> None:
        self._loop.remove_reader(self._program.fileno())
        self._status = self._program.finish()
        if trace.on:
            trace.event("=", "waitid", why="the program has ended", pid=self._program.pid, status=self._status)
        self._errors.close()
        if self._stdout >= 0:
            self._left = unread(self._stdout)
        self._reader.gone()
        self._end_if_over()

    def _end_if_over(self) -> None:
        if self._status is None or self._told:
            return
        if self._stdout < 0 or not self._left:
            self._close_output()
            self._told = True
            self._reader.over(self._status)

    def _close_output(self) -> None:
        self.pause()
        if self._stdout >= 0:
            os.close(self._stdout)
            self._stdout = -1
