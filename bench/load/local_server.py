"""Starts aiolsp's own web server on a directory made for the purpose, for ``stress.py`` without a URL."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from aiolsp.linux.scratch import scratch
from load.server_process import ServerProcess

COMMAND = (sys.executable, "-m", "aiolsp.websrv")

PAGE = b"<!doctype html><title>aiolsp</title>" + b"x" * (1024 - 36)
"""1 KiB: a small hot file, so that the figure is the server's work and not the copying of content."""


@contextmanager
def local_server(command: Sequence[str] = COMMAND) -> Iterator[str]:
    """The URL of a running server, stopped at the end of the block. Raises ServerTrouble."""
    with scratch("stress-") as directory:
        (directory / "index.html").write_bytes(PAGE)
        with ServerProcess([*command, str(directory), "--port", "0"], "aiolsp.websrv") as server:
            host, port = server.until_ready()
            yield f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
