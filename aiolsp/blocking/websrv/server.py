"""The web server as an object: ``with WebServer(root, port=0) as server: server.run()``; the twin of websrv/server.py.

Book p. 301, listing 15-3; p. 318, listing 15-6: a thread that waits in epoll_wait, and worker threads behind a queue.

Facts
    - Many connections are silent most of the time; a thread for each costs memory for nothing.
    - A look at the disk blocks its thread, whatever epoll says; a few threads are enough to keep a disk busy.
Consequence
    Half-sync/half-reactor: one thread knows which sockets are ready, some do what may block.
Decision
    The readiness loop accepts, hands each connection that is ready to the pool, and keeps the timers: its only wait is
    epoll_wait with the first deadline as its time-out. It never touches a file. Signals come through the self-pipe,
    other threads ring an eventfd.
Price
    Two hand-overs a request, queue and epoll_ctl, where asyncio's loop answers in the same callback; and Python lets
    one thread run at a time.

The C++ original has its loop read and write as well (a simulated proactor), and ends only by being killed.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import sys
import time
from pathlib import Path

from aiolsp.blocking.mechanisms.acceptor import Acceptor
from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.blocking.websrv.connection import HttpConnection
from aiolsp.blocking.websrv.service import SMALL, STUCK, Service
from aiolsp.linux.listener import Address, format_address, listen, listen_unix
from aiolsp.static.access_log import AccessLog
from aiolsp.static.resource import DocumentRoot
from aiolsp.static.scripts import Scripts
from aiolsp.tracing import trace
from aiolsp.websettings import Settings

FRESH = 0.5
"""Seconds that a stopping server gives a connection on which nothing has come yet: its request may be on its way."""


class WebServer:
    """Serves the directory *root* on *host* and *port* (0: a free one), or on the socket at *unix*.

    Entering raises OSError if *root* is not a directory, ScriptDirectoryError if a directory of programs cannot be
    used, ListenError if the address cannot be had. `run` serves. Leaving, or `close`, stops accepting and finishes what
    is in flight, for ``settings.grace`` seconds at most. All of it is for one thread, but `stop` and `abort`, which are
    for any.
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
        self.root = Path(root)
        self.settings = settings or Settings()
        self.addresses: list[Address] = []
        self._where = host, port, unix
        self._signals: SelfPipe | None = None
        self._latest = math.inf
        self._stopping = self._closed = False

    @property
    def url(self) -> str:
        """Where the root is, for a client on this machine."""
        address = self.addresses[0]
        return f"http://{format_address(address)}/" if isinstance(address, tuple) else f"unix:{format_address(address)}"

    def __enter__(self) -> WebServer:
        settings = self.settings
        with contextlib.ExitStack() as undo:
            root, scripts = os.fspath(self.root), None
            if settings.cgi or settings.cgi_dir is not None:
                scripts = Scripts(root, settings.cgi_dir)
                undo.callback(scripts.close)
            document_root = DocumentRoot(root, settings.policy, small=SMALL, scripts=scripts)
            undo.callback(document_root.close)
            listeners = self._listen()
            for listener in listeners:
                undo.callback(listener.close)
            log = None if settings.log == "off" else AccessLog(sys.stderr.fileno(), settings.log)
            undo.pop_all()
        self.addresses = [listener.getsockname() for listener in listeners]
        self._service = Service(document_root, settings, log)
        self._acceptor = Acceptor(listeners, self._service.poller, self._accepted)
        self._acceptor.start()
        self._latest = math.inf
        self._stopping = self._closed = False
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def run(self, signals: SelfPipe | None = None) -> None:
        """Serve until one of *signals* comes, or `stop` is called; a further one cuts what `close` still waits for."""
        self._signals = signals
        if signals is not None:
            self._service.poller.register(signals.fileno(), select.EPOLLIN)
        while not self._stopping:
            self._turn()

    def stop(self) -> None:
        """Have `run` return. May be called at any time."""
        self._stopping = True
        self._service.wake()

    def abort(self) -> None:
        """Cut every connection at once; `close` then waits no longer than for threads that are about to notice."""
        self._latest = time.monotonic() + STUCK
        for connection in tuple(self._service.connections.values()):
            connection.abort()
        self._service.wake()

    def close(self, grace: float | None = None) -> None:
        """Stop accepting, finish what is in flight within *grace* seconds, then cut the rest. May be called again."""
        if self._closed:
            return
        self._closed = True
        grace = self.settings.grace if grace is None else grace
        service = self._service
        self._acceptor.finish()
        self._unlink()
        # A request that the kernel holds already is in flight as well: let it be read first.
        self._turn(0.0)
        if trace.on:
            why = f"finish what is in flight within {grace} s"
            trace.event("=", "drain", why=why, connections=len(service.connections))
        service.draining = True
        self._drain(grace)
        self.abort()
        self._wait_until_empty()
        service.close()

    def _drain(self, grace: float) -> None:
        begin = time.monotonic()
        for fresh_too, seconds in ((False, min(FRESH, grace)), (True, grace)):
            for connection in tuple(self._service.connections.values()):
                connection.drain(fresh_too=fresh_too)
            self._wait_until_empty(begin + seconds)

    def _wait_until_empty(self, end: float = math.inf) -> None:
        while self._service.connections and time.monotonic() < min(end, self._latest):
            self._turn(min(end, self._latest))

    def _turn(self, latest: float = math.inf) -> None:
        """One turn of the readiness loop, which waits until something is ready, a timer is due, or it is *latest*."""
        service = self._service
        pause = self._acceptor.next_deadline()
        timeout = service.timers.timeout(latest if pause is None else min(latest, pause))
        for fd, events in service.poller.poll(timeout):
            if fd == service.bell:
                os.eventfd_read(fd)
            elif fd in self._acceptor:
                self._acceptor.accept(fd)
            elif connection := service.connections.get(fd):
                connection.ready(events)
            elif self._signals is not None and fd == self._signals.fileno() and self._signals.receive():
                self._interrupted()
        service.timers.fire()
        self._acceptor.tick(time.monotonic())

    def _interrupted(self) -> None:
        if self._stopping:
            self.abort()
        self._stopping = True

    def _accepted(self, sock: socket.socket, peer: Address) -> None:
        try:
            if self._service.admits():
                HttpConnection(self._service, sock, peer).connection_made()
                return
        except OSError as error:
            if trace.on:
                trace.event("!", "accept", fd=sock.fileno(), why=f"cannot be watched: {error.strerror}")
        sock.close()

    def _listen(self) -> list[socket.socket]:
        host, port, unix = self._where
        return [listen_unix(unix)] if unix is not None else listen(host, port)

    def _unlink(self) -> None:
        unix = self._where[2]
        if unix is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unix)
