"""The web server embedded in the test's process, in a thread: tests can hold its threads and look inside.

On every shell: what a test reads of a connection must be what both have under one name.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from aiolsp.blocking.websrv import WebServer as BlockingWebServer
from aiolsp.mechanisms.loop import loop_factory
from aiolsp.static.phases import Phase
from aiolsp.websettings import Settings
from aiolsp.websrv import WebServer
from harness import DEADLINE

T = TypeVar("T")


class Host:
    """A running server; its methods are for the test's thread."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.service = server._service
        self.faults: list[dict[str, Any]] = []
        """What the server complained of; a test that expects some takes them out."""

    def call(self, function: Callable[[], T]) -> T:
        """The result of *function* where it may look at the server's objects."""
        return function()

    def connections(self) -> set[Any]:
        """The server's sides of its connections."""
        return set(self.service.connections.values())

    def wait_until(self, holds: Callable[[], object], what: str) -> None:
        """Wait for what the server's objects show; AssertionError if it never comes."""
        end = time.monotonic() + DEADLINE
        while not self.call(holds):
            assert time.monotonic() < end, f"never seen: {what}"
            time.sleep(0.001)

    def connect(self, *, receive_buffer: int = 0, send_buffer: int = 0) -> tuple[socket.socket, Any]:
        """A blocking client and the server's side of it, whose kernel buffers have these sizes (0: the default)."""
        before = self.call(self.connections)
        peer = socket.socket()
        peer.settimeout(DEADLINE)
        if receive_buffer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        peer.connect(("127.0.0.1", self.server.addresses[0][1]))
        self.wait_until(lambda: self.connections() - before, "the connection")
        (connection,) = self.call(lambda: self.connections() - before)
        if send_buffer:
            self.socket_of(connection).setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        return peer, connection

    def socket_of(self, connection: Any) -> Any:
        """The server's socket of *connection*."""
        return connection._socket

    def waits_for(self, connection: Any, phase: Phase) -> bool:
        """Whether *connection* rests, and what for."""
        return not connection._held and connection._patience.phase is phase

    def has_asked(self, connection: Any) -> bool:
        """Whether something has come on *connection* that waits for a thread."""
        return bool(connection._held)

    def begin_to_stop(self, grace: float) -> None:
        """Have the server close, and go on once it drains."""
        self.server.settings = self.server.settings._replace(grace=grace)
        self.server.stop()
        self.wait_until(lambda: self.service.draining, "the drain")

    @contextmanager
    def held_threads(self) -> Iterator[threading.Event]:
        """All threads of the pool wait for the event, which is set at the end of the block at the latest.

        Meanwhile every look at the disk needs a thread, whatever the kernel has in memory.
        """
        release, held = threading.Event(), threading.Semaphore(0)
        root = self.service.root
        root._cached, root._probed = None, True

        def hold() -> None:
            held.release()
            release.wait(DEADLINE)

        count = self.server.settings.threads
        self.call(lambda: [self.service.pool.submit(hold) for _ in range(count)])
        try:
            for _ in range(count):
                assert held.acquire(timeout=DEADLINE)
            yield release
        finally:
            root._probed = False
            release.set()


class LoopHost(Host):
    """A server on an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, server: WebServer) -> None:
        super().__init__(server)
        self.loop = loop
        loop.set_exception_handler(lambda _, context: self.faults.append(context))

    def call(self, function: Callable[[], T]) -> T:
        """The result of *function* on the loop's thread."""

        async def call() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(DEADLINE)

    def connections(self) -> set[Any]:
        """The server's sides of its connections."""
        return set(self.service.connections)

    def waits_for(self, connection: Any, phase: Phase) -> bool:
        """Whether *connection* waits for that."""
        return connection._patience.phase is phase

    def has_asked(self, connection: Any) -> bool:
        """Whether requests have come on *connection*, and none is half there."""
        return not connection._fresh and connection._parser.between_messages

    def begin_to_stop(self, grace: float) -> None:
        """Have the server close, and go on once it drains."""

        async def start() -> None:
            self.loop.create_task(self.server.close(grace))

        asyncio.run_coroutine_threadsafe(start(), self.loop).result()
        self.wait_until(lambda: all(not c._keep_alive for c in self.service.connections), "the drain")


@contextmanager
def hosted(shell_name: str, site: Path, settings: Settings | None = None) -> Iterator[Host]:
    """A server over *site* on a free port, closed at the end; whatever it complained of fails the test."""
    settings = settings or Settings(threads=2, grace=1.0)
    with (_hosted_blocking if shell_name == "blocking" else _hosted_loop)(shell_name, site, settings) as host:
        yield host
    assert not host.faults, host.faults


@contextmanager
def _hosted_loop(loop_name: str, site: Path, settings: Settings) -> Iterator[Host]:
    ready: list[LoopHost] = []
    started, stop = threading.Event(), asyncio.Event()

    async def main() -> None:
        async with WebServer(site, port=0, settings=settings) as server:
            ready.append(LoopHost(asyncio.get_running_loop(), server))
            started.set()
            await stop.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=loop_factory(loop_name)) as runner:
            try:
                runner.run(main())
            finally:
                started.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(DEADLINE) and ready, "the server did not start"
    try:
        yield ready[0]
    finally:
        ready[0].loop.call_soon_threadsafe(stop.set)
        thread.join(DEADLINE)
    assert not thread.is_alive(), "the server did not stop"


class _Faults(logging.Handler):
    """Has *host* know what the server logs as an error."""

    def __init__(self, host: Host) -> None:
        super().__init__(logging.ERROR)
        self._host = host

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it as a loop's exception handler is told it."""
        exception = record.exc_info[1] if record.exc_info else None
        self._host.faults.append({"message": record.getMessage(), "exception": exception})


@contextmanager
def _hosted_blocking(_: str, site: Path, settings: Settings) -> Iterator[Host]:
    server = BlockingWebServer(site, port=0, settings=settings)
    server.__enter__()
    host = Host(server)
    faults = _Faults(host)
    logging.getLogger("aiolsp").addHandler(faults)

    def run() -> None:
        server.run()
        server.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield host
    finally:
        server.stop()
        thread.join(DEADLINE)
        logging.getLogger("aiolsp").removeHandler(faults)
    assert not thread.is_alive(), "the server did not stop"


def descriptors() -> int:
    """How many descriptors this process has open, but for what libuv holds in reserve for want of them."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            count += os.readlink(f"/proc/self/fd/{name}") != "/dev/null"
    return count


def ready_hits(host: Host) -> int:
    """Requests that were answered by what was kept ready."""
    host.call(host.service.publish)
    hits: int = host.service.metrics.ready_hits_total
    return hits
