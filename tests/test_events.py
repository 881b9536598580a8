"""Signals among the socket events: one body of tests for stock asyncio, uvloop and the blocking twin."""

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

MAX_CHILDREN = 32


def check(server: Server) -> None:
    """A connection, its line and a signal are each an event."""
    hangups = server.stdout.text.count("event: SIGHUP\n")
    with server.connect() as peer:
        peer.sendall(b"still there?\n")
        server.stdout.wait_for(rf"event: line 'still there\?' from {name_of(peer)}\n")
    server.send_signal(signal.SIGHUP)
    server.stdout.wait_for("event: SIGHUP\n", count=hangups + 1)


def name_of(peer: socket.socket) -> str:
    """How the server calls a peer."""
    host, port = peer.getsockname()
    return f"{host}:{port}"


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[Shell, Server]]:
    """One server of each shell, which must outlive all that this file does to it."""
    with ExitStack() as stack:
        yield {shell: stack.enter_context(shell.server("events")) for shell in SHELLS}


@pytest.fixture
def server(shell: Shell, servers: dict[Shell, Server]) -> Server:
    """A running server."""
    return servers[shell]


@pytest.fixture
def fresh(shell: Shell) -> Iterator[Server]:
    """A server that has reported nothing yet."""
    with shell.server("events") as server:
        yield server


def children_of(server: Server) -> list[int]:
    """The children of the server, zombies included."""
    return list(map(int, Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()))


def send(server: Server, data: bytes) -> None:
    """Send *data* on a connection of its own, to its end."""
    with server.connect() as peer:
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        assert receive_to_end(peer) == b""


# Socket events


def test_a_connection_its_lines_and_its_end_are_events(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(b"one\ntwo\r\n\nthree")
        peer.shutdown(socket.SHUT_WR)
        assert receive_to_end(peer) == b""
        name = name_of(peer)
    server.stdout.wait_for(f"event: end of {name}\n")
    assert [line for line in server.stdout.text.splitlines() if line.endswith(name)] == [
        f"event: connection {name}",
        f"event: line 'one' from {name}",
        f"event: line 'two' from {name}",
        f"event: line '' from {name}",
        f"event: line 'three' from {name}",
        f"event: end of {name}",
    ]


def test_a_line_in_pieces_is_one_event(server: Server) -> None:
    with server.connect() as peer, server.connect() as other:
        peer.sendall(b"hel")
        other.sendall(b"between\n")
        server.stdout.wait_for(f"event: line 'between' from {name_of(other)}\n")
        peer.sendall(b"lo\n")
        server.stdout.wait_for(f"event: line 'hello' from {name_of(peer)}\n")


def test_what_a_peer_sent_does_not_steer_the_terminal(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(b"\x1b[2J\x00\xff\n")
        server.stdout.wait_for(re.escape(rf"event: line '\x1b[2J\x00\xff' from {name_of(peer)}"))


# Signals


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGCHLD], ids=lambda number: number.name)
def test_a_signal_is_an_event(fresh: Server, shell: Shell, number: signal.Signals) -> None:
    if shell.name == "uvloop" and number == signal.SIGCHLD:
        pytest.skip("uvloop tells of the ends of children only, not of a SIGCHLD sent by kill(1)")
    for count in range(1, 4):
        fresh.send_signal(number)
        fresh.stdout.wait_for(f"event: {number.name}\n", count=count)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_request_to_stop_is_the_last_event(shell: Shell, number: signal.Signals) -> None:
    with shell.server("events") as server, server.connect() as peer:
        server.stdout.wait_for(f"event: connection {name_of(peer)}\n")
        server.stop(number)
        assert receive_to_end(peer) == b""
        assert server.stdout.whole().endswith(f"event: {number.name}\nevent: end of {name_of(peer)}\n")


def test_different_signals_at_once_are_all_events(fresh: Server) -> None:
    send(fresh, b"child 4\n")
    fresh.stdout.wait_for("exited 4\n")
    for count in range(1, 6):
        fresh.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, fresh.pid, os.WSTOPPED)
        with fresh.connect() as peer:
            peer.sendall(b"child 5\n")
            for _ in range(100):
                fresh.send_signal(signal.SIGHUP)
            fresh.send_signal(signal.SIGCONT)
            fresh.stdout.wait_for("event: SIGHUP\n", count=count)
            fresh.stdout.wait_for("exited 5\n", count=count)


def test_a_signal_to_stop_is_not_lost_in_a_storm(shell: Shell) -> None:
    with shell.server("events") as server:
        for _ in range(10_000):
            os.kill(server.pid, signal.SIGHUP)
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait() == 0
        assert "event: SIGHUP\n" in server.stdout.whole()
        assert server.stdout.whole().endswith("event: SIGTERM\n")


# Children


def test_a_child_is_started_by_a_line_and_its_end_is_an_event(fresh: Server) -> None:
    send(fresh, b"child 7\n")
    pid = fresh.stdout.wait_for(r"child (\d+) started\n")[1]
    fresh.stdout.wait_for(f"event: SIGCHLD\nevent: child {pid} exited 7\n")
    assert children_of(fresh) == []


def test_many_children_are_reaped_whatever_signals_they_share(fresh: Server) -> None:
    for _ in range(3):
        send(fresh, b"".join(b"child %d\n" % status for status in range(20)))
    for status in range(20):
        fresh.stdout.wait_for(rf"event: child \d+ exited {status}\n", count=3)
    assert children_of(fresh) == []


def test_a_flood_of_children_is_bounded_and_all_are_reaped(fresh: Server) -> None:
    fresh.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, fresh.pid, os.WSTOPPED)
    with fresh.connect() as peer:
        peer.sendall(b"child\n" * 500)
        fresh.send_signal(signal.SIGCONT)
        fresh.stdout.wait_for(f"no child: {MAX_CHILDREN} children are running\n")
        peer.shutdown(socket.SHUT_WR)
        receive_to_end(peer)
        fresh.stdout.wait_for(f"event: end of {name_of(peer)}\n")
    started = len(re.findall(r"child \d+ started\n", fresh.stdout.text))
    assert started + fresh.stdout.text.count("no child: ") == 500
    fresh.stdout.wait_for(r"event: child \d+ exited 0\n", count=started)
    assert children_of(fresh) == []


def test_a_child_leaves_none_behind_when_the_server_stops(shell: Shell) -> None:
    with shell.server("events") as server:
        with server.connect() as peer:
            peer.sendall(b"child 1\n" * 10)
            server.stdout.wait_for(r"child \d+ started\n", count=10)
        pids = re.findall(r"child (\d+) started", server.stdout.text)
        server.stop()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


# The trace


def test_the_trace_shows_signals_beside_socket_events(shell: Shell) -> None:
    with shell.server("events", "-v") as server:
        server.send_signal(signal.SIGHUP)
        server.stderr.wait_for(r"< signal (fd=\d+ )?SIGHUP  \w.*\n")
        send(server, b"child 3\n")
        server.stderr.wait_for(r"< accept fd=\d+ peer=127.0.0.1:\d+\n")
        server.stderr.wait_for(r"< \w+ fd=\d+ (EPOLLIN )?8 B  each line is an event\n")
        server.stderr.wait_for(
            r"< signal (fd=\d+ )?SIGCHLD  \w.*\n(.*\n)*?< waitid WNOHANG pid=\d+ status=3  0 still run\n"
        )


# The client, and other people's


@pytest.mark.parametrize("other", SHELLS, ids=lambda shell: shell.name)
def test_every_client_works_with_every_server(server: Server, other: Shell) -> None:
    before = server.stdout.text.count("event: line 'child 3'")
    with other.client("events", server) as client:
        assert client.wait() == 0
        assert client.stdout.whole() == "sent hello\nsent child 3\n"
        assert client.stderr.whole() == ""
    server.stdout.wait_for("event: line 'child 3'", count=before + 1)


def test_the_client_sends_the_lines_that_it_is_given(shell: Shell, server: Server) -> None:
    line = f"ä {shell.name} \udcff"
    with shell.client("events", server, line) as client:
        assert client.wait() == 0
    server.stdout.wait_for(re.escape(rf"event: line '\xc3\xa4 {shell.name} \xff'"))


@pytest.mark.parametrize("tool", ["nc", "socat", "telnet"])
def test_other_peoples_clients_work(server: Server, shell: Shell, tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    commands = {
        "nc": ["nc", server.host, str(server.port)],
        "socat": ["socat", "-", f"TCP:{server.host}:{server.port}"],
        "telnet": ["telnet", server.host, str(server.port)],
    }
    with subprocess.Popen(commands[tool], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as client:
        assert client.stdin is not None
        client.stdin.write(f"by {tool}\n".encode())
        client.stdin.flush()
        server.stdout.wait_for(f"event: line 'by {tool}' from")
        client.kill()


def test_it_stops_while_peers_connect(shell: Shell) -> None:
    for _ in range(5):
        with ExitStack() as peers, shell.server("events") as server:
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


def test_it_survives_a_storm_of_the_signal_that_it_handles(server: Server) -> None:
    faults.signal_storm(server, check, number=signal.SIGHUP)


def test_it_survives_a_storm_of_a_signal_that_it_does_not_handle(server: Server) -> None:
    faults.signal_storm(server, check)


def test_it_survives_being_stopped(server: Server) -> None:
    faults.stopped_server(server, check)


def test_it_accepts_again_when_descriptors_return(fresh: Server) -> None:
    faults.descriptors_exhausted(fresh, check)


def test_it_refuses_a_child_without_descriptors_and_goes_on(fresh: Server) -> None:
    with fresh.connect() as peer:
        fresh.stdout.wait_for(f"event: connection {name_of(peer)}\n")
        soft = str(faults.open_descriptors(fresh))
        subprocess.run(["prlimit", "--pid", str(fresh.pid), f"--nofile={soft}:"], check=True, timeout=DEADLINE)
        peer.sendall(b"child\n")
        fresh.stdout.wait_for("no child: Too many open files\n")
        subprocess.run(["prlimit", "--pid", str(fresh.pid), "--nofile=1024:"], check=True, timeout=DEADLINE)
        peer.sendall(b"child 9\n")
        fresh.stdout.wait_for("exited 9\n")
    assert children_of(fresh) == []
    check(fresh)


def test_it_survives_a_stopped_client(server: Server, shell: Shell) -> None:
    with faults.unharmed(server, check), server.connect() as peer:
        command = ["nc", server.host, str(server.port)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as client:
            faults.await_connections(server, 2)
            client.send_signal(signal.SIGSTOP)
            check(server)
            client.kill()
        peer.sendall(b"and the others\n")
        server.stdout.wait_for(f"event: line 'and the others' from {name_of(peer)}\n")
