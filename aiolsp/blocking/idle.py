"""Close connections that were silent for three time slots: the twin of aiolsp/idle.py, driven by SIGALRM.

Book p. 196, listing 11-2 (the sorted timer list) and p. 200, listing 11-3 (closing inactive connections).

Facts, consequence and decision as there; what differs is who drives the list
    - setitimer(2) sends SIGALRM when the head of the list is due; `SelfPipe` makes it one more descriptor that epoll
      watches, as the book does, and `AlarmDriver` calls what has expired.
    - The alarm is set for the head itself, not once a time slot, so a connection is closed when it is due.
    - A process has one such alarm: a program that embeds this server must leave it SIGALRM.

Calling sequence of a connection: ``new -> ready* -> connection_lost``.

    $ python -m aiolsp.blocking.idle server -v --timeslot 0.5
    listening on 127.0.0.1:8196
    < accept fd=7 peer=127.0.0.1:46134                 $ python -m aiolsp.blocking.idle client --every 1 --lines 2
    % armed due_in=1.500s timers=1  for the first deadline
    % set fd=7 due_in=1.500s  close it unless it speaks before
    < recv fd=7 EPOLLIN 7 B  it is active: move its timer              sent line 1 of 2
    % moved fd=7 due_in=1.500s  to the end of the list
    < recv fd=7 EPOLLIN 7 B  it is active: move its timer              sent line 2 of 2
    % moved fd=7 due_in=1.500s  to the end of the list
    < signal fd=3 SIGALRM  from the self-pipe
    % fired late=+0.44ms expired=0 left=1  nothing is due: cancelled or postponed meanwhile
    % armed due_in=1.000s timers=1  for the first deadline
    < signal fd=3 SIGALRM  from the self-pipe
    % fired late=+0.33ms expired=1 left=0  call what expired
    aiolsp.blocking.idle: closed 127.0.0.1:46134: silent for 1.5 s
    - idle fd=7 late=+0.53ms  silent for too long: close it
    x close fd=7  closed                               the server closed the connection after 1.501 s of silence
    ^C
    < signal fd=3 SIGINT  from the self-pipe
"""

from __future__ import annotations

import argparse
import logging
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence

from aiolsp.blocking.mechanisms.acceptor import Acceptor
from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.blocking.mechanisms.timers import AlarmDriver, seconds_until
from aiolsp.cli import execute, program_parser, ready, say
from aiolsp.linux.epoll_flags import flag_names
from aiolsp.linux.listener import Address, format_address, listen
from aiolsp.sansio.timers import Timer
from aiolsp.tracing import trace

log = logging.getLogger("aiolsp.idle")

SLOTS = 3
"""Time slots that a connection may be silent; the book's 3 * TIMESLOT."""

READ_SIZE = 64 * 1024
"""Bytes of one recv."""


class IdleServer:
    """Takes what peers send until they fall silent:
    ``with IdleServer(signals, port=0) as server: server.addresses; server.run()``.

    *signals* must take SIGALRM; any other of its signals ends `run`. *timeslot* in seconds. Raises ListenError if the
    port cannot be had, ValueError without SIGALRM.
    """

    def __init__(self, signals: SelfPipe, host: str = "127.0.0.1", port: int = 0, *, timeslot: float = 5.0) -> None:
        self.connections: dict[int, IdleConnection] = {}
        self.addresses: list[Address] = []
        self.idle_timeout = SLOTS * timeslot
        self._signals = signals
        self._where = host, port

    def __enter__(self) -> IdleServer:
        listeners = listen(*self._where)
        self.addresses = [listener.getsockname() for listener in listeners]
        self.timers = AlarmDriver(self._signals)
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
        self.timers.close()

    def run(self) -> None:
        """Serve until a signal other than SIGALRM comes."""
        while True:
            for fd, events in self.poller.poll(seconds_until(self._acceptor.next_deadline())):
                if fd == self._signals.fileno():
                    for number in self._signals.receive():
                        if number != signal.SIGALRM:
                            return
                        self.timers.fire()
                elif fd in self._acceptor:
                    self._acceptor.accept(fd)
                elif fd in self.connections:  # else an earlier event of this turn has closed it
                    self.connections[fd].ready(events)
            self._acceptor.tick(time.monotonic())

    def add(self, peer: socket.socket, address: Address) -> None:
        """A peer has connected."""
        connection = IdleConnection(self, peer, address)
        self.connections[connection.fd] = connection

    def discard(self, connection: IdleConnection) -> None:
        """The connection has ended, whoever ended it."""
        self.connections.pop(connection.fd, None)


class IdleConnection:
    """One peer of the server, and its timer."""

    def __init__(self, server: IdleServer, peer: socket.socket, address: Address) -> None:
        self._server = server
        self._timers = server.timers
        self._socket = peer
        self.fd = peer.fileno()
        self.peer = format_address(address)
        self._timer = Timer(self._timers.time() + self._server.idle_timeout, self.timed_out)
        self._timers.add(self._timer)
        if trace.on:
            why = "close it unless it speaks before"
            trace.event("%", "set", fd=self.fd, why=why, due_in=f"{self._server.idle_timeout:.3f}s")
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
            self.abort()

    def data_received(self, data: bytes, events: int) -> None:
        """It is active: move its timer."""
        self._timers.adjust(self._timer, self._timers.time() + self._server.idle_timeout)
        if trace.on:
            why = "it is active: move its timer"
            trace.event("<", "recv", fd=self.fd, flags=flag_names(events), size=len(data), why=why)
            trace.event(
                "%", "moved", fd=self.fd, due_in=f"{self._server.idle_timeout:.3f}s", why="to the end of the list"
            )

    def timed_out(self) -> None:
        """It was silent for too long."""
        log.info("closed %s: silent for %g s", self.peer, self._server.idle_timeout)
        if trace.on:
            late = self._timers.time() - self._timer.deadline
            trace.event("-", "idle", fd=self.fd, late=f"{late * 1000:+.2f}ms", why="silent for too long: close it")
        self.abort()

    def connection_lost(self, error: OSError | None) -> None:
        """Close the socket."""
        if trace.on:
            trace.event("x", "close", fd=self.fd, why=error.strerror if error and error.strerror else "closed")
        self._timers.cancel(self._timer)
        self._server.discard(self)
        self._server.poller.unregister(self.fd)
        self._socket.close()

    def abort(self) -> None:
        """Close now."""
        self.connection_lost(None)


class IdleClient:
    """Sends lines, falls silent, and measures how long the server bears it."""

    def __init__(self, host: str, port: int) -> None:
        self._where = host, port

    def run(self, lines: int, every: float) -> None:
        """Send *lines* lines, one *every* so many seconds, then wait for the end. Raises OSError."""
        self._connection = socket.create_connection(self._where)
        sent, ended, active = 0, False, time.monotonic()
        try:
            while sent < lines and not ended:
                sent, active = sent + 1, time.monotonic()
                self._connection.sendall(f"line {sent}\n".encode())
                say(f"sent line {sent} of {lines}")
                ended = self._ended_within(every if sent < lines else None)
        finally:
            self._connection.close()
        say(f"the server closed the connection after {time.monotonic() - active:.3f} s of silence")

    def _ended_within(self, seconds: float | None) -> bool:
        self._connection.settimeout(seconds)
        try:
            self._connection.recv(READ_SIZE)  # the server never speaks: whatever comes is the end
        except TimeoutError:
            return False
        except ConnectionResetError:
            pass
        return True


def serve(options: argparse.Namespace) -> None:
    """The server, until SIGINT or SIGTERM."""
    with (
        SelfPipe(signal.SIGINT, signal.SIGTERM, signal.SIGALRM) as signals,
        IdleServer(signals, options.host, options.port, timeslot=options.timeslot) as server,
    ):
        ready(server.addresses)
        server.run()


def talk(options: argparse.Namespace) -> None:
    """The client, until the server closes."""
    IdleClient(options.host, options.port).run(options.lines, options.every)


ROLES = {"server": serve, "client": talk}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the role that the command line names; the exit status."""
    return execute(program_parser("idle", blocking=True), argv, lambda options: ROLES[options.role](options))


if __name__ == "__main__":
    sys.exit(main())
