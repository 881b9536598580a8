"""Print what each line of a request was parsed as, and answer whether it was right.

Book p. 137, listing 8-3 (the finite state machine of HTTP).

Facts
    - TCP has no lines: a request may come in one piece or byte by byte, and one piece may hold the end of one line and
      the beginning of the next.
    - A close with unread bytes in the receive buffer sends RST, and the RST takes away what the peer has not read yet:
      the answer to a request that was refused half-way would be lost.
Consequence
    The machine keeps its state between pieces: the line machine below says OK, BAD or OPEN, the request machine above
    stands in REQUEST_LINE, HEADERS or CONTENT. After the answer the rest of the request must still be read.
Decision
    http1.analysis decides what is printed and answered; this file moves bytes. After its answer the server closes its
    half of the connection and reads on until the peer closes too, for LINGER seconds at most.
Price
    A peer that does not close costs a descriptor for that long.

The C++ original serves one connection and ends. It reads into 4,096 bytes: for a longer head it asks recv for 0 bytes,
takes the 0 that comes back for the end of the peer, and closes without an answer.

Calling sequence of a connection: ``connection_made -> data_received* -> eof_received? -> connection_lost``.

    $ python -m aiolsp.analyze server -v               $ python -m aiolsp.analyze client --split 30
    listening on 127.0.0.1:8137                        I get a correct result
    < accept fd=14 peer=127.0.0.1:49788
    < data_received fd=14 30 B  analyse it
    127.0.0.1:49788 REQUEST_LINE OK   'GET /index.html HTTP/1.1'
    127.0.0.1:49788 HEADERS      OPEN need more
    < data_received fd=14 30 B  analyse it
    127.0.0.1:49788 HEADERS      OK   'Host: example.com'
    127.0.0.1:49788 HEADERS      OPEN need more
    < data_received fd=14 6 B  analyse it
    127.0.0.1:49788 HEADERS      OK   'Accept: text/html'
    127.0.0.1:49788 HEADERS      OK   ''
    127.0.0.1:49788 correct: GET /index.html, 2 fields, no body
    > write fd=14 23 B  answered: close our half, wait for the other
    % armed due_in=2.000s timers=1  for the first deadline
    < eof_received fd=14  it says no more: close
    x connection_lost fd=14  closed
    ^C
    < signal SIGINT  as an event of the loop
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from aiolsp.cli import execute, program_parser, ready, say
from aiolsp.http1.analysis import LINGER, PAUSE, REQUEST, RequestAnalysis, checked, pieces
from aiolsp.linux.listener import format_address, listen
from aiolsp.mechanisms.loop import run
from aiolsp.mechanisms.server import StreamServer
from aiolsp.mechanisms.signals import SignalReceiver
from aiolsp.mechanisms.timers import TimerDriver
from aiolsp.sansio.timers import Timer
from aiolsp.tracing import trace


class AnalyzeServer(StreamServer["AnalyzeConnection"]):
    """The analysis on a port: ``async with AnalyzeServer(port=0) as server: server.addresses``.

    Raises ListenError if the port cannot be had.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(lambda: AnalyzeConnection(self))
        self._where = host, port

    async def __aenter__(self) -> AnalyzeServer:
        self.timers = TimerDriver()
        self.open(listen(*self._where))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()
        self.timers.close()


class AnalyzeConnection(asyncio.Protocol):
    """One peer of the server, and the analysis of its request."""

    def __init__(self, server: AnalyzeServer) -> None:
        self._server = server
        self._analysis = RequestAnalysis()
        self._linger: Timer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the request."""
        self._transport = cast(asyncio.Transport, transport)
        self.fd = transport.get_extra_info("socket").fileno()
        self.peer = format_address(transport.get_extra_info("peername") or "")
        self._server.add(self)

    def data_received(self, data: bytes) -> None:
        """Analyse it; what comes after the answer is read and forgotten."""
        if trace.on:
            why = "analyse it" if self._linger is None else "answered already: forget it"
            trace.event("<", "data_received", fd=self.fd, size=len(data), why=why)
        self._tell(self._analysis.feed(data))

    def eof_received(self) -> None:
        """It says no more: the transport closes once the answer is sent."""
        if trace.on:
            trace.event("<", "eof_received", fd=self.fd, why="it says no more: close")
        self._tell(self._analysis.receive_eof())

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport has closed the socket."""
        if trace.on:
            trace.event("x", "connection_lost", fd=self.fd, why=str(exc or "closed"))
        if self._linger is not None:
            self._server.timers.cancel(self._linger)
        self._server.discard(self)

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()

    def _tell(self, report: list[str]) -> None:
        for line in report:
            say(f"{self.peer} {line}")
        if self._analysis.answer is not None and self._linger is None:
            self._answer(self._analysis.answer)

    def _answer(self, answer: bytes) -> None:
        if trace.on:
            trace.event(">", "write", fd=self.fd, size=len(answer), why="answered: close our half, wait for the other")
        self._linger = Timer(self._server.timers.time() + LINGER, self.abort)
        self._server.timers.add(self._linger)
        self._transport.write(answer)
        self._transport.write_eof()


class AnalyzeClient:
    """Sends a request to the server, whole or *split* bytes at a time, and takes the answer."""

    def __init__(self, host: str, port: int) -> None:
        self._where = host, port

    async def ask(self, request: bytes, split: int | None = None) -> str:
        """The server's answer. Raises OSError, also if there is none."""
        reader, writer = await asyncio.open_connection(*self._where)
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # what counts is what it answered
                for piece in pieces(request, split):
                    if writer.is_closing():
                        break
                    writer.write(piece)
                    await writer.drain()
                    if split:
                        await asyncio.sleep(PAUSE)
                writer.write_eof()
            answer = await reader.read()
        finally:
            writer.close()
        return checked(answer)


def loaded(path: str | None) -> bytes:
    """The request in the file *path*, or the good one. Raises OSError."""
    return REQUEST if path is None else Path(path).read_bytes()


async def serve(options: argparse.Namespace) -> None:
    """The server, until SIGINT or SIGTERM."""
    async with (
        SignalReceiver(signal.SIGINT, signal.SIGTERM) as signals,
        AnalyzeServer(options.host, options.port) as server,
    ):
        ready(server.addresses)
        await anext(signals)


async def talk(options: argparse.Namespace) -> None:
    """The client, until it has its answer."""
    request = loaded(options.request)
    say(await AnalyzeClient(options.host, options.port).ask(request, options.split))


ROLES = {"server": serve, "client": talk}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the role that the command line names; the exit status."""
    return execute(
        program_parser("analyze"), argv, lambda options: run(ROLES[options.role](options), loop=options.loop)
    )


if __name__ == "__main__":
    sys.exit(main())
