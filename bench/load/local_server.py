"""Starts aiolsp's own web server on a directory made for the purpose, for ``stress.py`` without a URL."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from select import select

COMMAND = (sys.executable, "-m", "aiolsp.websrv")

PATIENCE = 15
"""Seconds a server may take to be ready, and to stop."""

PAGE = b"<!doctype html><title>aiolsp</title>" + b"x" * (1024 - 36)
"""1 KiB: a small hot file, so that the figure is the server's work and not the copying of content."""

_READY = re.compile(rb"listening on (?:http://)?(?P<address>(?:\[[^]]+\]|[^:\s,/]+):\d+)")


class ServerTrouble(Exception):
    """The server did not come up; the message is one line for a person."""


@contextmanager
def local_server(command: Sequence[str] = COMMAND) -> Iterator[str]:
    """The URL of a running server, stopped at the end of the block. Raises ServerTrouble."""
    with tempfile.TemporaryDirectory(prefix="stress-") as directory, tempfile.TemporaryFile() as errors:
        Path(directory, "index.html").write_bytes(PAGE)
        # Its own session: Ctrl-C on the terminal is for the generator, which then stops the server itself.
        with subprocess.Popen(
            [*command, directory, "--port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        ) as server:
            try:
                address = _wait_until_ready(server)
                if address is None:
                    errors.seek(0)
                    raise ServerTrouble(_why(errors.read()))
                yield f"http://{address}/"
            finally:
                _stop(server)


def _wait_until_ready(server: subprocess.Popen[bytes]) -> str | None:
    assert server.stdout is not None
    readable, _, _ = select([server.stdout], [], [], PATIENCE)
    found = _READY.search(server.stdout.readline()) if readable else None
    return found["address"].decode() if found else None


def _why(errors: bytes) -> str:
    lines = errors.decode("utf-8", "backslashreplace").strip().splitlines()
    return f"aiolsp.websrv did not start: {lines[-1] if lines else f'no ready line within {PATIENCE} s'}"


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        server.kill()
