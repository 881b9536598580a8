"""The whole program against servers that are slow, wrong, resetting, closing, lying: every bad answer has its kind."""

from __future__ import annotations

import json
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import stress
from harness import DEADLINE, Process

BENCH = Path(__file__).parents[2] / "bench"

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

Behaviour = Callable[[socket.socket, int], bool]


def answer(data: bytes, *, keep: bool = True) -> Behaviour:
    """Send *data* for every request."""

    def behave(connection: socket.socket, _: int) -> bool:
        connection.sendall(data)
        return keep

    return behave


def reset(connection: socket.socket, _: int) -> bool:
    """Send a RST instead of an answer (SO_LINGER of zero, socket(7))."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def first_good(behaviour: Behaviour, count: int = 1) -> Behaviour:
    """Answer the first *count* requests well, the others by *behaviour*: the probe is content, the load is not."""

    def behave(connection: socket.socket, number: int) -> bool:
        if number < count:
            connection.sendall(GOOD)
            return True
        return behaviour(connection, number)

    return behave


@pytest.fixture(params=("aiohttp", "wire"))
def client(request: pytest.FixtureRequest) -> str:
    """Each kind of client."""
    return str(request.param)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Runs the program in this process and gives its JSON, with the exit status and the lines of stderr."""

    def run_program(url: str, *options: object) -> dict[str, Any]:
        status = stress.main([url, "--quiet", "--json", "-", "-c", "4", *map(str, options)])
        captured = capsys.readouterr()
        data: dict[str, Any] = json.loads(captured.out) if captured.out else {}
        return data | {"exit": status, "stderr": captured.err}

    return run_program


Serve = Callable[..., Any]
Run = Callable[..., dict[str, Any]]


def test_good_answers_are_all_counted(serve: Serve, run: Run, client: str) -> None:
    server = serve(answer(GOOD))
    result = run(server.url, "-n", 200, "--client", client)
    assert (result["exit"], result["good"], result["failed"], result["statuses"]) == (0, 200, 0, {"200": 200})
    assert len(server.requests) == 201  # and the probe
    assert server.accepted == 5 == result["connections"] + 1
    assert result["errors"] == {} and result["service_time"]["count"] == 200


BAD: list[tuple[Behaviour, str]] = [
    (answer(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), "status"),
    (answer(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"), "status"),
    (answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", keep=False), "length"),
    (answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", keep=False), "length"),
    (answer(b"SSH-2.0-OpenSSH_9\r\n\r\n", keep=False), "protocol"),
    (answer(b"HTTP/1.1 200 OK\r\nContent-Le", keep=False), "reset"),
    (reset, "reset"),
]


@pytest.mark.parametrize(("behaviour", "kind"), BAD)
def test_bad_answers_are_told_by_their_kind(
    serve: Serve, run: Run, client: str, behaviour: Behaviour, kind: str
) -> None:
    server = serve(first_good(behaviour))
    result = run(server.url, "-n", 12, "--client", client)
    assert result["errors"] == {kind: 12} and result["good"] == 0
    assert result["exit"] == 1 and result["cautions"][0] == "no good answer came at all"


def test_more_bytes_than_announced_are_a_bad_length(serve: Serve, run: Run) -> None:
    server = serve(first_good(answer(GOOD + b", world")))
    assert run(server.url, "-n", 12, "--client", "wire")["errors"] == {"length": 12}


def test_some_bad_answers_spoil_the_headline_and_not_the_exit_status(serve: Serve, run: Run, client: str) -> None:
    def every_fourth_fails(connection: socket.socket, number: int) -> bool:
        bad = number and number % 4 == 0
        connection.sendall(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n" if bad else GOOD)
        return True

    server = serve(every_fourth_fails)
    result = run(server.url, "-n", 100, "--client", client)
    assert (result["exit"], result["good"], result["errors"]) == (0, 75, {"status": 25})
    assert result["clean"] is False and "25 of 100 requests failed" in result["cautions"][0]


def test_a_server_that_does_not_answer_times_out(serve: Serve, run: Run, client: str) -> None:
    server = serve(first_good(lambda *_: True))
    result = run(server.url, "-n", 8, "--timeout", "1s", "--client", client)
    assert result["errors"] == {"timeout": 8} and result["exit"] == 1


def test_a_server_that_closes_after_each_answer_is_no_error(serve: Serve, run: Run, client: str) -> None:
    server = serve(answer(GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), keep=False))
    result = run(server.url, "-n", 40, "--client", client)
    assert (result["good"], result["failed"], result["connections"]) == (40, 0, 40)


def test_a_server_that_closes_without_saying_so_gets_the_request_again(serve: Serve, run: Run) -> None:
    server = serve(answer(GOOD, keep=False))
    result = run(server.url, "-n", 40, "--client", "wire")
    assert result["good"] == 40 and result["failed"] == 0 and result["connections"] >= 37


def test_content_without_a_length_ends_with_the_connection(serve: Serve, run: Run, client: str) -> None:
    server = serve(answer(b"HTTP/1.1 200 OK\r\n\r\nhello", keep=False))
    result = run(server.url, "-n", 20, "--client", client)
    assert result["good"] == 20 and result["failed"] == 0


def test_a_server_that_is_not_there_is_one_clear_line(run: Run, client: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        result = run(url, "--client", client)
        assert result["exit"] == 1 and result["stderr"].count("\n") == 1 and "connection refused" in result["stderr"]
        result = run(url, "--client", client, "--no-probe", "-n", "8")
        assert result["errors"] == {"connect": 8} and result["exit"] == 1


def test_a_bad_first_answer_is_shown_and_no_load_is_sent(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    server = serve(answer(b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\nsorry!"))
    assert stress.main([server.url]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "< HTTP/1.1 404 Not Found\n" in captured.err and "< sorry!" in captured.err
    assert captured.err.splitlines()[-1].startswith("stress.py: status 404") and len(server.requests) == 1


def test_a_status_can_be_declared_good(serve: Serve, run: Run, client: str) -> None:
    server = serve(answer(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
    result = run(server.url, "-n", 10, "--good-status", "404", "--client", client)
    assert result["good"] == 10 and result["clean"] in {True, False} and result["errors"] == {}


def test_the_bytes_can_be_checked(serve: Serve, run: Run, client: str, tmp_path: Path) -> None:
    (tmp_path / "expected").write_bytes(b"hello")

    def later_wrong(connection: socket.socket, number: int) -> bool:
        connection.sendall(GOOD if number < 10 else GOOD.replace(b"hello", b"hallo"))
        return True

    result = run(serve(later_wrong).url, "-n", 20, "--expect", tmp_path / "expected", "--client", client)
    assert result["good"] == 9 and result["errors"] == {"content": 11} and result["statuses"] == {"200": 20}


def test_churn_opens_a_connection_for_each_request(serve: Serve, run: Run, client: str) -> None:
    server = serve(answer(GOOD))
    result = run(server.url, "-n", 30, "--churn", "--client", client)
    assert (result["good"], result["connections"], server.accepted) == (30, 30, 31)
    assert all(b"connection: close" in request.lower() for request in server.requests[1:])
    assert result["plan"]["keep_alive"] is False


def test_requests_are_what_was_asked_for(serve: Serve, run: Run, client: str, tmp_path: Path) -> None:
    (tmp_path / "urls").write_text("/a?x=%20\n# no\n/b\n")
    server = serve(answer(GOOD))
    options = ("--urls", tmp_path / "urls", "--header", "X-Test: yes", "--method", "DELETE", "--client", client)
    assert run(server.url, "-n", 4, *options)["good"] == 4
    lines = sorted(request.split(b"\r\n")[0] for request in server.requests[1:])
    assert lines == [b"DELETE /a?x=%20 HTTP/1.1"] * 2 + [b"DELETE /b HTTP/1.1"] * 2
    assert all(b"X-Test: yes" in request for request in server.requests)


def test_a_unix_socket_is_loaded(serve: Serve, run: Run, client: str, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    server = serve(answer(GOOD), path)
    assert run("http://localhost/", "--unix", path, "-n", 20, "--client", client)["good"] == 20
    assert b"Host: localhost" in server.requests[-1]


def test_pipelined_requests_are_answered_in_order(serve: Serve, run: Run) -> None:
    result = run(serve(answer(GOOD)).url, "-n", 100, "--client", "wire", "--pipeline", 8)
    assert result["good"] == 100 and result["failed"] == 0


def test_a_rate_is_kept_and_the_warm_up_left_out(serve: Serve, run: Run, client: str) -> None:
    server = serve(answer(GOOD))
    result = run(server.url, "--rate", 200, "-d", "500ms", "--warmup", "250ms", "--client", client)
    assert result["good"] + result["unsent"] == 100 and result["plan"]["rate"] == 200
    assert len(server.requests) >= result["good"] + 40


def test_poisson_arrivals_come_at_the_rate(serve: Serve, run: Run, client: str) -> None:
    result = run(serve(answer(GOOD)).url, "--rate", 400, "--arrival", "poisson", "-n", 100, "--client", client)
    assert result["good"] == 100


def test_a_frozen_server_shows_in_the_response_time_of_all_it_delayed(serve: Serve, run: Run, client: str) -> None:
    """PerfCake#258, scaled down: one stall of 0.5 s in a run of 2 s delays a fifth of the plan."""
    frozen = threading.Lock()

    def freezes_once(connection: socket.socket, number: int) -> bool:
        with frozen:
            if number == 100:
                threading.Event().wait(0.5)
        connection.sendall(GOOD)
        return True

    result = run(serve(freezes_once).url, "--rate", 200, "-d", "2s", "--client", client)
    response, service = result["response_time"], result["service_time"]
    assert response["maximum"] >= 400_000_000 and response["percentiles"]["99"] >= 350_000_000
    assert response["percentiles"]["90"] >= 50_000_000
    # Four connections hid all but four of the delayed requests from a tool that looks at service times.
    assert response["mean"] > 2 * service["mean"]


def test_a_rate_beyond_the_server_is_said(serve: Serve, run: Run) -> None:
    def slow(connection: socket.socket, _: int) -> bool:
        threading.Event().wait(0.05)
        connection.sendall(GOOD)
        return True

    result = run(serve(slow).url, "--rate", 1000, "-d", "500ms", "--client", "wire")
    assert result["unsent"] > 100 and any("the rate was not reached" in caution for caution in result["cautions"])


def test_a_condition_that_comes_true_is_exit_status_1(serve: Serve, run: Run) -> None:
    server = serve(answer(GOOD))
    result = run(server.url, "-n", 10, "--fail-if", "errors>0", "--fail-if", "max>0ns")
    assert result["exit"] == 1 and result["stderr"].startswith("stress.py: failed: max>0ns: ")
    assert run(server.url, "-n", 10, "--fail-if", "p99>1m", "--fail-if", "errors>0")["exit"] == 0


@pytest.mark.parametrize(
    "options",
    [
        ["ftp://x/"],
        ["http://x/", "--rate", "fast"],
        ["http://x/", "-c", "0"],
        ["http://x/", "--arrival", "poisson"],
        ["http://x/", "--pipeline", "2"],
        ["http://x/", "--fail-if", "p98>1ms"],
        ["http://x/", "--header", "no colon"],
        ["http://x/", "--expect", "/nonexistent"],
        ["http://x/", "--unix", "/nonexistent"],
        ["http://x/", "--good-status", "20"],
        ["http://x/", "--no-such-option"],
        ["http://no-such-host.invalid/"],
        ["--urls", "x"],
    ],
)
def test_bad_use_is_one_line_and_exit_status_2(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = stress.main(options)
    except SystemExit as error:
        status = error.code  # type: ignore[assignment]
    captured = capsys.readouterr()
    assert status == 2 and captured.err.startswith("stress.py: ") and captured.err.count("\n") == 1 and not captured.out


def test_the_report_is_for_people(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    assert stress.main([serve(answer(GOOD)).url, "-n", "50", "-c", "2"]) == 0
    text = capsys.readouterr().out
    assert "good answers per second" in text and "50 good of 50" in text and "errors       none" in text


def test_ctrl_c_ends_the_run_with_the_figures_so_far(serve: Serve) -> None:
    server = serve(answer(GOOD))
    process = Process([sys.executable, str(BENCH / "stress.py"), server.url, "-d", "60s", "-c", "2"])
    try:
        process.stderr.wait_for("1.0 s .* good")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 0
        assert "ended early, after" in process.stdout.whole() and "Traceback" not in process.stderr.whole()
    finally:
        process.kill()
