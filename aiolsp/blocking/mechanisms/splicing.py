"""The client of the chat rooms: stdin to the server and the server to stdout, without a copy in this process.

Book p. 165, listing 9-6 (the splice client). The twin of mechanisms/splicing.py, on poll(2), which takes a regular file
as well: it is always ready.
"""

from __future__ import annotations

import select
import socket
from contextlib import suppress

from aiolsp.linux.splice import SplicePipe


class SpliceClient:
    """Carries *source* to the server and what the server sends to *target*, without a copy in this process."""

    def __init__(self, connection: socket.socket, source: int = 0, target: int = 1) -> None:
        self._connection = connection
        self._receiving = connection.dup()
        self._up = SplicePipe(source, connection.fileno())
        self._down = SplicePipe(self._receiving.fileno(), target)

    def run(self) -> None:
        """Until the server closes. Raises OSError if *source*, *target* or the connection fails."""
        sending = True
        while (down := self._down.waits_for) is not None:
            poller = select.poll()
            poller.register(*down)
            if sending and (up := self._up.waits_for) is not None:
                poller.register(*up)
            for fd, _ in poller.poll():
                if fd == down[0]:
                    self._down.move()
                else:
                    sending = self._send()

    def close(self) -> None:
        """Close the connection and the pipes."""
        self._up.close()
        self._down.close()
        self._receiving.close()
        self._connection.close()

    def _send(self) -> bool:
        # If the server is gone, the other direction says so.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._up.move()
            if self._up.waits_for is not None:
                return True
            self._connection.shutdown(socket.SHUT_WR)
        return False


def connect(host: str, port: int) -> socket.socket:
    """A non-blocking socket connected to the first address of *host* that answers. Raises OSError."""
    connection = socket.create_connection((host, port))
    connection.setblocking(False)
    return connection


def converse(host: str, port: int) -> None:
    """Connect, and carry until the server closes. Raises OSError."""
    client = SpliceClient(connect(host, port))
    try:
        client.run()
    finally:
        client.close()
