"""Print what each line of a request was parsed as, and answer whether it was right: the twin of aiolsp/analyze.py.

Book p. 137, listing 8-3 (the finite state machine of HTTP).

Facts, consequence and decision as there; what differs is who moves the bytes
    - epoll, level-triggered, one thread: a connection is read once for each event, so that none starves the others.
    - The answer is the only thing that is ever sent on a connection: 23 bytes always fit into an empty send buffer, so
      nothing waits for EPOLLOUT.
    - The time-out of epoll_wait(2) drives the timer list.

Calling sequence of a connection: ``new -> ready* -> connection_lost``.

    $ python -m aiolsp.blocking.analyze server -v      $ python -m aiolsp.blocking.analyze client --split 30
    listening on 127.0.0.1:8137                        I get a correct result
    < accept fd=7 peer=127.0.0.1:36590
    < recv fd=7 EPOLLIN 30 B  analyse it
    127.0.0.1:36590 REQUEST_LINE OK   'GET /index.html HTTP/1.1'
    127.0.0.1:36590 HEADERS      OPEN need more
    < recv fd=7 EPOLLIN 30 B  analyse it
    127.0.0.1:36590 HEADERS      OK   'Host: example.com'
    127.0.0.1:36590 HEADERS      OPEN need more
    < recv fd=7 EPOLLIN 6 B  analyse it
    127.0.0.1:36590 HEADERS      OK   'Accept: text/html'
    127.0.0.1:36590 HEADERS      OK   ''
    127.0.0.1:36590 correct: GET /index.html, 2 fields, no body
    > send fd=7 23 B  answered: close our half, wait for the other
    < recv fd=7 EPOLLIN|EPOLLHUP 0 B  it says no more: close
    x close fd=7  closed
    ^C
    < signal fd=3 SIGINT  from the self-pipe
"""

from __future__ import annotations

import argparse
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from aiolsp.blocking.mechanisms.acceptor import Acceptor
from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.blocking.mechanisms.timers import seconds_until
from aiolsp.cli import execute, program_parser, ready, say
from aiolsp.http1.analysis import LINGER, PAUSE, REQUEST, RequestAnalysis, checked, pieces
from aiolsp.linux.epoll_flags import flag_names
from aiolsp.linux.listener import Address, format_address, listen
from aiolsp.sansio.timers import MOST, SortedTimerList, Timer
from aiolsp.tracing import trace

READ_SIZE = 64 * 1024
"""Bytes of one recv."""


class AnalyzeServer:
    """The analysis on a port: ``with AnalyzeServer(port=0) as server: server.addresses; server.run(signals)``.

    Raises ListenError if the port cannot be had.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.connections: dict[int, AnalyzeConnection] = {}
        self.addresses: list[Address] = []
        self._where = host, port

    def __enter__(self) -> AnalyzeServer:
        listeners = listen(*self._where)
        self.addresses = [listener.getsockname() for listener in listeners]
        self.timers = SortedTimerList()
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
            timeout = seconds_until(self.timers.next_deadline(), self._acceptor.next_deadline())
            for fd, events in self.poller.poll(timeout):
                if fd == signals.fileno():
                    if signals.receive():
                        return
                elif fd in self._acceptor:
                    self._acceptor.accept(fd)
                elif fd in self.connections:  # else an earlier event of this turn has closed it
                    self.connections[fd].ready(events)
            self._tick()

    def add(self, peer: socket.socket, address: Address) -> None:
        """A peer has connected."""
        connection = AnalyzeConnection(self, peer, address)
        self.connections[connection.fd] = connection

    def discard(self, connection: AnalyzeConnection) -> None:
        """The connection has ended, whoever ended it."""
        self.connections.pop(connection.fd, None)

    def _tick(self) -> None:
        now = time.monotonic()
        self._acceptor.tick(now)
        for timer in self.timers.tick(now, MOST):
            timer.callback()


class AnalyzeConnection:
    """One peer of the server, and the analysis of its request."""

    def __init__(self, server: AnalyzeServer, peer: socket.socket, address: Address) -> None:
        self._server = server
        self._analysis = RequestAnalysis()
        self._linger: Timer | None = None
        self._socket = peer
        self.fd = peer.fileno()
        self.peer = format_address(address)
        server.poller.register(self.fd, select.EPOLLIN)

    def ready(self, events: int) -> None:
        """What epoll reported."""
        try:
            data = self._socket.recv(READ_SIZE)
            if data:
                self.data_received(data, events)
            else:
                self.eof_received(events)
        except BlockingIOError:
            pass
        except OSError as error:
            self.connection_lost(error)

    def data_received(self, data: bytes, events: int) -> None:
        """Analyse it; what comes after the answer is read and forgotten."""
        if trace.on:
            why = "analyse it" if self._linger is None else "answered already: forget it"
            trace.event("<", "recv", fd=self.fd, flags=flag_names(events), size=len(data), why=why)
        self._tell(self._analysis.feed(data))

    def eof_received(self, events: int) -> None:
        """It says no more: close once the answer is sent."""
        if trace.on:
            trace.event("<", "recv", fd=self.fd, flags=flag_names(events), size=0, why="it says no more: close")
        self._tell(self._analysis.receive_eof())
        self.abort()

    def connection_lost(self, error: OSError | None) -> None:
        """Close the socket."""
        if trace.on:
            trace.event("x", "close", fd=self.fd, why=error.strerror if error and error.strerror else "closed")
        if self._linger is not None:
            self._server.timers.cancel(self._linger)
        self._server.discard(self)
        self._server.poller.unregister(self.fd)
        self._socket.close()

    def abort(self) -> None:
        """Close now."""
        self.connection_lost(None)

    def _tell(self, report: list[str]) -> None:
        for line in report:
            say(f"{self.peer} {line}")
        if self._analysis.answer is not None and self._linger is None:
            self._answer(self._analysis.answer)

    def _answer(self, answer: bytes) -> None:
        if trace.on:
            trace.event(">", "send", fd=self.fd, size=len(answer), why="answered: close our half, wait for the other")
        self._linger = Timer(time.monotonic() + LINGER, self.abort)
        self._server.timers.add(self._linger)
        self._socket.send(answer)
        self._socket.shutdown(socket.SHUT_WR)


class AnalyzeClient:
    """Sends a request to the server, whole or *split* bytes at a time, and takes the answer."""

    def __init__(self, host: str, port: int) -> None:
        self._where = host, port

    def ask(self, request: bytes, split: int | None = None) -> str:
        """The server's answer. Raises OSError, also if there is none."""
        with socket.create_connection(self._where) as connection, connection.makefile("rb") as reader:
            with suppress(BrokenPipeError, ConnectionResetError):  # what counts is what it answered
                for piece in pieces(request, split):
                    connection.sendall(piece)
                    if split:
                        time.sleep(PAUSE)
                connection.shutdown(socket.SHUT_WR)
            answer = reader.read()
        return checked(answer)


def loaded(path: str | None) -> bytes:
    """The request in the file *path*, or the good one. Raises OSError."""
    return REQUEST if path is None else Path(path).read_bytes()


def serve(options: argparse.Namespace) -> None:
    """The server, until SIGINT or SIGTERM."""
    with (
        SelfPipe(signal.SIGINT, signal.SIGTERM) as signals,
        AnalyzeServer(options.host, options.port) as server,
    ):
        ready(server.addresses)
        server.run(signals)


def talk(options: argparse.Namespace) -> None:
    """The client, until it has its answer."""
    request = loaded(options.request)
    say(AnalyzeClient(options.host, options.port).ask(request, options.split))


ROLES = {"server": serve, "client": talk}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the role that the command line names; the exit status."""
    return execute(program_parser("analyze", blocking=True), argv, lambda options: ROLES[options.role](options))


if __name__ == "__main__":
    sys.exit(main())
