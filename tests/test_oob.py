"""The oob program: normal bytes, urgent bytes and the mark, on three shells."""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

import faults
from harness import DEADLINE, SHELLS, Server, Shell, receive_to_end

NOTIFY = ("pri", "sigurg")


@pytest.fixture(params=NOTIFY)
def notify(request: pytest.FixtureRequest) -> str:
    """Each way to be told of an urgent byte."""
    return str(request.param)


@pytest.fixture
def server(shell: Shell, notify: str) -> Iterator[Server]:
    """A running server of each shell, with each notification."""
    with shell.server("oob", "--notify", notify) as running:
        yield running


class Peer:
    """A client's connection, and what the server reports of it."""

    def __init__(self, server: Server) -> None:
        self.socket = server.connect()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self._server = server
        self._name = re.escape("{}:{}".format(*self.socket.getsockname()))

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.socket.close()

    def urgent(self, data: bytes) -> None:
        assert self.socket.send(data, socket.MSG_OOB) == len(data)

    def wait_for(self, line: str) -> None:
        self._server.stdout.wait_for(f"(?m)^{self._name} {re.escape(line)}$")

    def end(self) -> list[str]:
        """Close, and all lines of the report once the server has closed as well."""
        self.socket.shutdown(socket.SHUT_WR)
        assert receive_to_end(self.socket) == b""
        self._server.stdout.wait_for(f"(?m)^{self._name} end of stream.*$")
        return re.findall(f"(?m)^{self._name} (.*)$", self._server.stdout.text)


def check(server: Server) -> None:
    """The server does its work for one well-behaved peer."""
    with Peer(server) as peer:
        peer.socket.sendall(b"ab")
        peer.urgent(b"x")
        peer.wait_for("urgent b'x', its mark after 2 normal bytes")
        peer.socket.sendall(b"cd")
        assert peer.end()[-2:] == ["normal b'cd'", "end of stream after 4 normal bytes and 1 urgent byte"]


def normal_of(lines: list[str]) -> bytes:
    """The normal bytes that a report shows."""
    return b"".join(ast.literal_eval(line.removeprefix("normal ")) for line in lines if line.startswith("normal "))


def test_the_books_exchange_is_reported_with_the_place_of_the_mark(server: Server) -> None:
    with Peer(server) as peer:
        peer.socket.sendall(b"123")
        peer.urgent(b"abc")
        peer.socket.sendall(b"123")
        lines = peer.end()
    assert normal_of(lines) == b"123ab123"
    assert [line for line in lines if line.startswith("urgent")] == ["urgent b'c', its mark after 5 normal bytes"]
    assert lines[-1] == "end of stream after 8 normal bytes and 1 urgent byte"


def test_an_urgent_byte_may_come_first(server: Server) -> None:
    with Peer(server) as peer:
        peer.urgent(b"x")
        peer.socket.sendall(b"123")
        assert peer.end() == [
            "urgent b'x', its mark after 0 normal bytes",
            "normal b'123'",
            "end of stream after 3 normal bytes and 1 urgent byte",
        ]


def test_an_urgent_byte_may_come_last(server: Server) -> None:
    with Peer(server) as peer:
        peer.socket.sendall(b"123")
        peer.urgent(b"x")
        assert peer.end() == [
            "normal b'123'",
            "urgent b'x', its mark after 3 normal bytes",
            "end of stream after 3 normal bytes and 1 urgent byte",
        ]


def test_a_lone_urgent_byte_is_noticed_without_any_normal_byte(server: Server) -> None:
    with Peer(server) as peer:
        peer.urgent(b"x")
        peer.wait_for("urgent b'x', its mark after 0 normal bytes")


def test_several_urgent_bytes_in_a_row_are_each_reported_if_each_is_taken_in_time(server: Server) -> None:
    with Peer(server) as peer:
        peer.socket.sendall(b"ab")
        for byte in "xyz":
            peer.urgent(byte.encode())
            peer.wait_for(f"urgent b'{byte}', its mark after 2 normal bytes")
        assert peer.end()[-1] == "end of stream after 2 normal bytes and 3 urgent bytes"


def test_an_urgent_byte_unread_when_the_next_comes_is_lost(server: Server) -> None:
    with Peer(server) as peer:
        peer.socket.sendall(b"ab")
        peer.wait_for("normal b'ab'")
        server.send_signal(signal.SIGSTOP)
        peer.urgent(b"x")
        peer.socket.sendall(b"mid")
        peer.urgent(b"y")
        server.send_signal(signal.SIGCONT)
        lines = peer.end()
    assert normal_of(lines) == b"abmid"
    assert lines[-2:] == [
        "urgent b'y', its mark after 5 normal bytes",
        "end of stream after 5 normal bytes and 1 urgent byte",
    ]


def test_an_urgent_byte_with_bytes_unread_in_front_of_it_becomes_a_normal_one_when_the_next_comes(
    server: Server,
) -> None:
    with Peer(server) as peer:
        peer.socket.sendall(b"-")
        peer.wait_for("normal b'-'")
        server.send_signal(signal.SIGSTOP)
        peer.socket.sendall(b"ab")
        peer.urgent(b"x")
        peer.socket.sendall(b"mid")
        peer.urgent(b"y")
        server.send_signal(signal.SIGCONT)
        lines = peer.end()
    assert normal_of(lines) == b"-abxmid"
    assert lines[-2:] == [
        "urgent b'y', its mark after 7 normal bytes",
        "end of stream after 7 normal bytes and 1 urgent byte",
    ]


def test_urgent_bytes_on_many_connections_are_told_apart(server: Server) -> None:
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(server)) for _ in range(10)]
        for number, peer in enumerate(peers):
            peer.socket.sendall(b"x" * number)
            peer.urgent(str(number).encode())
        for number, peer in enumerate(peers):
            peer.wait_for(f"urgent b'{number}', its mark after {number} normal bytes")


def test_a_reset_ends_the_report_with_its_reason(server: Server) -> None:
    with Peer(server) as peer:
        peer.socket.sendall(b"ab")
        peer.wait_for("normal b'ab'")
        faults.reset(peer.socket)
        peer.wait_for("Connection reset by peer after 2 normal bytes and 0 urgent bytes")


def test_connections_that_are_open_when_the_server_stops_are_closed(server: Server) -> None:
    with Peer(server) as peer:
        peer.socket.sendall(b"ab")
        peer.wait_for("normal b'ab'")
        server.stop(signal.SIGINT)
        assert receive_to_end(peer.socket) == b""
        peer.wait_for("closed by the server after 2 normal bytes and 0 urgent bytes")


@pytest.mark.parametrize("other", SHELLS, ids=lambda other: f"client-{other.name}")
def test_every_client_speaks_to_every_server(shell: Shell, other: Shell) -> None:
    with shell.server("oob") as server, other.client("oob", server) as client:
        assert client.wait() == 0
        server.stdout.wait_for("end of stream after 8 normal bytes and 1 urgent byte")
        assert client.stdout.whole() == "sent b'123'\nsent b'abc', its last byte urgent\nsent b'123'\n"
        assert client.stderr.whole() == ""
        assert normal_of(re.findall(r"(?m)^\S+ (normal .*)$", server.stdout.text)) == b"123ab123"


def test_the_client_sends_what_its_words_say(shell: Shell) -> None:
    with shell.server("oob") as server, shell.client("oob", server, "!x", "tail") as client:
        assert client.wait() == 0
        server.stdout.wait_for("urgent b'x', its mark after 0 normal bytes")
        server.stdout.wait_for("end of stream after 4 normal bytes and 1 urgent byte")


ASYNCIO_CLIENT = "from aiolsp.oob import OobClient; send = lambda parts: run(client.send(parts), loop={loop!r})"
BLOCKING_CLIENT = "from aiolsp.blocking.oob import OobClient; send = lambda parts: client.send(parts)"


def test_only_the_last_of_more_bytes_than_the_socket_takes_is_urgent(shell: Shell) -> None:
    client = BLOCKING_CLIENT if shell.name == "blocking" else ASYNCIO_CLIENT.format(loop=shell.name)
    with shell.server("oob") as server:
        code = [
            "from aiolsp.mechanisms.loop import run",
            "from aiolsp.sansio.urgent import Part",
            client,
            f"client = OobClient({server.host!r}, {server.port})",
            "send([Part(b'b' * 9_999_999 + b'Z', urgent=True), Part(b'c')])",
        ]
        subprocess.run([sys.executable, "-c", "\n".join(code)], check=True, capture_output=True, timeout=DEADLINE)
        server.stdout.wait_for("end of stream after 10000000 normal bytes and 1 urgent byte")
        server.stdout.wait_for("urgent b'Z', its mark after 9999999 normal bytes")


def test_a_word_without_a_byte_is_a_usage_error(shell: Shell) -> None:
    ran = subprocess.run(
        shell.command("oob", "client", "--port", 1, "!"), capture_output=True, text=True, timeout=DEADLINE
    )
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert "'!' holds no byte to send" in ran.stderr


def test_the_trace_says_what_was_taken_and_why(shell: Shell) -> None:
    with shell.server("oob", "-v") as server, Peer(server) as peer:
        peer.urgent(b"abx")
        peer.wait_for("urgent b'x', its mark after 2 normal bytes")
        for line in (
            r"< accept fd=\d+ peer=127",
            r"< epoll_wait fd=\d+ \S*EPOLLPRI",
            r"< recv MSG_OOB fd=\d+ 1 B  EPOLLPRI: it can be taken before what stands in front of it",
            r"< recv fd=\d+ 2 B  SIOCATMARK: stopped at the mark",
        ):
            server.stderr.wait_for(f"(?m)^{line}")
        peer.end()
        server.stderr.wait_for(r"(?m)^x close fd=\d+  end of stream$")


def test_the_trace_of_sigurg_shows_the_signal(shell: Shell) -> None:
    with shell.server("oob", "--notify", "sigurg", "-v") as server, Peer(server) as peer:
        peer.socket.sendall(b"ab")
        peer.wait_for("normal b'ab'")
        peer.urgent(b"x")
        peer.wait_for("urgent b'x', its mark after 2 normal bytes")
        server.stderr.wait_for("(?m)^< signal .*SIGURG")
        server.stderr.wait_for(r"(?m)^< recv MSG_OOB fd=\d+ 1 B  SIGURG names no socket: look at this one too$")


@pytest.mark.parametrize(
    "command",
    [["nc", "-N"], ["socat", "-t2", "-"], ["telnet"]],
    ids=["nc", "socat", "telnet"],
)
def test_the_tools_of_debian_can_speak_to_it(shell: Shell, command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    with shell.server("oob") as server:
        where = [f"TCP:{server.host}:{server.port}"] if command[0] == "socat" else [server.host, str(server.port)]
        read, write = os.pipe()
        with subprocess.Popen(
            [*command, *where], stdin=read, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as tool:
            os.close(read)
            os.write(write, b"hello\n")
            server.stdout.wait_for(r"normal b'hello\\r?\\?n'|normal b'hello")
            os.close(write)
            tool.wait(DEADLINE)
        server.stdout.wait_for("end of stream|reset by peer")


def test_it_survives_bad_input(shell: Shell) -> None:
    with shell.server("oob") as server:
        faults.resets_in_the_middle(server, check)
        faults.data_without_newline(server, check)
        faults.binary_garbage(server, check)


def test_it_survives_connections_dropped_at_once_and_the_want_of_descriptors(shell: Shell) -> None:
    with shell.server("oob") as server:
        faults.connections_dropped_at_once(server, check)
        faults.descriptors_exhausted(server, check)


def test_a_stopped_client_delays_nobody(shell: Shell) -> None:
    with shell.server("oob") as server, shell.client("oob", server, *["x"] * 10_000) as client:
        client.stdout.wait_for("sent")
        client.send_signal(signal.SIGSTOP)
        check(server)


def test_it_survives_a_storm_of_the_signal_that_it_receives(shell: Shell) -> None:
    with shell.server("oob", "--notify", "sigurg") as server:
        faults.signal_storm(server, check, number=signal.SIGURG)
