"""The oneshot program: one thread at a time on a socket, with EPOLLONESHOT and without, on three shells."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

import faults
from harness import DEADLINE, SHELLS, Server, Shell, receive_to_end

LONG = ("--wait", 600)
"""A wait longer than any test: what must end it are its other ends."""

SHORT = ("--wait", 0.05)


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

    def wait_for(self, pattern: str, *, count: int = 1) -> re.Match[str]:
        """The line of the server on this connection that matches *pattern* from its beginning to its end."""
        return self._server.stdout.wait_for(f"(?m)^{self._name} {pattern}$", count=count)

    def lines(self) -> list[str]:
        return re.findall(f"(?m)^{self._name} (.*)$", self._server.stdout.text)

    def end(self) -> str:
        """Close, and the last line of the server on this connection."""
        self.socket.shutdown(socket.SHUT_WR)
        assert receive_to_end(self.socket) == b""
        return self.wait_for("end of stream after .*")[0].partition(" ")[2]


def check(server: Server) -> None:
    """The server does its work for one well-behaved peer."""
    with Peer(server) as peer:
        peer.socket.sendall(b"hello")
        peer.wait_for(r"worker-\d+ read 5 bytes b'hello'")
        assert peer.end().startswith("end of stream after 5 bytes")


def test_a_worker_keeps_its_socket_and_reads_what_came_while_it_waited(shell: Shell) -> None:
    with shell.server("oneshot", *LONG) as server, Peer(server) as peer:
        peer.socket.sendall(b"one")
        worker = peer.wait_for(r"(worker-\d+) read 3 bytes b'one'")[1]
        peer.socket.sendall(b"two")
        assert peer.end() == "end of stream after 6 bytes, at most 1 thread at a time"
        assert peer.lines()[:3] == [
            f"{worker} has the socket",
            f"{worker} read 3 bytes b'one'",
            f"{worker} read 3 bytes b'two'",
        ]


def test_a_worker_lets_a_silent_socket_go_and_the_next_bytes_find_one_again(shell: Shell) -> None:
    with shell.server("oneshot", *SHORT) as server, Peer(server) as peer:
        for turn in (1, 2, 3):
            peer.socket.sendall(b"x")
            peer.wait_for(r"worker-\d+ has the socket", count=turn)
            peer.wait_for(r"worker-\d+ lets the socket go, silent for 0.05 s", count=turn)
        assert peer.end() == "end of stream after 3 bytes, at most 1 thread at a time"


def test_one_socket_is_never_on_two_threads_however_its_bytes_come(shell: Shell) -> None:
    with shell.server("oneshot", "--wait", 0.001, "--threads", 4) as server, ExitStack() as stack:
        peers = [stack.enter_context(Peer(server)) for _ in range(6)]

        def send(peer: Peer) -> None:
            for _ in range(200):
                peer.socket.sendall(b"x")

        senders = [threading.Thread(target=send, args=(peer,)) for peer in peers]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(DEADLINE)
        for peer in peers:
            assert peer.end() == "end of stream after 200 bytes, at most 1 thread at a time"
        assert "at the same time" not in server.stdout.text


WAITS = r"(?m)^\[(worker-\d+)\] = recv EAGAIN fd=\d+  wait 600 s for more$"


def test_without_oneshot_two_threads_are_on_one_socket(shell: Shell) -> None:
    with shell.server("oneshot", *LONG, "--broken", "-v") as server, Peer(server) as peer:
        peer.socket.sendall(b"one")
        first = server.stderr.wait_for(WAITS)[1]
        peer.socket.sendall(b"two")
        both = peer.wait_for(r"(worker-\d+) and (worker-\d+) have the socket at the same time").groups()
        (second,) = {*both} - {first}
        peer.wait_for(f"{second} read 3 bytes b'two'")
        threads = re.fullmatch(r"end of stream after 6 bytes, at most (\d+) threads at a time", peer.end())
        assert threads and int(threads[1]) >= 2


def test_a_flood_without_oneshot_takes_no_more_than_the_workers_there_are(shell: Shell) -> None:
    with shell.server("oneshot", *LONG, "--broken", "--threads", 2, "-v") as server:
        with Peer(server) as peer:
            peer.socket.sendall(b"x")
            server.stderr.wait_for(WAITS)
            for _ in range(500):
                peer.socket.sendall(b"x")
            peer.wait_for(r"worker-\d+ and worker-\d+ have the socket at the same time")
            assert peer.end() == "end of stream after 501 bytes, at most 2 threads at a time"
        check(server)


def test_a_waiting_worker_ends_at_once_when_its_peer_closes(shell: Shell) -> None:
    with shell.server("oneshot", *LONG) as server, Peer(server) as peer:
        peer.socket.sendall(b"x")
        peer.wait_for(r"worker-\d+ read 1 bytes b'x'")
        assert peer.end() == "end of stream after 1 bytes, at most 1 thread at a time"


def test_a_waiting_worker_ends_at_once_when_its_peer_resets(shell: Shell) -> None:
    with shell.server("oneshot", *LONG) as server, Peer(server) as peer:
        peer.socket.sendall(b"x")
        peer.wait_for(r"worker-\d+ read 1 bytes b'x'")
        faults.reset(peer.socket)
        peer.wait_for("connection reset by peer after 1 bytes, at most 1 thread at a time")


@pytest.mark.parametrize("broken", [(), ("--broken",)], ids=["oneshot", "broken"])
def test_waiting_workers_and_waiting_sockets_end_at_once_when_the_server_stops(
    shell: Shell, broken: tuple[str, ...]
) -> None:
    with shell.server("oneshot", *LONG, "--threads", 2, *broken) as server, ExitStack() as stack:
        peers = [stack.enter_context(Peer(server)) for _ in range(4)]
        for peer in peers:
            peer.socket.sendall(b"x")
        server.stdout.wait_for(r"read 1 bytes", count=2)
        server.stop()
        for peer in peers:
            receive_to_end(peer.socket)
            peer.wait_for(r"closed by the server after [01] bytes, at most 1 thread at a time")


def test_sockets_wait_their_turn_when_every_worker_is_taken(shell: Shell) -> None:
    with shell.server("oneshot", *LONG, "--threads", 1) as server, Peer(server) as first, Peer(server) as second:
        first.socket.sendall(b"x")
        first.wait_for("worker-0 read 1 bytes b'x'")
        second.socket.sendall(b"y")
        first.end()
        second.wait_for("worker-0 read 1 bytes b'y'")


def test_a_socket_for_which_there_is_neither_worker_nor_place_to_wait_is_closed(shell: Shell) -> None:
    _, _, module, *words = shell.command("oneshot", "server", "--port", 0, *LONG, "--threads", 1, "-v")
    script = f"import sys, {module} as program; program.WAITING = 1; sys.exit(program.main(sys.argv[1:]))"
    server = Server([sys.executable, "-c", script, *words])
    try:
        with Peer(server) as held, Peer(server) as waiting, Peer(server) as refused:
            for count, peer in enumerate((held, waiting, refused), 1):
                peer.socket.sendall(b"x")
                server.stderr.wait_for(r"(?m)^< epoll_wait", count=count)
                if peer is held:
                    peer.wait_for("worker-0 has the socket")
            assert receive_to_end(refused.socket) == b""
            refused.wait_for("closed for want of a worker after 0 bytes, at most 1 thread at a time")
            server.stderr.wait_for("is closed: 1 jobs run and 1 wait")
            assert held.end().startswith("end of stream after 1 bytes")
            assert waiting.end().startswith("end of stream after 1 bytes")
        server.stop()
    finally:
        server.kill()


@pytest.mark.parametrize("other", SHELLS, ids=lambda other: f"client-{other.name}")
def test_every_client_speaks_to_every_server(shell: Shell, other: Shell) -> None:
    with (
        shell.server("oneshot", *LONG) as server,
        other.client("oneshot", server, "--every", 0.01) as client,
    ):
        assert client.wait() == 0
        assert client.stdout.whole() == "sent burst 1\nsent burst 2\nsent burst 3\n"
        assert client.stderr.whole() == ""
        server.stdout.wait_for("end of stream after 24 bytes, at most 1 thread at a time")


def test_the_trace_shows_which_thread_did_what(shell: Shell, tmp_path: Path) -> None:
    timeline = tmp_path / "trace.json"
    with shell.server("oneshot", *SHORT, "-v", "--trace", timeline) as server, Peer(server) as peer:
        peer.socket.sendall(b"hello")
        for line in (
            r"< epoll_wait fd=\d+ EPOLLIN",
            r"\[worker-\d+\] < recv fd=\d+ 5 B  read until EAGAIN",
            r"\[worker-\d+\] = recv EAGAIN fd=\d+  wait 0.05 s for more",
            r"\[worker-\d+\] - recv EAGAIN fd=\d+  read later: nothing came, let the socket go",
            r"\[worker-\d+\] = epoll_ctl MOD fd=\d+ EPOLLIN\|EPOLLONESHOT\|EPOLLET  armed again",
        ):
            server.stderr.wait_for(f"(?m)^{line}$")
        peer.end()
        server.stop()
    held = [event for event in json.loads(timeline.read_text()) if event["ph"] == "X"]
    assert len(held) == 2 and all(event["name"].endswith(" held") and event["dur"] > 0 for event in held)


@pytest.mark.parametrize("command", [["nc", "-N"], ["socat", "-t2", "-"], ["telnet"]], ids=["nc", "socat", "telnet"])
def test_the_tools_of_debian_can_speak_to_it(shell: Shell, command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    with shell.server("oneshot", *LONG) as server:
        where = [f"TCP:{server.host}:{server.port}"] if command[0] == "socat" else [server.host, str(server.port)]
        read, write = os.pipe()
        with subprocess.Popen(
            [*command, *where], stdin=read, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as tool:
            os.close(read)
            os.write(write, b"hello\n")
            server.stdout.wait_for(r"worker-\d+ read [67] bytes b'hello")
            os.close(write)
            tool.wait(DEADLINE)
        server.stdout.wait_for("(end of stream|connection reset by peer) after [67] bytes")


def test_it_survives_bad_input(shell: Shell) -> None:
    with shell.server("oneshot", *LONG) as server:
        faults.resets_in_the_middle(server, check)
        faults.data_without_newline(server, check)
        faults.binary_garbage(server, check)


def test_it_survives_dropped_connections_the_want_of_descriptors_and_a_storm_of_signals(shell: Shell) -> None:
    with shell.server("oneshot", *LONG) as server:
        faults.connections_dropped_at_once(server, check)
        faults.descriptors_exhausted(server, check)
        faults.signal_storm(server, check, number=signal.SIGWINCH)


def test_a_stopped_client_takes_one_worker_and_delays_nobody_else(shell: Shell) -> None:
    with shell.server("oneshot", *LONG, "--threads", 2) as server, shell.client("oneshot", server) as client:
        server.stdout.wait_for("read 8 bytes")
        client.send_signal(signal.SIGSTOP)
        check(server)
