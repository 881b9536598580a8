"""Short-lived children of this process: started, and reaped one by one without touching anybody else's.

Facts (waitid(2), signal(7), tried on this kernel)
    - SIGCHLD says that some child changed; several ends may be one signal.
    - waitpid(-1) takes the exit status of any child, such as an event loop's own subprocesses.
    - posix_spawn(3) starts a child without running Python in it, so it is safe beside threads and loops.
    - A child inherits the signals that its parent ignores (Python ignores SIGPIPE) and blocks.
Consequence
    On SIGCHLD every child must be asked, and only one's own.
Decision
    `Children` holds a pidfd for each child it started; `reap` asks each without waiting.
Price
    A reaping costs one system call for each child that runs, so their number is bounded.

Calling sequence: ``new -> (spawn | reap)* -> close``.
"""

from __future__ import annotations

import os
import signal

from aiolsp.linux.pidfd import PidFd


class TooManyChildren(Exception):
    """As many children run as may at once; the message is one line for a person."""


class Children:
    """At most *limit* children at once, of one owner."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running: dict[int, PidFd] = {}

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, status: int) -> int:
        """Start a child that exits with *status* at once; its process id.

        Raises TooManyChildren, and OSError if the system has no process or descriptor left.
        """
        if len(self._running) >= self._limit:
            raise TooManyChildren(f"{self._limit} children are running")
        pid = os.posix_spawn(
            "/bin/sh", ["sh", "-c", f"exit {status:d}"], os.environ, setsigmask=(), setsigdef=(signal.SIGPIPE,)
        )
        self._running[pid] = PidFd.of_child(pid)
        return pid

    def reap(self) -> list[tuple[int, int]]:
        """The process ids and statuses of those that have ended; -N is an end by signal N. Does not wait."""
        ended: list[tuple[int, int]] = []
        for pid, child in list(self._running.items()):
            status = child.wait(block=False)
            if status is not None:
                child.close()
                del self._running[pid]
                ended.append((pid, status))
        return ended

    def close(self) -> None:
        """Kill and reap what still runs. May be called again."""
        for child in self._running.values():
            child.send(signal.SIGKILL)
            child.wait()
            child.close()
        self._running.clear()
