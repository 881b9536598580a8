"""The web server as an object: ``with WebServer(root, port=0) as server: server.run()``; the twin of websrv/server.py.

It is a `ReadinessLoop`, an `Acceptor` in it, and what they share with the pool's threads: a `Service`.
"""

from __future__ import annotations

import contextlib
import os
from functools import partial

from aiolsp.blocking.mechanisms.acceptor import Acceptor
from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.blocking.websrv.readiness import ReadinessLoop, accepted
from aiolsp.blocking.websrv.service import SMALL, Service
from aiolsp.linux.listener import Address
from aiolsp.sansio.stopping import ECHO
from aiolsp.websettings import Settings
from aiolsp.website import close_root, leave, listen_at, open_root, url_of


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
        self.root = os.fspath(root)
        self.settings = settings or Settings()
        self.addresses: list[Address] = []
        self._where = host, port, unix
        self._unix = unix
        self._stopping, self._closed = False, True

    @property
    def url(self) -> str:
        """Where the root is, for a client on this machine."""
        return url_of(self.addresses[0])

    def __enter__(self) -> WebServer:
        with contextlib.ExitStack() as undo:
            document_root = open_root(self.root, self.settings, small=SMALL)
            undo.callback(close_root, document_root)
            listeners = self._listeners = listen_at(*self._where)
            undo.callback(leave, listeners, self._unix)
            service = self._service = Service(document_root, self.settings)
            undo.pop_all()
        self.addresses = [listener.getsockname() for listener in listeners]
        self._acceptor = Acceptor(listeners, service.poller, partial(accepted, service))
        self._acceptor.start()
        self._loop = ReadinessLoop(service, self._acceptor)
        self._stopping = self._closed = False
        self._asked = 0.0
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def run(self, signals: SelfPipe | None = None) -> None:
        """Serve until one of *signals* comes, or `stop` is called; a later one cuts what `close` still waits for."""
        if signals is not None:
            self._loop.watch(signals.fileno(), partial(self._signalled, signals))
        while not self._stopping:
            self._loop.turn()

    def stop(self) -> None:
        """Have `run` return. May be called at any time."""
        self._stopping = True
        self._service.wake()

    def close(self, grace: float | None = None) -> None:
        """Stop accepting, finish what is in flight within *grace* seconds, then cut the rest; nothing if never entered.

        May be called again.
        """
        if self._closed:
            return
        self._closed = True
        self._acceptor.finish()
        leave(self._listeners, self._unix)
        self._loop.finish(self.settings.grace if grace is None else grace)

    def abort(self) -> None:
        """Cut every connection at once; `close` then waits no longer than for threads that are about to notice."""
        self._loop.abort()

    def _signalled(self, signals: SelfPipe) -> None:
        for number in signals.receive():
            if not self._stopping:
                self._stopping, self._asked = True, signals.came(number)
            elif signals.came(number) - self._asked > ECHO:
                self.abort()
