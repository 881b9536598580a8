"""How much has arrived and waits to be read."""

from __future__ import annotations

import fcntl
import sys
import termios


def unread(fd: int) -> int:
    """Bytes that wait in a pipe, or in the receive buffer of a socket (FIONREAD; SIOCINQ in tcp(7)). Raises OSError."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
