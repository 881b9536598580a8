"""Ask whether a part of a file is in memory, without reading it and without waiting for a disk (mincore(2)).

Facts (tried on this kernel)
    - mincore tells of each page of a mapping whether it is in the page cache, and read: one whose reading is under way
      is not there yet. To map a part of a file reads none of it.
    - Since Linux 5.2 it tells that only the owner of the file, or who may write to it. Whoever else asks is told that
      every page is there.
    - preadv2 with RWF_NOWAIT (cached.py) tells it to anyone, but copies what is there. cachestat(2) counts pages that
      are still to be read.
    - A look costs 20 us for a MiB, sendfile 100 us. The kernel gives up first what was not used for longest.
Consequence
    What mincore says is to be believed only of a file of one's own. And of what many ask for, it need not be asked for
    each of them.
Decision
    `own_file` asks once for each open file. Before a sendfile(2) that may not wait, `Looks` looks at the blocks that it
    would send, unless somebody has since `forget`, which is to be called each second.
Price
    Three system calls a look. And a page that is evicted between the look and the sending is waited for.
"""

import ctypes
import os
import sys
from typing import NamedTuple

from aiolsp.linux.cached import knows_nowait

BLOCK = 512 * 1024
"""Bytes that are looked at, and remembered, together, and with the blocks beside them that are asked for as well."""

MOST = 4096
"""Blocks that are remembered: 2 GiB."""

_PROT_READ = _MAP_SHARED = 1

_PAGE = os.sysconf("SC_PAGE_SIZE")

# PyDLL keeps the interpreter's lock, for none of these waits.
_libc = ctypes.PyDLL(None)
_mmap, _munmap, _mincore = _libc.mmap, _libc.munmap, _libc.mincore
_mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_mmap.restype = ctypes.c_ssize_t
_munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)


class OwnFile(NamedTuple):
    """A file of which the kernel tells us what is in memory; no other has the same three."""

    device: int
    inode: int
    size: int


def own_file(fd: int, offset: int) -> OwnFile | None:
    """The regular file *fd*, which is read from *offset* on next; None if `is_resident` is not to be believed of it.

    A file system in a network or a program may wait for what is in memory as well, and for fstat; it knows no
    RWF_NOWAIT.
    """
    if sys.maxsize <= 1 << 32 or not knows_nowait(fd, offset):
        return None
    status = os.fstat(fd)
    return OwnFile(status.st_dev, status.st_ino, status.st_size) if status.st_uid == os.geteuid() else None


class Looks:
    """What was seen in memory since `forget`, block by block."""

    def __init__(self) -> None:
        self._seen: dict[OwnFile, set[int]] = {}
        self._count = 0

    def find(self, file: OwnFile, fd: int, offset: int, length: int) -> bool:
        """Whether *length* bytes of *file*, open as *fd*, from *offset* on are in memory, or were at the last look."""
        blocks = range(offset // BLOCK, -(-(offset + length) // BLOCK))
        seen = self._seen.get(file)
        # Mostly all were seen, and to ask for each with its file would take as long as a system call.
        if seen is not None and seen.issuperset(blocks):
            return True
        new = blocks if seen is None else [block for block in blocks if block not in seen]
        begin, end = new[0] * BLOCK, min((new[-1] + 1) * BLOCK, file.size)
        if not is_resident(fd, begin, end - begin):
            return is_resident(fd, offset, length)
        if self._count + len(new) <= MOST:
            self._count += len(new)
            self._seen.setdefault(file, set()).update(new)
        return True

    def forget(self) -> None:
        """Look again."""
        self._seen.clear()
        self._count = 0


def is_resident(fd: int, offset: int, length: int) -> bool:
    """Whether all *length* bytes of the file *fd* from *offset* on are in memory; False if that cannot be told."""
    begin = offset - offset % _PAGE
    size = offset + length - begin
    pages = ctypes.create_string_buffer(-(-size // _PAGE))
    address: int = _mmap(None, size, _PROT_READ, _MAP_SHARED, fd, begin)
    if address == -1:
        return False
    known: bool = _mincore(address, size, pages) == 0
    _munmap(address, size)
    return known and 0 not in pages.raw
