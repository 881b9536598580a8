"""``python -m aiolsp.lab.broken NAME --shell asyncio|blocking``: a server that makes a mistake, until a signal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from aiolsp.cli import Parser, execute, port_number, ready
from aiolsp.lab.broken.drivers import Driver, run_asyncio, run_blocking
from aiolsp.lab.broken.servers import SERVERS
from aiolsp.linux.listener import listen


def parser() -> Parser:
    """The command line."""
    parser = Parser(prog="python -m aiolsp.lab.broken", description="A server that makes a classic mistake.")
    parser.add_argument("name", choices=SERVERS, help="which mistake")
    parser.add_argument("--shell", choices=("asyncio", "blocking"), default="asyncio", help="(default %(default)s)")
    parser.add_argument("--mended", action="store_true", help="do not make it")
    parser.add_argument("--port", type=port_number, default=0, help="of 127.0.0.1 (default: a free one)")
    parser.add_argument("--trace", metavar="FILE", help="write the events as Chrome trace-event JSON")
    parser.add_argument("-v", "--verbose", action="store_true", help="trace each event on stderr")
    return parser


def serve(options: argparse.Namespace) -> None:
    """The server, until SIGINT or SIGTERM."""
    [listener] = listen("127.0.0.1", options.port)

    def begin(driver: Driver) -> None:
        SERVERS[options.name](driver, listener, mended=options.mended)
        ready([listener.getsockname()])

    with listener:
        (run_blocking if options.shell == "blocking" else run_asyncio)(begin)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server that the command line names; the exit status."""
    return execute(parser(), argv, serve)


if __name__ == "__main__":
    sys.exit(main())
