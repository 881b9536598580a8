"""Where a process of the pool gets its connections from: its parent, a listener that all share, or one of its own.

The child's side of mechanisms/processes.py; what the two say to each other is in linux/channel.py.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import TypeAlias

from aiolsp.linux.channel import BIRTH, CONNECTION, LEAVING, READY, REFUSED, TAKEN, Channel
from aiolsp.linux.listener import stream_socket
from aiolsp.linux.process_control import no_action
from aiolsp.mechanisms.acceptor import Acceptor, Admit
from aiolsp.mechanisms.loop import run
from aiolsp.mechanisms.signals import SignalReceiver
from aiolsp.tracing import trace

Serve: TypeAlias = "Callable[[Intake], Awaitable[None]]"
"""What a child runs: enters its server, awaits `Intake.run`, and returns when what it has is finished."""


class Intake:
    """A child's connections: ``await intake.run(admit)`` in what the pool was given as *serve*.

    ``index`` is its slot, which it shares with the one that it succeeds while that drains; ``place`` is its alone.
    """

    def __init__(
        self, channel: Channel, listeners: list[socket.socket], index: int, generation: int, place: int
    ) -> None:
        self.index = index
        self.generation = generation
        self.place = place
        self._channel = channel
        self._listeners = listeners
        self._loop = asyncio.get_running_loop()
        self._draining = asyncio.Event()

    async def run(self, admit: Admit) -> None:
        """Give each connection the protocol of *admit*, until the parent, or SIGTERM, asks to drain.

        When it returns, no connection comes any more, and those that came have their protocols.
        """
        self._acceptor = Acceptor(self._listeners, admit)
        self._loop.add_reader(self._channel.fileno(), self._hear)
        async with SignalReceiver(signal.SIGTERM) as signals:
            leaving = self._loop.create_task(self._leave(signals))
            self._acceptor.start()
            self._channel.send(READY)
            await self._draining.wait()
            leaving.cancel()
        await self._acceptor.finish()
        self._loop.remove_reader(self._channel.fileno())

    async def _leave(self, signals: SignalReceiver) -> None:
        async for _ in signals:
            # Not the end yet: the parent may have sent a connection just now, and says when there are no more.
            self._channel.send(LEAVING)

    def _hear(self) -> None:
        for word, descriptors in self._channel.receive():
            if word == CONNECTION:
                self._take(descriptors)
            else:
                self._drain("finish what is here, then end")
        if self._channel.ended:
            self._drain("the parent is gone")

    def _drain(self, why: str) -> None:
        if trace.on:
            trace.event("<", "drain", why=why)
        self._loop.remove_reader(self._channel.fileno())
        self._draining.set()

    def _take(self, descriptors: list[int]) -> None:
        if not descriptors:  # there was none free for it (MSG_CTRUNC)
            self._channel.send(REFUSED)
            return
        self._channel.send(TAKEN)
        connection = stream_socket(socket.socket(fileno=descriptors[0]))
        if trace.on:
            trace.event("<", "recvmsg", fd=connection.fileno(), flags="SCM_RIGHTS", why="a connection of ours now")
        try:
            peer = connection.getpeername()
        except OSError:  # it was reset on its way
            connection.close()
        else:
            self._acceptor.take(connection, peer)


def be_child(serve: Serve, loop: str, payload: bytes, descriptors: list[int]) -> int:
    """What the zygote runs in each child: *serve* on a new event loop; its exit status."""
    # A terminal's hang-up, or a supervisor's SIGTERM, comes to the whole group, and is the parent's to act on: it must
    # not end a child that has begun to finish what it has. Programs that a child starts have neither handler.
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, no_action)

    async def main() -> None:
        channel = Channel(socket.socket(fileno=descriptors[0]))
        listeners = [stream_socket(socket.socket(fileno=descriptor)) for descriptor in descriptors[1:]]
        for listener in listeners:
            listener.setblocking(False)
        with closing(channel):
            await serve(Intake(channel, listeners, *BIRTH.unpack(payload)))

    run(main(), loop=loop)
    return 0
