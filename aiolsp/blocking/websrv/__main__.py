"""``python -m aiolsp.blocking.websrv [DIR | PORT]``: serve a directory until a signal; the blocking twin."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.blocking.websrv.server import WebServer
from aiolsp.cli import execute
from aiolsp.websettings import (
    announce,
    explained,
    listening,
    raise_descriptor_limit,
    settings_of,
    stop_signals,
    web_parser,
)


def serve(options: argparse.Namespace) -> None:
    """Serve until a signal asks to stop, then finish what is in flight; a second signal cuts it."""
    where, settings = listening(options), settings_of(options)
    server = WebServer(where.directory, host=where.host, port=where.port, unix=where.unix, settings=settings)
    with SelfPipe(*stop_signals()) as signals:
        with explained(where.directory):
            server.__enter__()
        announce(server.addresses, server.url, server.root)
        server.run(signals)
        server.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the web server; the exit status."""
    raise_descriptor_limit()
    return execute(web_parser(blocking=True), argv, lambda options: serve(options))


if __name__ == "__main__":
    sys.exit(main())
