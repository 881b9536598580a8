"""Let one thread at a time serve a socket: the blocking twin of `aiolsp.oneshot`.

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
    One epoll with EPOLLONESHOT; the thread of the readiness loop hands each report to a `HalfSyncPool`, the book's pool
    with a bounded queue. Workers re-arm and close by themselves, the last one that lets go.
    The worker reads until EAGAIN, waits ``--wait`` for more, reads again, and lets go when nothing came. The wait is a
    poll of the socket for POLLRDHUP and of the server's eventfd. ``--broken`` leaves EPOLLONESHOT out, nothing else.
Price
    One epoll_ctl for each time a socket changes hands. A socket that keeps talking keeps its worker: as many talkers as
    ``--threads`` make the others wait in a queue; when that is full too, a socket is closed and a line logged.

The C++ original hands each new thread a pointer into a stack frame that is gone when the thread reads it, and makes a
thread for each event, without bound.

A connection: ``(ready -> work)* -> close``; a worker: ``has the socket -> (recv | wait)* -> re-arm | end``.

``server --broken -v`` and ``client --bursts 2 --every 0.5 -v``, as they ran:
    listening on 127.0.0.1:8157
    < accept fd=8 peer=127.0.0.1:53094
    < epoll_wait fd=8 EPOLLIN
    127.0.0.1:53094 worker-0 has the socket
    [worker-0] < recv fd=8 8 B  read until EAGAIN
    127.0.0.1:53094 worker-0 read 8 bytes b'burst 1\n'
    [worker-0] = recv EAGAIN fd=8  wait 5 s for more
    < epoll_wait fd=8 EPOLLIN
    127.0.0.1:53094 worker-0 and worker-1 have the socket at the same time
    [worker-1] < recv fd=8 8 B  read until EAGAIN
    127.0.0.1:53094 worker-1 read 8 bytes b'burst 2\n'
    [worker-1] = recv EAGAIN fd=8  wait 5 s for more
    [worker-1] < recv fd=8 0 B  end of stream
    [worker-0] < recv fd=8 0 B  end of stream
    [worker-0] x close fd=8  end of stream
    127.0.0.1:53094 end of stream after 16 bytes, at most 2 threads at a time
    < signal fd=3 SIGTERM  from the self-pipe

    > sendall fd=3 8 B
    sent burst 1
    > sendall fd=3 8 B
    sent burst 2
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence

from aiolsp.blocking.mechanisms.acceptor import Acceptor
from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.blocking.mechanisms.threads import HalfSyncPool, QueueFull
from aiolsp.blocking.mechanisms.timers import seconds_until
from aiolsp.cli import execute, program_parser, ready, say
from aiolsp.linux.epoll_flags import flag_names
from aiolsp.linux.listener import Address, format_address, listen
from aiolsp.linux.worker_hold import WorkerHold
from aiolsp.tracing import trace

log = logging.getLogger("aiolsp.oneshot")

WAITING = 1000
"""Sockets that may wait for a worker; one more is closed, rather than let the queue grow."""


class OneshotServer:
    """Reads by worker threads, on a port: ``with OneshotServer(port=0) as server: server.run(signals)``.

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

    def __enter__(self) -> OneshotServer:
        listeners = listen(*self._where)
        self.addresses = [listener.getsockname() for listener in listeners]
        self.stop = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.pool = HalfSyncPool(self.threads, WAITING, name="worker")
        self.poller = select.epoll()
        self._acceptor = Acceptor(listeners, self.poller, self.add)
        self._acceptor.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._acceptor.close()
        self.stopping = True
        os.eventfd_write(self.stop, 1)  # never read: it wakes every worker that waits, now or later
        self.pool.close()
        for connection in list(self.connections.values()):
            connection.close("closed by the server")
        self.poller.close()
        os.close(self.stop)

    def run(self, signals: SelfPipe) -> None:
        """Serve until a signal comes."""
        self.poller.register(signals.fileno(), select.EPOLLIN)
        while True:
            for fd, events in self.poller.poll(seconds_until(self._acceptor.next_deadline())):
                if fd == signals.fileno():
                    if signals.receive():
                        return
                elif fd in self._acceptor:
                    self._acceptor.accept(fd)
                elif connection := self.connections.get(fd):  # else a worker has closed it meanwhile
                    connection.ready(fd, events)
            self._acceptor.tick(time.monotonic())

    def add(self, peer: socket.socket, address: Address) -> None:
        """A peer has connected."""
        connection = OneshotConnection(self, peer, address)
        self.connections[connection.fd] = connection
        self.poller.register(connection.fd, self.flags)

    def rearm(self, fd: int) -> None:
        """From a worker: report *fd* again when something comes, and at once if something is there."""
        if trace.on:
            trace.event("=", "epoll_ctl MOD", fd=fd, flags=flag_names(self.flags), why="armed again")
        self.poller.modify(fd, self.flags)

    def discard(self, connection: OneshotConnection) -> None:
        """The connection has ended, whoever ended it; nobody holds it any more."""
        self.connections.pop(connection.fd, None)
        self.poller.unregister(connection.fd)

    def tell(self, line: str) -> None:
        """Print a line, from any thread, and whole."""
        with self._lock:
            say(line)


class OneshotConnection:
    """One peer of the server, and the threads that hold its socket.

    `ready` is called on the thread of the readiness loop, `work` on a worker; either may be the one that closes.
    """

    def __init__(self, server: OneshotServer, peer: socket.socket, address: Address) -> None:
        self._server = server
        self._socket = peer
        self._jobs = 0
        self._ended = ""
        self._lock = threading.Lock()
        self.fd = peer.fileno()
        self.peer = format_address(address)
        self._held = WorkerHold(server, peer, self.peer)

    def ready(self, fd: int, events: int) -> None:
        """Something came: give the socket to a worker."""
        if trace.on:
            trace.event("<", "epoll_wait", fd=fd, flags=flag_names(events))
        with self._lock:
            if self._ended or (self._server.broken and self._jobs >= self._server.threads):
                return  # without EPOLLONESHOT: it is being closed, or a worker for each segment would fill the queue
            try:
                self._server.pool.submit(self._job)
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

    def _job(self) -> None:
        self.work()
        with self._lock:
            self._jobs -= 1
            self._close_if_free()

    def _close_if_free(self) -> None:
        if self._ended and not self._jobs:
            self.close(self._ended)


class OneshotClient:
    """Sends bursts to the server, with pauses in which its worker waits."""

    def __init__(self, host: str, port: int) -> None:
        self._where = host, port

    def send(self, bursts: int, every: float) -> None:
        """Send *bursts* lines, one each *every* seconds, and return when the server has closed. Raises OSError."""
        with socket.create_connection(self._where) as connection:
            for number in range(1, bursts + 1):
                burst = f"burst {number}\n".encode()
                connection.sendall(burst)
                if trace.on:
                    trace.event(">", "sendall", fd=connection.fileno(), size=len(burst))
                say(f"sent burst {number}")
                time.sleep(every)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)


def serve(options: argparse.Namespace) -> None:
    """The server, until SIGINT or SIGTERM."""
    server = OneshotServer(
        options.host, options.port, wait=options.wait, threads=options.threads, broken=options.broken
    )
    with SelfPipe(signal.SIGINT, signal.SIGTERM) as signals, server:
        ready(server.addresses)
        server.run(signals)


def talk(options: argparse.Namespace) -> None:
    """The client, until the server has read everything."""
    OneshotClient(options.host, options.port).send(options.bursts, options.every)


ROLES = {"server": serve, "client": talk}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the role that the command line names; the exit status."""
    return execute(program_parser("oneshot", blocking=True), argv, lambda options: ROLES[options.role](options))


if __name__ == "__main__":
    sys.exit(main())
