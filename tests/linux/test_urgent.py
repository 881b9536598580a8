"""What this kernel does with urgent data: the facts that `aiolsp.oob` stands on."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from aiolsp.linux.urgent import at_mark, take_urgent
from harness import DEADLINE


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client, blocking, and the server's end, non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=DEADLINE)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        server = listener.accept()[0]
    server.setblocking(False)
    with client, server:
        yield client, server


def wait_for(server: socket.socket, event: int) -> int:
    poll = select.poll()
    poll.register(server, event)
    [(_, events)] = poll.poll(DEADLINE * 1000)
    return events


def read_all(server: socket.socket) -> list[tuple[bytes, bool]]:
    """Each read until the end of the stream, and whether it stopped at the mark."""
    pieces: list[tuple[bytes, bool]] = []
    while True:
        wait_for(server, select.POLLIN)
        piece = server.recv(100)
        if not piece:
            return pieces
        pieces.append((piece, at_mark(server)))


def receive(server: socket.socket, size: int) -> bytes:
    wait_for(server, select.POLLIN)
    return server.recv(size)


def arrive(server: socket.socket, size: int) -> None:
    """Wait until *size* bytes in sequence can be read without crossing a mark."""
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
    wait_for(server, select.POLLIN)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


def test_only_the_last_byte_of_urgent_data_is_urgent(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    client.send(b"abc", socket.MSG_OOB)
    wait_for(server, select.POLLPRI)
    assert take_urgent(server) == b"c"
    client.shutdown(socket.SHUT_WR)
    assert read_all(server) == [(b"ab", True)]


def test_an_urgent_byte_is_taken_once(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    assert take_urgent(server) is None
    client.send(b"x", socket.MSG_OOB)
    wait_for(server, select.POLLPRI)
    assert take_urgent(server) == b"x"
    assert take_urgent(server) is None


def test_a_lone_urgent_byte_is_exceptional_but_not_readable(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    client.send(b"x", socket.MSG_OOB)
    assert wait_for(server, select.POLLIN | select.POLLPRI) == select.POLLPRI


def test_a_read_stops_at_the_mark(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    client.sendall(b"123")
    client.send(b"abc", socket.MSG_OOB)
    client.sendall(b"123")
    client.shutdown(socket.SHUT_WR)
    wait_for(server, select.POLLPRI)
    arrive(server, 6)
    assert read_all(server) == [(b"123ab", True), (b"123", False)]


def test_a_read_that_starts_at_the_mark_jumps_over_the_byte(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    client.send(b"x", socket.MSG_OOB)
    wait_for(server, select.POLLPRI)
    client.sendall(b"cd")
    assert at_mark(server)
    assert receive(server, 100) == b"cd"
    assert take_urgent(server) is None


def test_the_mark_stays_when_its_byte_has_been_taken(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    client.send(b"abx", socket.MSG_OOB)
    wait_for(server, select.POLLPRI)
    assert take_urgent(server) == b"x"
    assert not at_mark(server)
    assert receive(server, 100) == b"ab"
    assert at_mark(server)


def test_an_older_urgent_byte_that_reading_stood_at_is_lost(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    client.send(b"x", socket.MSG_OOB)
    wait_for(server, select.POLLPRI)
    client.sendall(b"mid")
    client.send(b"y", socket.MSG_OOB)
    client.shutdown(socket.SHUT_WR)
    wait_for(server, select.POLLRDHUP)
    assert take_urgent(server) == b"y"
    assert read_all(server) == [(b"mid", True)]


def test_an_older_urgent_byte_ahead_of_reading_becomes_a_normal_byte(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    client.sendall(b"ab")
    client.send(b"x", socket.MSG_OOB)
    client.sendall(b"mid")
    client.send(b"y", socket.MSG_OOB)
    client.shutdown(socket.SHUT_WR)
    wait_for(server, select.POLLRDHUP)
    assert take_urgent(server) == b"y"
    assert read_all(server) == [(b"abxmid", True)]


def test_a_byte_taken_before_its_mark_is_reached_stays_in_the_stream_when_the_mark_moves(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    client, server = pair
    client.send(b"abx", socket.MSG_OOB)
    wait_for(server, select.POLLPRI)
    assert take_urgent(server) == b"x"
    client.send(b"midy", socket.MSG_OOB)
    wait_for(server, select.POLLPRI)
    assert take_urgent(server) == b"y"
    assert receive(server, 100) == b"abxmid"


def test_a_closed_socket_is_told_apart_from_no_byte(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[1].close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        take_urgent(pair[1])


SIGNALLED = f"""
import signal, socket, sys
sys.path[:0] = {sys.path!r}
from aiolsp.linux.urgent import own_signals, take_urgent
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGURG])
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server = listener.accept()[0]
server.setblocking(False)
own_signals(server)
client.send(b"x", socket.MSG_OOB)
signal.sigwait([signal.SIGURG])
print(take_urgent(server))
"""


def test_sigurg_goes_to_the_process_that_owns_the_socket() -> None:
    ran = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, timeout=DEADLINE)
    assert (ran.stdout, ran.stderr) == ("b'x'\n", "")
