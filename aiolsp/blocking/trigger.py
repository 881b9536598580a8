"""Count the wake-ups and calls that level and edge triggering need: the blocking twin of `aiolsp.trigger`.

Book p. 154, listing 9-3 (LT and ET).

Facts (tests/test_trigger.py; this kernel)
    - Level triggered (LT), a descriptor is reported by each epoll_wait(2) for as long as there is something to take.
    - Edge triggered (ET), it is reported when something *comes*, once for all that came before the wait. What is not
      taken then is not reported again until more comes (epoll(7), "Level-triggered and edge-triggered").
    - EPOLL_CTL_MOD reports a ready descriptor again, edge or not.
    - The readiness loop counts its own calls of epoll_wait: one may report many descriptors.
Consequence
    LT needs a wake-up for each read, and forgives a read that is left out. ET saves wake-ups, and must be drained:
    read until EAGAIN, accept until EAGAIN; the price of knowing is one more call, that EAGAIN.
Decision
    One epoll, with EPOLLET or without. LT reads once a wake-up, ET until EAGAIN; ``--broken`` reads once under ET.
    `Experiment` counts the six combinations, one by one.
    The drain has a budget: then epoll_ctl arms the descriptor again, and the others get their turn.
Price
    With large reads LT needs as few wake-ups as ET, and no EAGAIN: for whole requests ET gains nothing. The 10-byte
    buffer of the book makes the difference visible, not the program fast.

The C++ original watches its listener edge-triggered too, and accepts one connection an event; see ``matrix``.

A connection: ``watch -> ready* -> (end | abort)``.

``server --mode et --broken -v`` and ``client --bytes 24 -v``, as they ran:
    listening on 127.0.0.1:8154
    < accept fd=7 peer=127.0.0.1:46366
    < epoll_wait fd=7 EPOLLIN
    < recv fd=7 10 B  one read a wake-up: 14 B left
    127.0.0.1:46366 wake-up 1: 10 bytes in 1 recv, what is left waits for the next segment
    < epoll_wait fd=7 EPOLLIN
    < recv fd=7 10 B  one read a wake-up: 4 B left
    127.0.0.1:46366 wake-up 2: 10 bytes in 1 recv, what is left waits for the next segment
    < signal fd=3 SIGTERM  from the self-pipe
    x close fd=7  closed by the server, 4 bytes unread
    127.0.0.1:46366 closed by the server, 4 bytes unread: 20 bytes in 2 wake-ups: 2 recv, 0 EAGAIN
    all connections: 20 bytes in 2 wake-ups: 1 accept, 2 recv, 0 EAGAIN, 4 epoll_wait

    > sendall fd=3 24 B  in one go
    x shutdown fd=3  wait for the server to read to the end
    sent 24 bytes: after 2 s the server has not read to the end
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
from aiolsp.blocking.mechanisms.triggering import Experiment
from aiolsp.cli import UsageError, execute, program_parser, ready, say
from aiolsp.linux.epoll_flags import flag_names
from aiolsp.linux.listener import Address, format_address, listen
from aiolsp.linux.unread import unread
from aiolsp.sansio.trigger import (
    ALL_READ,
    BUDGET,
    END,
    LATER,
    PATIENCE,
    PAUSE,
    RESET,
    SCENARIOS,
    STUCK,
    Counts,
    Mode,
    Sizes,
    table,
)
from aiolsp.tracing import trace


class TriggerServer:
    """Reads and counts, on a port: ``with TriggerServer(port=0, mode="et") as server: server.run(signals)``.

    *broken* leaves out the draining that *mode* ``et`` needs. Raises ListenError if the port cannot be had.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, *, mode: Mode = "lt", buffer: int = 10, broken: bool = False
    ) -> None:
        self.connections: dict[int, TriggerConnection] = {}
        self.addresses: list[Address] = []
        self.counts = Counts(waits=0)
        self.mode = mode
        self.buffer = buffer
        self.drains = mode == "et" and not broken
        self._where = host, port

    def __enter__(self) -> TriggerServer:
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
        """Serve until a signal comes."""
        self.poller.register(signals.fileno(), select.EPOLLIN)
        while True:
            self.counts.waits = (self.counts.waits or 0) + 1
            for fd, events in self.poller.poll(seconds_until(self._acceptor.next_deadline())):
                if fd == signals.fileno():
                    if signals.receive():
                        return
                elif fd in self._acceptor:
                    self._acceptor.accept(fd)
                elif fd in self.connections:  # else an earlier event of this turn has closed it
                    self.connections[fd].ready(fd, events)
            self._acceptor.tick(time.monotonic())

    def watch(self, fd: int) -> None:
        """Have *fd* reported as the mode says."""
        self.poller.register(fd, select.EPOLLIN | (select.EPOLLET if self.mode == "et" else 0))

    def rearm(self, fd: int) -> None:
        """Report an edge-triggered *fd* again, since it was not drained."""
        self.poller.modify(fd, select.EPOLLIN | select.EPOLLET)

    def unwatch(self, fd: int) -> None:
        """The opposite of `watch`, before *fd* is closed."""
        self.poller.unregister(fd)

    def add(self, peer: socket.socket, address: Address) -> None:
        """A peer has connected."""
        self.counts.accepts += 1
        connection = TriggerConnection(self, peer, address)
        self.connections[connection.fd] = connection
        self.watch(connection.fd)

    def discard(self, connection: TriggerConnection) -> None:
        """The connection has ended, whoever ended it."""
        self.connections.pop(connection.fd, None)
        self.counts.add(connection.counts)


class TriggerConnection:
    """One peer of the server, and the counts of what its bytes needed."""

    def __init__(self, server: TriggerServer, peer: socket.socket, address: Address) -> None:
        self.counts = Counts()
        self._server = server
        self._socket = peer
        self.fd = peer.fileno()
        self.peer = format_address(address)

    def ready(self, fd: int, events: int) -> None:
        """A wake-up: one read, or as many as edge triggering demands."""
        if trace.on:
            trace.event("<", "epoll_wait", fd=fd, flags=flag_names(events))
        wakeup = Counts(wakeups=1)
        ending = self._read(wakeup)
        while self._server.drains and not ending and wakeup.reads < BUDGET:
            ending = self._read(wakeup)
        self.counts.add(wakeup)
        ending = ending or self._put_off()
        say(f"{self.peer} wake-up {self.counts.wakeups}: {wakeup.received} bytes in {wakeup.reads} recv, {ending}")
        if ending in (END, RESET):
            self._end(ending)

    def abort(self) -> None:
        """Close now."""
        self._end(f"closed by the server, {unread(self.fd)} bytes unread")

    def _read(self, counts: Counts) -> str:
        """One recv; why it must be the last one, or nothing if more may follow."""
        counts.reads += 1
        try:
            data = self._socket.recv(self._server.buffer)
        except BlockingIOError:
            counts.again += 1
            if trace.on:
                trace.event("=", "recv EAGAIN", fd=self.fd, why=LATER)
            return LATER
        except ConnectionError:
            return RESET
        counts.received += len(data)
        if trace.on:
            why = "drain until EAGAIN" if self._server.drains else f"one read a wake-up: {unread(self.fd)} B left"
            trace.event("<", "recv", fd=self.fd, size=len(data), why=why if data else END)
        return "" if data else END

    def _put_off(self) -> str:
        """Reading stopped before EAGAIN; what will report the rest."""
        if self._server.drains:
            self._server.rearm(self.fd)
            return "armed again, to give the others a turn"
        if self._server.mode == "lt":
            return "what is left is reported again"
        return "what is left waits for the next segment"

    def _end(self, why: str) -> None:
        self._server.discard(self)
        self._server.unwatch(self.fd)
        self._socket.close()
        if trace.on:
            trace.event("x", "close", fd=self.fd, why=why)
        say(f"{self.peer} {why}: {self.counts}")


class TriggerClient:
    """Sends bytes in one go, and waits for the server to read them."""

    def __init__(self, host: str, port: int) -> None:
        self._where = host, port

    def send(self, data: bytes) -> bool:
        """Whether the server has read to the end, and closed, within PATIENCE. Raises OSError."""
        with socket.create_connection(self._where) as connection:
            connection.sendall(data)
            if trace.on:
                trace.event(">", "sendall", fd=connection.fileno(), size=len(data), why="in one go")
            time.sleep(PAUSE)
            connection.shutdown(socket.SHUT_WR)
            if trace.on:
                trace.event("x", "shutdown", fd=connection.fileno(), why="wait for the server to read to the end")
            connection.settimeout(PATIENCE)
            try:
                connection.recv(1)
                return True
            except TimeoutError:
                return False


def sizes_of(options: argparse.Namespace) -> Sizes:
    """The sizes that the command line asks for. Raises UsageError."""
    try:
        return Sizes(options.connections, options.bytes, options.buffer)
    except ValueError as error:
        raise UsageError(str(error)) from None


def serve(options: argparse.Namespace) -> None:
    """The server, until SIGINT or SIGTERM."""
    if options.broken and options.mode == "lt":
        raise UsageError("--broken leaves out the draining that --mode et needs; level triggering needs none")
    server = TriggerServer(options.host, options.port, mode=options.mode, buffer=options.buffer, broken=options.broken)
    with SelfPipe(signal.SIGINT, signal.SIGTERM) as signals, server:
        ready(server.addresses)
        server.run(signals)
    say(f"all connections: {server.counts}")


def talk(options: argparse.Namespace) -> None:
    """The client, until the server has read everything, or has not."""
    took_all = TriggerClient(options.host, options.port).send(b"x" * options.bytes)
    say(f"sent {options.bytes} bytes: {ALL_READ if took_all else STUCK}")


def matrix(options: argparse.Namespace) -> None:
    """Every scenario, and the table of their counts."""
    sizes = sizes_of(options)
    outcomes = [Experiment(scenario, sizes, options.host).run() for scenario in SCENARIOS]
    say(table(str(sizes), outcomes))


ROLES = {"server": serve, "client": talk, "matrix": matrix}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the role that the command line names; the exit status."""
    return execute(program_parser("trigger", blocking=True), argv, lambda options: ROLES[options.role](options))


if __name__ == "__main__":
    sys.exit(main())
