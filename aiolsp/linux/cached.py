"""Ask the kernel for what it has in memory, a name or the bytes of a file, and do without rather than wait for a disk.

Facts (openat2(2), preadv2(2), statx(2); tried on this kernel)
    - openat2 with RESOLVE_CACHED (Linux 5.12) looks a name up in the kernel's cache of names and nowhere else: EAGAIN
      for what is not in it. RESOLVE_NO_SYMLINKS and RESOLVE_BENEATH hold at any depth, in one call.
    - preadv2 with RWF_NOWAIT gives what is in the page cache: EAGAIN for nothing, less than was asked for if the rest
      is on the disk; EOPNOTSUPP where that is not known, as on tmpfs, NFS and FUSE.
    - A file whose name is cached has its inode in memory: then neither stat nor open waits for a local disk. For a
      file system in a network or a program they may, but those know no RWF_NOWAIT.
    - statx with AT_STATX_DONT_SYNC asks neither a network nor a program: it says what was known last.
    - To open a place for reading by /proc (beneath.py) takes three times as long as to open its name.
    - A thread gives up the interpreter's lock at each of these calls, and has to win it back: what takes 20 us of
      processor time alone takes 200 us beside a busy loop.
Consequence
    On a file system that has shown to know RWF_NOWAIT, the loop's thread may look by itself without ever waiting. Only
    what really needs the disk is worth a thread.
Decision
    `look_up` takes the place of the walk in `open_beneath`, and does not leave the mount of the root; `read` takes that
    of pread. Both raise `NotCached` for all that is not a plain answer: a thread then finds out what is the matter.
    `identity` alone goes to any mount, as a site has often one of its own, and finds out no more than statx knows.
    `reopen` opens a name at once, where a regular file was found before, and its caller believes nothing of what it
    reads until fstat(2) says that it is that very file. A name that stands for something else by now may be opened all
    the same, and that is an act (beneath.py); yet it cannot be a place outside of the root, on another mount, or behind
    a link. It may be a FIFO: O_NONBLOCK does not wait, nothing can be read at an offset, but a writer that waits there
    is let go once. Or a device, if somebody with CAP_MKNOD made one within the site, on a file system that allows it,
    between two requests. Neither comes from a stranger: who puts them there has the site in hand already. From the next
    request on it is known as no file.
Price
    ctypes, since the standard library has no openat2; by PyDLL, which keeps the interpreter's lock, for the call never
    waits. And the kernel notes the first reading of a file a day (relatime), for which its journal may be full.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from aiolsp.linux.sendfile import FileSlice

_NO_XDEV, _NO_SYMLINKS, _BENEATH, _CACHED = 0x01, 0x04, 0x08, 0x20


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_AS_PLACE = os.O_PATH | os.O_CLOEXEC
_TO_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_FOLLOWING, _STAYING = _CACHED | _NO_XDEV, _CACHED | _NO_XDEV | _BENEATH | _NO_SYMLINKS

_PLACES = tuple(
    _OpenHow(flags, 0, how) for flags, how in ((_AS_PLACE | os.O_NOFOLLOW, _STAYING), (_AS_PLACE, _FOLLOWING))
)
_FILES = tuple(_OpenHow(flags, 0, how) for flags, how in ((_TO_READ | os.O_NOFOLLOW, _STAYING), (_TO_READ, _FOLLOWING)))
"""By whether links are followed."""

# The arguments that are the same in every call, as C has them: to convert them anew takes a fifth of the call.
_OPENAT2 = ctypes.c_long(437)
"""The same on every architecture that Python runs on but alpha."""
_PLACE, _FILE = [ctypes.byref(how) for how in _PLACES], [ctypes.byref(how) for how in _FILES]
_SIZE = ctypes.c_size_t(ctypes.sizeof(_OpenHow))

_ANYWHERE = ctypes.byref(_OpenHow(_AS_PLACE, 0, _CACHED))

_libc = ctypes.PyDLL(None, use_errno=True)
_syscall = _libc.syscall
_statx = getattr(_libc, "statx", None)
"""None before glibc 2.28 and musl 1.2.5."""

_AT_EMPTY_PATH, _AT_STATX_DONT_SYNC, _STATX_INO = 0x1000, 0x4000, 0x100
_STATX = struct.Struct("@32x Q 96x 2I 112x")
"""Of the 256 bytes of struct statx: the inode number, and the two parts of the device number."""


class NotCached(Exception):
    """The answer is not in memory, or not a plain one: look again where waiting is allowed."""


def look_up(root: int, path: bytes, follow_symlinks: bool) -> int:
    """The place that *path* leads to from *root* down, for `open_beneath`; raises FileNotFoundError and NotCached."""
    place: int = _syscall(_OPENAT2, root, path, _PLACE[follow_symlinks], _SIZE)
    if place < 0:
        number = ctypes.get_errno()
        if number == errno.ENOENT:
            raise FileNotFoundError(number, os.strerror(number))
        raise NotCached
    return place


def is_missing(root: int, path: bytes, follow_symlinks: bool) -> bool:
    """Whether the kernel knows that *path* leads to nothing; False as well if it does not know."""
    place: int = _syscall(_OPENAT2, root, path, _PLACE[follow_symlinks], _SIZE)
    if place >= 0:
        os.close(place)
        return False
    return ctypes.get_errno() == errno.ENOENT


def status(root: int, path: bytes, follow_symlinks: bool) -> os.stat_result:
    """What fstat(2) says of the place that *path* leads to. Raises NotCached, also if there is none."""
    place: int = _syscall(_OPENAT2, root, path, _PLACE[follow_symlinks], _SIZE)
    if place < 0:
        raise NotCached
    try:
        return os.fstat(place)
    finally:
        os.close(place)


def identity(path: bytes) -> tuple[int, int]:
    """The device and inode numbers of the place that the absolute *path* leads to. Raises NotCached, if none, too."""
    if _statx is None:
        raise NotCached
    place: int = _syscall(_OPENAT2, -1, path, _ANYWHERE, _SIZE)
    if place < 0:
        raise NotCached
    found = ctypes.create_string_buffer(_STATX.size)
    failed = _statx(place, b"", _AT_EMPTY_PATH | _AT_STATX_DONT_SYNC, _STATX_INO, found)
    os.close(place)
    if failed:
        raise NotCached
    inode, major, minor = _STATX.unpack(found)
    return os.makedev(major, minor), inode


def reopen(root: int, path: bytes, follow_symlinks: bool) -> int:
    """Where *path* led to a regular file before: what it leads to now, open for reading. Raises NotCached.

    See the module for what the caller has to find out, and what may be opened.
    """
    fd: int = _syscall(_OPENAT2, root, path, _FILE[follow_symlinks], _SIZE)
    if fd < 0:
        raise NotCached
    return fd


def knows_nowait(fd: int, offset: int = 0) -> bool:
    """Whether the file system of the regular file *fd* can tell what is in memory; the byte at *offset*, for example.

    If that is not there, the kernel begins to read it.
    """
    try:
        os.preadv(fd, [bytearray(1)], offset, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


def read(fd: int, size: int, offset: int) -> bytes:
    """As ``os.pread``. Raises NotCached if less than *size* bytes are in memory, or left in the file."""
    data = bytearray(size)
    try:
        count = os.preadv(fd, [data], offset, os.RWF_NOWAIT)
    except OSError:
        raise NotCached from None
    if count != size:
        raise NotCached
    return bytes(data)


def read_slice(piece: FileSlice) -> bytes:
    """The bytes of *piece*. Raises NotCached, also if the file has changed since they were promised."""
    data = read(piece.fd, piece.length, piece.offset)
    status = os.fstat(piece.fd)
    if status.st_size != piece.size or status.st_mtime_ns != piece.mtime_ns:
        raise NotCached
    return data
