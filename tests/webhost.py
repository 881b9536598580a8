"""The web server embedded in the test's process, on a loop in a thread: tests can hold its threads and look inside."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from aiolsp.mechanisms.loop import loop_factory
from aiolsp.websettings import Settings
from aiolsp.websrv import WebServer
from aiolsp.websrv.connection import HttpConnection
from harness import DEADLINE

T = TypeVar("T")


class Host:
    """A running server; its methods are for the test's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, server: WebServer) -> None:
        self.loop = loop
        self.server = server
        self.service = server._service
        self.faults: list[dict[str, Any]] = []
        """What reached the loop's exception handler; a test that expects some takes them out."""

    def call(self, function: Callable[[], T]) -> T:
        """The result of *function* on the loop's thread."""

        async def call() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(DEADLINE)

    def wait_until(self, holds: Callable[[], object], what: str) -> None:
        """Wait for what the server's objects show; AssertionError if it never comes."""
        end = time.monotonic() + DEADLINE
        while not self.call(holds):
            assert time.monotonic() < end, f"never seen: {what}"

    def connect(self, *, receive_buffer: int = 0, send_buffer: int = 0) -> tuple[socket.socket, HttpConnection]:
        """A blocking client and the server's side of it, whose kernel buffers have these sizes (0: the default)."""
        before = self.call(lambda: set(self.service.connections))
        peer = socket.socket()
        peer.settimeout(DEADLINE)
        if receive_buffer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        peer.connect(("127.0.0.1", self.server.addresses[0][1]))
        self.wait_until(lambda: self.service.connections - before, "the connection")
        (connection,) = self.call(lambda: self.service.connections - before)
        if send_buffer:
            sock = connection.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        return peer, connection

    @contextmanager
    def held_threads(self) -> Iterator[threading.Event]:
        """All threads of the pool wait for the event, which is set at the end of the block at the latest."""
        release, held = threading.Event(), threading.Semaphore(0)

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
            release.set()


@contextmanager
def hosted(loop_name: str, site: Path, settings: Settings | None = None) -> Iterator[Host]:
    """A server over *site* on a free port, closed at the end; whatever its loop complained of fails the test."""
    ready: list[Host] = []
    started, stop = threading.Event(), asyncio.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with WebServer(site, port=0, settings=settings or Settings(threads=2, grace=1.0)) as server:
            host = Host(loop, server)
            loop.set_exception_handler(lambda _, context: host.faults.append(context))
            ready.append(host)
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
    host = ready[0]
    try:
        yield host
    finally:
        host.loop.call_soon_threadsafe(stop.set)
        thread.join(DEADLINE)
    assert not thread.is_alive(), "the server did not stop"
    assert not host.faults, host.faults


def descriptors() -> int:
    """How many descriptors this process has open, but for what libuv holds in reserve for want of them."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            count += os.readlink(f"/proc/self/fd/{name}") != "/dev/null"
    return count
