"""The client of the chat rooms: stdin to the server and the server to stdout, without a copy in this process.

Book p. 165, listing 9-6 (the splice client).

Facts
    - ``connect_read_pipe`` aborts uvloop's process on a regular file, and ``add_reader`` leaves a terminal
      non-blocking, for the shell too.
    - What linux/splice.py asks for is one event of one descriptor at a time, in each direction.
Consequence
    stdin cannot be the loop's own.
Decision
    One splice for each event of a private epoll; a regular file is always ready.
Price
    A descriptor is watched anew for each piece.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from aiolsp.linux.splice import SplicePipe
from aiolsp.mechanisms.epoll import EpollWatcher


class SpliceClient:
    """Carries *source* to the server and what the server sends to *target*, without a copy in this process."""

    def __init__(self, connection: socket.socket, source: int = 0, target: int = 1) -> None:
        self._connection = connection
        self._receiving = connection.dup()
        self._up = SplicePipe(source, connection.fileno())
        self._down = SplicePipe(self._receiving.fileno(), target)
        self._watcher = EpollWatcher()

    async def run(self) -> None:
        """Until the server closes. Raises OSError if *source*, *target* or the connection fails."""
        sending = asyncio.create_task(self._send())
        receiving = asyncio.create_task(self._carry(self._down))
        try:
            await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                await sending
            await receiving
        finally:
            sending.cancel()
            receiving.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)

    def close(self) -> None:
        """Close the connection and the pipes."""
        self._watcher.close()
        self._up.close()
        self._down.close()
        self._receiving.close()
        self._connection.close()

    async def _send(self) -> None:
        # If the server is gone, the other direction says so.
        with suppress(BrokenPipeError, ConnectionResetError):
            await self._carry(self._up)
            self._connection.shutdown(socket.SHUT_WR)

    async def _carry(self, pipe: SplicePipe) -> None:
        while (wait := pipe.waits_for) is not None:
            await self._wait(*wait)
            pipe.move()

    async def _wait(self, fd: int, flags: int) -> None:
        happened = asyncio.Event()
        try:
            self._watcher.add(fd, flags, lambda *_: happened.set())
        except PermissionError:
            await asyncio.sleep(0)  # a regular file is always ready, and epoll refuses it
            return
        try:
            await happened.wait()
        finally:
            self._watcher.remove(fd)


async def connect(host: str, port: int) -> socket.socket:
    """A non-blocking socket connected to the first address of *host* that answers. Raises OSError."""
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        try:
            await loop.sock_connect(connection, address)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    assert failure is not None
    raise failure


async def converse(host: str, port: int) -> None:
    """Connect, and carry until the server closes. Raises OSError."""
    client = SpliceClient(await connect(host, port))
    try:
        await client.run()
    finally:
        client.close()
