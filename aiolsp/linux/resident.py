"""Ask whether a part of a file is in memory, without reading it and without waiting for a disk (mincore(2)).

Facts (tried on this kernel)
    - mincore tells of each page of a mapping whether it is in the page cache, and read: one whose reading is under way
      is not there yet. To map a part of a file reads none of it.
    - Since Linux 5.2 it tells that only the owner of the file, or who may write to it. Whoever else asks is told that
      every page is there.
    - preadv2 with RWF_NOWAIT (cached.py) tells it to anyone, but copies what is there. cachestat(2) counts pages that
      are still to be read.
Consequence
    What mincore says is to be believed only of a file of one's own.
Decision
    `can_tell` asks once for each file, `is_resident` before each sendfile(2) that may not wait.
Price
    Three system calls, and 20 us for a MiB; sendfile takes 100 us for the same. And a page that is evicted between the
    look and the sending is waited for.
"""

from __future__ import annotations

import ctypes
import os
import sys

from aiolsp.linux.cached import knows_nowait

_PROT_READ = _MAP_SHARED = 1

_PAGE = os.sysconf("SC_PAGE_SIZE")

# PyDLL keeps the interpreter's lock, for none of these waits.
_libc = ctypes.PyDLL(None)
_mmap, _munmap, _mincore = _libc.mmap, _libc.munmap, _libc.mincore
_mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_mmap.restype = ctypes.c_ssize_t
_munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)


def can_tell(fd: int, offset: int) -> bool:
    """Whether `is_resident` is to be believed of the regular file *fd*, which is read from *offset* on next.

    A file system in a network or a program may wait for what is in memory as well, and for fstat; it knows no
    RWF_NOWAIT.
    """
    return sys.maxsize > 1 << 32 and knows_nowait(fd, offset) and os.fstat(fd).st_uid == os.geteuid()


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
