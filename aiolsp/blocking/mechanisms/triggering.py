"""Try level and edge triggering in a readiness loop: the twin of mechanisms/triggering.py.

Book p. 154, listing 9-3. The loop is our own, so its calls of epoll_wait are counted too.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial

from aiolsp.linux.listener import listen
from aiolsp.sansio.trigger import QUIET, Counts, Outcome, Scenario, Sizes, Trial


class Experiment:
    """One scenario of the matrix, with clients of its own: ``Experiment(scenario, sizes, host).run()``."""

    def __init__(self, scenario: Scenario, sizes: Sizes, host: str) -> None:
        self._scenario = scenario
        self._sizes = sizes
        self._host = host
        self._trial = Trial(scenario, sizes, Counts(waits=0))
        self._take = self._accept if scenario.watched == "listener" else self._read

    def run(self) -> Outcome:
        """Let everything arrive, watch it, and count until all is done or nothing more is reported. Raises OSError."""
        with ExitStack() as self._stack:
            listener, *_ = [self._stack.enter_context(each) for each in listen(self._host, 0)]
            clients = [self._connect(listener) for _ in range(self._sizes.connections)]
            watched = [listener]
            if self._scenario.watched == "connection":
                watched = [self._receiver(listener) for _ in clients]
                for client in clients:
                    client.sendall(b"x" * self._sizes.bytes)
            self._watch(watched)
            self._come_to_rest()
        return self._trial.outcome

    def _connect(self, listener: socket.socket) -> socket.socket:
        client = self._stack.enter_context(socket.socket(listener.family))
        client.connect(listener.getsockname())
        return client

    def _receiver(self, listener: socket.socket) -> socket.socket:
        waiting = select.poll()
        waiting.register(listener, select.POLLIN)
        waiting.poll()
        connection, _ = listener.accept()
        connection.setblocking(False)
        return self._stack.enter_context(connection)

    def _watch(self, watched: Iterable[socket.socket]) -> None:
        self._poller = self._stack.enter_context(select.epoll())
        self._watched = {each.fileno(): each for each in watched}
        for fd in self._watched:
            self._poller.register(fd, select.EPOLLIN | (select.EPOLLET if self._scenario.mode == "et" else 0))

    def _come_to_rest(self) -> None:
        while not self._trial.complete:
            self._trial.counts.waits = (self._trial.counts.waits or 0) + 1
            ready = self._poller.poll(QUIET)
            for fd, _ in ready:
                self._trial.wake(partial(self._take, self._watched[fd]))
            if not ready:
                return

    def _accept(self, listener: socket.socket) -> int:
        self._stack.enter_context(listener.accept()[0])
        return 1

    def _read(self, connection: socket.socket) -> int:
        return len(connection.recv(self._sizes.buffer))
