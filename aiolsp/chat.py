"""A chat room: each line goes to all members but its sender.

Book p. 165, listing 9-6 (the splice client) and 9-7 (the poll server).

Facts (both loops, this kernel)
    - ``transport.write`` takes whatever it is given; what the socket does not take waits in the transport, without a
      bound. ``pause_writing`` is the only sign of it.
    - The default marks differ: stock resumes at 16 KiB, uvloop at 16 bytes. uvloop writes at the end of its turn, but
      over the high-water mark it tries at once: crossing it means on both that the kernel did not take the data.
    - What ``call_soon`` is given while a turn's events are handled runs when all of them have been.
Consequence
    A protocol must set its own marks and act on them, or one member that does not read takes all the memory.
Decision
    Who hears what, who is dropped and who waits is decided in sansio/chat.py; here decisions are carried out. All that
    is said in a turn of the loop goes out in one write per member, from one ``call_soon``. Over ``--high-water`` a
    member lags: floods wait for it, lines do not, and after 1 s it is dropped. The client is mechanisms/splicing.py.
Price
    A line leaves at the end of its turn, not at once; a member that does not read holds up a flood for a second.
    1,000 members saying 10 lines of 50 bytes a second each heard all, 9.9 million deliveries a second for 3 s, on less
    than one core (81 % on the stock loop, 94 % on uvloop, 98 % in the twin; the reading side had the other core).
The C++ original overwrites a message that is not sent yet when two speak at once, merges and splits lines as recv cuts
them, and drops nobody; its client watches a stdin that has ended for ever.

Server: listen -> (connection_made -> (data_received | pause_writing | resume_writing)* -> connection_lost)* -> close.

    client 2 -v                                       server -v --max-users 2
    = epoll_ctl ADD fd=0 EPOLLIN                      < accept fd=13 peer=127.0.0.1:54416
    < epoll_wait fd=0 EPOLLIN                         < accept fd=15 peer=127.0.0.1:54420
    = epoll_ctl DEL fd=0                              < accept fd=16 peer=127.0.0.1:33190
    < splice fd=0 6 B  into the pipe; wait for ...    ! reject fd=16  too many users
    = epoll_ctl ADD fd=12 EPOLLOUT                    x connection_lost fd=16  closed
    < epoll_wait fd=12 EPOLLOUT                       < data_received fd=15 6 B  said; delivered at the end of ...
    = epoll_ctl DEL fd=12                             > write fd=13 6 B waiting=0
    > splice fd=12 6 B  out of the pipe               < data_received fd=13 3 B  said; delivered at the end of ...
    = epoll_ctl ADD fd=0 EPOLLIN                      > write fd=15 3 B waiting=0
    < epoll_wait fd=13 EPOLLIN                        < eof_received fd=15  it says no more: it leaves
    < splice fd=13 3 B  into the pipe; wait for ...   x connection_lost fd=15  closed
    > splice fd=1 3 B  out of the pipe                < signal SIGTERM  as an event of the loop
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

from aiolsp.cli import execute, program_parser, ready
from aiolsp.linux.listener import format_address, listen
from aiolsp.mechanisms.loop import run
from aiolsp.mechanisms.server import StreamServer
from aiolsp.mechanisms.signals import SignalReceiver
from aiolsp.mechanisms.splicing import converse
from aiolsp.sansio.chat import GRACE, ChatRoom, Decision, Deliver, Drop, Pause, Reject, Resume
from aiolsp.tracing import trace

log = logging.getLogger("aiolsp.chat")


class ChatServer(StreamServer["ChatConnection"]):
    """The chat room on a port: ``async with ChatServer(port=0) as server: server.addresses``.

    Raises ListenError if the port cannot be had.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, *, max_users: int = 5, high_water: int = 64 * 1024
    ) -> None:
        self.room = ChatRoom["ChatConnection"](max_users, high_water)
        super().__init__(lambda: ChatConnection(self))
        self._where = host, port

    async def __aenter__(self) -> ChatServer:
        self._loop = asyncio.get_running_loop()
        self._turn: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        self.open(listen(*self._where))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close_listeners()
        self.carry_out(self.room.turn())
        for connection in list(self.connections):
            connection.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await self.empty()
        await self.close()
        if self._timer is not None:
            self._timer.cancel()

    def add(self, connection: ChatConnection) -> None:
        """A peer has connected: it joins the room or is rejected."""
        super().add(connection)
        self.carry_out(self.room.join(connection))

    def discard(self, connection: ChatConnection) -> None:
        """The connection has ended, whoever ended it."""
        self.carry_out(self.room.leave(connection))
        super().discard(connection)

    def carry_out(self, decisions: list[Decision[ChatConnection]]) -> None:
        """Do what the room has decided, and see to it that it is asked again when it must be."""
        for decision in decisions:
            match decision:
                case Deliver(member, data):
                    member.deliver(data)
                case Reject(member, data):
                    member.reject(data)
                case Drop(member, reason):
                    member.drop(reason)
                case Pause(member):
                    member.pause()
                case Resume(member):
                    member.resume()
        if self.room.pending and self._turn is None:
            self._turn = self._loop.call_soon(self._end_turn)
        self._arm()

    def _end_turn(self) -> None:
        self._turn = None
        self.carry_out(self.room.turn())

    def _arm(self) -> None:
        deadline = self.room.next_deadline()
        if deadline == self._deadline:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._deadline = deadline
        self._timer = None if deadline is None else self._loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = self._deadline = None
        self.carry_out(self.room.tick(self._loop.time()))


class ChatConnection(asyncio.Protocol):
    """One peer of the server: connection_made -> (data_received | pause_writing | resume_writing)* -> eof_received?
    -> connection_lost."""

    def __init__(self, server: ChatServer) -> None:
        self._server = server
        self._room = server.room
        self._behind = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join, with a write buffer that reports when it crosses the room's high-water mark."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._room.high_water, low=self._room.high_water // 2)
        self.fd = transport.get_extra_info("socket").fileno()
        self.peer = transport.get_extra_info("peername")
        self._server.add(self)

    def data_received(self, data: bytes) -> None:
        """Say it to the room."""
        if trace.on:
            trace.event("<", "data_received", fd=self.fd, size=len(data), why="said; delivered at the end of this turn")
        self._server.carry_out(self._room.said(self, data))

    def eof_received(self) -> None:
        """Leave the room; the transport closes when all that was on its way is written."""
        if trace.on:
            trace.event("<", "eof_received", fd=self.fd, why="it says no more: it leaves")
        self._server.carry_out(self._room.leave(self, self._unread(), self._now()))

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the room, if that has not happened yet."""
        if trace.on:
            trace.event("x", "connection_lost", fd=self.fd, why=str(exc or "closed"))
        self._server.discard(self)

    def pause_writing(self) -> None:
        """More is unread than the high-water mark."""
        self._behind = True
        if trace.on:
            trace.event("=", "pause_writing", fd=self.fd, size=self._unread(), why="it lags: floods wait for it")
        self._server.carry_out(self._room.unread(self, self._unread(), self._now()))

    def resume_writing(self) -> None:
        """At most half the high-water mark is unread."""
        self._behind = False
        if trace.on:
            trace.event("=", "resume_writing", fd=self.fd, size=self._unread(), why="it has caught up")
        self._server.carry_out(self._room.unread(self, self._unread(), self._now()))

    def deliver(self, data: bytes) -> None:
        """Send lines of others."""
        if self._transport.is_closing():
            return
        self._transport.write(data)
        if trace.on:
            trace.event(">", "write", fd=self.fd, size=len(data), waiting=self._unread())
        if self._behind:
            self._server.carry_out(self._room.unread(self, self._unread(), self._now()))

    def reject(self, data: bytes) -> None:
        """Say why and close."""
        if trace.on:
            trace.event("!", "reject", fd=self.fd, why=data.decode().strip())
        self._transport.write(data)
        self.close()

    def drop(self, reason: str) -> None:
        """Cut it off."""
        log.info("dropped %s: %s", format_address(self.peer), reason)
        if trace.on:
            trace.event("!", "drop", fd=self.fd, why=reason)
        self.abort()

    def pause(self) -> None:
        """Read no more for now; the kernel's buffers fill, and the peer's send waits."""
        if trace.on:
            trace.event("=", "pause_reading", fd=self.fd, why="a flood waits until all have caught up")
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if trace.on:
            trace.event("=", "resume_reading", fd=self.fd)
        self._transport.resume_reading()

    def close(self) -> None:
        """Close when all is written."""
        self._transport.close()

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()

    def _unread(self) -> int:
        return self._transport.get_write_buffer_size()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def serve(options: argparse.Namespace) -> None:
    """The server, until SIGINT or SIGTERM."""
    async with (
        SignalReceiver(signal.SIGINT, signal.SIGTERM) as signals,
        ChatServer(options.host, options.port, max_users=options.max_users, high_water=options.high_water) as server,
    ):
        ready(server.addresses)
        await anext(signals)


async def talk(options: argparse.Namespace) -> None:
    """The client, until the server closes."""
    await converse(options.host, options.port)


ROLES = {"server": serve, "client": talk}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the role that the command line names; the exit status."""
    return execute(program_parser("chat"), argv, lambda options: run(ROLES[options.role](options), loop=options.loop))


if __name__ == "__main__":
    sys.exit(main())
