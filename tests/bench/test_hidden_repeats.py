"""What a client does beside what it was asked for: repeats and connections are counted, run by run."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

import stress
from load.generator import LocalGenerator
from load.measurement import Measurement
from load.plan import Plan, parse_url
from load.stop import StopRule

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

Serve = Callable[..., Any]


def every_tenth_reset(connection: socket.socket, number: int) -> bool:
    """Instead of each tenth answer a RST (SO_LINGER of zero, socket(7))."""
    if number % 10 == 9:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False
    connection.sendall(GOOD)
    return True


def measure(url: str, client: str, runs: int) -> list[Measurement]:
    """Runs of 90 requests each, by one connection: no other comes between a repeat and what it repeats."""

    async def go() -> list[Measurement]:
        plan = Plan(parse_url(url)[0], stop=StopRule(requests=90), client=client, connections=1)
        async with LocalGenerator(plan) as generator:
            return [await generator.run(plan) for _ in range(runs)]

    return asyncio.run(go())


@pytest.mark.parametrize("client", ["aiohttp", "wire"])
def test_requests_that_a_client_sent_again_are_told(serve: Serve, client: str) -> None:
    server = serve(every_tenth_reset)
    (measured,) = measure(server.url, client, 1)
    assert measured.record.good == 90
    assert measured.record.repeated == len(server.requests) - 90 > 0


@pytest.mark.parametrize("client", ["aiohttp", "wire"])
def test_connections_are_counted_in_the_run_that_opened_them(serve: Serve, client: str) -> None:
    server = serve(every_tenth_reset)
    runs = measure(server.url, client, 3)
    assert sum(run.record.connections for run in runs) == server.accepted
    assert sum(run.record.repeated for run in runs) == len(server.requests) - 270


def test_a_client_that_cannot_do_tls_by_a_unix_socket_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        assert stress.main(["https://localhost/", "--unix", path, "--insecure"]) == 2
    assert "use --client wire" in capsys.readouterr().err
