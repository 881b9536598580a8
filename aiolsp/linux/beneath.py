"""Open a file beneath a directory: the name comes from a stranger, and so may every file on the way.

Facts (open(2), symlink(7), fifo(7); tried on this kernel)
    - O_NOFOLLOW looks at the last component of a path only; a symbolic link before it is followed.
    - Opening is an act: a FIFO blocks until somebody writes, a tape rewinds, a watchdog starts to count. A check by
      name before the open proves nothing, for the name can stand for another file a moment later.
    - O_PATH opens the *place*: no permission on the file is needed, nothing is read, no device is told, a link opened
      with O_NOFOLLOW is the link itself. fstat(2) then speaks of that very file for as long as the descriptor lives.
    - ``/proc/self/fd/N`` of such a descriptor opens the same file again, for reading, whatever its name stands for.
Consequence
    Walk one component a call, each beneath the descriptor of the one before, with O_PATH and O_NOFOLLOW; look at what
    was found; open it for reading through /proc only if it is a regular file or a directory. No check is by name, so no
    swap between two calls matters: it can only make another file beneath the root, or nothing, come out.
Decision
    The walk, in Python. openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS does it in one call at any depth, but has
    no function in the standard library. By ctypes it takes 2.3 us here, the walk 2 us and 2 more for each directory on
    the way: not enough to have it take the place of the walk, which every kernel and seccomp filter allows. What makes
    it worth having beside the walk is another of its flags (cached.py).
Price
    Two calls for each directory on the way, and /proc must be mounted.
"""

import errno
import os
import stat
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

_PLACE = os.O_PATH | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
"""O_NONBLOCK means nothing to regular files and directories, but for one under a lease: EAGAIN instead of a wait."""

_NO_NAMES = frozenset({b"", b".", b".."})

_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ESTALE})
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class Exhausted(OSError):
    """No descriptor or no memory is left: the same call may work later."""


class Opened(NamedTuple):
    """A descriptor open for reading (-1: it was not needed), owned by the receiver, and what fstat(2) says of it."""

    fd: int
    status: os.stat_result

    def close(self) -> None:
        """Close the descriptor, if there is one; call it once."""
        if self.fd >= 0:
            os.close(self.fd)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory, and not a regular file."""
        return stat.S_ISDIR(self.status.st_mode)


def walk(root: int, path: bytes, follow_symlinks: bool) -> int:
    """The place that *path* leads to from *root* down, not yet open for reading. Raises OSError."""
    if follow_symlinks:
        return os.open(path, _PLACE, dir_fd=root)
    return _walk(root, path.split(b"/"))


def open_beneath(
    root: int,
    segments: Sequence[bytes],
    *,
    follow_symlinks: bool = False,
    look_up: Callable[[int, bytes, bool], int] = walk,
    unless: Callable[[os.stat_result], bool] | None = None,
) -> Opened:
    """The regular file or directory that *segments* name, from the directory *root* down, open for reading.

    With *follow_symlinks* a link leads wherever it leads, out of the root too; without, a link is the end of the way.
    *look_up* finds the place as `walk` does; what it raises that is no OSError is passed on. What *unless* knows by its
    status is not opened.
    Raises FileNotFoundError if there is nothing to read: no file of that name, a name that no directory can hold
    (empty, dots, with a slash or NUL), a link not to be followed, a FIFO, a device, a socket. Raises PermissionError
    for what this process may not look up or read, Exhausted, and OSError for a broken disk. No message names a file.
    """
    path = b"/".join(segments)
    if path.count(b"/") >= max(len(segments), 1) or path.count(b"\0") or not _NO_NAMES.isdisjoint(segments):
        raise _missing()
    try:
        place = look_up(root, path or b".", follow_symlinks)
        try:
            status = os.fstat(place)
            return Opened(-1, status) if unless is not None and unless(status) else _reopen(place, status)
        finally:
            os.close(place)
    except OSError as error:
        _raise_plain(error)


def _walk(root: int, segments: Sequence[bytes]) -> int:
    directory = root
    try:
        for segment in segments[:-1]:
            # A link here is no directory: ENOTDIR.
            inner = os.open(segment, _PLACE | os.O_NOFOLLOW | os.O_DIRECTORY, dir_fd=directory)
            if directory != root:
                os.close(directory)
            directory = inner
        return os.open(segments[-1], _PLACE | os.O_NOFOLLOW, dir_fd=directory)
    finally:
        if directory != root:
            os.close(directory)


def _reopen(place: int, status: os.stat_result) -> Opened:
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise _missing()
    try:
        return Opened(os.open(f"/proc/self/fd/{place}", _READ), status)
    except FileNotFoundError:
        # The place is open, so what is missing is not the file.
        raise OSError(errno.ENOSYS, "files are opened by /proc/self/fd: /proc is not mounted") from None


def _missing() -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _raise_plain(error: OSError) -> NoReturn:
    """Raise *error* as one of the kinds that callers tell apart, without the name that os.open puts into it.

    OSError makes a PermissionError of EACCES and EPERM by itself (PEP 3151).
    """
    number = error.errno or errno.EIO
    if number in _MISSING:
        raise _missing() from None
    if number in _EXHAUSTED:
        raise Exhausted(number, os.strerror(number)) from None
    raise OSError(number, error.strerror) from None
