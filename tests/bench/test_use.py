"""What is refused before a load rather than met after it, and what the world around a run must not do to it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import stress
from harness import DEADLINE, Process
from load.client import resolve
from load.framing import AnswerFramer
from load.options import make_plan, stress_parser
from load.plan import parse_url
from load.record import Failure

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

Serve = Callable[..., Any]


def good(connection: socket.socket, _: int) -> bool:
    """Answer well."""
    connection.sendall(GOOD)
    return True


MANY = "9" * 400


@pytest.mark.parametrize(
    "options",
    [
        *([option, MANY] for option in ("-n", "-c", "-d", "--timeout", "--warmup", "--rate", "--workers")),
        ["--header", "X: a\x01"],
        ["--json", "/nonexistent/told.json"],
        ["--json", "/"],
        ["--plot", "/nonexistent/drawn.svg"],
    ],
    ids=lambda options: options[0],
)
def test_what_cannot_be_done_is_refused_before_any_load(
    serve: Serve, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    server = serve(good)
    try:
        status = stress.main([server.url, *options])
    except SystemExit as error:
        status = error.code  # type: ignore[assignment]
    captured = capsys.readouterr()
    assert status == 2 and captured.err.startswith("stress.py: ") and captured.err.count("\n") == 1 and not captured.out
    assert not server.requests


@pytest.mark.parametrize("url", ["http://me:secret@127.0.0.1/", "http://127.0.0.1:0/"])
def test_what_a_url_says_is_not_left_out_in_silence(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert stress.main([url]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "secret" not in error


def test_a_look_whether_a_file_can_be_written_leaves_it_as_it_was(tmp_path: Path) -> None:
    there, new = tmp_path / "there.json", tmp_path / "new.json"
    there.write_text("{}")
    for file in (there, new):
        make_plan(stress_parser().parse_args(["http://x/", "--json", str(file)]), "http://x/")
    assert there.read_text() == "{}" and not new.exists()


def test_a_look_whether_a_file_can_be_written_leaves_a_link_to_it(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to("new.json")
    make_plan(stress_parser().parse_args(["http://x/", "--json", str(tmp_path / "link.json")]), "http://x/")
    assert os.listdir(tmp_path) == ["link.json"]


def test_what_is_no_file_can_be_written_as_well(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    try:
        name = f"/dev/fd/{theirs}"  # what a shell gives for >(...)
        assert make_plan(stress_parser().parse_args(["http://x/", "--json", name]), "http://x/")
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_method_that_is_given_is_used(serve: Serve) -> None:
    server = serve(good)
    for method, given in (("GET", ["--method", "GET"]), ("POST", [])):
        assert stress.main([server.url, "-n", "2", "-c", "1", "-q", "--body", "{}", "--client", "wire", *given]) == 0
        # The server takes the content of one request for the beginning of the next.
        assert server.requests[-1].startswith(f"{{}}{method} /".encode())


def test_a_length_of_thousands_of_digits_is_no_answer() -> None:
    framer = AnswerFramer({})
    (answer,) = framer.feed(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n")
    assert answer.failure is Failure.PROTOCOL


async def test_of_several_addresses_the_one_that_answers_is_taken(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where localhost is ::1 and 127.0.0.1, a server listens on one of them as a rule."""
    port = int(serve(good).url.rpartition(":")[2].strip("/"))

    async def both(*_: Any, **__: Any) -> list[Any]:
        return [(0, 0, 0, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
    assert await resolve(parse_url(f"http://localhost:{port}/")[0]) == "127.0.0.1"


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-"])
def test_a_run_ends_in_time_although_nobody_can_be_told(serve: Serve, tmp_path: Path, stderr: str) -> None:
    """Its next request is due in 100 s: what ends the run is what shows it, every half second."""
    told = tmp_path / "told.json"
    options = f"-d 1500ms --rate 0.01 -c 2 --client wire --json {told}"
    command = f"exec {sys.executable} {stress.__file__} {serve(good).url} {options} {stderr}"
    process = Process(["sh", "-c", command])
    try:
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
    assert json.loads(told.read_text())["seconds"] < DEADLINE
