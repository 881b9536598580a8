"""The read end of a pipe on an event loop: for the output of programs.

Facts
    - ``loop.connect_read_pipe`` differs between loops: uvloop aborts the process for a regular file, hands a program a
      socketpair instead of a pipe (``> /dev/stdout`` then fails), and holds a copy of it that keeps EOF away.
    - A pipe is at its end when the last who may write to it has closed it: a grandchild that lives on keeps it open.
    - One read(2) of a pipe's capacity gives all that is in it.
Consequence
    The program gets a real pipe; our end is non-blocking and watched by ``add_reader``, which both loops have. When the
    program is over, its end need not come: what is in the pipe is the rest.
Decision
    `PipeReader`: one read a wake-up, so that others get a turn; `pause` leaves what comes in the pipe, which then stops
    its writer (back-pressure); `finish` takes the rest.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable


class PipeReader:
    """Reads *fd*, its own from now on, non-blocking: ``(pause | resume)* -> finish? -> close``.

    *on_data* gets what comes. At the end of the pipe it just stops reading.
    """

    def __init__(self, fd: int, on_data: Callable[[bytes], None]) -> None:
        self._fd = fd
        self._on_data = on_data
        self._loop = asyncio.get_running_loop()
        self._capacity = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
        self._reading = self._ended = False
        os.set_blocking(fd, False)
        self.resume()

    def pause(self) -> None:
        """Leave what comes in the pipe: its writer waits when it is full."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        """Read on."""
        if not self._reading and not self._ended:
            self._reading = True
            self._loop.add_reader(self._fd, self._read)

    def finish(self) -> None:
        """Whoever writes does not count any more: give what is in the pipe now, at most its capacity, and close."""
        try:
            if not self._ended:
                self._read()
        finally:
            self.close()

    def close(self) -> None:
        """Close the pipe; who still writes to it gets SIGPIPE. May be called again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            if self._reading:
                self._loop.remove_reader(fd)  # before close: uvloop aborts the process otherwise
            self._ended, self._reading = True, False
            os.close(fd)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, self._capacity)
        except BlockingIOError:
            return
        if data:
            self._on_data(data)
        else:
            self.pause()
            self._ended = True
