"""``python -m aiolsp.blocking.websrv [DIR | PORT]``: serve a directory until a signal; the blocking twin."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.blocking.websrv.server import WebServer
from aiolsp.cli import execute
from aiolsp.websettings import (
    Listening,
    Settings,
    announce,
    explained,
    listening,
    raise_descriptor_limit,
    settings_of,
    stop_signals,
    web_parser,
)
from aiolsp.website import close_root, leave, listen_at, open_root, url_of

if TYPE_CHECKING:
    from aiolsp.blocking.websrv.workers import Workers


def serve(where: Listening, settings: Settings) -> None:
    """Serve until a signal asks to stop, then finish what is in flight; a second signal cuts it."""
    server = WebServer(where.directory, host=where.host, port=where.port, unix=where.unix, settings=settings)
    with SelfPipe(*stop_signals()) as signals:
        with explained(where.directory):
            server.__enter__()
        announce(server.addresses, server.url, server.root)
        server.run(signals)
        server.close()


def serve_by_workers(where: Listening, settings: Settings) -> None:
    """The same by several processes, which SIGHUP replaces one by one."""
    # Here, because one process starts a tenth sooner without what many need.
    from aiolsp.blocking.websrv.workers import Workers

    with explained(where.directory):
        close_root(open_root(where.directory, settings))
    address = where.host, where.port, where.unix
    listeners = listen_at(*address, reuse_port=where.accept == "reuseport")
    try:
        workers = Workers(where.directory, listeners, settings, count=where.workers, accept=where.accept)
        _supervise(workers, where)
    finally:
        leave(*address)


def _supervise(workers: Workers, where: Listening) -> None:
    with SelfPipe(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        announce(workers.addresses, url_of(workers.addresses[0]), where.directory, processes=where.workers)
        workers.run(signals)


def _start(options: argparse.Namespace) -> None:
    where, settings = listening(options), settings_of(options)
    if where.workers > 1:
        serve_by_workers(where, settings)
    else:
        serve(where, settings)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the web server; the exit status."""
    raise_descriptor_limit()
    return execute(web_parser(blocking=True), argv, _start)


if __name__ == "__main__":
    sys.exit(main())
