"""Take signals as events among the socket events: the twin of aiolsp/events.py, on epoll(7) and a self-pipe.

Book p. 184, listing 10-1 (the unified event source).

Facts, consequence and decision as there; what differs is the source of the signals
    - `SelfPipe` is the book's pipe, written by CPython's own C handler (signal.set_wakeup_fd): one more descriptor
      among those that epoll watches.
    - SIGCHLD is a signal like any other here, also one sent by kill(1): nobody else in this process wants it.
    - Several signals may have come at one wake-up; those that came before the one that ends the server are reported.

Calling sequence of a connection: ``new -> ready* -> connection_lost``.

    $ python -m aiolsp.blocking.events server -v       $ python -m aiolsp.blocking.events client
    listening on 127.0.0.1:8184                        sent hello
    < accept fd=7 peer=127.0.0.1:44874                 sent child 3
    event: connection 127.0.0.1:44874
    < recv fd=7 EPOLLIN 14 B  each line is an event
    event: line 'hello' from 127.0.0.1:44874
    event: line 'child 3' from 127.0.0.1:44874
    child 5952 started
    < recv fd=7 EPOLLIN 0 B  it says no more: close
    x close fd=7  closed
    event: end of 127.0.0.1:44874
    < signal fd=3 SIGCHLD  from the self-pipe
    event: SIGCHLD
    < waitid WNOHANG pid=5952 status=3  0 still run
    event: child 5952 exited 3
    ^C
    < signal fd=3 SIGINT  from the self-pipe
    event: SIGINT
"""

from __future__ import annotations

import argparse
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence

from aiolsp.blocking.mechanisms.acceptor import Acceptor
from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.blocking.mechanisms.timers import seconds_until
from aiolsp.cli import execute, program_parser, ready, say
from aiolsp.linux.children import Children, TooManyChildren
from aiolsp.linux.epoll_flags import flag_names
from aiolsp.linux.listener import Address, format_address, listen
from aiolsp.linux.signals import STOP
from aiolsp.sansio.events import LONGEST_LINE, MAX_CHILDREN, child_ended, child_wanted, line_came
from aiolsp.sansio.lines import LineSplitter, LineStatus
from aiolsp.tracing import trace

SIGNALS = (signal.SIGHUP, signal.SIGCHLD, *STOP)
"""Signals that are events."""

READ_SIZE = 64 * 1024
"""Bytes of one recv."""


class EventsServer:
    """Reports events on stdout: ``with EventsServer(signals, port=0) as server: server.run()``.

    *signals* must take SIGNALS. Raises ListenError if the port cannot be had.
    """

    def __init__(self, signals: SelfPipe, host: str = "127.0.0.1", port: int = 0) -> None:
        self.connections: dict[int, EventsConnection] = {}
        self.addresses: list[Address] = []
        self._signals = signals
        self._where = host, port

    def __enter__(self) -> EventsServer:
        listeners = listen(*self._where)
        self.addresses = [listener.getsockname() for listener in listeners]
        self._children = Children(MAX_CHILDREN)
        self.poller = select.epoll()
        self.poller.register(self._signals.fileno(), select.EPOLLIN)
        self._acceptor = Acceptor(listeners, self.poller, self.add)
        self._acceptor.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._acceptor.close()
        for connection in list(self.connections.values()):
            connection.abort()
        self.poller.close()
        self.reap()
        self._children.close()

    def run(self) -> None:
        """Report events until a signal ends it."""
        while True:
            for fd, events in self.poller.poll(seconds_until(self._acceptor.next_deadline())):
                if fd == self._signals.fileno():
                    for number in self._signals.receive():
                        self.signal_received(number)
                        if number in STOP:
                            return
                elif fd in self._acceptor:
                    self._acceptor.accept(fd)
                elif fd in self.connections:  # else an earlier event of this turn has closed it
                    self.connections[fd].ready(events)
            self._acceptor.tick(time.monotonic())

    def add(self, peer: socket.socket, address: Address) -> None:
        """A peer has connected."""
        connection = EventsConnection(self, peer, address)
        self.connections[connection.fd] = connection
        say(f"event: connection {connection.peer}")

    def discard(self, connection: EventsConnection) -> None:
        """The connection has ended, whoever ended it."""
        say(f"event: end of {connection.peer}")
        self.connections.pop(connection.fd, None)

    def signal_received(self, number: signal.Signals) -> None:
        """A signal has come."""
        say(f"event: {number.name}")
        if number == signal.SIGCHLD:
            self.reap()

    def line_received(self, peer: str, line: bytes) -> None:
        """A peer has sent a line."""
        say(line_came(peer, line))
        status = child_wanted(line)
        if status is not None:
            self.spawn(status)

    def spawn(self, status: int) -> None:
        """Start a child that exits with *status*; without one if the system or the bound refuses it."""
        try:
            pid = self._children.spawn(status)
        except (TooManyChildren, OSError) as error:
            say(f"no child: {error.strerror if isinstance(error, OSError) else error}")
        else:
            say(f"child {pid} started")

    def reap(self) -> None:
        """Ask each child whether it has ended: one SIGCHLD may stand for several."""
        for pid, status in self._children.reap():
            if trace.on:
                why = f"{len(self._children)} still run"
                trace.event("<", "waitid", flags="WNOHANG", pid=pid, status=status, why=why)
            say(child_ended(pid, status))


class EventsConnection:
    """One peer of the server."""

    def __init__(self, server: EventsServer, peer: socket.socket, address: Address) -> None:
        self._server = server
        self._lines = LineSplitter(LONGEST_LINE)
        self._socket = peer
        self.fd = peer.fileno()
        self.peer = format_address(address)
        server.poller.register(self.fd, select.EPOLLIN)

    def ready(self, events: int) -> None:
        """What epoll reported."""
        try:
            data = self._socket.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self.connection_lost(error)
            return
        if data:
            self.data_received(data, events)
        else:
            self.eof_received(events)

    def data_received(self, data: bytes, events: int) -> None:
        """Report each line that is whole."""
        if trace.on:
            trace.event("<", "recv", fd=self.fd, flags=flag_names(events), size=len(data), why="each line is an event")
        self._lines.feed(data)
        while (found := self._lines.next_line())[0] is LineStatus.OK:
            self._server.line_received(self.peer, found[1])

    def eof_received(self, events: int) -> None:
        """It says no more: a last line may lack its end; close."""
        if trace.on:
            trace.event("<", "recv", fd=self.fd, flags=flag_names(events), size=0, why="it says no more: close")
        if rest := self._lines.rest():
            self._server.line_received(self.peer, rest)
        self.abort()

    def connection_lost(self, error: OSError | None) -> None:
        """Close the socket."""
        if trace.on:
            trace.event("x", "close", fd=self.fd, why=error.strerror if error and error.strerror else "closed")
        self._server.discard(self)
        self._server.poller.unregister(self.fd)
        self._socket.close()

    def abort(self) -> None:
        """Close now."""
        self.connection_lost(None)


class EventsClient:
    """Sends lines to the server."""

    def __init__(self, host: str, port: int) -> None:
        self._where = host, port

    def tell(self, lines: list[str]) -> None:
        """Send *lines* and wait until the server has taken them and closed. Raises OSError."""
        with socket.create_connection(self._where) as connection:
            for line in lines:
                connection.sendall(encoded(line))
                say(f"sent {line}")
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(READ_SIZE):
                pass


def encoded(line: str) -> bytes:
    """The bytes of a line with its end."""
    return line.encode("utf-8", "surrogateescape") + b"\n"


def serve(options: argparse.Namespace) -> None:
    """The server, until SIGINT or SIGTERM."""
    with (
        SelfPipe(*SIGNALS) as signals,
        EventsServer(signals, options.host, options.port) as server,
    ):
        ready(server.addresses)
        server.run()


def talk(options: argparse.Namespace) -> None:
    """The client, until its lines are taken."""
    EventsClient(options.host, options.port).tell(options.lines)


ROLES = {"server": serve, "client": talk}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the role that the command line names; the exit status."""
    return execute(program_parser("events", blocking=True), argv, lambda options: ROLES[options.role](options))


if __name__ == "__main__":
    sys.exit(main())
