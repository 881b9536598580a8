"""A bounded number of places for all the processes that share it; one that dies gives back what it held.

Facts (fcntl(2), memfd_create(2), tried on this kernel)
    - A semaphore or a counter in shared memory keeps the places of a process that was killed.
    - A record lock belongs to a process and to a byte of a file; the kernel lets it go when the process ends, however
      that comes. A child made by fork has none of its parent's, and exec keeps them.
    - Closing *any* descriptor of that file lets go of *all* locks that the process has on it.
Consequence
    Place N is byte N of a nameless file, locked by who has it: no repair after a kill -9. Within one process the locks
    do not exclude each other, so each process remembers its own.
Decision
    One memfd, made before the processes are and never closed before they end. To take a place is to try one byte after
    the other without waiting.
Price
    As many system calls as there are places when all are taken. Not for threads, but under a lock of their own.
"""

from __future__ import annotations

import fcntl
import os


class Places:
    """At most *limit* places, shared with the children that are forked after this was made."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._fd = os.memfd_create("aiolsp-places", os.MFD_CLOEXEC)
        self._owner = os.getpid()
        self._taken: set[int] = set()

    def __enter__(self) -> Places:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Its descriptor, for a child that closes all it does not know; -1 once closed."""
        return self._fd

    @property
    def taken(self) -> int:
        """Places that this process has."""
        return len(self._taken)

    def take(self) -> int | None:
        """A free place, this process's until `give` or its end; None if all are taken. Raises OSError (ENOLCK)."""
        if self._owner != os.getpid():  # forked: the parent's places are not ours
            self._owner, self._taken = os.getpid(), set()
        for place in range(self.limit):
            if place not in self._taken:
                try:
                    fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
                except (BlockingIOError, PermissionError):  # fcntl(2): EAGAIN or EACCES
                    continue
                self._taken.add(place)
                return place
        return None

    def give(self, place: int) -> None:
        """Give *place* back. Raises KeyError if it is not this process's."""
        self._taken.remove(place)
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, place)

    def close(self) -> None:
        """Give all back and let go of the file; the other processes keep theirs. May be called again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._taken = set()
            os.close(fd)
