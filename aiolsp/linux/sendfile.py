"""Send a part of a file to a socket without a copy in user space (sendfile(2)), as much as the socket takes now.

What sendfile(2) answers besides a count of bytes
    EAGAIN  the socket, which must be non-blocking, is full: wait until it is writable
    0       the file has no byte at that offset: it is shorter than when its length was announced
Less than was asked for is the first as well: to ask again would but give EAGAIN. The second is not an end: the receiver
still waits for bytes that nobody has, and must be told by the connection's end. A file of another size or time than
when it was announced is no better: its bytes may be those of two versions. So each call is preceded by a look at the
file; what is written to it from then on, until the peer has all, can still go out, for the kernel sends the file's
pages and not a copy. Of one that is cut short meanwhile, zeros may arrive in the place of its end. A file that is
replaced (renamed over) stays what it was.
"""

import os
from typing import NamedTuple

CHUNK = 2 * 1024 * 1024
"""Bytes of one call at most, and so between two looks at the file; as nginx's sendfile_max_chunk."""

# Their own __new__ is one of Python's, and takes five times as long.
_new = tuple.__new__


class FileChanged(Exception):
    """The file is no longer the one that was promised to the peer: cut the connection, never pad, never mix."""


class FileSlice(NamedTuple):
    """*length* bytes from *offset* of an open file, which had this *size* and *mtime_ns* when they were promised."""

    fd: int
    offset: int
    length: int
    size: int
    mtime_ns: int


class SendProgress(NamedTuple):
    """How many bytes were *sent*; the *rest* of the slice (None: there is none); whether the socket is *full*."""

    sent: int
    rest: FileSlice | None
    full: bool


def send_file(out_fd: int, piece: FileSlice, limit: int) -> SendProgress:
    """Send from *piece* until the socket *out_fd* is full, *limit* bytes have gone, or nothing is left.

    It never waits for the peer, but a page that is not in memory is waited for: call it in a thread. Raises
    FileChanged, ConnectionError for a peer that is gone, and OSError for a broken disk.
    """
    fd, offset, length, size, mtime_ns = piece
    end = offset + length
    position, left = offset, limit if limit < length else length
    full = False
    while left and not full:
        status = os.fstat(fd)
        if status.st_size != size or status.st_mtime_ns != mtime_ns:
            raise FileChanged("the file was changed while it was sent")
        asked = left if left < CHUNK else CHUNK
        try:
            sent = os.sendfile(out_fd, fd, position, asked)
        except BlockingIOError:
            full = True
            break
        if sent == 0:
            raise FileChanged("the file was cut while it was sent")
        position += sent
        left -= sent
        full = sent < asked
    rest = None if position == end else _new(FileSlice, (fd, position, end - position, size, mtime_ns))
    return _new(SendProgress, (position - offset, rest, full))
