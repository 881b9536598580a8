"""Echo exactly what came, on TCP and on UDP of one port. The blocking twin of aiolsp/echo.py, on epoll(7).

Book p. 171, listing 9-8 (the server of TCP and UDP on one port).

Facts (epoll(7), tried on this kernel)
    - send takes a part, or says EAGAIN; EPOLLOUT is reported at once whenever there is room.
    - A peer that sends and does not read fills first the kernel's buffers, then ours.
    - Without reading, its end of stream and its reset still show: EPOLLHUP and EPOLLERR cannot be switched off.
Consequence
    EPOLLOUT only while something waits; no EPOLLIN while more than the high-water mark does. TCP then stops the peer.
Decision
    Send at once; what is not taken waits in one buffer. Between the marks nothing changes, so that a slow reader costs
    one epoll_ctl per crossing. A datagram is sent now or never, and a loss is counted.
Price
    What asyncio's transport does is half of this file.
The C++ original answers 1,023 bytes whatever datagram came, and does not look at how much of the echo send took.

TCP: add -> ready* -> connection_lost.

    client -v, then with --udp            server -v
    < read 6 B                            < accept fd=8 peer=127.0.0.1:53628
    > send 6 B                            < recv fd=8 EPOLLIN 6 B  send it back
    < read 0 B  the end                   > send fd=8 6 B waiting=0
    < recv 6 B                            < recv fd=8 EPOLLIN 0 B  it says no more: close when all is sent back
                                          x close fd=8  closed
    < read 6 B                            < recvfrom fd=6 6 B peer=127.0.0.1:45113  send it back
    > send 6 B                            > sendto fd=6 6 B peer=127.0.0.1:45113
    < recv 6 B                            < signal fd=3 SIGTERM  from the self-pipe
    < read 0 B  the end
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence

from aiolsp.blocking.mechanisms.acceptor import Acceptor
from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.blocking.mechanisms.timers import seconds_until
from aiolsp.cli import execute, program_parser, ready
from aiolsp.linux.datagrams import connect_datagrams, listen_both, take_line
from aiolsp.linux.epoll_flags import flag_names
from aiolsp.linux.listener import Address, format_address
from aiolsp.tracing import trace

READ_SIZE = 64 * 1024
"""Bytes of one read; no datagram is larger."""

HIGH_WATER = 64 * 1024
"""Bytes of echo that may wait for a slow reader before it is no longer read from: asyncio's own default."""

ANSWER = 2.0
"""Seconds until a datagram or its echo counts as lost."""


class EchoServer:
    """Echoes on a port, TCP and UDP: ``with EchoServer(port=0) as server: server.addresses; server.run(signals)``.

    Raises ListenError if the port cannot be had for both.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.connections: dict[int, EchoConnection] = {}
        self.addresses: list[Address] = []
        self._where = host, port

    def __enter__(self) -> EchoServer:
        listeners, sockets = listen_both(*self._where)
        self.poller = select.epoll()
        self.addresses = [listener.getsockname() for listener in listeners]
        self._datagrams = {datagrams.fileno(): EchoDatagrams(datagrams) for datagrams in sockets}
        for fd in self._datagrams:
            self.poller.register(fd, select.EPOLLIN)
        self._acceptor = Acceptor(listeners, self.poller, self.add)
        self._acceptor.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._acceptor.close()
        for datagrams in self._datagrams.values():
            datagrams.close()
        for connection in list(self.connections.values()):
            connection.abort()
        self.poller.close()

    def run(self, signals: SelfPipe) -> None:
        """Serve until a signal comes."""
        self.poller.register(signals.fileno(), select.EPOLLIN)
        while True:
            for fd, events in self.poller.poll(seconds_until(self._acceptor.next_deadline())):
                if fd in self.connections:
                    self.connections[fd].ready(events)
                elif fd in self._datagrams:
                    self._datagrams[fd].ready(events)
                elif fd in self._acceptor:
                    self._acceptor.accept(fd)
                elif fd == signals.fileno() and signals.receive():
                    return
            self._acceptor.tick(time.monotonic())

    def add(self, peer: socket.socket, address: Address) -> None:
        """A peer has connected."""
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = EchoConnection(self, peer)
        self.connections[connection.fd] = connection

    def discard(self, connection: EchoConnection) -> None:
        """The connection has ended, whoever ended it."""
        del self.connections[connection.fd]


class EchoConnection:
    """One TCP peer: ready* -> connection_lost, where each ready event becomes data_received, eof_received or more room
    for what waits to be sent."""

    def __init__(self, server: EchoServer, peer: socket.socket) -> None:
        self._server = server
        self._socket = peer
        self.fd = peer.fileno()
        self._unsent = bytearray()
        self._closing = False
        self._events: int = select.EPOLLIN
        server.poller.register(self.fd, self._events)

    def data_received(self, data: bytes) -> None:
        """Send it back; what the socket does not take waits for EPOLLOUT."""
        if not self._unsent:
            data = data[self._send(data) :]
            if not data:
                return
        self._unsent += data
        self._watch()

    def eof_received(self) -> None:
        """Close when all that came is echoed."""
        self._closing = True
        if self._unsent:
            self._watch()
        else:
            self.abort()

    def connection_lost(self, error: OSError | None) -> None:
        """Close the socket; once."""
        if self._server.connections.get(self.fd) is not self:
            return
        if trace.on:
            trace.event("x", "close", fd=self.fd, why=error.strerror if error and error.strerror else "closed")
        self._server.poller.unregister(self.fd)
        self._server.discard(self)
        self._socket.close()

    def abort(self) -> None:
        """Close now."""
        self.connection_lost(None)

    def ready(self, events: int) -> None:
        """What epoll reported."""
        try:
            if events & select.EPOLLOUT:
                self._flush()
            if events & ~select.EPOLLOUT:
                self._receive(events)
        except BlockingIOError:
            pass
        except OSError as error:
            self.connection_lost(error)

    def _receive(self, events: int) -> None:
        data = self._socket.recv(READ_SIZE)
        if trace.on:
            why = "send it back" if data else "it says no more: close when all is sent back"
            trace.event("<", "recv", fd=self.fd, flags=flag_names(events), size=len(data), why=why)
        if data:
            self.data_received(data)
        else:
            self.eof_received()

    def _send(self, data: bytes | bytearray) -> int:
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        if trace.on:
            if sent:
                trace.event(">", "send", fd=self.fd, size=sent, waiting=len(data) - sent)
            if sent < len(data):
                trace.event("=", "EAGAIN", fd=self.fd, why="the rest when epoll says EPOLLOUT")
        return sent

    def _flush(self) -> None:
        del self._unsent[: self._send(self._unsent)]
        if self._closing and not self._unsent:
            self.abort()
        else:
            self._watch()

    def _watch(self) -> None:
        # Between the two marks it stays as it is, so that a slow reader does not cost a call per piece.
        if self._closing or len(self._unsent) > HIGH_WATER:
            reading = 0
        elif len(self._unsent) > HIGH_WATER // 4:
            reading = self._events & select.EPOLLIN
        else:
            reading = select.EPOLLIN
        events = reading | (select.EPOLLOUT if self._unsent else 0)
        if events != self._events:
            if trace.on:
                trace.event("=", "epoll_ctl", fd=self.fd, flags=flag_names(events), waiting=len(self._unsent))
            self._events = events
            self._server.poller.modify(self.fd, events)


class EchoDatagrams:
    """A UDP socket of the server: ready -> datagram_received, until close."""

    def __init__(self, datagrams: socket.socket) -> None:
        self._socket = datagrams
        self.dropped = 0

    def ready(self, events: int) -> None:
        """One datagram has come, or an ICMP message about an earlier one."""
        try:
            data, sender = self._socket.recvfrom(READ_SIZE)
        except OSError as error:
            self.error_received(error)
        else:
            self.datagram_received(data, sender)

    def datagram_received(self, data: bytes, sender: Address) -> None:
        """Send it back at once or never: a datagram that waits in user space waits without a bound."""
        fd = self._socket.fileno()
        if trace.on:
            trace.event("<", "recvfrom", fd=fd, size=len(data), peer=format_address(sender), why="send it back")
        try:
            sent = self._socket.sendto(data, sender)
        except OSError as error:
            self.error_received(error)
            return
        if trace.on:
            trace.event(">", "sendto", fd=fd, size=sent, peer=format_address(sender))

    def error_received(self, error: OSError) -> None:
        """The socket's buffer is full (EAGAIN), or a peer is not there: its datagram is lost, the server goes on."""
        self.dropped += 1
        if trace.on:
            why = os.strerror(error.errno or 0)
            trace.event("!", "drop", fd=self._socket.fileno(), dropped=self.dropped, why=why)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class EchoClient:
    """Sends what comes from *source* and writes what comes back to *target*."""

    def __init__(self, host: str, port: int, source: int = 0, target: int = 1) -> None:
        self._where = host, port
        self._source = source
        self._target = target

    def stream(self) -> None:
        """Over TCP: until all is back. Raises OSError, also if the server ends before that."""
        sent = received = 0
        unsent, ended = b"", False
        with socket.create_connection(self._where) as connection:
            connection.setblocking(False)
            while True:
                poller = select.poll()
                poller.register(connection, select.POLLIN | (select.POLLOUT if unsent else 0))
                if not unsent and not ended:
                    poller.register(self._source, select.POLLIN)
                events = dict(poller.poll())
                if self._source in events and not (unsent := self._read()):
                    ended = True
                    connection.shutdown(socket.SHUT_WR)
                if events.get(connection.fileno(), 0) & select.POLLOUT:
                    count = connection.send(unsent)
                    self._tell(">", "send", unsent[:count])
                    sent += count
                    unsent = unsent[count:]
                if events.get(connection.fileno(), 0) & ~select.POLLOUT:
                    if not (data := connection.recv(READ_SIZE)):
                        break
                    received += len(data)
                    self._write(data)
                    self._tell("<", "recv", data)
        self._check(sent, received, ended)

    def datagrams(self) -> None:
        """Over UDP: a datagram a line, the next when the echo has come. Raises OSError."""
        with connect_datagrams(*self._where) as connection:
            connection.settimeout(ANSWER)
            for line in self._lines():
                connection.send(line)
                self._tell(">", "send", line)
                try:
                    answer = connection.recv(READ_SIZE)
                except TimeoutError:
                    raise lost(line) from None
                self._tell("<", "recv", answer)
                self._write(answer)

    def _lines(self) -> Iterator[bytes]:
        buffer = bytearray()
        while data := self._read():
            buffer += data
            while piece := take_line(buffer):
                yield piece
        if buffer:
            yield bytes(buffer)

    def _read(self) -> bytes:
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


def serve(options: argparse.Namespace) -> None:
    """The server, until SIGINT or SIGTERM."""
    with (
        SelfPipe(signal.SIGINT, signal.SIGTERM) as signals,
        EchoServer(options.host, options.port) as server,
    ):
        ready(server.addresses)
        server.run(signals)


def talk(options: argparse.Namespace) -> None:
    """The client, until all is back."""
    client = EchoClient(options.host, options.port)
    if options.udp:
        client.datagrams()
    else:
        client.stream()


ROLES = {"server": serve, "client": talk}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the role that the command line names; the exit status."""
    return execute(program_parser("echo", blocking=True), argv, lambda options: ROLES[options.role](options))


if __name__ == "__main__":
    sys.exit(main())
