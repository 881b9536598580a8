"""A chat room: each line goes to all members but its sender. The blocking twin of aiolsp/chat.py, on poll(2).

Book p. 165, listing 9-6 (the splice client) and 9-7 (the poll server).

Facts (poll(2), tried on this kernel)
    - POLLIN is reported until all has been read, POLLOUT whenever there is room, POLLERR and POLLHUP always.
    - An event of a descriptor that an earlier event of the same batch closed is stale, and its number may be another's.
    - send on a non-blocking socket takes a part, or says EAGAIN.
Consequence
    POLLOUT is asked for only while something waits to be sent, POLLIN only while it is wanted; each event looks its
    connection up; what is not sent has to be kept, in order, with its size.
Decision
    `ChatConnection` is the protocol of aiolsp/chat.py with its transport written out: a queue of pieces, gathered into
    one sendmsg, and the same marks. Pieces are views of the bytes that all members share. A turn is one return of poll.
Price
    What asyncio's transport does in one call is half of this file; poll copies the whole table in each turn.
The C++ original keeps one pointer per member to what is to be sent and overwrites it when two speak at once; it closes
at POLLRDHUP without reading the last words that came before it.

Server: enter -> run (add | ready | discard)* -> exit.

    client 2 -v                                       server -v --max-users 2
    < splice fd=0 6 B  into the pipe; wait for ...    < accept fd=6 peer=127.0.0.1:59498
    > splice fd=3 6 B  out of the pipe                < accept fd=7 peer=127.0.0.1:59508
    < splice fd=4 3 B  into the pipe; wait for ...    < accept fd=8 peer=127.0.0.1:59522
    > splice fd=1 3 B  out of the pipe                ! reject fd=8  too many users
    = end fd=0  no more input after 6 B               > sendmsg fd=8 15 B waiting=0
    = end fd=4  no more input after 3 B               x close fd=8  closed
                                                      < recv fd=7 POLLIN 6 B  said; delivered at the end of ...
                                                      > sendmsg fd=6 6 B waiting=0
                                                      < recv fd=7 POLLIN 0 B  it says no more: it leaves
                                                      x close fd=7  closed
"""

from __future__ import annotations

import argparse
import logging
import math
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from itertools import islice

from aiolsp.blocking.mechanisms.acceptor import Acceptor
from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.blocking.mechanisms.splicing import converse
from aiolsp.blocking.mechanisms.timers import milliseconds_until
from aiolsp.cli import execute, program_parser, ready
from aiolsp.linux.epoll_flags import flag_names
from aiolsp.linux.listener import Address, format_address, listen
from aiolsp.sansio.chat import GRACE, ChatRoom, Decision, Deliver, Drop, Pause, Reject, Resume
from aiolsp.tracing import trace

log = logging.getLogger("aiolsp.chat")

READ_SIZE = 64 * 1024
"""Bytes of one recv: a turn of the room at most."""

GATHER = 64
"""Pieces of one sendmsg; the kernel takes up to IOV_MAX, 1,024."""

ENDED = select.POLLERR | select.POLLHUP
"""What poll reports whether it was asked or not."""


class ChatServer:
    """The chat room on a port: ``with ChatServer(port=0) as server: server.addresses; server.run(signals)``.

    Raises ListenError if the port cannot be had.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, *, max_users: int = 5, high_water: int = 64 * 1024
    ) -> None:
        self.room = ChatRoom["ChatConnection"](max_users, high_water)
        self.connections: dict[int, ChatConnection] = {}
        self.addresses: list[Address] = []
        self._where = host, port

    def __enter__(self) -> ChatServer:
        self.poller = select.poll()
        listeners = listen(*self._where)
        self.addresses = [listener.getsockname() for listener in listeners]
        self._acceptor = Acceptor(listeners, self.poller, self.add)
        self._acceptor.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._acceptor.close()
        self.carry_out(self.room.turn())
        for connection in list(self.connections.values()):
            connection.close()
        end = time.monotonic() + GRACE
        while self.connections and (left := end - time.monotonic()) > 0:
            for fd, events in self.poller.poll(math.ceil(left * 1000)):
                if fd in self.connections:
                    self.connections[fd].ready(events)
        for connection in list(self.connections.values()):
            connection.abort()

    def run(self, signals: SelfPipe) -> None:
        """Serve until a signal comes."""
        self.poller.register(signals.fileno(), select.POLLIN)
        try:
            while not self._turn(signals):
                self._tick()
        finally:
            self.poller.unregister(signals.fileno())

    def add(self, peer: socket.socket, address: Address) -> None:
        """A peer has connected: it joins the room or is rejected."""
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = ChatConnection(self, peer, address)
        self.connections[connection.fd] = connection
        self.carry_out(self.room.join(connection))

    def discard(self, connection: ChatConnection) -> None:
        """The connection has ended, whoever ended it."""
        self.carry_out(self.room.leave(connection))
        self.connections.pop(connection.fd, None)

    def carry_out(self, decisions: list[Decision[ChatConnection]]) -> None:
        """Do what the room has decided."""
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

    def _turn(self, signals: SelfPipe) -> bool:
        """One return of poll, and what was said in it; whether a signal has come."""
        timeout = milliseconds_until(self.room.next_deadline(), self._acceptor.next_deadline())
        for fd, events in self.poller.poll(timeout):
            if fd == signals.fileno():
                if signals.receive():
                    return True
            elif fd in self._acceptor:
                self._acceptor.accept(fd)
            elif fd in self.connections:  # else an earlier event of this turn has closed it
                self.connections[fd].ready(events)
        self.carry_out(self.room.turn())
        return False

    def _tick(self) -> None:
        now = time.monotonic()
        self._acceptor.tick(now)
        self.carry_out(self.room.tick(now))


class ChatConnection:
    """One peer of the server: connection_made -> ready* -> connection_lost, where each ready event becomes
    data_received, eof_received or more room for what waits to be sent."""

    def __init__(self, server: ChatServer, peer: socket.socket, address: Address) -> None:
        self._server = server
        self._room = server.room
        self._socket = peer
        self.fd = peer.fileno()
        self.peer = address
        self._unsent: deque[memoryview] = deque()
        self._size = 0
        self._behind = False
        self._reading = True
        self._closing = False
        self._events: int = select.POLLIN
        server.poller.register(self.fd, self._events)

    def data_received(self, data: bytes) -> None:
        """Say it to the room."""
        self._server.carry_out(self._room.said(self, data))

    def eof_received(self) -> None:
        """Leave the room; close when all that was on its way is written."""
        self._server.carry_out(self._room.leave(self, self._size, time.monotonic()))
        self.close()

    def connection_lost(self, error: OSError | None) -> None:
        """Leave the room, if that has not happened yet."""
        if self._server.connections.get(self.fd) is not self:
            return
        self._closing = True
        self._reading = False
        self._unsent.clear()
        self._events = 0  # a decision that was made before, to pause it or to close it, finds nothing to change
        if trace.on:
            trace.event("x", "close", fd=self.fd, why=(error and error.strerror) or "closed")
        self._server.poller.unregister(self.fd)
        self._socket.close()
        self._server.discard(self)

    def pause_writing(self) -> None:
        """More is unread than the high-water mark."""
        self._behind = True
        if trace.on:
            trace.event("=", "pause_writing", fd=self.fd, size=self._size, why="it lags: floods wait for it")
        self._server.carry_out(self._room.unread(self, self._size, time.monotonic()))

    def resume_writing(self) -> None:
        """At most half the high-water mark is unread."""
        self._behind = False
        if trace.on:
            trace.event("=", "resume_writing", fd=self.fd, size=self._size, why="it has caught up")
        self._server.carry_out(self._room.unread(self, self._size, time.monotonic()))

    def deliver(self, data: bytes) -> None:
        """Send lines of others."""
        if self._closing:
            return
        self._unsent.append(memoryview(data))
        self._size += len(data)
        if len(self._unsent) == 1:
            self._flush()
        else:
            self._report()

    def reject(self, data: bytes) -> None:
        """Say why and close."""
        if trace.on:
            trace.event("!", "reject", fd=self.fd, why=data.decode().strip())
        self.deliver(data)
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
        self._reading = False
        self._watch()

    def resume(self) -> None:
        """Read again."""
        if trace.on:
            trace.event("=", "resume_reading", fd=self.fd)
        self._reading = not self._closing
        self._watch()

    def close(self) -> None:
        """Close when all is written."""
        self._closing = True
        self._reading = False
        self._watch() if self._unsent else self.abort()

    def abort(self) -> None:
        """Close now."""
        self.connection_lost(None)

    def ready(self, events: int) -> None:
        """What poll reported."""
        if events & select.POLLOUT:
            self._flush()
        if self._reading:
            self._receive(events)
        elif events & ENDED:
            self.connection_lost(None)

    def _receive(self, events: int) -> None:
        try:
            data = self._socket.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self.connection_lost(error)
            return
        if trace.on:
            why = "said; delivered at the end of this turn" if data else "it says no more: it leaves"
            trace.event("<", "recv", fd=self.fd, flags=flag_names(events, "POLL"), size=len(data), why=why)
        self.data_received(data) if data else self.eof_received()

    def _flush(self) -> None:
        try:
            while self._unsent:
                self._sent(self._socket.sendmsg(list(islice(self._unsent, GATHER))))
        except BlockingIOError:
            if trace.on:
                trace.event("=", "EAGAIN", fd=self.fd, waiting=self._size, why="the rest when poll says POLLOUT")
        except OSError as error:
            self.connection_lost(error)
            return
        if self._closing and not self._unsent:
            self.abort()
            return
        self._watch()
        self._report()

    def _sent(self, count: int) -> None:
        self._size -= count
        if trace.on:
            trace.event(">", "sendmsg", fd=self.fd, size=count, waiting=self._size)
        while count:
            first = self._unsent[0]
            if count < len(first):
                self._unsent[0] = first[count:]
                return
            count -= len(first)
            self._unsent.popleft()

    def _report(self) -> None:
        if not self._behind:
            if self._size > self._room.high_water:
                self.pause_writing()
        elif self._size <= self._room.high_water // 2:
            self.resume_writing()
        else:
            self._server.carry_out(self._room.unread(self, self._size, time.monotonic()))

    def _watch(self) -> None:
        events = (select.POLLIN if self._reading else 0) | (select.POLLOUT if self._unsent else 0)
        if events != self._events:
            self._events = events
            self._server.poller.modify(self.fd, events)


def serve(options: argparse.Namespace) -> None:
    """The server, until SIGINT or SIGTERM."""
    with (
        SelfPipe(signal.SIGINT, signal.SIGTERM) as signals,
        ChatServer(options.host, options.port, max_users=options.max_users, high_water=options.high_water) as server,
    ):
        ready(server.addresses)
        server.run(signals)


def talk(options: argparse.Namespace) -> None:
    """The client, until the server closes."""
    converse(options.host, options.port)


ROLES = {"server": serve, "client": talk}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the role that the command line names; the exit status."""
    return execute(program_parser("chat", blocking=True), argv, lambda options: ROLES[options.role](options))


if __name__ == "__main__":
    sys.exit(main())
