"""Count the wake-ups and calls that level and edge triggering need.

Book p. 154, listing 9-3 (LT and ET).

Facts (tests/test_trigger.py; this kernel)
    - Level triggered (LT), a descriptor is reported by each epoll_wait(2) for as long as there is something to take.
    - Edge triggered (ET), it is reported when something *comes*, once for all that came before the wait. What is not
      taken then is not reported again until more comes (epoll(7), "Level-triggered and edge-triggered").
    - EPOLL_CTL_MOD reports a ready descriptor again, edge or not.
    - ``loop.add_reader`` is LT on every loop; a private epoll below it gives ET. The loop's own calls are not counted.
    - Once a socket is in error (EPOLLERR), uvloop calls its reader a last time and watches it no longer.
Consequence
    LT needs a wake-up for each read, and forgives a read that is left out. ET saves wake-ups, and must be drained:
    read until EAGAIN, accept until EAGAIN; the price of knowing is one more call, that EAGAIN.
Decision
    LT by ``loop.add_reader``, one read a wake-up. ET by `EpollWatcher`, reading until EAGAIN; ``--broken`` reads once.
    Sockets are our own, since a transport reads by itself. `Experiment` counts the six combinations, one by one.
    The drain has a budget: then epoll_ctl arms the descriptor again, and the others get their turn.
Price
    With large reads LT needs as few wake-ups as ET, and no EAGAIN: for whole requests ET gains nothing. The 10-byte
    buffer of the book makes the difference visible, not the program fast.

The C++ original watches its listener edge-triggered too, and accepts one connection an event: ``ET broken`` below.

A connection: ``watch -> ready* -> (end | abort)``.

``matrix``, as it ran:
    20 connections, 54 bytes on each, 10 bytes a read

    watched     trigger    wake-ups  epoll_wait  accept  recv  EAGAIN  done  left
    listener    LT               20           -      20     0       0    20     0
        one accept a wake-up is enough: while connections wait, it is reported again
    listener    ET                1           -      21     0       1    20     0
        one report for all that came before it, so accept until EAGAIN
    listener    ET broken         1           -       1     0       0     1    19
        one accept for that one report: the others wait, and a newcomer frees only one of them
    connection  LT              120           -       0   120       0  1080     0
        one recv a wake-up is enough: while bytes wait, it is reported again
    connection  ET               20           -       0   140      20  1080     0
        one report for all bytes that came before it, so recv until EAGAIN
    connection  ET broken        20           -       0    20       0   200   880
        one recv for that one report: the rest is stuck until more bytes arrive

    -  called by the event loop, which does not tell how often

``server --mode et -v`` and ``client --bytes 24 -v``, as they ran:
    < accept fd=15 peer=127.0.0.1:46340
    = epoll_ctl ADD fd=15 EPOLLIN|EPOLLET
    < epoll_wait fd=15 EPOLLIN
    < recv fd=15 10 B  drain until EAGAIN
    < recv fd=15 10 B  drain until EAGAIN
    < recv fd=15 4 B  drain until EAGAIN
    = recv EAGAIN fd=15  read later
    127.0.0.1:46340 wake-up 1: 24 bytes in 4 recv, read later
    < epoll_wait fd=15 EPOLLIN
    < recv fd=15 0 B  end of stream
    127.0.0.1:46340 wake-up 2: 0 bytes in 1 recv, end of stream
    x close fd=15  end of stream
    127.0.0.1:46340 end of stream: 24 bytes in 2 wake-ups: 5 recv, 1 EAGAIN

    > write 24 B  in one go
    x write_eof  wait for the server to read to the end
    sent 24 bytes: the server has read to the end
"""

from __future__ import annotations

import argparse
import asyncio
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence

from aiolsp.cli import UsageError, execute, program_parser, ready, say
from aiolsp.linux.epoll_flags import flag_names
from aiolsp.linux.listener import Address, format_address, listen
from aiolsp.linux.unread import unread
from aiolsp.mechanisms.acceptor import Acceptor
from aiolsp.mechanisms.epoll import EpollWatcher
from aiolsp.mechanisms.loop import run
from aiolsp.mechanisms.signals import SignalReceiver
from aiolsp.mechanisms.triggering import Experiment
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
    """Reads and counts, on a port: ``async with TriggerServer(port=0, mode="et") as server: server.addresses``.

    *broken* leaves out the draining that *mode* ``et`` needs. Raises ListenError if the port cannot be had.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, *, mode: Mode = "lt", buffer: int = 10, broken: bool = False
    ) -> None:
        self.connections: dict[int, TriggerConnection] = {}
        self.addresses: list[Address] = []
        self.counts = Counts()
        self.mode = mode
        self.buffer = buffer
        self.drains = mode == "et" and not broken
        self._where = host, port

    async def __aenter__(self) -> TriggerServer:
        listeners = listen(*self._where)
        self.addresses = [listener.getsockname() for listener in listeners]
        self.watcher = EpollWatcher()
        self._acceptor = Acceptor(listeners, self._take_over)
        self._acceptor.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._acceptor.close()
        for connection in list(self.connections.values()):
            connection.abort()
        self.watcher.close()

    def watch(self, fd: int, callback: Callable[[int, int], None]) -> None:
        """Have *callback* called as the mode says."""
        if self.mode == "et":
            self.watcher.add(fd, select.EPOLLIN | select.EPOLLET, callback)
        else:
            asyncio.get_running_loop().add_reader(fd, callback, fd, select.EPOLLIN)

    def rearm(self, fd: int) -> None:
        """Report an edge-triggered *fd* again, since it was not drained."""
        self.watcher.modify(fd, select.EPOLLIN | select.EPOLLET)

    def unwatch(self, fd: int) -> None:
        """The opposite of `watch`, before *fd* is closed."""
        if self.mode == "et":
            self.watcher.remove(fd)
        else:
            asyncio.get_running_loop().remove_reader(fd)

    def add(self, peer: socket.socket, address: Address) -> None:
        """A peer has connected."""
        self.counts.accepts += 1
        connection = TriggerConnection(self, peer, address)
        self.connections[connection.fd] = connection
        self.watch(connection.fd, connection.ready)

    def discard(self, connection: TriggerConnection) -> None:
        """The connection has ended, whoever ended it."""
        self.connections.pop(connection.fd, None)
        self.counts.add(connection.counts)

    def _take_over(self, peer: socket.socket, address: Address) -> None:
        # A transport reads by itself and uncounted. Detached, the socket is ours, and Acceptor closes an empty one.
        peer.setblocking(False)
        self.add(socket.socket(fileno=peer.detach()), address)


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
        if trace.on and self._server.mode == "lt":  # an edge is traced by the watcher
            trace.event("<", "add_reader", fd=fd, flags=flag_names(events))
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
            errors = select.poll()
            errors.register(self.fd, 0)
            if errors.poll(0):
                self._server.unwatch(self.fd)  # uvloop has done so already
                self._server.watch(self.fd, self.ready)
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

    async def send(self, data: bytes) -> bool:
        """Whether the server has read to the end, and closed, within PATIENCE. Raises OSError."""
        reader, writer = await asyncio.open_connection(*self._where)
        try:
            writer.write(data)
            await writer.drain()
            if trace.on:
                trace.event(">", "write", size=len(data), why="in one go")
            await asyncio.sleep(PAUSE)
            writer.write_eof()
            if trace.on:
                trace.event("x", "write_eof", why="wait for the server to read to the end")
            async with asyncio.timeout(PATIENCE):
                await reader.read()
            return True
        except TimeoutError:
            return False
        finally:
            writer.close()


def sizes_of(options: argparse.Namespace) -> Sizes:
    """The sizes that the command line asks for. Raises UsageError."""
    try:
        return Sizes(options.connections, options.bytes, options.buffer)
    except ValueError as error:
        raise UsageError(str(error)) from None


async def serve(options: argparse.Namespace) -> None:
    """The server, until SIGINT or SIGTERM."""
    if options.broken and options.mode == "lt":
        raise UsageError("--broken leaves out the draining that --mode et needs; level triggering needs none")
    server = TriggerServer(options.host, options.port, mode=options.mode, buffer=options.buffer, broken=options.broken)
    async with SignalReceiver(signal.SIGINT, signal.SIGTERM) as signals, server:
        ready(server.addresses)
        await anext(signals)
    say(f"all connections: {server.counts}")


async def talk(options: argparse.Namespace) -> None:
    """The client, until the server has read everything, or has not."""
    took_all = await TriggerClient(options.host, options.port).send(b"x" * options.bytes)
    say(f"sent {options.bytes} bytes: {ALL_READ if took_all else STUCK}")


async def matrix(options: argparse.Namespace) -> None:
    """Every scenario, and the table of their counts."""
    sizes = sizes_of(options)
    outcomes = [await Experiment(scenario, sizes, options.host).run() for scenario in SCENARIOS]
    say(table(str(sizes), outcomes))


ROLES = {"server": serve, "client": talk, "matrix": matrix}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the role that the command line names; the exit status."""
    return execute(
        program_parser("trigger"), argv, lambda options: run(ROLES[options.role](options), loop=options.loop)
    )


if __name__ == "__main__":
    sys.exit(main())
