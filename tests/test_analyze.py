"""The HTTP state machine on a port: one body of tests for stock asyncio, uvloop and the blocking twin."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import faults
from harness import DEADLINE, SHELLS, Server, Shell, receive_to_end

GOOD = b"GET /index.html HTTP/1.1\r\nHost: example.com\r\n\r\n"
CORRECT = b"I get a correct result\n"
WRONG = b"Something wrong\n"


def answer_to(server: Server, request: bytes) -> bytes:
    """All that the server sends, the peer's half of the connection staying open."""
    with server.connect() as peer:
        peer.sendall(request)
        return receive_to_end(peer)


def check(server: Server) -> None:
    """The server tells right from wrong."""
    assert answer_to(server, GOOD) == CORRECT
    assert answer_to(server, b"\r\n \r\n") == WRONG


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[Shell, Server]]:
    """One server of each shell, which must outlive all that this file does to it."""
    with ExitStack() as stack:
        yield {shell: stack.enter_context(shell.server("analyze")) for shell in SHELLS}


@pytest.fixture
def server(shell: Shell, servers: dict[Shell, Server]) -> Server:
    """A running server."""
    return servers[shell]


def report_on(server: Server, peer: socket.socket) -> list[str]:
    """What the server printed of *peer*, once there is a verdict."""
    host, port = peer.getsockname()
    label = f"{host}:{port} "
    server.stdout.wait_for(rf"{re.escape(label)}(correct|wrong): .*\n")
    return [line.removeprefix(label) for line in server.stdout.text.splitlines() if line.startswith(label)]


# What the book shows


def test_each_line_is_printed_with_its_state_and_status(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(GOOD)
        assert receive_to_end(peer) == CORRECT
        assert report_on(server, peer) == [
            "REQUEST_LINE OK   'GET /index.html HTTP/1.1'",
            "HEADERS      OK   'Host: example.com'",
            "HEADERS      OK   ''",
            "correct: GET /index.html, 1 field, no body",
        ]


def test_a_request_in_pieces_is_open_until_its_lines_are_whole(server: Server) -> None:
    with server.connect() as peer:
        for piece in (b"GET / HT", b"TP/1.1\r\nHost: a", b"\r\n\r\n"):
            expected = server.stdout.text.count("OPEN") + 1
            peer.sendall(piece)
            if not piece.endswith(b"\r\n\r\n"):
                server.stdout.wait_for("OPEN need more", count=expected)
        assert receive_to_end(peer) == CORRECT
        assert [line.split()[:2] for line in report_on(server, peer)[:-1]] == [
            ["REQUEST_LINE", "OPEN"],
            ["REQUEST_LINE", "OK"],
            ["HEADERS", "OPEN"],
            ["HEADERS", "OK"],
            ["HEADERS", "OK"],
        ]


def test_a_body_is_content(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        assert receive_to_end(peer) == CORRECT
        assert "CONTENT      OK   3 B" in report_on(server, peer)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET\r\n",
        b"GET / HTTP/1.1\n\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/3.0\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_wrong_is_answered_at_once(server: Server, request_bytes: bytes) -> None:
    with server.connect() as peer:
        peer.sendall(request_bytes)
        assert receive_to_end(peer) == WRONG
        assert report_on(server, peer)[-1].startswith("wrong: ")


def test_a_request_that_ends_in_the_middle_is_wrong(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(b"GET / HTTP/1.1\r\nHost")
        peer.shutdown(socket.SHUT_WR)
        assert receive_to_end(peer) == WRONG
        assert report_on(server, peer)[-1] == "wrong: it ended in HEADERS"


def test_a_peer_that_says_nothing_gets_no_answer(server: Server) -> None:
    with server.connect() as peer:
        peer.shutdown(socket.SHUT_WR)
        assert receive_to_end(peer) == b""


def test_a_head_over_the_limit_is_wrong_before_it_ends(server: Server) -> None:
    assert answer_to(server, b"GET /" + b"a" * 9000) == WRONG
    assert answer_to(server, b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 33_000) == WRONG


def test_the_answer_reaches_a_peer_that_is_still_sending(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(b"x" * (1 << 20))
        assert receive_to_end(peer) == WRONG


def test_a_peer_that_does_not_close_is_closed(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(GOOD)
        assert receive_to_end(peer) == CORRECT
        faults.wait_until(lambda: faults.held(server.port) == 0, "the end of the connection")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while True:
                peer.sendall(b"more")


def test_many_peers_are_analysed_side_by_side(server: Server) -> None:
    with ExitStack() as stack:
        peers = [stack.enter_context(server.connect()) for _ in range(50)]
        for part in (GOOD[:10], GOOD[10:30], GOOD[30:]):
            for peer in peers:
                peer.sendall(part)
        assert all(receive_to_end(peer) == CORRECT for peer in peers)


# The trace


def test_the_trace_shows_calls_flags_bytes_and_reasons(shell: Shell) -> None:
    with shell.server("analyze", "-v") as server, server.connect() as peer:
        peer.sendall(GOOD)
        receive_to_end(peer)
        server.stderr.wait_for(r"> (write|send) fd=\d+ 23 B  answered: close our half, wait for the other\n")
        peer.sendall(b"more")
        server.stderr.wait_for(r"< \w+ fd=\d+ (EPOLLIN )?4 B  answered already: forget it\n")
        peer.close()
        server.stderr.wait_for(r"x (close|connection_lost) fd=\d+  .*\n")
    trace = server.stderr.whole()
    assert re.search(rf"< accept fd=\d+ peer=127.0.0.1:\d+\n< \w+ fd=\d+ (EPOLLIN )?{len(GOOD)} B  analyse it\n", trace)


# The client, and other people's


@pytest.mark.parametrize("other", SHELLS, ids=lambda shell: shell.name)
@pytest.mark.parametrize("options", [(), ("--split", 9)], ids=["whole", "split"])
def test_every_client_works_with_every_server(server: Server, other: Shell, options: tuple[object, ...]) -> None:
    with other.client("analyze", server, *options) as client:
        assert client.wait() == 0
        assert client.stdout.whole().encode() == CORRECT
        assert client.stderr.whole() == ""


def test_the_client_sends_a_file(shell: Shell, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "request"
    path.write_bytes(b"GET / HTTP/1.1\nHost: a\n\n")
    with shell.client("analyze", server, "--request", path) as client:
        assert client.wait() == 0
        assert client.stdout.whole().encode() == WRONG


def test_the_client_gets_its_answer_to_half_a_request(shell: Shell, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "request"
    path.write_bytes(GOOD[:-1])
    with shell.client("analyze", server, "--request", path) as client:
        assert client.wait() == 0
        assert client.stdout.whole().encode() == WRONG


def test_the_client_tells_that_there_was_no_answer(shell: Shell, server: Server) -> None:
    with shell.client("analyze", server, "--request", os.devnull) as client:
        assert client.wait() == 1
        assert client.stderr.whole().endswith(": the server closed without an answer\n")


def test_the_client_names_a_file_that_is_not_there(shell: Shell, server: Server) -> None:
    with shell.client("analyze", server, "--request", "/nowhere") as client:
        assert client.wait() == 1
        assert client.stderr.whole().endswith(": /nowhere: no such file or directory\n")


@pytest.mark.parametrize("tool", ["nc", "socat", "telnet"])
def test_other_peoples_clients_work(server: Server, tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    commands = {
        "nc": ["nc", server.host, str(server.port)],
        "socat": ["socat", "-t5", "-", f"TCP:{server.host}:{server.port}"],
        "telnet": ["telnet", server.host, str(server.port)],
    }
    # telnet ends at the end of its stdin: it keeps stdin open, and sends CR LF for each LF.
    client = subprocess.Popen(commands[tool], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert client.stdin is not None and client.stdout is not None
    with client:
        client.stdin.write(GOOD.replace(b"\r\n", b"\n") if tool == "telnet" else GOOD)
        client.stdin.flush()
        line = next(line for line in client.stdout if b"result" in line or b"wrong" in line)
        client.kill()
    assert line.rstrip() == CORRECT.rstrip()


# Stopping


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_it_stops_with_connections_in_every_state(shell: Shell, number: int) -> None:
    with shell.server("analyze") as server, server.connect() as silent, server.connect() as half:
        half.sendall(GOOD[:10])
        with server.connect() as answered:
            answered.sendall(GOOD)
            receive_to_end(answered)
            server.stop(number)
        assert receive_to_end(silent) == receive_to_end(half) == b""


def test_a_reader_of_its_output_that_left_stops_it(shell: Shell) -> None:
    reading, writing = os.pipe()
    command = shell.command("analyze", "server", "--port", 0)
    server = subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    with server, open(reading) as output:
        port = int(output.readline().rpartition(":")[2])
        output.close()
        with socket.create_connection(("127.0.0.1", port), DEADLINE) as peer:
            peer.sendall(GOOD)
            receive_to_end(peer)
        assert server.wait(DEADLINE) == 0
        assert server.stderr is not None and server.stderr.read() == b""


def test_it_stops_while_peers_connect(shell: Shell) -> None:
    for _ in range(5):
        with ExitStack() as peers, shell.server("analyze") as server:
            for _ in range(20):
                peers.enter_context(server.connect())
            server.stop()


# Bad input and faults


def test_it_survives_resets_in_the_middle(server: Server) -> None:
    faults.resets_in_the_middle(server, check, opening=GOOD[:20])


def test_it_survives_data_without_a_newline(server: Server) -> None:
    faults.data_without_newline(server, check)


def test_it_survives_binary_garbage(server: Server) -> None:
    faults.binary_garbage(server, check)


def test_it_survives_connections_dropped_at_once(server: Server) -> None:
    faults.connections_dropped_at_once(server, check)


def test_it_survives_a_signal_storm(server: Server) -> None:
    faults.signal_storm(server, check)


def test_it_survives_being_stopped(server: Server) -> None:
    faults.stopped_server(server, check)


def test_it_accepts_again_when_descriptors_return(shell: Shell) -> None:
    with shell.server("analyze") as server:
        faults.descriptors_exhausted(server, check)


def test_it_survives_a_stopped_client(shell: Shell, server: Server) -> None:
    with faults.unharmed(server, check):
        server.send_signal(signal.SIGSTOP)  # no answer yet: the client is still there when it is stopped
        with shell.client("analyze", server, "--split", 1) as client:
            faults.await_connections(server, 1)
            client.send_signal(signal.SIGSTOP)
            server.send_signal(signal.SIGCONT)
            check(server)
            client.send_signal(signal.SIGCONT)
            assert client.wait() == 0
            assert client.stdout.whole().encode() == CORRECT
