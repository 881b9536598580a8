"""Close connections that were silent for three time slots.

Book p. 196, listing 11-2 (the sorted timer list) and p. 200, listing 11-3 (closing inactive connections).

Facts
    - Nothing tells of a peer that vanished: without a FIN or RST the connection stays open for ever.
    - All connections have the same time-out, so a timer that is set now is always the last to expire.
    - Activity is much more frequent than expiry.
Consequence
    One sorted list with one alarm for its head serves any number of connections; adding and moving a timer are O(1).
Decision
    Each connection has a timer in the list; what it sends moves the timer to the end. `TimerDriver` keeps one
    ``call_at`` for the head. The timer is moved at once, as the book does, so that the trace shows it; a server under
    load stores the time of the last activity and asks when the timer comes due (sansio.timers.IdleTimer, as in websrv).
Price
    A move costs about 1 us for each piece that is received. The alarm of a head that has moved rings once in vain.

The C++ original looks at its list once a time slot: a connection is closed up to one slot late. On activity it adds the
timer that is in the list already, where it should adjust it, so that a node is linked twice; a descriptor closed by the
timer leaves user data behind that the next connection with its number inherits.

Calling sequence of a connection: ``connection_made -> data_received* -> connection_lost``.

    $ python -m aiolsp.idle server -v --timeslot 0.5      $ python -m aiolsp.idle client --every 1 --lines 2
    listening on 127.0.0.1:8196                           sent line 1 of 2
    < accept fd=14 peer=127.0.0.1:47710                   sent line 2 of 2
    % armed due_in=1.500s timers=1  for the first deadline
    % set fd=14 due_in=1.500s  close it unless it speaks before
    < data_received fd=14 7 B  it is active: move its timer
    % moved fd=14 due_in=1.500s  to the end of the list
    < data_received fd=14 7 B  it is active: move its timer
    % moved fd=14 due_in=1.500s  to the end of the list
    % fired late=+0.00ms expired=0 left=1  nothing is due: cancelled or postponed meanwhile
    % armed due_in=1.002s timers=1  for the first deadline
    % fired late=+0.00ms expired=1 left=0  call what expired
    aiolsp.idle: closed 127.0.0.1:47710: silent for 1.5 s
    - idle fd=14 late=+1.00ms  silent for too long: close it
    x connection_lost fd=14  closed                       the server closed the connection after 1.502 s of silence
    ^C
    < signal SIGINT  as an event of the loop
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from typing import cast

from aiolsp.cli import execute, program_parser, ready, say
from aiolsp.linux.listener import format_address, listen
from aiolsp.mechanisms.loop import run
from aiolsp.mechanisms.server import StreamServer
from aiolsp.mechanisms.signals import SignalReceiver
from aiolsp.mechanisms.timers import TimerDriver
from aiolsp.sansio.timers import Timer
from aiolsp.tracing import trace

log = logging.getLogger("aiolsp.idle")

SLOTS = 3
"""Time slots that a connection may be silent; the book's 3 * TIMESLOT."""


class IdleServer(StreamServer["IdleConnection"]):
    """Takes what peers send until they fall silent: ``async with IdleServer(port=0) as server: server.addresses``.

    *timeslot* in seconds. Raises ListenError if the port cannot be had.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, timeslot: float = 5.0) -> None:
        super().__init__(lambda: IdleConnection(self))
        self.idle_timeout = SLOTS * timeslot
        self._where = host, port

    async def __aenter__(self) -> IdleServer:
        self.timers = TimerDriver()
        self.open(listen(*self._where))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()
        self.timers.close()


class IdleConnection(asyncio.Protocol):
    """One peer of the server, and its timer."""

    def __init__(self, server: IdleServer) -> None:
        self._server = server
        self._timers = server.timers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set its timer."""
        self._transport = cast(asyncio.Transport, transport)
        self.fd = transport.get_extra_info("socket").fileno()
        self.peer = format_address(transport.get_extra_info("peername") or "")
        self._timer = Timer(self._timers.time() + self._server.idle_timeout, self.timed_out)
        self._timers.add(self._timer)
        if trace.on:
            why = "close it unless it speaks before"
            trace.event("%", "set", fd=self.fd, why=why, due_in=f"{self._server.idle_timeout:.3f}s")
        self._server.add(self)

    def data_received(self, data: bytes) -> None:
        """It is active: move its timer."""
        self._timers.adjust(self._timer, self._timers.time() + self._server.idle_timeout)
        if trace.on:
            trace.event("<", "data_received", fd=self.fd, size=len(data), why="it is active: move its timer")
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

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport has closed the socket."""
        if trace.on:
            trace.event("x", "connection_lost", fd=self.fd, why=str(exc or "closed"))
        self._timers.cancel(self._timer)
        self._server.discard(self)

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()


class IdleClient:
    """Sends lines, falls silent, and measures how long the server bears it."""

    def __init__(self, host: str, port: int) -> None:
        self._where = host, port

    async def run(self, lines: int, every: float) -> None:
        """Send *lines* lines, one *every* so many seconds, then wait for the end. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._reader, self._writer = await asyncio.open_connection(*self._where)
        sent, ended, active = 0, False, loop.time()
        try:
            while sent < lines and not ended:
                sent, active = sent + 1, loop.time()
                self._writer.write(f"line {sent}\n".encode())
                say(f"sent line {sent} of {lines}")
                ended = await self._ended_within(every if sent < lines else None)
        finally:
            self._writer.close()
        say(f"the server closed the connection after {loop.time() - active:.3f} s of silence")

    async def _ended_within(self, seconds: float | None) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._reader.read()
        except TimeoutError:
            return False
        except ConnectionResetError:
            pass
        return True


async def serve(options: argparse.Namespace) -> None:
    """The server, until SIGINT or SIGTERM."""
    async with (
        SignalReceiver(signal.SIGINT, signal.SIGTERM) as signals,
        IdleServer(options.host, options.port, timeslot=options.timeslot) as server,
    ):
        ready(server.addresses)
        await anext(signals)


async def talk(options: argparse.Namespace) -> None:
    """The client, until the server closes."""
    await IdleClient(options.host, options.port).run(options.lines, options.every)


ROLES = {"server": serve, "client": talk}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the role that the command line names; the exit status."""
    return execute(program_parser("idle"), argv, lambda options: run(ROLES[options.role](options), loop=options.loop))


if __name__ == "__main__":
    sys.exit(main())
