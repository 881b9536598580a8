"""A directory that stays the one at its path: a build removes it and makes it anew, a deployment turns a link.

Facts
    - A descriptor is of the directory that was opened, wherever that is moved, and also when it is removed: then it is
      empty for ever.
    - While it is open nobody else gets its inode's number: another directory at the path has another.
    - dup2(2) puts another open file in the place of a descriptor at once: who uses its number at that moment uses the
      one or the other, and never a number that is nobody's.
Consequence
    Who keeps the descriptor alone serves what is gone until he is started again. A look at the path tells.
Decision
    The path is looked at once after each `doubt`. What stands there gets the same number; while nothing does, or no
    directory, or none that may be opened, the old one stays.
"""

from __future__ import annotations

import os
import threading

from aiolsp.linux import cached
from aiolsp.linux.cached import NotCached

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class NamedDirectory:
    """The directory at *path*, open at ``fd``, which never changes. Raises OSError if there is none."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self.fd = os.open(path, _DIRECTORY)
        self._identity = _identity(os.fstat(self.fd))
        # The last doubt, and the one that a look has settled: who doubts during a look is not told by it.
        self._doubt = self._settled = object()
        self._lock = threading.Lock()

    @property
    def device(self) -> int:
        """The number of its file system."""
        return self._identity[0]

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)

    def doubt(self) -> None:
        """From now on it may be another: see to it with `settled` or `follow`. For any thread, as these are."""
        self._doubt = object()

    def settled(self) -> bool:
        """Whether it is known, without waiting for a disk, to be the one at its path."""
        doubt = self._doubt
        if doubt is not self._settled:
            try:
                if cached.identity(os.fsencode(self._path)) != self._identity:
                    return False
            except NotCached:
                return False
            self._settled = doubt
        return True

    def follow(self) -> bool:
        """Open the one at its path, if that is doubtful; whether it is another. Waits for the disk."""
        if self._doubt is self._settled:
            return False
        with self._lock:
            doubt = self._doubt
            try:
                return doubt is not self._settled and self._look()
            finally:
                self._settled = doubt

    def _look(self) -> bool:
        try:
            if _identity(os.stat(self._path)) == self._identity:
                return False
            fd = os.open(self._path, _DIRECTORY)
        except OSError:
            return False
        try:
            os.dup2(fd, self.fd, inheritable=False)
            self._identity = _identity(os.fstat(fd))  # only now: who compares it meanwhile must not find the old one
        finally:
            os.close(fd)
        return True


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
