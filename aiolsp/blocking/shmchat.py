"""The shared-memory chat: a process for each client, lines read in place. The blocking twin of aiolsp/shmchat.py.

Book p. 255, listing 13-4.

Facts (fork(2), poll(2), tried on this kernel)
    - A child of fork has the whole parent: memory that is shared stays shared, and descriptors stay open, also those of
      the other clients: as long as one copy is open, a client that is closed sees no end.
    - A handler of the parent's signals is the child's as well, until it is reset.
    - A process without threads and without an event loop may fork at any time.
Consequence
    No zygote is needed: the parent forks when it accepts. The child must close what belongs to others.
Decision
    The parent keeps each client's socket until it has reaped the child, and only then closes it: who sees the end of
    his connection finds the slot free. A child polls its client and its doorbell, and ends with its client.
Price
    The parent's whole state is copied (on write) into each child, and accepting waits for the fork.
The C++ original renumbers its users when one leaves: the last one's process goes on with the old number, reads the
slot of another and writes where nobody looks. It stops when a child is killed, and leaves its shared memory behind.

Server: enter -> run (add | discard)* -> exit. Child: run (data_received | rung)* -> eof_received -> connection_lost.
The trace is that of aiolsp/shmchat.py, but for the names of the calls: recv, send, close.
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterable, Sequence

from aiolsp.blocking.mechanisms.acceptor import Acceptor
from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.blocking.mechanisms.splicing import converse
from aiolsp.blocking.mechanisms.timers import milliseconds_until
from aiolsp.cli import execute, program_parser, ready
from aiolsp.linux.doorbell import Doorbells
from aiolsp.linux.epoll_flags import flag_names
from aiolsp.linux.forking import fork
from aiolsp.linux.listener import Address, format_address, listen
from aiolsp.linux.pidfd import PidFd
from aiolsp.linux.shm import SharedMemory
from aiolsp.sansio.chat import PATIENCE, TOO_MANY
from aiolsp.sansio.shmchat import GRACE, HIGH_WATER, NO_PROCESS, RoomSettings, Seat
from aiolsp.sansio.slots import SharedSlots, memory_size
from aiolsp.tracing import trace

log = logging.getLogger("aiolsp.shmchat")

DEFAULTS = RoomSettings()

READ_SIZE = 64 * 1024
"""Bytes of one recv."""

ENDED = select.POLLERR | select.POLLHUP
"""What poll reports whether it was asked or not."""


class ShmChatServer:
    """The chat room on a port: ``with ShmChatServer(port=0) as server: server.addresses; server.run(signals)``.

    Raises OSError if the memory or a doorbell cannot be had, ListenError if the port cannot.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, settings: RoomSettings = DEFAULTS) -> None:
        self.addresses: list[Address] = []
        self.members: dict[int, Child] = {}
        self._where = host, port
        self._memory = SharedMemory(settings.shm, memory_size(settings.max_users, settings.slot_size))
        self.slots = SharedSlots(self._memory.buffer, settings.max_users, settings.slot_size)
        self.bells = Doorbells(settings.max_users)

    def __enter__(self) -> ShmChatServer:
        self.poller = select.poll()
        listeners = listen(*self._where)
        self.addresses = [listener.getsockname() for listener in listeners]
        self._acceptor = Acceptor(listeners, self.poller, self.add)
        self._acceptor.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._acceptor.close()
        self.slots.close()
        self.bells.ring(range(self.slots.slots))
        end = time.monotonic() + GRACE
        while self.members and (left := end - time.monotonic()) > 0:
            self._reap(self.poller.poll(left * 1000))
        for child in list(self.members.values()):
            child.process.send(signal.SIGKILL)
            child.process.wait()
            self.discard(child)
        self.bells.close()
        self.slots.detach()
        self._memory.close()

    def run(self, signals: SelfPipe) -> None:
        """Serve until a signal comes."""
        self.poller.register(signals.fileno(), select.POLLIN)
        while True:
            events = self.poller.poll(milliseconds_until(self._acceptor.next_deadline()))
            self._reap(events)
            for fd, _ in events:
                if fd in self._acceptor:
                    self._acceptor.accept(fd)
                elif fd == signals.fileno() and signals.receive():
                    self.poller.unregister(fd)
                    return
            self._acceptor.tick(time.monotonic())

    def add(self, peer: socket.socket, address: Address) -> None:
        """A peer has connected: it gets a slot and a process, or is told why not."""
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        slot = self.slots.take()
        if slot is None:
            self.reject(peer, TOO_MANY)
            return
        try:
            pid = fork([peer.fileno(), *self.bells.descriptors])
            if pid == 0:
                self._become_member(slot, peer, address)
            process = PidFd.of_child(pid)
        except OSError as error:
            log.warning("no process for %s: %s", format_address(address), os.strerror(error.errno or 0).lower())
            self.slots.release(slot)
            self.reject(peer, NO_PROCESS)
            return
        self.members[process.fileno()] = Child(slot, peer, process)
        self.poller.register(process.fileno(), select.POLLIN)
        if trace.on:
            trace.event("=", "fork", fd=peer.fileno(), slot=slot, pid=pid)

    def discard(self, child: Child) -> None:
        """The process has ended, whoever ended it: its slot is free, and now its client may see it."""
        self.poller.unregister(child.process.fileno())
        del self.members[child.process.fileno()]
        child.process.close()
        self.slots.release(child.slot)
        self.bells.ring(self.slots.others(child.slot))
        child.connection.close()

    def reject(self, peer: socket.socket, data: bytes) -> None:
        """Say why and close."""
        if trace.on:
            trace.event("!", "reject", fd=peer.fileno(), why=data.decode().strip())
        try:
            peer.send(data)
        except OSError:  # it has reset the connection
            pass
        peer.close()

    def _reap(self, events: Iterable[tuple[int, int]]) -> None:
        for fd, _ in events:
            if fd in self.members:
                child = self.members[fd]
                status = child.process.wait()
                if trace.on:
                    trace.event("<", "waitid", fd=fd, slot=child.slot, pid=child.process.pid, status=status)
                self.discard(child)

    def _become_member(self, slot: int, peer: socket.socket, address: Address) -> None:
        status = 1
        try:
            Member(self.slots, self.bells, slot, peer, address).run()
            status = 0
        except Exception as error:
            log.error("the process of %s failed: %r", format_address(address), error)
        finally:
            os._exit(status)


class Child:
    """What the parent knows of a member: its slot, its client, its process."""

    def __init__(self, slot: int, connection: socket.socket, process: PidFd) -> None:
        self.slot = slot
        self.connection = connection
        self.process = process


class Member:
    """One client, in a process of its own: run -> (data_received | rung | pause_writing | resume_writing)* ->
    eof_received? -> connection_lost."""

    def __init__(
        self, slots: SharedSlots, bells: Doorbells, slot: int, connection: socket.socket, peer: Address
    ) -> None:
        self._slots = slots
        self._bells = bells
        self._slot = slot
        self._seat = Seat(slots, slot)
        self._socket = connection
        self.fd = connection.fileno()
        self.peer = peer
        self._unsent = bytearray()
        self._behind = False
        self._left = False
        self._open = True
        self._deadline: float | None = None
        self._poller = select.poll()
        self._events: int = select.POLLIN

    def run(self) -> None:
        """Until the client has left and what it said is written."""
        bell = self._bells.fileno(self._slot)
        self._poller.register(bell, select.POLLIN)
        self._poller.register(self.fd, self._events)
        while self._open or self._seat.held_up:
            for fd, events in self._poller.poll(self._timeout()):
                if fd == bell:
                    self.rung()
                elif self._open:
                    self.ready(events)
            self._tick()

    def data_received(self, data: bytes) -> None:
        """Say it to the others."""
        self._ring(self._seat.said(data, time.monotonic()))

    def eof_received(self) -> None:
        """Leave; close when all that was on its way is written."""
        self.hear()
        self.leave()

    def connection_lost(self, error: OSError | None) -> None:
        """Leave, if that has not happened yet."""
        if not self._open:
            return
        self._open = False
        if trace.on:
            trace.event("x", "close", fd=self.fd, slot=self._slot, why=(error and error.strerror) or "closed")
        self.leave()
        self._poller.unregister(self.fd)
        self._socket.close()

    def pause_writing(self) -> None:
        """More is unread than HIGH_WATER."""
        self._behind = True
        if trace.on:
            why = "its client does not read: it may be overtaken"
            trace.event("=", "pause_writing", fd=self.fd, size=len(self._unsent), slot=self._slot, why=why)
        self._ring(self._seat.lag())

    def resume_writing(self) -> None:
        """At most half of that is unread."""
        self._behind = False
        if trace.on:
            trace.event("=", "resume_writing", fd=self.fd, size=len(self._unsent), slot=self._slot)
        self._seat.catch_up()
        self.hear()

    def rung(self) -> None:
        """Somebody has said something, has read what was in the way, or has ended; or all shall end."""
        self._bells.clear(self._slot)
        if trace.on:
            trace.event("<", "eventfd_read", fd=self._bells.fileno(self._slot), slot=self._slot)
        self.hear()
        self._ring(self._seat.write(time.monotonic()))
        if self._slots.closed:
            self.leave()

    def hear(self) -> None:
        """Send what the others have said."""
        heard = self._seat.hear()
        self._ring(heard.ring)
        if heard.missed:
            log.info("%s missed %d lines: it reads too slowly", format_address(self.peer), heard.missed)
        if heard.data and self._open:
            self._unsent += heard.data
            self._flush()

    def leave(self) -> None:
        """Say the last of it and hear no more; close when all is written, after PATIENCE in any case."""
        if not self._left:
            self._left = True
            self._deadline = time.monotonic() + PATIENCE
            self._ring(self._seat.leave(time.monotonic()))
        if self._open and not self._unsent:
            self.abort()

    def abort(self) -> None:
        """Close now."""
        self.connection_lost(None)

    def ready(self, events: int) -> None:
        """What poll reported of the client."""
        if events & select.POLLOUT:
            self._flush()
        if self._open and not (self._left or self._seat.held_up):
            self._receive(events)
        elif self._open and events & ENDED:
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
            why = "into its slot; ring the others" if data else "it says no more: it leaves"
            names = flag_names(events, "POLL")
            trace.event("<", "recv", fd=self.fd, flags=names, size=len(data), slot=self._slot, why=why)
        self.data_received(data) if data else self.eof_received()

    def _flush(self) -> None:
        try:
            while self._unsent:
                count = self._socket.send(self._unsent)
                del self._unsent[:count]
                if trace.on:
                    trace.event(">", "send", fd=self.fd, size=count, slot=self._slot, waiting=len(self._unsent))
        except BlockingIOError:
            pass
        except OSError as error:
            self.connection_lost(error)
            return
        if self._left and not self._unsent:
            self.abort()
        elif not self._left and not self._behind and len(self._unsent) > HIGH_WATER:
            self.pause_writing()
        elif self._behind and not self._left and len(self._unsent) <= HIGH_WATER // 2:
            self.resume_writing()

    def _watch(self) -> None:
        reading = not (self._left or self._seat.held_up)
        events = (select.POLLIN if reading else 0) | (select.POLLOUT if self._unsent else 0)
        if self._open and events != self._events:
            self._events = events
            self._poller.modify(self.fd, events)

    def _ring(self, slots: Iterable[int]) -> None:
        self._bells.ring(slots)

    def _tick(self) -> None:
        now = time.monotonic()
        self._ring(self._seat.tick(now))
        if self._open and self._deadline is not None and self._deadline <= now:
            self.abort()
        self._watch()

    def _timeout(self) -> int | None:
        closing = self._deadline if self._open else None
        return milliseconds_until(self._seat.next_deadline(), closing)


def serve(options: argparse.Namespace) -> None:
    """The server, until SIGINT or SIGTERM."""
    settings = RoomSettings(options.max_users, options.shm, options.slot_size)
    with (
        SelfPipe(signal.SIGINT, signal.SIGTERM) as signals,
        ShmChatServer(options.host, options.port, settings) as server,
    ):
        ready(server.addresses)
        server.run(signals)


def talk(options: argparse.Namespace) -> None:
    """The client, until the server closes."""
    converse(options.host, options.port)


ROLES = {"server": serve, "client": talk}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the role that the command line names; the exit status."""
    parser = program_parser("shmchat", blocking=True)
    return execute(parser, argv, lambda options: ROLES[options.role](options))


if __name__ == "__main__":
    sys.exit(main())
