"""Loads on raw sockets: closed loops over one epoll, without an event loop's cost for each message.

Each load is opened with ``with``, asked for its figures taken once, then run as often as is wanted; a run ends when all
that it has begun is finished. What comes back is compared, not only counted.
"""

from __future__ import annotations

import select
import socket
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass
from time import monotonic_ns
from typing import Self

from load.server_process import ServerTrouble
from load.units import SECOND
from versus.outcome import Figures, Outcome
from versus.servers import SILENCE, Server, measured

READ_SIZE = 1 << 20

Lanes = dict[int, tuple[socket.socket, int, list[bytes]]]
"""By descriptor: the socket, when its exchange began, what has come."""

LOST = 0.5
"""Seconds after which a datagram without an echo counts as lost."""


class SocketLoad(ABC):
    """What the loads share: a server, an epoll, sockets that are closed at the end."""

    def __init__(self, server: Server, *, idle: int = 0) -> None:
        self._server = server
        self._idle = idle
        self._poller = select.epoll()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._poller.close()

    def once(self) -> Figures:
        """Memory for each of *idle* connections, if any are asked for."""
        return {"memory": self._server.memory_per_connection(self._idle)} if self._idle else {}

    @abstractmethod
    def run(self, seconds: float) -> Outcome:
        """See ``rounds.Load``."""

    def watch(self, peer: socket.socket) -> None:
        """Have *peer* reported when something comes; it is closed at the end if it is not closed before."""
        peer.setblocking(False)
        self._poller.register(peer, select.EPOLLIN)

    def wait(self) -> list[tuple[int, int]]:
        """What is ready. Raises ServerTrouble when nothing is for SILENCE seconds."""
        events = self._poller.poll(SILENCE)
        if not events:
            raise ServerTrouble(f"the server was silent for {SILENCE:g} s")
        return events


class PingPong(SocketLoad):
    """Connections on which the same message goes to and fro."""

    def __init__(self, server: Server, *, connections: int, message: bytes, idle: int = 0) -> None:
        super().__init__(server, idle=idle)
        self._message = message
        self._peers: dict[int, socket.socket] = {}
        self._connections = connections

    def run(self, seconds: float) -> Outcome:
        """A message on each connection, and the next as soon as it is back."""
        if not self._peers:
            self._open()
        with measured(self._server) as outcome:
            deadline = monotonic_ns() + round(seconds * SECOND)
            started = dict.fromkeys(self._peers, monotonic_ns())
            received: dict[int, bytes] = {}
            for peer in self._peers.values():
                self._send(peer)
            while started:
                for fd, _ in self.wait():
                    peer = self._peers[fd]
                    data = received.pop(fd, b"") + peer.recv(READ_SIZE)
                    if len(data) < len(self._message):
                        if not data or not self._message.startswith(data):
                            raise ServerTrouble("the server closed a connection")
                        received[fd] = data
                        continue
                    now = monotonic_ns()
                    self._settle(outcome, data, now - started[fd])
                    if now < deadline:
                        started[fd] = now
                        self._send(peer)
                    else:
                        del started[fd]
        return outcome

    def _open(self) -> None:
        for _ in range(self._connections):
            peer = self._stack.enter_context(self._server.connect())
            # A message must fit, or a short send would have to be carried on.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * len(self._message))
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.watch(peer)
            self._peers[peer.fileno()] = peer

    def _send(self, peer: socket.socket) -> None:
        if peer.send(self._message) < len(self._message):
            raise ServerTrouble("a message did not fit into the socket's buffer")

    def _settle(self, outcome: Outcome, data: bytes, latency: int) -> None:
        if data == self._message:
            outcome.units += 1
            outcome.done += 1
            outcome.latency.record(latency)
        else:
            outcome.fail("not the bytes that were sent")


class Datagrams(SocketLoad):
    """UDP sockets, a datagram under way on each."""

    def __init__(self, server: Server, *, sockets: int, message: bytes) -> None:
        super().__init__(server)
        self._message = message
        self._peers = {}
        for _ in range(sockets):
            peer = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            peer.connect(server.address)
            self.watch(peer)
            self._peers[peer.fileno()] = peer

    def run(self, seconds: float) -> Outcome:
        """A datagram on each socket, and the next when its echo is there; a lost one is counted, and ends its lane."""
        with measured(self._server) as outcome:
            deadline = monotonic_ns() + round(seconds * SECOND)
            started = dict.fromkeys(self._peers, monotonic_ns())
            for peer in self._peers.values():
                peer.send(self._message)
            while started:
                events = self._poller.poll(LOST)
                if not events:
                    for _ in started:
                        outcome.fail("a datagram without an echo")
                    break
                for fd, _ in events:
                    data, now = self._peers[fd].recv(READ_SIZE), monotonic_ns()
                    if data != self._message or fd not in started:
                        outcome.fail("not the datagram that was sent")
                        continue
                    outcome.units += 1
                    outcome.done += 1
                    outcome.latency.record(now - started[fd])
                    if now < deadline:
                        started[fd] = now
                        self._peers[fd].send(self._message)
                    else:
                        del started[fd]
        return outcome


@dataclass(frozen=True)
class Exchange:
    """What is said on a connection, whether the stream is ended then, and what must come back before it ends."""

    message: bytes
    answer: bytes
    half_close: bool = False


class Exchanges(SocketLoad):
    """A connection for each exchange: say something, end the stream if asked to, read to the end."""

    def __init__(self, server: Server, exchange: Exchange, *, lanes: int, idle: int = 0) -> None:
        super().__init__(server, idle=idle)
        self._exchange = exchange
        self._lanes = lanes

    def run(self, seconds: float) -> Outcome:
        """So many at a time, the next when one is over."""
        with measured(self._server) as outcome, ExitStack() as stack:
            deadline = monotonic_ns() + round(seconds * SECOND)
            lanes: Lanes = {}
            stack.callback(self._abandon, lanes)
            for _ in range(self._lanes):
                self._begin(lanes)
            while lanes:
                for fd, _ in self.wait():
                    peer, started, received = lanes[fd]
                    data = peer.recv(READ_SIZE)
                    if data:
                        received.append(data)
                        continue
                    del lanes[fd]
                    peer.close()
                    now = monotonic_ns()
                    self._settle(outcome, b"".join(received), now - started)
                    if now < deadline:
                        self._begin(lanes)
        return outcome

    def _begin(self, lanes: Lanes) -> None:
        started = monotonic_ns()
        peer = self._server.connect()
        lanes[peer.fileno()] = peer, started, []
        peer.sendall(self._exchange.message)
        if self._exchange.half_close:
            peer.shutdown(socket.SHUT_WR)
        self.watch(peer)

    def _abandon(self, lanes: Lanes) -> None:
        for peer, _, _ in lanes.values():
            peer.close()

    def _settle(self, outcome: Outcome, answer: bytes, latency: int) -> None:
        if answer == self._exchange.answer:
            outcome.units += 1
            outcome.latency.record(latency)
        else:
            outcome.fail(f"answered {answer[:60]!r}")
        outcome.done += 1
