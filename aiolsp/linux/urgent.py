"""Urgent data of a TCP socket: take the byte, ask for the mark, choose who gets SIGURG (tcp(7), socket(7), fcntl(2)).

What recv(2) with MSG_OOB answers besides the byte
    EINVAL  there is none, it was taken already, or SO_OOBINLINE leaves it in the stream
    EAGAIN  it was announced (the urgent pointer came) and is not here yet
Both mean "nothing to take now". The trap is the read, not the taking: a read stops *at* the mark, but one that *starts*
at the mark jumps over the byte and loses it. So before each read: at the mark? Then take the byte first.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket

SIOCATMARK = 0x8905
"""asm-generic/sockios.h; no module of the standard library has it."""


def at_mark(connection: socket.socket) -> bool:
    """Whether the next normal byte to be read stands right behind the urgent mark. Raises OSError."""
    answer = array.array("i", [0])
    fcntl.ioctl(connection.fileno(), SIOCATMARK, answer)
    return answer[0] != 0


def take_urgent(connection: socket.socket) -> bytes | None:
    """The urgent byte of a non-blocking socket, or None if there is none to take now.

    Raises OSError for a broken connection.
    """
    try:
        return connection.recv(1, socket.MSG_OOB) or None
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:
            return None
        raise


def own_signals(connection: socket.socket) -> None:
    """Have SIGURG for this socket sent to this process (F_SETOWN); a new socket has no owner, and so sends none."""
    fcntl.fcntl(connection.fileno(), fcntl.F_SETOWN, os.getpid())
