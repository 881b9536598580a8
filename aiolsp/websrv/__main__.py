"""``python -m aiolsp.websrv [DIR | PORT]``: serve a directory until a signal."""

from __future__ import annotations

import gc
import sys

from aiolsp import look_here_last

if __name__ == "__main__":
    # What modules define stays: to look for garbage in it fifty times, as it grows, takes a fifteenth of the start.
    gc.disable()
    look_here_last()

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiolsp.cli import execute
from aiolsp.linux.signals import stop_signals
from aiolsp.mechanisms.loop import run
from aiolsp.mechanisms.signals import SignalReceiver, signals_held
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
from aiolsp.websrv.server import WebServer

if TYPE_CHECKING:
    from aiolsp.websrv.workers import Workers


SUPERVISED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What several processes are told by one that watches over them."""


async def serve(where: Listening, settings: Settings) -> None:
    """Serve until a signal asks to stop, then finish what is in flight; a later signal cuts it."""
    server = WebServer(where.directory, host=where.host, port=where.port, unix=where.unix, settings=settings)
    async with SignalReceiver(*stop_signals()) as signals, contextlib.AsyncExitStack() as stack:
        with explained(where.directory):
            await stack.enter_async_context(server)
        # Nothing that is there by now goes: the garbage collector need not look at it again and again.
        gc.freeze()
        announce(server.addresses, server.url, server.root)
        await anext(signals)
        closing = asyncio.create_task(server.close())
        forced = asyncio.ensure_future(signals.again(*signals.numbers))
        await asyncio.wait((closing, forced), return_when=asyncio.FIRST_COMPLETED)
        if not closing.done():
            server.abort()
        forced.cancel()
        await closing


def serve_by_workers(where: Listening, settings: Settings, loop: str) -> None:
    """The same by several processes, which SIGHUP replaces one by one."""
    # Here, because one process starts a tenth sooner without what many need.
    from aiolsp.websrv.workers import Workers

    with explained(where.directory):
        close_root(open_root(where.directory, settings))
    with signals_held(*SUPERVISED):
        with contextlib.ExitStack() as stack:
            listeners = listen_at(where.host, where.port, where.unix, reuse_port=where.accept == "reuseport")
            stack.callback(leave, listeners, where.unix)
            workers = Workers(where.directory, listeners, settings, count=where.workers, accept=where.accept, loop=loop)
            stack.callback(workers.close)  # before anybody looks whether the socket is still served
            run(_supervise(workers, where), loop=loop)


async def _supervise(workers: Workers, where: Listening) -> None:
    async with SignalReceiver(*SUPERVISED) as signals:
        announce(workers.addresses, url_of(workers.addresses[0]), where.directory, processes=where.workers)
        await workers.run(signals)


def _start(options: argparse.Namespace) -> None:
    where, settings = listening(options), settings_of(options)
    raise_descriptor_limit()
    if where.workers > 1:
        serve_by_workers(where, settings, options.loop)
    else:
        run(serve(where, settings), loop=options.loop)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the web server; the exit status."""
    return execute(web_parser(), argv, _start)


if __name__ == "__main__":
    # Frozen, or the collector would begin with all of it. And rarely a look at everything: connections are objects that
    # stay, a look takes 5 us for each, and what they leave when they go is no garbage that only it would find. Nor is a
    # burst of connections: with 700 for the first threshold, those of 64 clients were looked through again and again.
    # But of thousands that come at once no more at a time than the loop can be without: 15,000 objects are 5 ms.
    gc.freeze()
    gc.set_threshold(5_000, 2, 700)
    gc.enable()
    sys.exit(main())
