"""Memory shared between processes that leaves nothing behind, by three means: memfd, POSIX, System V.

Book p. 249, 13.6.2 (shmget) and p. 253, 13.6.4 (shm_open).

Facts (memfd_create(2), shm_overview(7), shmget(2), posix_fallocate(3), tried on this kernel)
    - What shm_open and shmget make has a name or an id and outlives its users: after kill -9 it is in /dev/shm or in
      ``ipcs -m`` for good. A name may be unlinked, a segment marked with IPC_RMID, while it is in use; the last
      process that has it open or attached then takes it along, however that process ends. A child of fork has it too.
    - memfd_create makes a file that never had a name.
    - A file in /dev/shm is a promise: ftruncate takes no memory, and a store into a page that tmpfs has no room for is
      SIGBUS, as is one behind the end of a file that somebody has made smaller.
    - memfd_create and shmget know no limit but the machine's: 1 PiB of memfd was taken until the OOM killer came.
    - ``multiprocessing.shared_memory`` unlinks the segment under the others when one unrelated process ends.
Consequence
    The name must go before anything can go wrong, all pages must be had at the start, and the size be fixed.
Decision
    `memfd`: sealed against shrinking and growing. `posix`: made as shm_open does, for this user alone and only if it is
    new, unlinked in the next call. Both are reserved by posix_fallocate, so that a full /dev/shm is an error of the
    start. `sysv`: attached and filled with zeros, then marked with IPC_RMID. More than the machine has available is
    refused. Children get all three by fork.
Price
    All of it is memory from the start. Between open and unlink, and between shmget and IPC_RMID, lie a few
    microseconds in which kill -9 leaves something; only memfd has no such moment.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from typing import Protocol

KINDS = ("memfd", "posix", "sysv")
"""Names that ``--shm`` takes."""

FOLDER = "/dev/shm"
"""Where shm_open(3) keeps its files on Linux: a tmpfs."""

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class _Segment(Protocol):
    """What the package sysv_ipc calls SharedMemory."""

    def remove(self) -> None: ...

    def detach(self) -> None: ...


class SharedMemory:
    """*size* bytes of zeros, by one of KINDS: ``buffer`` for this process and the children that it forks.

    Raises OSError if that much memory cannot be had, and ModuleNotFoundError for ``sysv`` where the package sysv_ipc
    (extra ``sysv``) is not installed.
    """

    def __init__(self, kind: str, size: int) -> None:
        _refuse_more_than_available(size)
        self._segment: _Segment | None = None
        self._map: mmap.mmap | None = None
        if kind == "sysv":
            self._segment, self.buffer = _attach(size)
        else:
            fd = _memfd(size) if kind == "memfd" else _unlinked(size)
            try:
                self._map = mmap.mmap(fd, size)
            finally:
                os.close(fd)
            self.buffer = memoryview(self._map)

    def __enter__(self) -> SharedMemory:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Give this process's part of it back, once no view of ``buffer`` is left.

        Raises BufferError if there is one; but sysv_ipc does not look, and such a view then leads to a crash.
        """
        self.buffer.release()
        if self._map is not None:
            self._map.close()
        if self._segment is not None:
            self._segment.detach()


def _refuse_more_than_available(size: int) -> None:
    with open("/proc/meminfo", "rb") as table:
        available = next(int(line.split()[1]) * 1024 for line in table if line.startswith(b"MemAvailable:"))
    if size > available:
        raise _refusal(errno.ENOMEM, f"{size} bytes of shared memory")


def _refusal(number: int, what: str) -> OSError:
    return OSError(number, os.strerror(number), what)


def _memfd(size: int) -> int:
    fd = os.memfd_create("aiolsp", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        _reserve(fd, size, "memfd")
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _unlinked(size: int) -> int:
    path = f"{FOLDER}/aiolsp-{os.urandom(8).hex()}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.unlink(path)
        _reserve(fd, size, FOLDER)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _reserve(fd: int, size: int, where: str) -> None:
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        raise _refusal(error.errno or errno.ENOSPC, f"{size} bytes of {where}") from None


def _attach(size: int) -> tuple[_Segment, memoryview]:
    import sysv_ipc

    try:
        segment = sysv_ipc.SharedMemory(None, sysv_ipc.IPC_CREX, mode=0o600, size=size, init_character=b"\0")
    except (MemoryError, OSError, ValueError) as error:
        number = getattr(error, "errno", None) or errno.ENOMEM
        raise _refusal(number, f"{size} bytes by shmget") from None
    segment.remove()
    return segment, memoryview(segment)
