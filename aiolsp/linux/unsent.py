"""Bound what the kernel takes for a peer that does not read, until the peer has shown that it does.

Facts (tcp(7), tried on this kernel)
    - A socket takes what its send buffer has room for, whether the peer reads or not: 2.5 MB of a file at once over
      loopback, whose segments are 64 KiB, and up to 4 MiB (tcp_wmem) over any path once the peer has read fast.
    - TCP_NOTSENT_LOWAT counts what the peer's window keeps here: with that many bytes the socket is full, and with less
      than half of them it is writable again.
    - When the sockets of a machine hold net.ipv4.tcp_mem together, every connection of the machine waits.
    - A connection inherits TCP_NOTSENT_LOWAT from its listener.
    - For a peer that reads, small pieces are many wake-ups: they double the processor time of 64 MiB over loopback.
Consequence
    Two thousand peers that ask for a large file and read nothing are 5 GB for the kernel, and the time that it takes:
    more than it has for all. The bound is for those, and not for good.
Decision
    `bound` a listener, and `set_free` a connection when it is writable again in the middle of a file. The kernel
    remembers which of the two was done: a socket that was set free stays so, for its next file too.
Price
    A system call for each file that does not go out at once. Who reads UNSENT bytes of a file and then stops has what
    the kernel allows.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import sys
from collections.abc import Iterable

UNSENT = 128 * 1024
"""Bytes. The half that is left when the socket is writable again lasts for 0.5 ms at 1 Gbit/s: time to bring more."""

_FREE = (1 << 31) - 1

_SIOCOUTQ = 0x5411
"""termios.TIOCOUTQ, for whose sake alone no module need be loaded."""


def bound(sock: socket.socket) -> None:
    """Let *sock*, or the connections to it, hold no more than UNSENT bytes beside what the peer makes room for."""
    _set(sock, UNSENT)


def inherit(listener: socket.socket, others: Iterable[socket.socket]) -> None:
    """Let *others* bound the same as *listener*."""
    size = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
    for other in others:
        _set(other, size)


def set_free(sock: socket.socket) -> None:
    """The peer of *sock* reads: from now on the kernel's own bounds do."""
    _set(sock, _FREE)


def untaken(sock: socket.socket) -> int:
    """Bytes that were sent and that the peer's side has yet to acknowledge (SIOCOUTQ, tcp(7)).

    If *sock* is closed and the peer then sends more, they are lost to a reset. 0 too if *sock* is closed already.
    """
    try:
        return int.from_bytes(fcntl.ioctl(sock.fileno(), _SIOCOUTQ, bytes(4)), sys.byteorder)
    except (OSError, ValueError):
        return 0


def _set(sock: socket.socket, size: int) -> None:
    with contextlib.suppress(OSError):  # not TCP: a unix socket has a fixed buffer
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, size)
