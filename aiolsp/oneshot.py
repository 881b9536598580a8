"""Let one thread at a time serve a socket.

Book p. 157, listing 9-4 (EPOLLONESHOT).

Facts (tests/test_oneshot.py; this kernel)
    - Edge triggering reports a socket once for what has come, and again when more comes, whoever is still busy with the
      first: with worker threads, two are then on one socket, and the order of its bytes is lost.
    - EPOLLONESHOT takes a socket's events away as it reports one; EPOLL_CTL_MOD gives them back, from any thread, and
      reports at once what came meanwhile. So nothing is lost between the last EAGAIN and the re-arming.
    - The re-armed socket can be with another worker before the call that re-armed it has returned.
    - A thread that sleeps cannot be told to stop; one in poll(2) can, by an eventfd that nobody reads.
Consequence
    A worker owns its socket from the report to the re-arming, without a lock; re-arming must be the last thing it does
    with it. What a worker waits for must include the peer's end and the server's stop.
Decision
    `EpollWatcher` gives EPOLLONESHOT on any loop; the loop's thread hands each report to a `HalfSyncPool`, whose
    queue is bounded. Workers re-arm by themselves; closing is the loop's, when the last worker has let go.
    The worker reads until EAGAIN, waits ``--wait`` for more, reads again, and lets go when nothing came. The wait is a
    poll of the socket for POLLRDHUP and of the server's eventfd. ``--broken`` leaves EPOLLONESHOT out, nothing else.
Price
    One epoll_ctl for each time a socket changes hands. A socket that keeps talking keeps its worker: as many talkers as
    ``--threads`` make the others wait in a queue; when that is full too, a socket is closed and a line logged.

The C++ original hands each new thread a pointer into a stack frame that is gone when the thread reads it, and makes a
thread for each event, without bound.

A connection: ``(ready -> work)* -> close``; a worker: ``has the socket -> (recv | wait)* -> re-arm | end``.

``server --wait 0.2 -v`` and ``client --bursts 2 --every 0.5 -v``, as they ran:
    listening on 127.0.0.1:8157
    < accept fd=15 peer=127.0.0.1:53092
    = epoll_ctl ADD fd=15 EPOLLIN|EPOLLONESHOT|EPOLLET
    < epoll_wait fd=15 EPOLLIN
    127.0.0.1:53092 worker-0 has the socket
    [worker-0] < recv fd=15 8 B  read until EAGAIN
    127.0.0.1:53092 worker-0 read 8 bytes b'burst 1\n'
    [worker-0] = recv EAGAIN fd=15  wait 0.2 s for more
    [worker-0] - recv EAGAIN fd=15  read later: nothing came, let the socket go
    127.0.0.1:53092 worker-0 lets the socket go, silent for 0.2 s
    [worker-0] = epoll_ctl MOD fd=15 EPOLLIN|EPOLLONESHOT|EPOLLET  armed again
    < epoll_wait fd=15 EPOLLIN
    127.0.0.1:53092 worker-0 has the socket
    [worker-0] < recv fd=15 8 B  read until EAGAIN
    127.0.0.1:53092 worker-0 read 8 bytes b'burst 2\n'
    ...
    127.0.0.1:53092 worker-0 has the socket
    [worker-0] < recv fd=15 0 B  end of stream
    = epoll_ctl DEL fd=15
    x close fd=15  end of stream
    127.0.0.1:53092 end of stream after 16 bytes, at most 1 thread at a time
    < signal SIGTERM  as an event of the loop

    > write 8 B
    sent burst 1
    > write 8 B
    sent burst 2
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Sequence

from aiolsp.cli import execute, program_parser, ready, say
from aiolsp.linux.listener import Address, format_address, listen
from aiolsp.linux.worker_hold import WorkerHold
from aiolsp.mechanisms.acceptor import Acceptor
from aiolsp.mechanisms.epoll import EpollWatcher
from aiolsp.mechanisms.loop import run
from aiolsp.mechanisms.signals import SignalReceiver
from aiolsp.mechanisms.threads import HalfSyncPool, QueueFull
from aiolsp.tracing import trace

log = logging.getLogger("aiolsp.oneshot")

WAITING = 1000
"""Sockets that may wait for a worker; one more is closed, rather than let the queue grow."""


class OneshotServer:
    """Reads by worker threads, on a port: ``async with OneshotServer(port=0) as server: server.addresses``.

    A worker keeps its socket until nothing came for *wait* seconds. *broken* leaves EPOLLONESHOT out. Raises
    ListenError if the port cannot be had.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, *, wait: float = 5.0, threads: int = 8, broken: bool = False
    ) -> None:
        self.connections: dict[int, OneshotConnection] = {}
        self.addresses: list[Address] = []
        self.wait = wait
        self.threads = threads
        self.broken = broken
        self.flags = select.EPOLLIN | select.EPOLLET | (0 if broken else select.EPOLLONESHOT)
        self.stopping = False
        self._lock = threading.Lock()
        self._where = host, port

    async def __aenter__(self) -> OneshotServer:
        listeners = listen(*self._where)
        self.addresses = [listener.getsockname() for listener in listeners]
        self.stop = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.pool = HalfSyncPool(self.threads, WAITING, name="worker")
        self.watcher = EpollWatcher()
        self._acceptor = Acceptor(listeners, self._take_over)
        self._acceptor.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._acceptor.close()
        self.stopping = True
        os.eventfd_write(self.stop, 1)  # never read: it wakes every worker that waits, now or later
        await self.pool.close()
        for connection in list(self.connections.values()):
            connection.close("closed by the server")
        self.watcher.close()
        os.close(self.stop)

    def add(self, peer: socket.socket, address: Address) -> None:
        """A peer has connected."""
        connection = OneshotConnection(self, peer, address)
        self.connections[connection.fd] = connection
        self.watcher.add(connection.fd, self.flags, connection.ready)

    def rearm(self, fd: int) -> None:
        """From a worker: report *fd* again when something comes, and at once if something is there."""
        self.watcher.rearm(fd, self.flags)

    def discard(self, connection: OneshotConnection) -> None:
        """The connection has ended, whoever ended it; nobody holds it any more."""
        self.connections.pop(connection.fd, None)
        self.watcher.remove(connection.fd)

    def tell(self, line: str) -> None:
        """Print a line, from any thread, and whole."""
        with self._lock:
            say(line)

    def _take_over(self, peer: socket.socket, address: Address) -> None:
        # A transport reads on the loop's thread. Detached, the socket is ours, and Acceptor closes an empty one.
        peer.setblocking(False)
        self.add(socket.socket(fileno=peer.detach()), address)


class OneshotConnection:
    """One peer of the server, and the threads that hold its socket.

    `ready` and `close` are called on the loop's thread, `work` on a worker.
    """

    def __init__(self, server: OneshotServer, peer: socket.socket, address: Address) -> None:
        self._server = server
        self._socket = peer
        self._jobs = 0
        self._ended = ""
        self.fd = peer.fileno()
        self.peer = format_address(address)
        self._held = WorkerHold(server, peer, self.peer)

    def ready(self, fd: int, events: int) -> None:
        """Something came: give the socket to a worker."""
        if self._ended or self._server.stopping or (self._server.broken and self._jobs >= self._server.threads):
            return  # it is being closed; or, without EPOLLONESHOT, a worker for each segment would fill the queue
        try:
            self._server.pool.submit(self.work).add_done_callback(self._done)
            self._jobs += 1
        except QueueFull as error:
            log.warning("%s is closed: %s", self.peer, error)
            self._ended = "closed for want of a worker"
            self._close_if_free()

    def work(self) -> None:
        """On a worker: read until nothing more came for a while, then have the socket reported again."""
        ending = self._held.read_on()
        if ending:
            self._ended = ending
        elif not self._server.broken and not self._server.stopping:
            self._server.rearm(self.fd)  # the last thing: another worker may have the socket before this line ends

    def close(self, why: str) -> None:
        """Close the socket, unless it is closed; nobody must hold it."""
        if self._socket.fileno() < 0:
            return
        self._server.discard(self)
        self._socket.close()
        if trace.on:
            trace.event("x", "close", fd=self.fd, why=why)
        most = self._held.most
        threads = "1 thread" if most <= 1 else f"{most} threads"
        self._server.tell(f"{self.peer} {why} after {self._held.received} bytes, at most {threads} at a time")

    def _done(self, job: asyncio.Future[None]) -> None:
        self._jobs -= 1
        if not job.cancelled():  # cancelled: the server stops, and closes what is left
            job.result()
            self._close_if_free()

    def _close_if_free(self) -> None:
        if self._ended and not self._jobs:
            self.close(self._ended)


class OneshotClient:
    """Sends bursts to the server, with pauses in which its worker waits."""

    def __init__(self, host: str, port: int) -> None:
        self._where = host, port

    async def send(self, bursts: int, every: float) -> None:
        """Send *bursts* lines, one each *every* seconds, and return when the server has closed. Raises OSError."""
        reader, writer = await asyncio.open_connection(*self._where)
        try:
            for number in range(1, bursts + 1):
                burst = f"burst {number}\n".encode()
                writer.write(burst)
                await writer.drain()
                if trace.on:
                    trace.event(">", "write", size=len(burst))
                say(f"sent burst {number}")
                await asyncio.sleep(every)
            writer.write_eof()
            await reader.read()
        finally:
            writer.close()


async def serve(options: argparse.Namespace) -> None:
    """The server, until SIGINT or SIGTERM."""
    server = OneshotServer(
        options.host, options.port, wait=options.wait, threads=options.threads, broken=options.broken
    )
    async with SignalReceiver(signal.SIGINT, signal.SIGTERM) as signals, server:
        ready(server.addresses)
        await anext(signals)


async def talk(options: argparse.Namespace) -> None:
    """The client, until the server has read everything."""
    await OneshotClient(options.host, options.port).send(options.bursts, options.every)


ROLES = {"server": serve, "client": talk}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the role that the command line names; the exit status."""
    return execute(
        program_parser("oneshot"), argv, lambda options: run(ROLES[options.role](options), loop=options.loop)
    )


if __name__ == "__main__":
    sys.exit(main())
