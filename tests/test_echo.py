"""The echo program on stock asyncio, uvloop and its blocking twin: one body each, real sockets, real processes."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

import faults
from harness import DEADLINE, SHELLS, Process, Server, Shell, receive_exactly, receive_to_end, unused_port

MIB = 1 << 20


def check(server: Server) -> None:
    """The server echoes on TCP and on UDP."""
    with server.connect() as peer:
        peer.sendall(b"still there?\n")
        assert receive_exactly(peer, 13) == b"still there?\n"
    assert echo_of(server, b"still there?") == b"still there?"


@contextmanager
def udp(server: Server) -> Iterator[socket.socket]:
    """A UDP socket connected to the server."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(DEADLINE)
        peer.connect((server.host, server.port))
        yield peer


def echo_of(server: Server, datagram: bytes) -> bytes:
    with udp(server) as peer:
        peer.send(datagram)
        return peer.recv(1 << 17)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[Shell, Server]]:
    """One server of each shell, which must outlive all that this file does to it."""
    with ExitStack() as stack:
        yield {shell: stack.enter_context(shell.server("echo")) for shell in SHELLS}


@pytest.fixture
def server(shell: Shell, servers: dict[Shell, Server]) -> Server:
    """A running echo server."""
    return servers[shell]


def test_a_stream_comes_back_byte_for_byte(server: Server) -> None:
    payload = os.urandom(3 * MIB)
    with server.connect() as peer:
        received = bytearray()
        unsent = memoryview(payload)
        peer.setblocking(False)
        while len(received) < len(payload):
            readable, writable, _ = select.select([peer], [peer] if unsent else [], [], DEADLINE)
            assert readable or writable
            if readable:
                received += peer.recv(1 << 16)
            if writable:
                unsent = unsent[peer.send(unsent[: 1 << 16]) :]
    assert received == payload


def test_half_close_still_gets_its_echo_and_then_the_end(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(b"x" * 100_000)
        peer.shutdown(socket.SHUT_WR)
        assert receive_to_end(peer) == b"x" * 100_000


def test_connections_are_echoed_apart(server: Server) -> None:
    peers = [server.connect() for _ in range(64)]
    for number, peer in enumerate(peers):
        peer.sendall(b"%064d" % number)
    for number, peer in enumerate(peers):
        assert receive_exactly(peer, 64) == b"%064d" % number
        peer.close()


def test_a_datagram_of_any_size_comes_back_exactly(server: Server) -> None:
    for size in (0, 1, 1023, 1024, 1500, 65_506, 65_507):
        datagram = os.urandom(size)
        assert echo_of(server, datagram) == datagram


def test_datagrams_stay_apart_and_keep_their_order(server: Server) -> None:
    with udp(server) as peer:
        for size in (5, 0, 7):
            peer.send(b"y" * size)
        assert [peer.recv(100) for _ in range(3)] == [b"y" * 5, b"", b"y" * 7]


def test_a_peer_that_never_reads_is_no_longer_read_from_and_the_memory_stays_flat(server: Server) -> None:
    check(server)
    with server.connect() as peer:
        peer.setblocking(False)
        sent = send_until_stuck(peer)
        before = server.rss()
        assert sent < 64 * MIB
        check(server)
        assert send_until_stuck(peer) < MIB
        assert server.rss() - before < MIB
        idle = server.cpu_seconds()
        check(server)
        assert server.cpu_seconds() - idle < 0.5
        peer.setblocking(True)
        peer.settimeout(DEADLINE)
        peer.shutdown(socket.SHUT_WR)
        received = len(receive_to_end(peer))
        assert received >= sent


def send_until_stuck(peer: socket.socket) -> int:
    """Send until nothing is taken for 0.3 s: how many bytes were."""
    sent = 0
    while select.select([], [peer], [], 0.3)[1]:
        try:
            sent += peer.send(b"z" * 65_536)
        except BlockingIOError:
            continue
    return sent


def test_a_udp_peer_that_went_away_does_not_harm_the_server(server: Server) -> None:
    for _ in range(50):
        with udp(server) as peer:
            peer.send(b"I shall not be here")
    check(server)


def test_a_flood_of_datagrams_does_not_grow_the_server(server: Server) -> None:
    with faults.unharmed(server, check), udp(server) as peer:
        peer.setblocking(False)
        for _ in range(5000):
            try:
                peer.send(b"d" * 60_000)
            except BlockingIOError:
                select.select([], [peer], [], DEADLINE)
    check(server)


def test_tcp_and_udp_share_the_port_that_was_asked_for(shell: Shell) -> None:
    with shell.server("echo") as first:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken, pytest.raises(OSError, match="in use"):
            taken.bind((first.host, first.port))
        second = Process(shell.command("echo", "server", "--port", first.port))
        assert second.wait() == 2
        assert second.stderr.whole().count("\n") == 1 and "address already in use" in second.stderr.text


def test_a_port_taken_for_udp_alone_is_one_line_and_status_2(shell: Shell) -> None:
    with taken_for_udp() as port:
        refused = Process(shell.command("echo", "server", "--port", port))
        assert refused.wait() == 2
    assert refused.stderr.whole().endswith(f"cannot listen on 127.0.0.1:{port} for UDP: address already in use\n")


@contextmanager
def taken_for_udp() -> Iterator[int]:
    """A port that is taken for UDP and free for TCP, below those that the kernel gives to clients."""
    for port in range(20_000 + os.getpid() % 1000, 32_000):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken, suppress(OSError):
            taken.bind(("127.0.0.1", port))
            socket.create_server(("127.0.0.1", port)).close()
            break
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", port))
        yield port


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_with_status_0_while_peers_are_connected(shell: Shell, number: int) -> None:
    with shell.server("echo") as running, running.connect() as peer:
        peer.sendall(b"hello")
        assert receive_exactly(peer, 5) == b"hello"
        running.stop(number)
        assert receive_to_end(peer) == b""


def test_the_trace_tells_each_event_and_why(shell: Shell) -> None:
    with shell.server("echo", "-v") as running:
        with running.connect() as peer:
            peer.sendall(b"hello")
            assert receive_exactly(peer, 5) == b"hello"
            peer.shutdown(socket.SHUT_WR)
            assert receive_to_end(peer) == b""
        assert echo_of(running, b"dgram") == b"dgram"
        running.stderr.wait_for(r"> sendto fd=\d+ 5 B peer=127.0.0.1:\d+\n")
    trace = running.stderr.whole()
    received = r"recv fd=\d+ EPOLLIN" if shell.name == "blocking" else r"data_received fd=\d+"
    for pattern in (
        r"< accept fd=\d+ peer=127.0.0.1:\d+\n",
        rf"< {received} 5 B  send it back\n",
        r"> (send|write) fd=\d+ 5 B waiting=\d+\n",
        r"it says no more: close when all is sent back\n",
        r"x (close|connection_lost) fd=\d+  closed\n",
        r"< (recvfrom|datagram_received) fd=\d+ 5 B peer=127.0.0.1:\d+  send it back\n",
    ):
        assert re.search(pattern, trace), f"{pattern} is not in:\n{trace}"


def test_the_trace_of_a_slow_reader_says_paused_and_resumed(shell: Shell) -> None:
    with shell.server("echo", "-v") as running, running.connect() as peer:
        peer.setblocking(False)
        sent = send_until_stuck(peer)
        peer.setblocking(True)
        peer.settimeout(DEADLINE)
        receive_exactly(peer, sent)
        if shell.name == "blocking":
            running.stderr.wait_for(r"= EAGAIN fd=\d+  the rest when epoll says EPOLLOUT\n")
            running.stderr.wait_for(r"= epoll_ctl fd=\d+ EPOLLOUT waiting=\d+\n")
            running.stderr.wait_for(r"= epoll_ctl fd=\d+ EPOLLIN waiting=0\n")
        else:
            running.stderr.wait_for(r"= pause_reading fd=\d+ waiting=\d+  it does not read\n")
            running.stderr.wait_for(r"= resume_reading fd=\d+\n")


LINES = b"one\n\ntwo\r\nthree " + b"long " * 30_000 + b"\nno newline at the end"


@pytest.mark.parametrize("client_shell", SHELLS, ids=lambda shell: shell.name)
@pytest.mark.parametrize("option", ["--tcp", "--udp"])
def test_every_client_gets_back_from_every_server_what_it_sent(
    shell: Shell, client_shell: Shell, option: str, tmp_path: Path
) -> None:
    source = tmp_path / "lines"
    source.write_bytes(LINES)
    options = ["--udp"] if option == "--udp" else []
    with shell.server("echo") as running, open(source, "rb") as stdin:
        with client_shell.client("echo", running, *options, stdin=stdin.fileno()) as client:
            assert client.wait() == 0, client.stderr.whole()
            assert client.stdout.whole().encode() == LINES


@pytest.mark.parametrize("options", [[], ["--udp"]], ids=["tcp", "udp"])
def test_the_client_takes_a_pipe_line_by_line_and_ends_at_its_end(
    shell: Shell, server: Server, options: list[str]
) -> None:
    with shell.client("echo", server, *options, stdin=subprocess.PIPE) as client:
        assert client.popen.stdin
        for line in ("one\n", "two\n"):
            client.popen.stdin.write(line.encode())
            client.popen.stdin.flush()
            client.stdout.wait_for(line)
        client.popen.stdin.close()
        assert client.wait() == 0, client.stderr.whole()


@pytest.mark.parametrize("options", [[], ["--udp"]], ids=["tcp", "udp"])
def test_the_client_takes_dev_null(shell: Shell, server: Server, options: list[str]) -> None:
    with shell.client("echo", server, *options) as client:
        assert client.wait() == 0, client.stderr.whole()
        assert client.stdout.whole() == ""


def test_a_client_that_cannot_read_its_input_says_so_and_ends(shell: Shell, server: Server, tmp_path: Path) -> None:
    with open(tmp_path / "written", "wb") as source, shell.client("echo", server, stdin=source.fileno()) as client:
        assert client.wait() == 1
    assert re.fullmatch(r"[^\n]*: bad file descriptor\n", client.stderr.whole())


def test_the_client_takes_a_terminal_and_leaves_it_blocking(shell: Shell, server: Server) -> None:
    master, slave = pty.openpty()
    with shell.client("echo", server, stdin=slave) as client:
        os.write(master, b"hello\n")
        client.stdout.wait_for("hello\n")
        assert os.get_blocking(slave)
        os.write(master, b"\x04")
        assert client.wait() == 0, client.stderr.whole()
    os.close(slave)
    os.close(master)


@pytest.mark.parametrize("options", [[], ["--udp"]], ids=["tcp", "udp"])
def test_a_client_without_a_server_says_so_in_one_line(shell: Shell, options: list[str]) -> None:
    port = unused_port()
    client = Process(shell.command("echo", "client", "--port", port, *options), stdin=subprocess.PIPE)
    assert client.popen.stdin
    client.popen.stdin.write(b"anybody?\n")
    client.popen.stdin.close()
    assert client.wait() == 1
    assert re.fullmatch(r"[^\n]*refused[^\n]*\n", client.stderr.whole().lower())


def test_a_client_whose_datagram_is_lost_says_so_and_ends(shell: Shell) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        client = Process(shell.command("echo", "client", "--port", port, "--udp"), stdin=subprocess.PIPE)
        assert client.popen.stdin
        client.popen.stdin.write(b"anybody?\n")
        client.popen.stdin.close()
        assert client.wait() == 1
    assert "no echo of a datagram of 9 bytes within 2 s" in client.stderr.whole()


def test_a_client_whose_server_ends_early_says_so_and_ends(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        client = Process(shell.command("echo", "client", "--port", deaf.getsockname()[1]), stdin=subprocess.PIPE)
        assert client.popen.stdin
        client.popen.stdin.write(b"hello\n")
        client.popen.stdin.flush()
        connection, _ = deaf.accept()
        assert receive_exactly(connection, 6) == b"hello\n"
        connection.close()
        assert client.wait() == 1
        client.popen.stdin.close()
    assert "the server closed after 0 of 6 bytes came back" in client.stderr.whole()


@pytest.mark.parametrize(
    "command",
    [
        "nc -N {host} {port}",
        "nc -u -W 1 {host} {port}",
        "socat -t 10 - TCP:{host}:{port}",
        "socat -t 0.5 - UDP:{host}:{port}",
    ],
)
def test_the_tools_of_debian_get_their_echo(server: Server, command: str) -> None:
    words = command.format(host=server.host, port=server.port).split()
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    done = subprocess.run(words, input=b"hello\n", stdout=subprocess.PIPE, timeout=DEADLINE, check=False)
    assert done.stdout == b"hello\n"


def test_telnet_gets_its_echo(server: Server) -> None:
    if shutil.which("telnet") is None:
        pytest.skip("telnet is not installed")
    telnet = Process(["telnet", server.host, str(server.port)], stdin=subprocess.PIPE)
    try:
        assert telnet.popen.stdin
        telnet.stdout.wait_for("Connected")
        telnet.popen.stdin.write(b"hello\n")
        telnet.popen.stdin.flush()
        telnet.stdout.wait_for("hello")
    finally:
        telnet.kill()


def test_resets_in_the_middle(server: Server) -> None:
    faults.resets_in_the_middle(server, check)


def test_ten_mebibytes_without_a_newline_from_a_peer_that_never_reads(server: Server) -> None:
    faults.data_without_newline(server, check)


def test_binary_garbage(server: Server) -> None:
    faults.binary_garbage(server, check)


def test_500_connections_dropped_at_once(server: Server) -> None:
    faults.connections_dropped_at_once(server, check)


def test_descriptors_exhausted(server: Server) -> None:
    faults.descriptors_exhausted(server, check)


def test_a_stopped_client(shell: Shell, server: Server) -> None:
    faults.stopped_client(server, check, shell, "echo")


def test_a_server_that_is_stopped_and_goes_on(server: Server) -> None:
    faults.stopped_server(server, check)


def test_a_storm_of_signals(server: Server) -> None:
    faults.signal_storm(server, check)
