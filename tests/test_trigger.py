"""The trigger program: level and edge triggering, drained and not, on three shells."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

import faults
from aiolsp.sansio.trigger import SCENARIOS
from harness import DEADLINE, SHELLS, Process, Server, Shell, receive_to_end

LT = ("--mode", "lt")
ET = ("--mode", "et")
BROKEN = (*ET, "--broken")

MODES = pytest.mark.parametrize("mode", [LT, ET], ids=["lt", "et"])


class Peer:
    """A client's connection, and what the server says of it."""

    def __init__(self, server: Server) -> None:
        self.socket = server.connect()
        self._server = server
        self._name = re.escape("{}:{}".format(*self.socket.getsockname()))

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.socket.close()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The line of the server on this connection that matches *pattern* from its beginning to its end."""
        return self._server.stdout.wait_for(f"(?m)^{self._name} {pattern}$")

    def end(self) -> str:
        """Close, and the server's counts once it has closed as well."""
        self.socket.shutdown(socket.SHUT_WR)
        assert receive_to_end(self.socket) == b""
        return self.wait_for("end of stream: (.*)")[1].partition(", ")[0]


def check(server: Server) -> None:
    """The server does its work for one well-behaved peer."""
    with Peer(server) as peer:
        peer.socket.sendall(b"x" * 35)
        assert peer.end().startswith("35 bytes in ")


def wake_ups(server: Server) -> list[str]:
    """What each wake-up gave, in order, up to the end of the stream."""
    return re.findall(r"(?m)^\S+ wake-up \d+: (.*)$", server.stdout.text)


def test_level_triggering_wakes_for_each_read_until_all_is_read(shell: Shell) -> None:
    with shell.server("trigger", *LT) as server, Peer(server) as peer:
        peer.socket.sendall(b"x" * 54)
        peer.wait_for("wake-up 6: 4 bytes in 1 recv, what is left is reported again")
        full = "10 bytes in 1 recv, what is left is reported again"
        assert wake_ups(server)[:5] == [full] * 5
        assert peer.end() == "54 bytes in 7 wake-ups: 7 recv"


def test_edge_triggering_wakes_once_and_reads_until_read_later(shell: Shell) -> None:
    with shell.server("trigger", *ET) as server, Peer(server) as peer:
        peer.socket.sendall(b"x" * 54)
        peer.wait_for("wake-up 1: 54 bytes in 7 recv, read later")
        peer.socket.sendall(b"x")
        peer.wait_for("wake-up 2: 1 bytes in 2 recv, read later")
        assert peer.end() == "55 bytes in 3 wake-ups: 10 recv"


def test_edge_triggering_without_draining_leaves_bytes_stuck_until_more_arrive(shell: Shell) -> None:
    with shell.server("trigger", *BROKEN) as server, Peer(server) as peer:
        peer.socket.sendall(b"x" * 54)
        stuck = "10 bytes in 1 recv, what is left waits for the next segment"
        peer.wait_for(f"wake-up 1: {stuck}")
        peer.socket.sendall(b"x")
        peer.wait_for(f"wake-up 2: {stuck}")
        server.stop()
        peer.wait_for("closed by the server, 35 bytes unread: 20 bytes in 2 wake-ups.*")
        assert wake_ups(server) == [stuck, stuck]


def test_a_peer_that_floods_under_edge_triggering_gives_the_others_their_turn(shell: Shell) -> None:
    with shell.server("trigger", *ET, "--buffer", 1) as server, Peer(server) as peer:
        peer.socket.sendall(b"x" * 1000)
        peer.wait_for(r"wake-up 1: 64 bytes in 64 recv, armed again, to give the others a turn")
        assert peer.end().startswith("1000 bytes in ")


@MODES
def test_a_reset_ends_a_connection_with_its_counts(shell: Shell, mode: tuple[str, ...]) -> None:
    with shell.server("trigger", *mode) as server, Peer(server) as peer:
        peer.socket.sendall(b"x" * 5)
        peer.wait_for("wake-up 1: 5 bytes in .*")
        faults.reset(peer.socket)
        peer.wait_for("reset by the peer: 5 bytes in 2 wake-ups: .*")


def test_the_server_says_the_counts_of_all_connections_when_it_stops(shell: Shell) -> None:
    with shell.server("trigger", *ET) as server:
        check(server)
        check(server)
        server.stop()
        server.stdout.wait_for(r"(?m)^all connections: 70 bytes in \d+ wake-ups: 2 accept, ")


@pytest.mark.parametrize("other", SHELLS, ids=lambda other: f"client-{other.name}")
def test_every_client_speaks_to_every_server(shell: Shell, other: Shell) -> None:
    with shell.server("trigger", *ET) as server, other.client("trigger", server) as client:
        assert client.wait() == 0
        assert client.stdout.whole() == "sent 54 bytes: the server has read to the end\n"
        assert client.stderr.whole() == ""
        server.stdout.wait_for("wake-up 1: 54 bytes in 7 recv, read later")
        server.stdout.wait_for("end of stream: 54 bytes in 2 wake-ups: 8 recv, 1 EAGAIN")


def test_the_client_says_that_its_bytes_are_stuck(shell: Shell) -> None:
    with shell.server("trigger", *BROKEN) as server, shell.client("trigger", server) as client:
        assert client.wait() == 0
        assert client.stdout.whole() == "sent 54 bytes: after 2 s the server has not read to the end\n"
        assert client.stderr.whole() == ""


@pytest.fixture(scope="module", params=SHELLS, ids=lambda shell: shell.name)
def matrix(request: pytest.FixtureRequest) -> dict[tuple[str, str], dict[str, str]]:
    """The rows of the matrix on each shell, by what was watched and how."""
    process = Process(request.param.command("trigger", "matrix"))
    assert (process.wait(), process.stderr.whole()) == (0, "")
    title, _, head, *lines = process.stdout.whole().splitlines()
    assert title == "20 connections, 54 bytes on each, 10 bytes a read"
    assert [line.strip() for line in lines[1 : 2 * len(SCENARIOS) : 2]] == [scenario.why for scenario in SCENARIOS]
    rows = {}
    for line in lines[: 2 * len(SCENARIOS) : 2]:
        watched, trigger, *numbers = re.split(r"\s{2,}", line)
        rows[watched, trigger] = dict(zip(re.split(r"\s{2,}", head)[2:], numbers, strict=True))
    return rows


def test_level_triggering_needs_a_wake_up_for_each_connection_and_each_read(
    matrix: dict[tuple[str, str], dict[str, str]],
) -> None:
    listener, connection = matrix["listener", "LT"], matrix["connection", "LT"]
    assert (listener["wake-ups"], listener["accept"], listener["EAGAIN"], listener["left"]) == ("20", "20", "0", "0")
    assert (connection["wake-ups"], connection["recv"], connection["done"]) == ("120", "120", "1080")


def test_edge_triggering_needs_few_wake_ups_and_one_more_call_that_says_read_later(
    matrix: dict[tuple[str, str], dict[str, str]],
) -> None:
    listener, connection = matrix["listener", "ET"], matrix["connection", "ET"]
    assert int(listener["wake-ups"]) < 20
    assert int(listener["accept"]) == 20 + int(listener["EAGAIN"])
    assert (connection["wake-ups"], connection["recv"], connection["EAGAIN"]) == ("20", "140", "20")
    assert listener["left"] == connection["left"] == "0"


def test_edge_triggering_without_draining_leaves_connections_and_bytes(
    matrix: dict[tuple[str, str], dict[str, str]],
) -> None:
    listener, connection = matrix["listener", "ET broken"], matrix["connection", "ET broken"]
    assert int(listener["done"]) == int(listener["wake-ups"]) < 20
    assert (connection["wake-ups"], connection["done"], connection["left"]) == ("20", "200", "880")


@pytest.mark.parametrize("mode", ["lt", "et"])
def test_what_came_before_a_reset_is_read_to_the_reset(shell: Shell, mode: str) -> None:
    with shell.server("trigger", "--mode", mode) as server:
        with faults.stopped(server):
            peer = server.connect()
            peer.sendall(b"x" * 35)
            faults.reset(peer)
        server.stdout.wait_for("reset by the peer: 35 bytes in ")


def test_the_matrix_says_in_one_line_that_it_has_too_few_descriptors(shell: Shell) -> None:
    few = ["bash", "-c", 'ulimit -n 64 && exec "$@"', "bash"]
    process = Process([*few, *shell.command("trigger", "matrix", "--connections", 40)])
    try:
        assert process.wait() == 1
        assert re.fullmatch(r"[^\n]*: too many open files\n", process.stderr.whole())
    finally:
        process.kill()


def test_only_the_twin_can_count_the_calls_of_epoll_wait(matrix: dict[tuple[str, str], dict[str, str]]) -> None:
    counted = {row["epoll_wait"] for row in matrix.values()}
    assert counted == {"-"} or (matrix["connection", "LT"]["epoll_wait"], "-" in counted) == ("6", False)


@pytest.mark.parametrize(
    ("role", "options", "message"),
    [
        ("server", ("--broken",), "--broken leaves out the draining that --mode et needs"),
        ("matrix", ("--connections", 1001), "1001 connections are too many to wait in a backlog: 1000 can"),
        ("matrix", ("--bytes", 40_000), "40000 bytes are too many to wait in a receive buffer: 32768 can"),
    ],
)
def test_what_cannot_be_shown_is_a_usage_error(
    shell: Shell, role: str, options: tuple[object, ...], message: str
) -> None:
    ran = subprocess.run(shell.command("trigger", role, *options), capture_output=True, text=True, timeout=DEADLINE)
    assert (ran.returncode, ran.stderr.count("\n"), ran.stdout) == (2, 1, "")
    assert message in ran.stderr


def test_the_trace_of_level_triggering_shows_what_is_left(shell: Shell) -> None:
    with shell.server("trigger", *LT, "-v") as server, Peer(server) as peer:
        peer.socket.sendall(b"x" * 12)
        server.stderr.wait_for(r"(?m)^< (epoll_wait|add_reader) fd=\d+ EPOLLIN$")
        server.stderr.wait_for(r"(?m)^< recv fd=\d+ 10 B  one read a wake-up: 2 B left$")
        server.stderr.wait_for(r"(?m)^< recv fd=\d+ 2 B  one read a wake-up: 0 B left$")
        peer.end()
        server.stderr.wait_for(r"(?m)^x close fd=\d+  end of stream$")


def test_the_trace_of_edge_triggering_shows_read_later(shell: Shell) -> None:
    with shell.server("trigger", *ET, "-v") as server, Peer(server) as peer:
        peer.socket.sendall(b"x" * 12)
        server.stderr.wait_for(r"(?m)^< epoll_wait fd=\d+ EPOLLIN$")
        server.stderr.wait_for(r"(?m)^< recv fd=\d+ 2 B  drain until EAGAIN$")
        server.stderr.wait_for(r"(?m)^= recv EAGAIN fd=\d+  read later$")


@pytest.mark.parametrize("command", [["nc", "-N"], ["socat", "-t2", "-"], ["telnet"]], ids=["nc", "socat", "telnet"])
def test_the_tools_of_debian_can_speak_to_it(shell: Shell, command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    with shell.server("trigger", *ET) as server:
        where = [f"TCP:{server.host}:{server.port}"] if command[0] == "socat" else [server.host, str(server.port)]
        read, write = os.pipe()
        with subprocess.Popen(
            [*command, *where], stdin=read, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as tool:
            os.close(read)
            os.write(write, b"hello\n")
            server.stdout.wait_for(r"wake-up 1: [67] bytes in 2 recv, read later")
            os.close(write)
            tool.wait(DEADLINE)
        server.stdout.wait_for("end of stream|reset by the peer")


@pytest.fixture(params=[LT, ET], ids=["lt", "et"])
def faulty(shell: Shell, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of each shell and mode, with a buffer in which 10 MiB are not a million lines."""
    with shell.server("trigger", *request.param, "--buffer", 4096) as server:
        yield server


def test_it_survives_bad_input(faulty: Server) -> None:
    faults.resets_in_the_middle(faulty, check)
    faults.data_without_newline(faulty, check)
    faults.binary_garbage(faulty, check)


def test_it_survives_dropped_connections_the_want_of_descriptors_and_a_storm_of_signals(faulty: Server) -> None:
    faults.connections_dropped_at_once(faulty, check)
    faults.descriptors_exhausted(faulty, check)
    faults.signal_storm(faulty, check, number=signal.SIGWINCH)


def test_a_stopped_client_delays_nobody(shell: Shell) -> None:
    with shell.server("trigger", *BROKEN) as server, shell.client("trigger", server, "--bytes", 100) as client:
        server.stdout.wait_for("wake-up 1")
        client.send_signal(signal.SIGSTOP)
        with Peer(server) as peer:
            peer.socket.sendall(b"x" * 9)
            peer.wait_for("wake-up 1: 9 bytes in 1 recv, .*")
