"""Slow clients: what a server does with them, and whether it serves the others meanwhile."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

import stress
from load.plan import Plan, Target
from load.slow import BODY, slow_request

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
Serve = Callable[..., Any]
PLAN = Plan(Target("http", "127.0.0.1", 8080), ("/a",))


@pytest.fixture
def slow(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Runs ``--slow KIND`` against a URL for a second and gives its JSON with the exit status."""

    def run(url: str, kind: str, *options: str) -> dict[str, Any]:
        status = stress.main([url, "--slow", kind, "-d", "1s", "-c", "3", "--json", "-", *options])
        data: dict[str, Any] = json.loads(capsys.readouterr().out)
        return data | {"exit": status, "endings": sorted(one["ending"] for one in data["slow"])}

    return run


def good(connection: socket.socket, _: int) -> bool:
    connection.sendall(GOOD)
    return True


def test_what_slow_clients_send_at_once_is_never_a_whole_request() -> None:
    assert slow_request(PLAN, "read") == b"GET /a HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"
    head = slow_request(PLAN, "head")
    assert head.startswith(b"GET /a HTTP/1.1\r\n") and head.endswith(b"\r\nX-Slow: ") and b"\r\n\r\n" not in head
    body = slow_request(PLAN, "body")
    assert body.startswith(b"POST /a ") and body.endswith(b"\r\n\r\n") and f"Content-Length: {BODY}".encode() in body


def test_a_patient_server_holds_slow_heads_and_serves_the_others(serve: Serve, slow: Callable[..., Any]) -> None:
    server = serve(good)
    result = slow(server.url, "head")
    assert result["endings"] == ["held"] * 3 and result["exit"] == 0
    assert result["others"]["good"] == 10 and result["others"]["failed"] == 0
    assert server.accepted == 3 + 1 + 10  # slow, the probe, the others


def test_an_early_answer_ends_a_slow_body(serve: Serve, slow: Callable[..., Any]) -> None:
    def refuses_posts(connection: socket.socket, number: int) -> bool:
        posted = server.requests[number].startswith(b"POST")
        connection.sendall(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" if posted else GOOD)
        return not posted

    server = serve(refuses_posts)
    result = slow(server.url, "body")
    assert result["endings"] == ["answered"] * 3 and {one["status"] for one in result["slow"]} == {405}
    assert result["others"]["good"] == 10


def test_a_server_that_closes_is_told_from_one_that_answers(serve: Serve, slow: Callable[..., Any]) -> None:
    def drops_posts(connection: socket.socket, number: int) -> bool:
        if not server.requests[number].startswith(b"POST"):
            connection.sendall(GOOD)
            return True
        return False

    server = serve(drops_posts)
    result = slow(server.url, "body")
    assert result["endings"] == ["closed"] * 3 and all(one["held"] < 10**10 for one in result["slow"])


def test_a_slow_reader_takes_a_large_answer_in_drops(serve: Serve, slow: Callable[..., Any]) -> None:
    size = 16 << 20

    def large(connection: socket.socket, number: int) -> bool:
        keep = b"connection: close" not in server.requests[number].lower()
        # The first is the probe; the others take new connections and say so.
        small = number == 0 or not keep
        connection.sendall(GOOD if small else b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        return keep

    server = serve(large)
    result = slow(server.url, "read")
    assert result["endings"] == ["held"] * 3 and result["others"]["good"] == 10


def test_a_server_that_serves_nobody_else_is_not_clean(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    def answers_once(connection: socket.socket, number: int) -> bool:
        if number == 0:
            connection.sendall(GOOD)
        return number == 0

    options = ["--slow", "head", "-d", "500ms", "-c", "2"]
    assert stress.main([serve(answers_once).url, *options]) == 1
    text = capsys.readouterr().out
    assert "NOT CLEAN: 0 of 2 slow connections were ended by the server, but of the requests meanwhile" in text
    assert "held to the end" in text and "0 good of 5" in text


@pytest.mark.parametrize(
    "options",
    [
        ["http://192.0.2.1/"],
        ["https://127.0.0.1/"],
        ["http://127.0.0.1:1/", "-n", "3"],
        ["http://127.0.0.1:1/", "--workers", "2"],
    ],
)
def test_slow_clients_are_for_ones_own_server(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert stress.main([*options, "--slow", "head"]) == 2
    assert "--slow" in capsys.readouterr().err
