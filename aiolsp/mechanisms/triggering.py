"""Try level and edge triggering on listeners and connections at which all is there before: the scenarios of a matrix.

Book p. 154, listing 9-3. An event loop does not tell how often it calls epoll_wait, so that is not counted.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from functools import partial

from aiolsp.linux.listener import listen
from aiolsp.mechanisms.epoll import EpollWatcher
from aiolsp.sansio.trigger import QUIET, Counts, Outcome, Scenario, Sizes, Trial


class Experiment:
    """One scenario of the matrix, with clients of its own: ``await Experiment(scenario, sizes, host).run()``."""

    def __init__(self, scenario: Scenario, sizes: Sizes, host: str) -> None:
        self._scenario = scenario
        self._sizes = sizes
        self._host = host
        self._trial = Trial(scenario, sizes, Counts())
        self._take = self._accept if scenario.watched == "listener" else self._read
        self._woken = asyncio.Event()
        self._failure: OSError | None = None

    async def run(self) -> Outcome:
        """Let everything arrive, watch it, and count until all is done or nothing more is reported. Raises OSError."""
        with ExitStack() as self._stack:
            listener, *_ = [self._stack.enter_context(each) for each in listen(self._host, 0)]
            clients = [await self._connect(listener) for _ in range(self._sizes.connections)]
            watched = [listener]
            if self._scenario.watched == "connection":
                watched = [await self._receiver(listener) for _ in clients]
                for client in clients:
                    await asyncio.get_running_loop().sock_sendall(client, b"x" * self._sizes.bytes)
            self._watch(watched)
            await self._come_to_rest()
        return self._trial.outcome

    async def _connect(self, listener: socket.socket) -> socket.socket:
        client = self._stack.enter_context(socket.socket(listener.family))
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, listener.getsockname())
        return client

    async def _receiver(self, listener: socket.socket) -> socket.socket:
        connection, _ = await asyncio.get_running_loop().sock_accept(listener)
        return self._stack.enter_context(connection)

    def _watch(self, watched: Iterable[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        watcher = self._stack.enter_context(EpollWatcher())
        for each in watched:
            if self._scenario.mode == "et":
                watcher.add(each.fileno(), select.EPOLLIN | select.EPOLLET, partial(self._ready, each))
            else:
                loop.add_reader(each.fileno(), self._ready, each, each.fileno(), select.EPOLLIN)
                self._stack.callback(loop.remove_reader, each.fileno())

    async def _come_to_rest(self) -> None:
        while not self._trial.complete:
            self._woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(QUIET):
                    await self._woken.wait()
            if self._failure is not None:
                raise self._failure
            if not self._woken.is_set():
                return

    def _ready(self, each: socket.socket, fd: int, events: int) -> None:
        self._woken.set()
        try:
            self._trial.wake(partial(self._take, each))
        except OSError as error:
            self._failure = error

    def _accept(self, listener: socket.socket) -> int:
        self._stack.enter_context(listener.accept()[0])
        return 1

    def _read(self, connection: socket.socket) -> int:
        return len(connection.recv(self._sizes.buffer))
