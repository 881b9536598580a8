"""Where a process of the pool gets its connections from: its parent, a listener that all share, or one of its own.

The child's side of mechanisms/processes.py, and what the two say to each other: messages of one byte on a SEQPACKET
socket, a connection's descriptor beside it. What the child says is said in order: the parent keeps a copy of each
connection until the answer to it has come.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from aiolsp.linux.listener import Address
from aiolsp.linux.zygote import receive, send
from aiolsp.mechanisms.acceptor import Acceptor
from aiolsp.mechanisms.loop import run
from aiolsp.mechanisms.signals import SignalReceiver
from aiolsp.tracing import trace

CONNECTION, DRAIN = b"c", b"d"
"""What the parent says: here is a connection; finish what you have."""

READY, LEAVING, TAKEN, REFUSED = b"r", b"l", b"t", b"n"
"""What a child says: I serve; let me go; I have the connection; I could not take it, for want of a descriptor."""

BUDGET = 64
"""Messages taken in one callback, so that others get a turn."""

BIRTH = struct.Struct("=II")
"""The payload of a child: the index of its slot, its generation."""

Serve: TypeAlias = "Callable[[Intake], Awaitable[None]]"
"""What a child runs: enters its server, awaits `Intake.run`, and returns when what it has is finished."""


class Intake:
    """A child's connections: ``await intake.run(protocol_factory)`` in what the pool was given as *serve*."""

    def __init__(self, control: socket.socket, listeners: list[socket.socket], index: int, generation: int) -> None:
        self.index = index
        self.generation = generation
        self._control = control
        self._listeners = listeners
        self._loop = asyncio.get_running_loop()
        self._draining = asyncio.Event()
        self._unsaid: deque[bytes] = deque()

    async def run(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        *,
        admit: Callable[[socket.socket, Address], bool] | None = None,
    ) -> None:
        """Give each connection a protocol, until the parent, or SIGTERM, asks to drain; *admit* as for `Acceptor`.

        When it returns, no connection comes any more, and those that came have their protocols.
        """
        self._acceptor = Acceptor(self._listeners, protocol_factory, admit=admit)
        self._loop.add_reader(self._control.fileno(), self._hear)
        async with SignalReceiver(signal.SIGTERM) as signals:
            leaving = self._loop.create_task(self._leave(signals))
            self._acceptor.start()
            self._say(READY)
            await self._draining.wait()
            leaving.cancel()
        await self._acceptor.finish()
        self._loop.remove_reader(self._control.fileno())
        self._loop.remove_writer(self._control.fileno())

    async def _leave(self, signals: SignalReceiver) -> None:
        async for _ in signals:
            self._say(LEAVING)  # the parent may have sent a connection just now: it says when there are no more

    def _hear(self) -> None:
        for _ in range(BUDGET):
            try:
                message, descriptors = receive(self._control, 1, 1)
            except BlockingIOError:
                return
            except ConnectionError:
                message, descriptors = b"", []
            if message == CONNECTION:
                self._take(descriptors)
                continue
            if trace.on:
                trace.event("<", "drain", why="finish what is here, then end" if message else "the parent is gone")
            self._loop.remove_reader(self._control.fileno())
            self._draining.set()
            return

    def _take(self, descriptors: list[int]) -> None:
        if not descriptors:  # there was none free for it (MSG_CTRUNC)
            self._say(REFUSED)
            return
        self._say(TAKEN)
        connection = socket.socket(fileno=descriptors[0])
        connection.setblocking(False)
        if trace.on:
            trace.event("<", "recvmsg", fd=connection.fileno(), flags="SCM_RIGHTS", why="a connection of ours now")
        try:
            peer = connection.getpeername()
        except OSError:  # it was reset on its way
            connection.close()
        else:
            self._acceptor.take(connection, peer)

    def _say(self, message: bytes) -> None:
        self._unsaid.append(message)
        if len(self._unsaid) == 1:
            self._go_on()

    def _go_on(self) -> None:
        try:
            while self._unsaid:
                send(self._control, self._unsaid[0])
                self._unsaid.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._control.fileno(), self._go_on)
            return
        except OSError:
            self._unsaid.clear()  # the parent is gone, and so is the zygote, who takes us along
        self._loop.remove_writer(self._control.fileno())


def be_child(serve: Serve, loop: str, payload: bytes, descriptors: list[int]) -> int:
    """What the zygote runs in each child: *serve* on a new event loop; its exit status."""

    async def main() -> None:
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=descriptors[0])
        control.setblocking(False)
        listeners = [socket.socket(fileno=descriptor) for descriptor in descriptors[1:]]
        for listener in listeners:
            listener.setblocking(False)
        with control:
            await serve(Intake(control, listeners, *BIRTH.unpack(payload)))

    run(main(), loop=loop)
    return 0
