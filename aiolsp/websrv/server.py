"""The web server as an object: ``async with WebServer(root, port=0) as server: server.url``."""

from __future__ import annotations

import asyncio
import contextlib
import os
from functools import partial

from aiolsp.linux.listener import Address
from aiolsp.mechanisms.acceptor import Acceptor
from aiolsp.sansio.timers import MOST
from aiolsp.static.ending import FRESH
from aiolsp.tracing import trace
from aiolsp.websettings import Settings
from aiolsp.website import close_root, leave, listen_at, open_root, url_of
from aiolsp.websrv.connection import accepted
from aiolsp.websrv.service import Service


class WebServer:
    """Serves the directory *root* on *host* and *port* (0: a free one), or on the socket at *unix*.

    ``async with`` starts and stops it. Entering raises OSError if *root* is not a directory, ScriptDirectoryError if a
    directory of programs cannot be used, ListenError if the address cannot be had. Leaving, or ``close``, stops
    accepting and finishes what is in flight, for ``settings.grace`` seconds at most.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] = ".",
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        unix: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.root = os.fspath(root)
        self.settings = settings or Settings()
        self.addresses: list[Address] = []
        self._where = host, port, unix
        self._unix = unix
        self._closing: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where the root is, for a client on this machine."""
        return url_of(self.addresses[0])

    async def __aenter__(self) -> WebServer:
        with contextlib.ExitStack() as undo:
            document_root = open_root(self.root, self.settings, small=self.settings.cache_file)
            undo.callback(close_root, document_root)
            listeners = self._listeners = listen_at(*self._where)
            undo.callback(leave, listeners, self._unix)
            service = self._service = Service(document_root, self.settings)
            undo.pop_all()
        self.addresses = [listener.getsockname() for listener in listeners]
        self._acceptor = Acceptor(listeners, partial(accepted, service))
        self._acceptor.start()
        self._closing = None
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Stop accepting, finish what is in flight within *grace* seconds, then cut the rest; nothing if never entered.

        May be called again; the shortest *grace* counts. Cancelled, it goes on without its caller.
        """
        if not self.addresses:
            return
        if self._closing is None:
            first = self.settings.grace if grace is None else grace
            self._closing = asyncio.get_running_loop().create_task(self._close(first))
        elif grace is not None:
            await asyncio.wait([self._closing], timeout=grace)
            self.abort()
        await asyncio.shield(self._closing)

    def abort(self) -> None:
        """Cut every connection at once."""
        self._service.abort()

    async def _close(self, grace: float) -> None:
        await self._acceptor.finish()
        leave(self._listeners, self._unix)
        await finish(self._service, grace)


async def finish(service: Service, grace: float) -> None:
    """No connection comes any more: finish what is in flight within *grace* seconds, cut the rest, close *service*."""
    service.draining = True
    service.publish()
    # A request that the kernel holds already is in flight as well: let the loop read it first.
    for _ in range(2):
        await asyncio.sleep(0)
    if trace.on:
        why = f"finish what is in flight within {grace} s"
        trace.event("=", "drain", why=why, connections=len(service.connections))
    await _drain(service)
    later = service.loop.create_task(_drain_fresh(service, min(FRESH, grace)))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(grace):
            await service.empty()
    later.cancel()
    service.abort()
    await service.empty()
    await service.close()


async def _drain(service: Service, *, fresh_too: bool = False) -> None:
    """Have each connection that is there finish and close, MOST of them in a turn of the loop."""
    for number, connection in enumerate(tuple(service.connections), 1):
        if connection in service.connections:
            connection.drain(fresh_too=fresh_too)
        if not number % MOST:
            await asyncio.sleep(0)


async def _drain_fresh(service: Service, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await _drain(service, fresh_too=True)
