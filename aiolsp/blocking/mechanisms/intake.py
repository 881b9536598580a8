"""Where a process of the pool gets its connections from: its parent, a listener that all share, or one of its own.

The child's side of blocking/mechanisms/processes.py, for a readiness loop: an `Acceptor` whose connections come from
its listeners, from the parent, or from both. The twin of mechanisms/intake.py.

Calling sequence: start -> (accept | next_deadline | tick)* -> draining, closed by itself.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn, TypeAlias

from aiolsp.blocking.mechanisms.acceptor import Acceptor, Poller
from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.linux.channel import CONNECTION, LEAVING, READY, REFUSED, TAKEN, Channel
from aiolsp.linux.listener import Address
from aiolsp.tracing import trace

Serve: TypeAlias = "Callable[[Intake], None]"
"""What a child runs: its readiness loop with the `Intake` in it, until that is ``draining`` and all is finished."""


class Intake:
    """A child's connections; owned by its one thread, whose loop treats it as it would an `Acceptor`::

        with select.epoll() as poller:
            intake.start(poller, on_accept)
            while not intake.draining or connections:
                for fd, events in poller.poll(...):  # at most until intake.next_deadline()
                    if fd in intake:
                        intake.accept(fd)
                    elif fd in connections:  # else an earlier event of this turn has ended it
                        ...
                intake.tick(time.monotonic())

    Once ``draining``, it takes no more, and all that came has been handed to *on_accept*. ``index`` is its slot, which
    it shares with the one that it succeeds while that drains; ``place`` is its alone.
    """

    def __init__(
        self, channel: Channel, listeners: Sequence[socket.socket], index: int, generation: int, place: int
    ) -> None:
        self.index = index
        self.generation = generation
        self.place = place
        self.draining = False
        self._channel = channel
        self._listeners = listeners
        self._signals = SelfPipe(signal.SIGTERM, signal.SIGHUP)

    def __contains__(self, fd: int) -> bool:
        """Whether *fd* is one of those that `accept` is for."""
        return fd in (self._channel.fileno(), self._signals.fileno()) or fd in self._acceptor

    def start(self, poller: Poller, on_accept: Callable[[socket.socket, Address], None]) -> None:
        """Be ready: call *on_accept* with each connection, non-blocking, until the parent or SIGTERM asks to drain."""
        self._poller = poller
        self._acceptor = Acceptor(self._listeners, poller, on_accept)
        self._acceptor.start()
        # By the self-pipe: the kernel may give a signal to another thread, and this one would wait on.
        self._signals.__enter__()
        for fd in (self._channel.fileno(), self._signals.fileno()):
            poller.register(fd, select.POLLIN)
        self._channel.send(READY)

    def next_deadline(self) -> float | None:
        """When the loop must wake to `tick`, by ``time.monotonic``; None if only an event matters."""
        return self._acceptor.next_deadline()

    def tick(self, now: float) -> None:
        """End a pause whose time has come."""
        self._acceptor.tick(now)

    def accept(self, fd: int) -> None:
        """Take what has come at the ready descriptor *fd*."""
        if fd in self._acceptor:
            self._acceptor.accept(fd)
        elif fd == self._signals.fileno():
            self._signalled()
        else:
            self._hear()

    def _hear(self) -> None:
        for word, descriptors in self._channel.receive():
            if word == CONNECTION:
                self._take(descriptors)
            else:
                self._drain("finish what is here, then end")
                return
        if self._channel.ended:
            self._drain("the parent is gone")

    def _take(self, descriptors: list[int]) -> None:
        if not descriptors:  # there was none free for it (MSG_CTRUNC)
            self._channel.send(REFUSED)
            return
        self._channel.send(TAKEN)
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

    def _drain(self, why: str) -> None:
        if trace.on:
            trace.event("<", "drain", why=why)
        self._poller.unregister(self._channel.fileno())
        self._acceptor.finish()
        self.draining = True

    def _signalled(self) -> None:
        # That a terminal is gone (SIGHUP) is for the parent to know. Of a connection that the parent may have sent just
        # now, its answer says that no more are on their way.
        if signal.SIGTERM in self._signals.receive() and not self.draining:
            self._channel.send(LEAVING)


def live(serve: Serve, intake: Intake) -> NoReturn:
    """Run *serve* in a child, and end with it: nothing of a child may return into its parent's code."""
    status = 1
    try:
        serve(intake)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
