"""Echo exactly what came, on TCP and on UDP of one port.

Book p. 171, listing 9-8 (the server of TCP and UDP on one port).

Facts (both loops, this kernel)
    - A transport that is written to faster than its peer reads grows without a bound; ``pause_writing`` tells.
    - ``close`` at the end of the peer's stream, which is what ``eof_received`` does unless told otherwise, first writes
      what waits: half-close gets its echo.
    - A datagram transport keeps without a bound what the socket does not take, and that of the stock loop sends no
      empty datagram before Python 3.13.
    - 64 connections of 64 bytes, server and C client on a core each, medians of 15 rounds: Protocol 92,500 a second on
      uvloop, BufferedProtocol 86,300, the epoll twin 89,200 (1.04 to 1), user time per message 1.4, 2.7 and 2.4 us of
      about 10 in all: the rest is the kernel's. The stock loop asks recv for 256 KiB and made 20,500.
Consequence
    TCP: no reading while too much waits. UDP: receive by the transport, send by the socket itself, now or never.
Decision
    Protocol, since the echo must be bytes of its own anyway: a buffer that is used again may not be written from. With
    the trace off its ``data_received`` is the transport's ``write``. Both sockets are bound before any is served.
Price
    A datagram is lost when the socket's buffer is full, as UDP may, and counted. The stock loop pays for its recv.
The C++ original answers 1,023 bytes whatever datagram came, and does not look at how much of the echo send took.

TCP: connection_made -> (data_received | pause_writing | resume_writing)* -> eof_received? -> connection_lost.

    client -v, then with --udp            server -v
    = epoll_ctl ADD fd=0 EPOLLIN          < accept fd=14 peer=127.0.0.1:52106
    < epoll_wait fd=0 EPOLLIN|EPOLLHUP    < data_received fd=14 6 B  send it back
    = epoll_ctl DEL fd=0                  > write fd=14 6 B waiting=0
    < read 6 B                            < eof_received fd=14  it says no more: close when all is sent back
    > write 6 B                           x connection_lost fd=14  closed
    < read 0 B  the end                   < datagram_received fd=13 6 B peer=127.0.0.1:42009  send it back
    < data_received 6 B                   > sendto fd=13 6 B peer=127.0.0.1:42009
                                          < signal SIGTERM  as an event of the loop
    < read 6 B
    > send 6 B
    < datagram_received 6 B
    < read 0 B  the end
"""

from __future__ import annotations

import argparse
import asyncio
import os
import select
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import cast

from aiolsp.cli import execute, program_parser, ready
from aiolsp.linux.datagrams import connect_datagrams, listen_both, take_line
from aiolsp.linux.listener import Address, format_address
from aiolsp.mechanisms.epoll import EpollWatcher
from aiolsp.mechanisms.loop import run
from aiolsp.mechanisms.server import StreamServer
from aiolsp.mechanisms.signals import SignalReceiver
from aiolsp.tracing import trace

READ_SIZE = 64 * 1024
"""Bytes of one read; no datagram is larger."""

HIGH_WATER = 64 * 1024
"""Bytes of echo that may wait for a slow reader before it is no longer read from: asyncio's own default."""

ANSWER = 2.0
"""Seconds until a datagram or its echo counts as lost."""


class EchoServer(StreamServer["EchoConnection"]):
    """Echoes on a port, TCP and UDP: ``async with EchoServer(port=0) as server: server.addresses``.

    Raises ListenError if the port cannot be had for both.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(lambda: EchoConnection(self))
        self._where = host, port

    async def __aenter__(self) -> EchoServer:
        loop = asyncio.get_running_loop()
        listeners, sockets = listen_both(*self._where)
        self._datagrams = [EchoDatagrams(datagrams) for datagrams in sockets]
        for datagrams in self._datagrams:
            await loop.create_datagram_endpoint(lambda made=datagrams: made, sock=datagrams.socket)  # type: ignore[misc]
        self.open(listeners)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for datagrams in self._datagrams:
            datagrams.close()
        await self.close()
        for datagrams in self._datagrams:
            await datagrams.closed


class EchoConnection(asyncio.Protocol):
    """One TCP peer: connection_made -> (data_received | pause_writing | resume_writing)* -> eof_received?
    -> connection_lost."""

    def __init__(self, server: EchoServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serve it, with a write buffer that reports when too much waits for a slow reader."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER, low=HIGH_WATER // 4)
        self.fd = transport.get_extra_info("socket").fileno()
        self._server.add(self)
        if not trace.on:
            # With nothing to say about it, the echo is the transport's write itself: no Python frame per message.
            self.data_received = self._transport.write  # type: ignore[method-assign]
            self._transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        """Send it back; what the socket does not take waits in the transport."""
        if trace.on:
            trace.event("<", "data_received", fd=self.fd, size=len(data), why="send it back")
        self._transport.write(data)
        if trace.on:
            waiting = self._transport.get_write_buffer_size()
            trace.event(">", "write", fd=self.fd, size=len(data), waiting=waiting)

    def eof_received(self) -> None:
        """Nothing to do: the transport closes when all that came is echoed."""
        if trace.on:
            trace.event("<", "eof_received", fd=self.fd, why="it says no more: close when all is sent back")

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport has closed the socket."""
        if trace.on:
            trace.event("x", "connection_lost", fd=self.fd, why=str(exc or "closed"))
        self._server.discard(self)

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()

    def pause_writing(self) -> None:
        """The peer does not read: read no more from it, so that its own send waits."""
        if trace.on:
            waiting = self._transport.get_write_buffer_size()
            trace.event("=", "pause_reading", fd=self.fd, waiting=waiting, why="it does not read")
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It has read: so do we."""
        if trace.on:
            trace.event("=", "resume_reading", fd=self.fd)
        self._transport.resume_reading()


class EchoDatagrams(asyncio.DatagramProtocol):
    """A UDP socket of the server: connection_made -> (datagram_received | error_received)* -> connection_lost."""

    def __init__(self, datagrams: socket.socket) -> None:
        self.socket = datagrams
        self.fd = datagrams.fileno()
        self.dropped = 0
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Receive."""
        self._transport = transport

    def datagram_received(self, data: bytes, sender: Address) -> None:
        """Send it back at once or never: a datagram that waits in user space waits without a bound."""
        if trace.on:
            peer = format_address(sender)
            trace.event("<", "datagram_received", fd=self.fd, size=len(data), peer=peer, why="send it back")
        try:
            sent = self.socket.sendto(data, sender)
        except OSError as error:
            self.error_received(error)
            return
        if trace.on:
            trace.event(">", "sendto", fd=self.fd, size=sent, peer=format_address(sender))

    def error_received(self, exc: Exception) -> None:
        """The socket's buffer is full (EAGAIN), or a peer is not there: its datagram is lost, the server goes on."""
        self.dropped += 1
        if trace.on:
            why = exc.strerror if isinstance(exc, OSError) else str(exc)
            trace.event("!", "drop", fd=self.fd, dropped=self.dropped, why=why or "")

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport has closed the socket."""
        self.closed.set_result(None)

    def close(self) -> None:
        """Close the socket."""
        self._transport.close()


class EchoAnswers(asyncio.DatagramProtocol):
    """What comes back to the UDP client: (datagram_received | error_received)* -> connection_lost."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[bytes] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()

    def datagram_received(self, data: bytes, sender: Address) -> None:
        """The echo of what was sent last."""
        if not self._answer.done():
            self._answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        """An ICMP message: nobody listens there."""
        if not self._answer.done():
            self._answer.set_exception(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport has closed the socket."""
        self._answer.cancel()
        self.closed.set_result(None)

    async def next(self) -> bytes:
        """The next echo. Raises OSError for an ICMP message, TimeoutError if nothing comes."""
        async with asyncio.timeout(ANSWER):
            answer = await self._answer
        self._answer = asyncio.get_running_loop().create_future()
        return answer


class EchoClient:
    """Sends what comes from *source* and writes what comes back to *target*."""

    def __init__(self, host: str, port: int, source: int = 0, target: int = 1) -> None:
        self._where = host, port
        self._source = source
        self._target = target
        self._watcher = EpollWatcher()
        self._sent = 0
        self._ended = False

    async def stream(self) -> None:
        """Over TCP: until all is back. Raises OSError, also if the server ends before that."""
        received = 0
        reader, writer = await asyncio.open_connection(*self._where)
        sending = asyncio.create_task(self._send(reader, writer))
        try:
            while data := await reader.read(READ_SIZE):
                received += len(data)
                self._write(data)
                self._tell("<", "data_received", data)
            self._check(self._sent, received, self._ended)
        finally:
            sending.cancel()
            writer.close()
            with suppress(asyncio.CancelledError, OSError):
                await sending
            with suppress(OSError):
                await writer.wait_closed()

    async def datagrams(self) -> None:
        """Over UDP: a datagram a line, the next when the echo has come. Raises OSError."""
        connection = connect_datagrams(*self._where)
        connection.setblocking(False)
        transport, answers = await asyncio.get_running_loop().create_datagram_endpoint(EchoAnswers, sock=connection)
        try:
            async for line in self._lines():
                connection.send(line)
                self._tell(">", "send", line)
                try:
                    answer = await answers.next()
                except TimeoutError:
                    raise lost(line) from None
                self._tell("<", "datagram_received", answer)
                self._write(answer)
        finally:
            transport.close()
            await answers.closed

    def close(self) -> None:
        """Watch the source no longer."""
        self._watcher.close()

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await self._read_or_tell(reader):
            writer.write(data)
            self._tell(">", "write", data)
            self._sent += len(data)
            await writer.drain()
        self._ended = True
        writer.write_eof()

    async def _lines(self) -> AsyncIterator[bytes]:
        buffer = bytearray()
        while data := await self._read():
            buffer += data
            while piece := take_line(buffer):
                yield piece
        if buffer:
            yield bytes(buffer)

    async def _read_or_tell(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await self._read()
        except OSError as error:
            reader.set_exception(error)  # else who waits there would wait for an end of stream that is never sent
            raise

    async def _read(self) -> bytes:
        readable = asyncio.Event()
        try:
            self._watcher.add(self._source, select.EPOLLIN, lambda *_: readable.set())
        except PermissionError:
            await asyncio.sleep(0)  # a regular file is always ready, and epoll refuses it
        else:
            try:
                await readable.wait()
            finally:
                self._watcher.remove(self._source)
        data = os.read(self._source, READ_SIZE)
        self._tell("<", "read", data)
        return data

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._target, data) :]

    def _tell(self, sign: str, call: str, data: bytes) -> None:
        if trace.on:
            trace.event(sign, call, size=len(data), why="" if data else "the end")

    def _check(self, sent: int, received: int, ended: bool) -> None:
        if received < sent or not ended:
            raise ConnectionError(f"the server closed after {received} of {sent} bytes came back")


def lost(line: bytes) -> TimeoutError:
    """The error that says that no echo came."""
    return TimeoutError(f"no echo of a datagram of {len(line)} bytes within {ANSWER:g} s")


async def serve(options: argparse.Namespace) -> None:
    """The server, until SIGINT or SIGTERM."""
    async with (
        SignalReceiver(signal.SIGINT, signal.SIGTERM) as signals,
        EchoServer(options.host, options.port) as server,
    ):
        ready(server.addresses)
        await anext(signals)


async def talk(options: argparse.Namespace) -> None:
    """The client, until all is back."""
    client = EchoClient(options.host, options.port)
    try:
        await (client.datagrams() if options.udp else client.stream())
    finally:
        client.close()


ROLES = {"server": serve, "client": talk}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the role that the command line names; the exit status."""
    return execute(program_parser("echo"), argv, lambda options: run(ROLES[options.role](options), loop=options.loop))


if __name__ == "__main__":
    sys.exit(main())
