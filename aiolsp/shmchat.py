"""The shared-memory chat: a process with a loop of its own for each client, lines read in place.

Book p. 255, listing 13-4.

Facts (both loops, this kernel)
    - To fork inside a running loop is to share its epoll with the child (linux/zygote.py); a zygote that was forked
      before there was a loop has nothing to share but what all shall share, the memory and the doorbells.
    - A socket is closed when the last process that has it closes it.
    - A child may be killed at any moment, and so may the parent.
    - Shared memory slows nobody down: a ring that is full is overwritten.
Consequence
    What a child leaves half done must not matter to the others (sansio/slots.py); what must be tidied up has to belong
    to one who cannot be forgotten: the kernel, or the zygote, which ends with the parent and takes the children along.
Decision
    The parent accepts, gives out a slot and sends the client's socket to the zygote, whose child serves that client:
    its lines go to its own slot and the doorbells of the others are rung, with no lock and no byte through the parent.
    The parent keeps its copy of the socket until the child has ended, and only then closes it: who sees the end of his
    connection finds the slot free. Who does not read is overtaken and told how many lines he missed; a flood waits for
    those that were merely not scheduled yet (sansio/shmchat.py). SIGTERM stores a word, and rings.
Price
    A process for each client: 3 MiB of its own on uvloop, 3 on the stock loop (2 in the twin), and 5 ms until its first
    line is heard (4 in the twin). A line wakes as many processes as there are others, about 0.1 ms later. Two members
    may hear two speakers in a different order. (Memory: median of 10 children; times: least of 60 on a busy machine.)
The C++ original renumbers its users when one leaves: the last one's process goes on with the old number, reads the
slot of another and writes where nobody looks. It stops when a child is killed, and leaves its shared memory behind.

Server: enter -> (add | reports_came | discard)* -> exit. Child: connection_made -> (data_received | rung |
pause_writing | resume_writing)* -> eof_received? -> connection_lost.

    server -v --max-users 2: the parent             the children of slots 0 and 1
    < accept fd=17 peer=127.0.0.1:40496
    = fork fd=17 slot=0 pid=15195
    < accept fd=18 peer=127.0.0.1:40510
    = fork fd=18 slot=1 pid=15197
    < accept fd=19 peer=127.0.0.1:40512
    ! reject fd=19  too many users
                                                    < data_received fd=9 6 B slot=1  into its slot; ring the others
                                                    < eventfd_read fd=3 slot=0
                                                    > write fd=9 6 B slot=0 waiting=0
                                                    < eof_received fd=9 slot=1  it says no more: it leaves
                                                    x connection_lost fd=9 slot=1  closed
    < waitid slot=1 pid=15197 status=0
    < signal SIGTERM  as an event of the loop
                                                    < eventfd_read fd=3 slot=0
                                                    x connection_lost fd=9 slot=0  closed
    < waitid slot=0 pid=15195 status=0
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

from aiolsp.cli import EXIT_FAILURE, EXIT_OK, execute, program_parser, ready
from aiolsp.linux.doorbell import Doorbells
from aiolsp.linux.listener import Address, format_address, listen
from aiolsp.linux.shm import SharedMemory
from aiolsp.linux.zygote import Exited, Failed, Started, Zygote, ZygoteDied
from aiolsp.mechanisms.acceptor import Acceptor
from aiolsp.mechanisms.loop import loop_factory, run
from aiolsp.mechanisms.signals import SignalReceiver
from aiolsp.mechanisms.splicing import converse
from aiolsp.sansio.chat import PATIENCE, TOO_MANY
from aiolsp.sansio.shmchat import GRACE, HIGH_WATER, NO_PROCESS, RoomSettings, Seat
from aiolsp.sansio.slots import SharedSlots, memory_size
from aiolsp.tracing import trace

log = logging.getLogger("aiolsp.shmchat")

DEFAULTS = RoomSettings()


class ShmChatServer:
    """The chat room on a port: made before any loop or thread, then ``async with server: server.addresses``.

    Raises OSError if the memory or a doorbell cannot be had, RuntimeError beside threads, and, entered, ListenError if
    the port cannot be had.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, settings: RoomSettings = DEFAULTS, *, loop: str = "auto"
    ) -> None:
        self.addresses: list[Address] = []
        self.members: dict[int, Child] = {}
        self._where = host, port
        self._memory = SharedMemory(settings.shm, memory_size(settings.max_users, settings.slot_size))
        self.slots = SharedSlots(self._memory.buffer, settings.max_users, settings.slot_size)
        self.bells = Doorbells(settings.max_users)
        self._loop_name = loop
        loop_factory(loop)  # imports it, for all children at once
        self._zygote = Zygote(self._become_member)

    async def __aenter__(self) -> ShmChatServer:
        self._loop = asyncio.get_running_loop()
        self._empty = asyncio.Event()
        self._empty.set()
        self.broken = asyncio.Event()
        try:
            listeners = listen(*self._where)
        except OSError:
            self._release()
            raise
        self.addresses = [listener.getsockname() for listener in listeners]
        self._acceptor = Acceptor(listeners, self.add)
        self._acceptor.start()
        self._loop.add_reader(self._zygote.fileno(), self.reports_came)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._acceptor.close()
        self.slots.close()
        self.bells.ring(range(self.slots.slots))
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await self._empty.wait()
        self._loop.remove_reader(self._zygote.fileno())
        self._release()

    def add(self, peer: socket.socket, address: Address) -> None:
        """A peer has connected: it gets a slot and a process, or is told why not. Takes the descriptor in any case."""
        peer.setblocking(False)
        fd = peer.detach()
        slot = self.slots.take()
        if slot is None:
            self.reject(fd, TOO_MANY)
            return
        child = Child(slot, fd, format_address(address))
        try:
            token = self._zygote.spawn(f"{slot} {child.peer}".encode(), [fd])
        except (BlockingIOError, ZygoteDied) as error:
            self._refuse(child, str(error) or "the zygote has ended")
            return
        self.members[token] = child
        self._empty.clear()

    def reports_came(self) -> None:
        """The zygote tells what has become of children."""
        try:
            news = self._zygote.receive()
        except ZygoteDied:
            log.error("the zygote has ended: nobody else can be let in")
            self._loop.remove_reader(self._zygote.fileno())
            self.broken.set()
            return
        for report in news:
            match report:
                case Started(token, process):
                    process.close()
                    if trace.on:
                        child = self.members[token]
                        trace.event("=", "fork", fd=child.fd, slot=child.slot, pid=process.pid)
                case Failed(token, number):
                    self._refuse(self.members.pop(token), os.strerror(number).lower())
                case Exited(token, pid, status):
                    if trace.on:
                        trace.event("<", "waitid", slot=self.members[token].slot, pid=pid, status=status)
                    self.discard(self.members.pop(token))
        if not self.members:
            self._empty.set()

    def discard(self, child: Child) -> None:
        """The process has ended, whoever ended it: its slot is free, and now its client may see it."""
        self.slots.release(child.slot)
        self.bells.ring(self.slots.others(child.slot))
        os.close(child.fd)

    def reject(self, fd: int, data: bytes) -> None:
        """Say why and close."""
        if trace.on:
            trace.event("!", "reject", fd=fd, why=data.decode().strip())
        with suppress(OSError):  # it has reset the connection
            os.write(fd, data)
        os.close(fd)

    def _refuse(self, child: Child, reason: str) -> None:
        log.warning("no process for %s: %s", child.peer, reason)
        self.slots.release(child.slot)
        self.reject(child.fd, NO_PROCESS)

    def _release(self) -> None:
        self._zygote.close()
        for child in self.members.values():
            os.close(child.fd)
        self.members.clear()
        self.bells.close()
        self.slots.detach()
        self._memory.close()

    def _become_member(self, payload: bytes, descriptors: list[int]) -> int:
        slot, _, peer = payload.decode().partition(" ")
        run(self._converse(int(slot), peer, socket.socket(fileno=descriptors[0])), loop=self._loop_name)
        return EXIT_OK

    async def _converse(self, slot: int, peer: str, connection: socket.socket) -> None:
        member = Member(self.slots, self.bells, slot, peer)
        with suppress(OSError):  # the client has gone before it came
            await asyncio.get_running_loop().connect_accepted_socket(lambda: member, connection)
            await member.ended.wait()


class Child:
    """What the parent knows of a member: its slot, its client."""

    def __init__(self, slot: int, fd: int, peer: str) -> None:
        self.slot = slot
        self.fd = fd
        self.peer = peer


class Member(asyncio.Protocol):
    """One client, in a process of its own: connection_made -> (data_received | rung | pause_writing | resume_writing)*
    -> eof_received? -> connection_lost."""

    def __init__(self, slots: SharedSlots, bells: Doorbells, slot: int, peer: str) -> None:
        self._slots = slots
        self._bells = bells
        self._slot = slot
        self._seat = Seat(slots, slot)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._left = False
        self._open = True
        self.peer = peer
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take part, with a write buffer that reports when it crosses HIGH_WATER."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER, low=HIGH_WATER // 2)
        self.fd = transport.get_extra_info("socket").fileno()
        self._loop.add_reader(self._bells.fileno(self._slot), self.rung)

    def data_received(self, data: bytes) -> None:
        """Say it to the others."""
        if trace.on:
            why = "into its slot; ring the others"
            trace.event("<", "data_received", fd=self.fd, size=len(data), slot=self._slot, why=why)
        self._bells.ring(self._seat.said(data, self._loop.time()))
        self._watch()

    def eof_received(self) -> None:
        """Leave; the transport closes when all that was on its way is written."""
        if trace.on:
            trace.event("<", "eof_received", fd=self.fd, slot=self._slot, why="it says no more: it leaves")
        self.hear()
        self.leave()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave, if that has not happened yet."""
        if trace.on:
            trace.event("x", "connection_lost", fd=self.fd, slot=self._slot, why=str(exc or "closed"))
        self._open = False
        self.leave()

    def pause_writing(self) -> None:
        """More is unread than HIGH_WATER."""
        if trace.on:
            why = "its client does not read: it may be overtaken"
            size = self._transport.get_write_buffer_size()
            trace.event("=", "pause_writing", fd=self.fd, size=size, slot=self._slot, why=why)
        self._bells.ring(self._seat.lag())

    def resume_writing(self) -> None:
        """At most half of that is unread."""
        if trace.on:
            size = self._transport.get_write_buffer_size()
            trace.event("=", "resume_writing", fd=self.fd, size=size, slot=self._slot)
        if not self._left:
            self._seat.catch_up()
            self.hear()

    def rung(self) -> None:
        """Somebody has said something, has read what was in the way, or has ended; or all shall end."""
        self._bells.clear(self._slot)
        if trace.on:
            trace.event("<", "eventfd_read", fd=self._bells.fileno(self._slot), slot=self._slot)
        self.hear()
        self._bells.ring(self._seat.write(self._loop.time()))
        if self._slots.closed:
            self.leave()
        self._watch()

    def hear(self) -> None:
        """Send what the others have said."""
        heard = self._seat.hear()
        self._bells.ring(heard.ring)
        if heard.missed:
            log.info("%s missed %d lines: it reads too slowly", self.peer, heard.missed)
        if heard.data and not self._transport.is_closing():
            self._transport.write(heard.data)
            if trace.on:
                waiting = self._transport.get_write_buffer_size()
                trace.event(">", "write", fd=self.fd, size=len(heard.data), slot=self._slot, waiting=waiting)

    def leave(self) -> None:
        """Say the last of it and hear no more; close when all is written, after PATIENCE in any case."""
        if not self._left:
            self._left = True
            self._bells.ring(self._seat.leave(self._loop.time()))
            self._transport.close()
            self._loop.call_later(PATIENCE, self._transport.abort)
        self._watch()

    def _watch(self) -> None:
        """Read while there is room in the slot; wake when patience runs out; end when all is said."""
        if self._seat.held_up != self._paused and not self._left:
            self._paused = not self._paused
            self._transport.pause_reading() if self._paused else self._transport.resume_reading()
        deadline = self._seat.next_deadline()
        if self._timer is not None and self._timer.when() != deadline:
            self._timer.cancel()
            self._timer = None
        if deadline is not None and self._timer is None:
            self._timer = self._loop.call_at(deadline, self._tick)
        if not (self._open or self._seat.held_up):
            self._loop.remove_reader(self._bells.fileno(self._slot))
            self.ended.set()

    def _tick(self) -> None:
        self._timer = None
        self._bells.ring(self._seat.tick(self._loop.time()))
        self._watch()


def serve(options: argparse.Namespace) -> int:
    """The server, until SIGINT or SIGTERM."""
    settings = RoomSettings(options.max_users, options.shm, options.slot_size)
    server = ShmChatServer(options.host, options.port, settings, loop=options.loop)
    return run(_serve(server), loop=options.loop)


async def _serve(server: ShmChatServer) -> int:
    async with SignalReceiver(signal.SIGINT, signal.SIGTERM) as signals, server:
        ready(server.addresses)
        stopped = asyncio.ensure_future(anext(signals))
        broken = asyncio.ensure_future(server.broken.wait())
        await asyncio.wait({stopped, broken}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        return EXIT_FAILURE if broken.done() else EXIT_OK


def talk(options: argparse.Namespace) -> None:
    """The client, until the server closes."""
    run(converse(options.host, options.port), loop=options.loop)


ROLES = {"server": serve, "client": talk}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the role that the command line names; the exit status."""
    return execute(program_parser("shmchat"), argv, lambda options: ROLES[options.role](options))


if __name__ == "__main__":
    sys.exit(main())
