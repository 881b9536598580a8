"""``python -m aiolsp.websrv [DIR | PORT]``: serve a directory until a signal."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

from aiolsp.cli import execute
from aiolsp.mechanisms.loop import run
from aiolsp.mechanisms.signals import SignalReceiver
from aiolsp.websettings import announce, explained, listening, raise_descriptor_limit, settings_of, web_parser
from aiolsp.websrv.server import WebServer


async def serve(options: argparse.Namespace) -> None:
    """Serve until SIGINT or SIGTERM, then finish what is in flight; a second signal cuts it."""
    where, settings = listening(options), settings_of(options)
    server = WebServer(where.directory, host=where.host, port=where.port, unix=where.unix, settings=settings)
    async with SignalReceiver(signal.SIGINT, signal.SIGTERM) as signals:
        with explained(where.directory):
            await server.__aenter__()
        announce(server.addresses, server.url, server.root)
        await anext(signals)
        closing = asyncio.create_task(server.close())
        forced = asyncio.ensure_future(anext(signals))
        await asyncio.wait((closing, forced), return_when=asyncio.FIRST_COMPLETED)
        if not closing.done():
            server.abort()
        forced.cancel()
        await closing


def main(argv: Sequence[str] | None = None) -> int:
    """Run the web server; the exit status."""
    raise_descriptor_limit()
    return execute(web_parser(), argv, lambda options: run(serve(options), loop=options.loop))


if __name__ == "__main__":
    sys.exit(main())
