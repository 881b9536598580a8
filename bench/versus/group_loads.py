"""Loads that need more than a lane: a chat room, a stream with counts of the server's own, timers that expire."""

from __future__ import annotations

import re
import resource
import socket
import time
from collections import deque
from contextlib import suppress
from time import monotonic_ns

from load.server_process import LOOK, PATIENCE, ServerTrouble
from load.units import SECOND
from versus.loads import READ_SIZE, SocketLoad
from versus.outcome import Figures, Outcome
from versus.servers import SILENCE, Server, measured

MIB = 1 << 20

LINE = b"a line of sixty-four bytes, as people say them, more or less ..\n"


class Fanout(SocketLoad):
    """A chat room: some members speak at once, and all others hear each of them.

    A burst is over when the last member has heard the last line of it; that is the latency. A unit is a delivery.
    """

    def __init__(self, server: Server, *, members: int, speakers: int) -> None:
        super().__init__(server)
        self._size = members
        self._speakers = speakers
        self._members: deque[socket.socket] = deque()

    def once(self) -> Figures:
        """Memory for each member: of all of them, who stay."""
        self._join()
        before = self._server.memory()
        while len(self._members) < self._size:
            self._join()
        return {"memory": max(self._server.memory() - before, 0) / max(self._size - 1, 1)}

    def run(self, seconds: float) -> Outcome:
        """Bursts, the next when one is over, each by the members whose turn it is."""
        with measured(self._server) as outcome:
            deadline = monotonic_ns() + round(seconds * SECOND)
            while (started := monotonic_ns()) < deadline:
                speakers = [self._members[index] for index in range(self._speakers)]
                self._members.rotate(-self._speakers)
                for member in speakers:
                    member.send(LINE)
                self._hear(speakers)
                outcome.latency.record(monotonic_ns() - started)
                outcome.units += self._speakers * (self._size - 1)
            outcome.done = outcome.units
        return outcome

    def _join(self) -> None:
        # A room greets nobody: who is heard by another has joined.
        member = self._stack.enter_context(self._server.connect())
        member.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.watch(member)
        self._members.append(member)
        if len(self._members) > 1:
            member.send(LINE)
            self._hear([member])

    def _hear(self, speakers: list[socket.socket]) -> None:
        """Return when every member has what the others of *speakers* said."""
        missing = {member.fileno(): len(LINE) * len(speakers) for member in self._members}
        for member in speakers:
            missing[member.fileno()] -= len(LINE)
        members = {member.fileno(): member for member in self._members}
        waiting = sum(1 for octets in missing.values() if octets)
        while waiting:
            for fd, _ in self.wait():
                data = members[fd].recv(READ_SIZE)
                missing[fd] -= len(data)
                if not data or missing[fd] < 0:
                    raise ServerTrouble(f"a member heard {data[:60]!r}" if data else "the server closed a connection")
                waiting -= not missing[fd]


_COUNTS = re.compile(rb"end of stream: (\d+) bytes in (\d+) wake-ups: (\d+) recv, (\d+) EAGAIN")


class Stream(SocketLoad):
    """A connection for each MiB: all of it in one go, the end of the stream, until the server has closed.

    The server counts its wake-ups and calls by itself, and prints them for each connection.
    """

    def run(self, seconds: float) -> Outcome:
        """One connection at a time."""
        printed = len(self._server.output())
        content = bytes(MIB)
        with measured(self._server) as outcome:
            deadline = monotonic_ns() + round(seconds * SECOND)
            while (started := monotonic_ns()) < deadline:
                with self._server.connect() as peer:
                    peer.sendall(content)
                    peer.shutdown(socket.SHUT_WR)
                    while peer.recv(READ_SIZE):
                        pass
                outcome.latency.record(monotonic_ns() - started)
                outcome.units += 1
            outcome.done = outcome.units
        self._count(outcome, printed)
        return outcome

    def _count(self, outcome: Outcome, printed: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while len(found := _COUNTS.findall(self._server.output(printed))) < outcome.units:
            if time.monotonic() > deadline:
                raise ServerTrouble("the server did not print its counts")
            time.sleep(LOOK)
        for octets, *numbers in found:
            if int(octets) != MIB:
                outcome.fail(f"{int(octets):,} of {MIB:,} bytes were read")
            outcome.counts.update(dict(zip(("wake-ups", "recv", "EAGAIN"), map(int, numbers), strict=True)))


STEP, STEP_PAUSE = 20, 0.002
"""Touches at once before a pause (seconds), so that expiries are late by the timers and not by each other."""


class Expiry(SocketLoad):
    """Connections with a timer each: every one is touched some times, and then all are left alone until they expire.

    A unit is a touch, and processor time is of the touches alone; the latency is how late the server closed. There is
    no rate: touches are sent all at once, and then the server is let rest.
    """

    def __init__(self, server: Server, *, connections: int, touches: int, idle_timeout: float) -> None:
        super().__init__(server)
        self._connections = connections
        self._touches = touches
        self._timeout = round(idle_timeout * SECOND)

    def once(self) -> Figures:
        """Memory for each connection, timer included."""
        raise_descriptor_limit()
        return {"memory": self._server.memory_per_connection(self._connections)}

    def run(self, seconds: float) -> Outcome:
        """Once: touch and expire; it takes as long as the server's time-out."""
        with self._server.connections(self._connections) as peers:
            with measured(self._server) as outcome:
                for _ in range(self._touches):
                    for peer in peers:
                        peer.send(b".")
                    self._settle()
                outcome.done = self._touches * len(peers)
            self._wait_for_expiry(peers, outcome)
        return outcome

    def _settle(self) -> None:
        """Return when the server has used no processor time for a moment: then it has seen every touch."""
        last, deadline = -1.0, time.monotonic() + SILENCE
        while (now := self._server.cpu_seconds()) != last and time.monotonic() < deadline:
            last = now
            time.sleep(0.03)

    def _wait_for_expiry(self, peers: list[socket.socket], outcome: Outcome) -> None:
        touched = {}
        for number, peer in enumerate(peers):
            if number % STEP == 0:
                time.sleep(STEP_PAUSE)
            peer.send(b".")
            touched[peer.fileno()] = monotonic_ns()
            self.watch(peer)
        left = len(peers)
        until = time.monotonic() + self._timeout / SECOND + SILENCE
        while left:
            events = self._poller.poll(max(until - time.monotonic(), 0), 1024)
            now = monotonic_ns()
            if not events:
                raise ServerTrouble(f"{left:,} connections were not closed in time")
            for fd, _ in events:
                outcome.latency.record(now - touched[fd] - self._timeout)
                self._poller.unregister(fd)
            left -= len(events)


def raise_descriptor_limit() -> None:
    """Let this process, and the servers that it starts from now on, have as many descriptors as the system permits."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
