"""Take signals as events among the socket events: SIGHUP, SIGCHLD, SIGTERM and SIGINT beside connections and lines.

Book p. 184, listing 10-1 (the unified event source).

Facts
    - A signal comes at any moment, between any two instructions; hardly any function may be called from its handler
      (signal-safety(7)).
    - Equal signals coalesce before anybody sees them: one SIGCHLD may stand for several children.
    - uvloop refuses a handler for SIGCHLD; the end of a child can be had from its pidfd (mechanisms/signals.py).
Consequence
    A signal must become one more descriptor that is ready, handled in the loop like all others; and SIGCHLD means "ask
    every child", not "one has ended".
Decision
    `SignalReceiver` makes the signals an async iterator. A line ``child N`` starts a child; on SIGCHLD each child of
    ours is asked by its pidfd, and reaped if it has ended.
Price
    A signal waits for the loop's turn, as every event does. A SIGCHLD sent by kill(1) is no event on uvloop, which only
    hears of the children named to it.

The C++ original takes SIGCHLD and reaps nobody: a child would stay a zombie. Its handler sends a byte into a socketpair
that may be full: a signal that finds no room is lost, SIGTERM too.

Calling sequence of a connection: ``connection_made -> data_received* -> eof_received? -> connection_lost``.

    $ python -m aiolsp.events server -v                $ python -m aiolsp.events client
    listening on 127.0.0.1:8184                        sent hello
    < accept fd=14 peer=127.0.0.1:44858                sent child 3
    event: connection 127.0.0.1:44858
    < data_received fd=14 14 B  each line is an event
    event: line 'hello' from 127.0.0.1:44858
    event: line 'child 3' from 127.0.0.1:44858
    = pidfd_open fd=17 pid=5899  readable when this child ends
    child 5899 started
    < eof_received fd=14  it says no more: close
    x connection_lost fd=14  closed
    event: end of 127.0.0.1:44858
    < signal SIGCHLD  as an event of the loop
    event: SIGCHLD
    < waitid WNOHANG pid=5899 status=3  0 still run
    event: child 5899 exited 3
    ^C
    < signal SIGINT  as an event of the loop
    event: SIGINT
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from typing import cast

from aiolsp.cli import execute, program_parser, ready, say
from aiolsp.linux.children import Children, TooManyChildren
from aiolsp.linux.listener import format_address, listen
from aiolsp.linux.signals import STOP
from aiolsp.mechanisms.loop import run
from aiolsp.mechanisms.server import StreamServer
from aiolsp.mechanisms.signals import SignalReceiver
from aiolsp.sansio.events import LONGEST_LINE, MAX_CHILDREN, child_ended, child_wanted, line_came
from aiolsp.sansio.lines import LineSplitter, LineStatus
from aiolsp.tracing import trace

SIGNALS = (signal.SIGHUP, signal.SIGCHLD, *STOP)
"""Signals that are events."""


class EventsServer(StreamServer["EventsConnection"]):
    """Reports events on stdout: ``async with EventsServer(signals, port=0) as server: await server.run()``.

    *signals* must take SIGNALS. Raises ListenError if the port cannot be had.
    """

    def __init__(self, signals: SignalReceiver, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(lambda: EventsConnection(self))
        self._signals = signals
        self._where = host, port

    async def __aenter__(self) -> EventsServer:
        self._children = Children(MAX_CHILDREN)
        self.open(listen(*self._where))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()
        self.reap()
        self._children.close()

    async def run(self) -> None:
        """Report events until a signal ends it."""
        async for number in self._signals:
            self.signal_received(number)
            if number in STOP:
                return

    def add(self, connection: EventsConnection) -> None:
        """A peer has connected."""
        super().add(connection)
        say(f"event: connection {connection.peer}")

    def discard(self, connection: EventsConnection) -> None:
        """The connection has ended, whoever ended it."""
        say(f"event: end of {connection.peer}")
        super().discard(connection)

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
            self._signals.watch_child(pid)
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


class EventsConnection(asyncio.Protocol):
    """One peer of the server."""

    def __init__(self, server: EventsServer) -> None:
        self._server = server
        self._lines = LineSplitter(LONGEST_LINE)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for lines."""
        self._transport = cast(asyncio.Transport, transport)
        self.fd = transport.get_extra_info("socket").fileno()
        self.peer = format_address(transport.get_extra_info("peername") or "")
        self._server.add(self)

    def data_received(self, data: bytes) -> None:
        """Report each line that is whole."""
        if trace.on:
            trace.event("<", "data_received", fd=self.fd, size=len(data), why="each line is an event")
        self._lines.feed(data)
        while (found := self._lines.next_line())[0] is LineStatus.OK:
            self._server.line_received(self.peer, found[1])

    def eof_received(self) -> None:
        """It says no more: a last line may lack its end; the transport closes."""
        if trace.on:
            trace.event("<", "eof_received", fd=self.fd, why="it says no more: close")
        if rest := self._lines.rest():
            self._server.line_received(self.peer, rest)

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport has closed the socket."""
        if trace.on:
            trace.event("x", "connection_lost", fd=self.fd, why=str(exc or "closed"))
        self._server.discard(self)

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()


class EventsClient:
    """Sends lines to the server."""

    def __init__(self, host: str, port: int) -> None:
        self._where = host, port

    async def tell(self, lines: list[str]) -> None:
        """Send *lines* and wait until the server has taken them and closed. Raises OSError."""
        reader, writer = await asyncio.open_connection(*self._where)
        try:
            for line in lines:
                writer.write(encoded(line))
                say(f"sent {line}")
            writer.write_eof()
            await reader.read()
        finally:
            writer.close()


def encoded(line: str) -> bytes:
    """The bytes of a line with its end."""
    return line.encode("utf-8", "surrogateescape") + b"\n"


async def serve(options: argparse.Namespace) -> None:
    """The server, until SIGINT or SIGTERM."""
    async with (
        SignalReceiver(*SIGNALS) as signals,
        EventsServer(signals, options.host, options.port) as server,
    ):
        ready(server.addresses)
        await server.run()


async def talk(options: argparse.Namespace) -> None:
    """The client, until its lines are taken."""
    await EventsClient(options.host, options.port).tell(options.lines)


ROLES = {"server": serve, "client": talk}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the role that the command line names; the exit status."""
    return execute(program_parser("events"), argv, lambda options: run(ROLES[options.role](options), loop=options.loop))


if __name__ == "__main__":
    sys.exit(main())
