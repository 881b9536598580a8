"""``python -m aiolsp.blocking.websrv [DIR | PORT]``: serve a directory until a signal; the blocking twin."""

from __future__ import annotations

import sys

from aiolsp import look_here_last

if __name__ == "__main__":
    look_here_last()

import argparse
import contextlib
import signal
from collections.abc import Sequence

from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.blocking.websrv.server import WebServer
from aiolsp.cli import execute
from aiolsp.linux.signals import stop_signals
from aiolsp.websettings import (
    Listening,
    Settings,
    announce,
    explained,
    listening,
    raise_descriptor_limit,
    settings_of,
    web_parser,
)
from aiolsp.website import close_root, leave, listen_at, open_root, url_of


def serve(where: Listening, settings: Settings) -> None:
    """Serve until a signal asks to stop, then finish what is in flight; a later signal cuts it."""
    server = WebServer(where.directory, host=where.host, port=where.port, unix=where.unix, settings=settings)
    with SelfPipe(*stop_signals()) as signals, contextlib.ExitStack() as stack:
        with explained(where.directory):
            stack.enter_context(server)
        announce(server.addresses, server.url, server.root)
        server.run(signals)


def serve_by_workers(where: Listening, settings: Settings) -> None:
    """The same by several processes, which SIGHUP replaces one by one."""
    # Here, because one process starts a tenth sooner without what many need.
    from aiolsp.blocking.websrv.workers import Workers

    with explained(where.directory):
        close_root(open_root(where.directory, settings))
    with SelfPipe(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD) as signals:
        listeners = listen_at(where.host, where.port, where.unix, reuse_port=where.accept == "reuseport")
        try:
            workers = Workers(where.directory, listeners, settings, count=where.workers, accept=where.accept)
            announce(workers.addresses, url_of(workers.addresses[0]), where.directory, processes=where.workers)
            workers.run(signals)
        finally:
            leave(listeners, where.unix)


def _start(options: argparse.Namespace) -> None:
    where, settings = listening(options), settings_of(options)
    raise_descriptor_limit()
    if where.workers > 1:
        serve_by_workers(where, settings)
    else:
        serve(where, settings)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the web server; the exit status."""
    return execute(web_parser(blocking=True), argv, _start)


if __name__ == "__main__":
    sys.exit(main())
