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
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import partial

from aiolsp.cli import UsageError, execute, program_parser, ready, say
from aiolsp.linux.epoll_flags import flag_names
from aiolsp.linux.listener import Address, format_address, listen
from aiolsp.linux.unread import unread
from aiolsp.mechanisms.acceptor import Acceptor
from aiolsp.mechanisms.epoll import EpollWatcher
from aiolsp.mechanisms.loop import run
from aiolsp.mechanisms.signals import SignalReceiver
from aiolsp.sansio.trigger import SCENARIOS, Counts, Mode, Outcome, Scenario, Sizes, table
from aiolsp.tracing import trace

BUDGET = 64
"""Reads of one wake-up under edge triggering: then the others get a turn, or a peer that floods would keep the loop."""

PAUSE = 0.2
"""Seconds between the client's bytes and its end of stream, so that the end is an event of its own."""

PATIENCE = 2.0
"""Seconds that the client waits for the server to read to the end: a server that drains needs milliseconds."""

ALL_READ = "the server has read to the end"
STUCK = f"after {PATIENCE:g} s the server has not read to the end"

QUIET = 0.5
"""Seconds without a wake-up after which a scenario of the matrix has come to rest; all it waits for is there before."""

END, RESET = "end of stream", "reset by the peer"
LATER = "read later"
"""EAGAIN: the next segment is the next edge."""


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
        self.mode, self.buffer = mode, buffer
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
        self._server, self._socket = server, peer
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


class Experiment:
    """One scenario of the matrix, with clients of its own: ``await Experiment(scenario, sizes, host).run()``."""

    def __init__(self, scenario: Scenario, sizes: Sizes, host: str) -> None:
        self._scenario, self._sizes, self._host = scenario, sizes, host
        self._counts, self._done = Counts(), 0
        self._total = sizes.total(scenario.watched)
        self._step = self._accept if scenario.watched == "listener" else self._read
        self._drains = scenario.mode == "et" and not scenario.broken
        self._woken = asyncio.Event()
        self._failure: OSError | None = None

    async def run(self) -> Outcome:
        """Let everything arrive, watch it, and count until all is done or nothing more is reported. Raises OSError."""
        with ExitStack() as self._stack:
            listener, *_ = [self._stack.enter_context(each) for each in listen(self._host, 0)]
            clients = [await self._connect(listener) for _ in range(self._sizes.connections)]
            watched = [listener]
            if self._scenario.watched == "connection":
                watched = [await self._receiver(listener) for _ in clients]
                for client in clients:
                    await asyncio.get_running_loop().sock_sendall(client, b"x" * self._sizes.bytes)
            self._watch(watched)
            await self._come_to_rest()
        return Outcome(self._scenario, self._counts, self._total, self._done)

    async def _connect(self, listener: socket.socket) -> socket.socket:
        client = self._stack.enter_context(socket.socket(listener.family))
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, listener.getsockname())
        return client

    async def _receiver(self, listener: socket.socket) -> socket.socket:
        connection, _ = await asyncio.get_running_loop().sock_accept(listener)
        return self._stack.enter_context(connection)

    def _watch(self, watched: Iterable[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        watcher = self._stack.enter_context(EpollWatcher())
        for each in watched:
            if self._scenario.mode == "et":
                watcher.add(each.fileno(), select.EPOLLIN | select.EPOLLET, partial(self._ready, each))
            else:
                loop.add_reader(each.fileno(), self._ready, each, each.fileno(), select.EPOLLIN)
                self._stack.callback(loop.remove_reader, each.fileno())

    async def _come_to_rest(self) -> None:
        while self._done < self._total:
            self._woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(QUIET):
                    await self._woken.wait()
            if self._failure is not None:
                raise self._failure
            if not self._woken.is_set():
                return

    def _ready(self, each: socket.socket, fd: int, events: int) -> None:
        self._counts.wakeups += 1
        self._woken.set()
        try:
            self._step(each)
            while self._drains:
                self._step(each)
        except BlockingIOError:
            self._counts.again += 1
        except OSError as error:
            self._failure = error

    def _accept(self, listener: socket.socket) -> None:
        self._counts.accepts += 1
        self._stack.enter_context(listener.accept()[0])
        self._done += 1

    def _read(self, connection: socket.socket) -> None:
        self._counts.reads += 1
        data = connection.recv(self._sizes.buffer)
        self._counts.received += len(data)
        self._done += len(data)


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
