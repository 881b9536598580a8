"""Closing silent connections: one body of tests for stock asyncio, uvloop and the blocking twin."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

import faults
from harness import DEADLINE, SHELLS, Server, Shell, receive_to_end

TIMESLOT = 0.1
TIMEOUT = 3 * TIMESLOT

EARLY = 0.005
"""Seconds: the grain of uvloop's clock and the slack of the timer driver, with room to spare."""


def check(server: Server) -> None:
    """A connection that speaks and then falls silent is closed, and not before its time."""
    with server.connect() as peer:
        silent_since = time.monotonic()
        peer.sendall(b"still there?\n")
        assert receive_to_end(peer) == b""
        assert time.monotonic() - silent_since > TIMEOUT - EARLY


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[Shell, Server]]:
    """One server of each shell, which must outlive all that this file does to it."""
    with ExitStack() as stack:
        yield {shell: stack.enter_context(shell.server("idle", "--timeslot", TIMESLOT)) for shell in SHELLS}


@pytest.fixture
def server(shell: Shell, servers: dict[Shell, Server]) -> Server:
    """A running server."""
    return servers[shell]


def name_of(peer: socket.socket) -> str:
    """How the server calls a peer."""
    host, port = peer.getsockname()
    return f"{host}:{port}"


# Time


def test_a_connection_that_never_speaks_is_closed(server: Server) -> None:
    begin = time.monotonic()
    with server.connect() as peer:
        assert peer.recv(1) == b""
    assert time.monotonic() - begin > TIMEOUT - EARLY


def test_activity_moves_the_timer(server: Server) -> None:
    with server.connect() as peer:
        begin = time.monotonic()
        peer.settimeout(TIMEOUT / 3)
        for _ in range(6):
            peer.sendall(b"x")
            with pytest.raises(TimeoutError):
                peer.recv(1)
        peer.settimeout(DEADLINE)
        assert peer.recv(1) == b""
        assert time.monotonic() - begin > 2 * TIMEOUT


def test_each_connection_has_a_timer_of_its_own(server: Server) -> None:
    with server.connect() as silent, server.connect() as active:
        active.settimeout(TIMEOUT / 10)
        silent.setblocking(False)
        ended = False
        while not ended:
            active.sendall(b"x")
            with pytest.raises(TimeoutError):
                active.recv(1)
            try:
                ended = silent.recv(1) == b""
            except BlockingIOError:
                continue
        active.settimeout(DEADLINE)
        assert active.recv(1) == b""


def test_many_connections_expire_together(server: Server) -> None:
    with ExitStack() as stack:
        peers = [stack.enter_context(server.connect()) for _ in range(200)]
        assert all(receive_to_end(peer) == b"" for peer in peers)


def test_a_person_is_told_who_was_closed(server: Server) -> None:
    with server.connect() as peer:
        assert peer.recv(1) == b""
        server.stderr.wait_for(rf"idle: closed {name_of(peer)}: silent for 0.3 s\n")


def test_a_peer_that_closes_takes_its_timer_along(shell: Shell) -> None:
    with shell.server("idle", "--timeslot", TIMESLOT, "-v") as server:
        with server.connect() as early:
            early.sendall(b"x")
            name = name_of(early)
        server.stderr.wait_for(r"x (close|connection_lost) fd=\d+  .*\n")
        with server.connect() as late:
            assert late.recv(1) == b""
        server.stop()
        assert f"closed {name}" not in server.stderr.whole()
        assert server.stderr.whole().count("- idle") == 1


# The trace


def test_the_trace_says_armed_moved_fired_and_how_late(shell: Shell) -> None:
    with shell.server("idle", "--timeslot", TIMESLOT, "-v") as server:
        with server.connect() as peer:
            server.stderr.wait_for("% set ")
            peer.sendall(b"hello")
            assert peer.recv(1) == b""
        server.stop()
    expected = (
        r"< accept fd=(\d+) peer=127.0.0.1:\d+\n",
        r"% armed due_in=0.\d{3}s timers=1  for the first deadline\n",
        r"% set fd=\1 due_in=0.300s  close it unless it speaks before\n",
        r"< (recv|data_received) fd=\1 (EPOLLIN )?5 B  it is active: move its timer\n",
        r"% moved fd=\1 due_in=0.300s  to the end of the list\n",
        r"% fired late=[+-]\d+.\d\dms expired=1 left=0  call what expired\n",
        r"- idle fd=\1 late=[+-]\d+.\d\dms  silent for too long: close it\n",
        r"x (close|connection_lost) fd=\1  closed\n",
    )
    assert re.search("(.*\n)*?".join(expected), server.stderr.whole()), server.stderr.whole()


# The client, and other people's


@pytest.mark.parametrize("other", SHELLS, ids=lambda shell: shell.name)
def test_every_client_works_with_every_server(server: Server, other: Shell) -> None:
    with other.client("idle", server, "--every", TIMEOUT / 2, "--lines", 3) as client:
        assert client.wait() == 0
        *lines, last = client.stdout.whole().splitlines()
        assert client.stderr.whole() == ""
    assert lines == [f"sent line {number} of 3" for number in (1, 2, 3)]
    found = re.fullmatch(r"the server closed the connection after (\d+\.\d{3}) s of silence", last)
    assert found and float(found[1]) > TIMEOUT - EARLY


def test_a_client_that_is_too_slow_is_closed_between_its_lines(shell: Shell, server: Server) -> None:
    with shell.client("idle", server, "--every", DEADLINE, "--lines", 5) as client:
        assert client.wait() == 0
        assert client.stdout.whole().startswith("sent line 1 of 5\nthe server closed the connection after 0.")


@pytest.mark.parametrize("tool", ["nc", "socat", "telnet"])
def test_other_peoples_clients_are_closed_too(server: Server, tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    commands = {
        "nc": ["nc", "-v", server.host, str(server.port)],
        "socat": ["socat", "-", f"TCP:{server.host}:{server.port}"],
        "telnet": ["telnet", server.host, str(server.port)],
    }
    closed = server.stderr.text.count("idle: closed")
    command = commands[tool]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as client:
        assert client.stdin is not None
        client.stdin.write(b"hello\n")
        client.stdin.flush()
        server.stderr.wait_for("idle: closed", count=closed + 1)
        client.kill()


# Stopping


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_it_stops_with_timers_armed(shell: Shell, number: int) -> None:
    with shell.server("idle") as server, server.connect() as silent, server.connect() as active:
        active.sendall(b"x")
        server.stop(number)
        assert receive_to_end(silent) == receive_to_end(active) == b""


def test_it_stops_while_peers_connect(shell: Shell) -> None:
    for _ in range(5):
        with ExitStack() as peers, shell.server("idle") as server:
            for _ in range(20):
                peers.enter_context(server.connect())
            server.stop()


# Bad input and faults


def test_it_survives_resets_in_the_middle(server: Server) -> None:
    faults.resets_in_the_middle(server, check)


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


def test_it_survives_a_storm_of_alarms(servers: dict[Shell, Server]) -> None:
    [twin] = [server for shell, server in servers.items() if shell.name == "blocking"]
    faults.signal_storm(twin, check, number=signal.SIGALRM)


def test_it_accepts_again_when_descriptors_return(shell: Shell) -> None:
    with shell.server("idle", "--timeslot", TIMESLOT) as server:
        faults.descriptors_exhausted(server, check)


def test_it_closes_a_stopped_client_and_nobody_waits(server: Server, shell: Shell) -> None:
    closed = server.stderr.text.count("idle: closed")
    with faults.unharmed(server, check), shell.client("idle", server, "--every", TIMEOUT / 3, "--lines", 99) as client:
        client.stdout.wait_for("sent line 1 ")
        client.send_signal(signal.SIGSTOP)
        check(server)
        server.stderr.wait_for("idle: closed", count=closed + 3)
        client.send_signal(signal.SIGCONT)
        assert client.wait() == 0
