"""Report the normal bytes, the urgent byte and the place of the urgent mark: the blocking twin of `aiolsp.oob`.

Book p. 148, listing 9-1 (select and out-of-band data); the client is listing 5-6, the signal is listing 10-3.

Facts (tests/linux/test_urgent.py, this kernel)
    - A lone urgent byte makes a socket exceptional (EPOLLPRI), not readable: a loop's reader never wakes for it.
    - A read stops at the mark. A read that starts at the mark jumps over the urgent byte, which is then gone.
    - An event of EPOLLIN without EPOLLPRI, with reading not at the mark, means normal bytes to come: whatever arrives
      now stands behind them, so the one recv that follows cannot start at a mark.
    - SIGURG names no socket, and equal signals coalesce. A new socket has no owner and sends none.
Consequence
    Before each read: take the urgent byte if there is one. One read an event, never "until EAGAIN", since the last of
    those could start at a mark that has just come. A transport reads by itself, when it likes: it cannot be used here.
Decision
    epoll gives EPOLLPRI, level-triggered, as select gave the exceptional set. With ``--notify sigurg`` the sockets are
    owned by this process and `SelfPipe` makes SIGURG an event of the readiness loop, which looks at them all. The
    logic of `aiolsp.sansio.urgent` puts each byte in its place by SIOCATMARK, not by the order of arrival.
Price
    A SIOCATMARK or two for each event. When urgent bytes come faster than they are taken, only the newest is urgent.
    The older one is lost, or is a normal byte if normal bytes in front of it were unread as well: TCP has one pointer.

To see that, stop the server, send, and let it go on: ``kill -STOP``; ``client ab '!x' mid '!y'``; ``kill -CONT``:
    127.0.0.1:37578 normal b'abxmid'
    127.0.0.1:37578 urgent b'y', its mark after 6 normal bytes
The same with ``client '!x' '!y'``; x is in neither:
    127.0.0.1:37590 urgent b'y', its mark after 0 normal bytes

The C++ original reads first and looks for the urgent byte afterwards, so it loses one that reading stands at; it
prints the two streams as they come, and cannot say where the urgent byte stood.

A connection: ``watch -> (ready | check)* -> (end | abort)``.

``server -v --notify sigurg`` and ``client -v``, as they ran:
    listening on 127.0.0.1:8148
    < accept fd=7 peer=127.0.0.1:37564
    = recv MSG_OOB fd=7  none, or taken already
    < epoll_wait fd=7 EPOLLIN
    < recv fd=7 5 B  SIOCATMARK: stopped at the mark
    127.0.0.1:37564 normal b'123ab'
    < epoll_wait fd=7 EPOLLIN
    < recv MSG_OOB fd=7 1 B  at the mark: to read on would jump over it
    127.0.0.1:37564 urgent b'c', its mark after 5 normal bytes
    < recv fd=7 3 B
    127.0.0.1:37564 normal b'123'
    < signal fd=3 SIGURG  from the self-pipe
    = recv MSG_OOB fd=7  none, or taken already
    < epoll_wait fd=7 EPOLLIN
    127.0.0.1:37564 end of stream after 8 normal bytes and 1 urgent byte
    x close fd=7  end of stream
    < signal fd=3 SIGTERM  from the self-pipe

    > send fd=3 3 B
    sent b'123'
    > send MSG_OOB fd=3 3 B
    sent b'abc', its last byte urgent
    > send fd=3 3 B
    sent b'123'
"""

from __future__ import annotations

import argparse
import select
import signal
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from aiolsp.blocking.mechanisms.acceptor import Acceptor
from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.blocking.mechanisms.timers import seconds_until
from aiolsp.cli import UsageError, execute, program_parser, ready, say
from aiolsp.linux.epoll_flags import flag_names
from aiolsp.linux.listener import Address, format_address, listen
from aiolsp.linux.urgent import at_mark, own_signals, take_urgent
from aiolsp.sansio.urgent import Part, UrgentStream, parse_part, show
from aiolsp.tracing import trace

READ_SIZE = 64 * 1024
"""Bytes of one recv: one a turn, so that a peer that floods delays nobody."""

Notify: TypeAlias = Literal["pri", "sigurg"]


class OobServer:
    """The report on a port: ``with OobServer(port=0) as server: server.addresses; server.run(signals)``.

    With *notify* ``sigurg`` an urgent byte is noticed by SIGURG, and so only while `run` receives it. Raises
    ListenError if the port cannot be had.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, notify: Notify = "pri") -> None:
        self.connections: dict[int, OobConnection] = {}
        self.addresses: list[Address] = []
        self.notify = notify
        self._where = host, port

    def __enter__(self) -> OobServer:
        listeners = listen(*self._where)
        self.addresses = [listener.getsockname() for listener in listeners]
        self.poller = select.epoll()
        self._acceptor = Acceptor(listeners, self.poller, self.add)
        self._acceptor.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._acceptor.close()
        for connection in list(self.connections.values()):
            connection.abort()
        self.poller.close()

    def run(self, signals: SelfPipe) -> None:
        """Serve until a signal other than SIGURG comes."""
        self.poller.register(signals.fileno(), select.EPOLLIN)
        while True:
            for fd, events in self.poller.poll(seconds_until(self._acceptor.next_deadline())):
                if fd == signals.fileno():
                    received = set(signals.receive())
                    if received - {signal.SIGURG}:
                        return
                    self.check_all()
                elif fd in self._acceptor:
                    self._acceptor.accept(fd)
                elif fd in self.connections:  # else an earlier event of this turn has closed it
                    self.connections[fd].ready(fd, events)
            self._acceptor.tick(time.monotonic())

    def check_all(self) -> None:
        """SIGURG came, which names no socket: look at every one."""
        for connection in list(self.connections.values()):
            connection.check()

    def add(self, peer: socket.socket, address: Address) -> None:
        """A peer has connected."""
        connection = OobConnection(self, peer, address)
        self.connections[connection.fd] = connection
        connection.watch()

    def discard(self, connection: OobConnection) -> None:
        """The connection has ended, whoever ended it."""
        self.connections.pop(connection.fd, None)


class OobConnection:
    """One peer of the server, and the report on its bytes."""

    def __init__(self, server: OobServer, peer: socket.socket, address: Address) -> None:
        self._server = server
        self._stream = UrgentStream()
        self._socket = peer
        self.fd = peer.fileno()
        self.peer = format_address(address)

    def watch(self) -> None:
        """Ask for the notification of urgent bytes that the server was told to use."""
        if self._server.notify == "pri":
            self._server.poller.register(self.fd, select.EPOLLIN | select.EPOLLPRI)
            return
        self._server.poller.register(self.fd, select.EPOLLIN)
        own_signals(self._socket)
        self.check()  # a byte that came before the socket had an owner has sent no signal

    def ready(self, fd: int, events: int) -> None:
        """What epoll reported."""
        if trace.on:
            trace.event("<", "epoll_wait", fd=fd, flags=flag_names(events))
        try:
            if events & select.EPOLLPRI:
                self._take_urgent("EPOLLPRI: it can be taken before what stands in front of it")
            elif at_mark(self._socket):
                self._take_urgent("at the mark: to read on would jump over it")
            if events & ~select.EPOLLPRI:
                self._read()
        except BlockingIOError:
            pass
        except OSError as error:
            self._end(error.strerror or "broken")

    def check(self) -> None:
        """A signal came: perhaps for this socket."""
        try:
            self._take_urgent("SIGURG names no socket: look at this one too")
        except OSError as error:
            self._end(error.strerror or "broken")

    def abort(self) -> None:
        """Close now."""
        self._end("closed by the server")

    def _take_urgent(self, why: str) -> None:
        byte = take_urgent(self._socket)
        if byte is None:
            if trace.on:
                trace.event("=", "recv MSG_OOB", fd=self.fd, why="none, or taken already")
            return
        if trace.on:
            trace.event("<", "recv MSG_OOB", fd=self.fd, size=1, why=why)
        self._tell(self._stream.feed_urgent(byte, at_mark(self._socket)))

    def _read(self) -> None:
        data = self._socket.recv(READ_SIZE)
        if not data:
            self._end("end of stream")
            return
        stopped = at_mark(self._socket)
        if trace.on:
            trace.event(
                "<", "recv", fd=self.fd, size=len(data), why="SIOCATMARK: stopped at the mark" if stopped else ""
            )
        self._tell(self._stream.feed(data, stopped))

    def _end(self, why: str) -> None:
        self._tell(self._stream.end(why))
        self._server.discard(self)
        self._server.poller.unregister(self.fd)
        self._socket.close()
        if trace.on:
            trace.event("x", "close", fd=self.fd, why=why)

    def _tell(self, report: list[str]) -> None:
        for line in report:
            say(f"{self.peer} {line}")


class OobClient:
    """Sends normal and urgent bytes to the server."""

    def __init__(self, host: str, port: int) -> None:
        self._where = host, port

    def send(self, parts: Iterable[Part]) -> None:
        """Send *parts* in order, and return when the server has closed. Raises OSError."""
        with socket.create_connection(self._where) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            for part in parts:
                self._send(connection, part)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(READ_SIZE):
                pass

    def _send(self, connection: socket.socket, part: Part) -> None:
        normal, urgent = part.pieces
        connection.sendall(normal)
        if urgent:
            writable(connection)
            connection.sendall(urgent, socket.MSG_OOB)
        tell_sent(connection.fileno(), part)


def writable(connection: socket.socket) -> None:
    """Wait until the send buffer has room."""
    poller = select.poll()
    poller.register(connection, select.POLLOUT)
    poller.poll()


def tell_sent(fd: int, part: Part) -> None:
    """One line for what was sent."""
    if trace.on:
        trace.event(">", "send MSG_OOB" if part.urgent else "send", fd=fd, size=len(part.data))
    say(f"sent {show(part.data)}{', its last byte urgent' if part.urgent else ''}")


def parts_of(words: Iterable[str]) -> list[Part]:
    """What the command line asks to send. Raises UsageError for a word without a byte."""
    try:
        return [parse_part(word) for word in words]
    except ValueError as error:
        raise UsageError(str(error)) from None


def signals_of(notify: Notify) -> tuple[signal.Signals, ...]:
    """The signals that the server receives."""
    stop = (signal.SIGINT, signal.SIGTERM)
    return (*stop, signal.SIGURG) if notify == "sigurg" else stop


def serve(options: argparse.Namespace) -> None:
    """The server, until SIGINT or SIGTERM."""
    with (
        SelfPipe(*signals_of(options.notify)) as signals,
        OobServer(options.host, options.port, notify=options.notify) as server,
    ):
        ready(server.addresses)
        server.run(signals)


def talk(options: argparse.Namespace) -> None:
    """The client, until the server has taken everything."""
    OobClient(options.host, options.port).send(parts_of(options.parts))


ROLES = {"server": serve, "client": talk}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the role that the command line names; the exit status."""
    return execute(program_parser("oob", blocking=True), argv, lambda options: ROLES[options.role](options))


if __name__ == "__main__":
    sys.exit(main())
