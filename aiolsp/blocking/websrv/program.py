"""A program and its pipes under one poll(2): the twin of websrv/program.py, which needs a watcher for each.

Facts as there: a pipe holds 64 KiB, whoever has left the program's group may hold it open for longer, and the output is
whole when the leader has ended and all has been read that was in the pipe then (FIONREAD).
"""

from __future__ import annotations

import os
import select
import sys
from collections import deque
from collections.abc import Callable

from aiolsp.linux.unread import unread
from aiolsp.static.complaints import Complaints
from aiolsp.static.scripts import Launched
from aiolsp.tracing import trace

PIPE_SIZE = 64 * 1024
"""Bytes of a pipe (pipe(7)): as many as are read at once, and as may wait to be written before the sender must."""


class ProgramRun:
    """``(watch -> take)*`` until over; leaving ``with`` ends the program and its group. *say* hears its stderr."""

    def __init__(self, launched: Launched, say: Callable[[bytes], None]) -> None:
        self.status: int | None = None
        """How the program ended (-N: by signal N); None while it runs."""
        self.size = 0
        """Bytes that wait for the program to read."""
        self._program = launched.program
        self._stdin, self._stdout, self._stderr = launched.stdin, launched.stdout, launched.stderr
        self._complaints = Complaints(say)
        self._waiting: deque[bytes] = deque()
        self._eof = False
        self._left = sys.maxsize

    def __enter__(self) -> ProgramRun:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._program.kill()
        self._finish()
        for fd in (self._stdin, self._stdout):
            if fd >= 0:
                os.close(fd)

    @property
    def reads(self) -> bool:
        """Whether the program still takes input."""
        return self._stdin >= 0

    @property
    def output_ended(self) -> bool:
        """Whether there is no more output; the program may still run."""
        return self._stdout < 0 or not self._left

    @property
    def over(self) -> bool:
        """Whether it has ended, and all its output is read."""
        return self.status is not None and self.output_ended

    def feed(self, data: bytes) -> None:
        """Have *data* written as the program reads; dropped, if it does not any more."""
        if self.reads:
            self._waiting.append(data)
            self.size += len(data)

    def receive_eof(self) -> None:
        """Nothing more will be fed."""
        self._eof = True
        self._write()

    def kill(self) -> None:
        """End it with its group; that it has ended will be seen."""
        self._program.kill()

    def watch(self, poller: select.poll, *, output: bool) -> None:
        """Register what is to be waited for; *output* says whether some would be taken."""
        if self._stdin >= 0 and self.size:
            poller.register(self._stdin, select.POLLOUT)
        if self._stdout >= 0 and output:
            poller.register(self._stdout, select.POLLIN)
        if self._stderr >= 0:
            poller.register(self._stderr, select.POLLIN)
        if self.status is None:
            poller.register(self._program.fileno(), select.POLLIN)

    def take(self, ready: dict[int, int]) -> bytes:
        """Act on what poll reported; a piece of the output."""
        if self._stdin in ready:
            self._write()
        if self._stderr in ready:
            self._read_errors()
        data = self._read() if self._stdout in ready else b""
        if self.status is None and self._program.fileno() in ready:
            self._finish()
        return data

    def _write(self) -> None:
        try:
            while self._waiting and self._stdin >= 0:
                data = self._waiting.popleft()
                written = os.write(self._stdin, data)
                self.size -= written
                if trace.on:
                    trace.event(">", "write", fd=self._stdin, size=written, why="to the program")
                if written < len(data):
                    self._waiting.appendleft(data[written:])
        except BlockingIOError:
            self._waiting.appendleft(data)
            return
        except BrokenPipeError:
            if trace.on:
                trace.event("!", "write", fd=self._stdin, why="the program reads no more")
            self._eof = True
            self._waiting.clear()
            self.size = 0
        if self._eof and self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def _read(self) -> bytes:
        try:
            data = os.read(self._stdout, min(PIPE_SIZE, self._left))
        except BlockingIOError:
            return b""
        self._left -= len(data)
        if trace.on:
            trace.event("<", "read", fd=self._stdout, size=len(data), why="" if data else "the program's output ended")
        if not data:
            os.close(self._stdout)
            self._stdout = -1
        return data

    def _read_errors(self) -> None:
        try:
            data = os.read(self._stderr, PIPE_SIZE)
        except BlockingIOError:
            return
        self._complaints.feed(data)
        if not data:
            self._end_errors()

    def _end_errors(self) -> None:
        self._complaints.receive_eof()
        os.close(self._stderr)
        self._stderr = -1

    def _finish(self) -> None:
        """It has ended, or was killed: reap it, and see what is left in its pipes."""
        if self.status is not None:
            return
        self.status = self._program.finish()
        if trace.on:
            trace.event("=", "waitid", why="the program has ended", pid=self._program.pid, status=self.status)
        if self._stderr >= 0:
            self._read_errors()
        if self._stderr >= 0:
            self._end_errors()
        if self._stdout >= 0:
            self._left = unread(self._stdout)
