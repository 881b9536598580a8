"""Whether names that were missing from a directory still are: one look at the directory tells it of all of them.

Facts (inode(7), rename(2), unlink(2); tried on this kernel)
    - Who makes, removes or renames a name changes the ctime of its directory, and nobody can set that.
    - The kernel takes the time from its tick, every 1 to 10 ms, and some file systems keep seconds, or every other one:
      two changes within one of these have the same.
    - What a symbolic link leads to may appear without any change to the directory of the link.
Consequence
    A name that was missing when its directory had not changed for a while is missing as long as it has the same ctime;
    but not if links are followed.
Decision
    `state` stands for all the names in a directory: what was missing in one state of it is missing in an equal one.
    It is looked at once until somebody calls `forget`, so that who asks for many files of a directory looks once.
Price
    Of a directory that changes again and again nothing is known, and each name has to be looked up.
"""

from __future__ import annotations

import stat
import time

from aiolsp.linux import cached
from aiolsp.linux.cached import NotCached

SETTLED = 3_000_000_000
"""Nanoseconds since the last change, after which another one has another time on any file system."""


class Directories:
    """The directories beneath *root*, a descriptor, that can be reached without following links."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._states: dict[bytes, int | None] = {}

    def state(self, path: bytes) -> int | None:
        """What tells the names in the directory *path* from others, at any time; None if that is not known."""
        try:
            return self._states[path]
        except KeyError:
            state = self._states[path] = self._look(path)
            return state

    def forget(self) -> None:
        """Look again at what is asked for from now on."""
        self._states.clear()

    def _look(self, path: bytes) -> int | None:
        try:
            status = cached.status(self._root, path or b".", follow_symlinks=False)
        except NotCached:
            return None
        if not stat.S_ISDIR(status.st_mode):  # a link at the end of the path is the link itself
            return None
        settled = time.time_ns() - status.st_ctime_ns > SETTLED
        return status.st_ctime_ns << 64 | status.st_ino if settled else None
