"""TCP and UDP on one port, and a stream of bytes cut into datagrams."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.linux import datagrams as module
from aiolsp.linux.datagrams import MAX_DATAGRAM, TRIES, connect_datagrams, listen_both, take_line
from aiolsp.linux.listener import ListenError, listen
from harness import DEADLINE, unused_port


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Sockets to be closed at the end of the test."""
    with ExitStack() as stack:
        yield stack


def both(host: str, port: int, opened: ExitStack) -> tuple[list[socket.socket], list[socket.socket]]:
    listeners, datagrams = listen_both(host, port)
    for made in listeners + datagrams:
        opened.enter_context(made)
    return listeners, datagrams


def test_a_free_port_is_the_same_for_tcp_and_udp_and_neither_blocks(opened: ExitStack) -> None:
    (listener,), (datagrams,) = both("127.0.0.1", 0, opened)
    assert listener.getsockname() == datagrams.getsockname()
    assert not listener.getblocking() and not datagrams.getblocking()


def test_both_families_of_the_wildcard_are_heard_on_udp(opened: ExitStack) -> None:
    _, (datagrams,) = both("::", 0, opened)
    datagrams.settimeout(DEADLINE)
    port = datagrams.getsockname()[1]
    for host in ("127.0.0.1", "::1"):
        with connect_datagrams(host, port) as connection:
            connection.send(host.encode())
        assert datagrams.recv(100) == host.encode()


def test_a_port_that_is_taken_for_udp_is_an_error_of_one_line(opened: ExitStack) -> None:
    host = "127.0.0.77"  # where no client of another test has been given the same port for TCP
    taken = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    taken.bind((host, 0))
    port = taken.getsockname()[1]
    with pytest.raises(ListenError, match=f"cannot listen on {host}:{port} for UDP: address already in use"):
        listen_both(host, port)
    listen(host, port)[0].close()


def test_another_free_port_is_tried_when_the_first_is_taken_for_udp(
    opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = listen("127.0.0.1", 0)  # held until it is asked for: a number alone could be taken meanwhile
    taken = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    taken.bind(first[0].getsockname())
    offers = [first]
    monkeypatch.setattr(module, "listen", lambda host, port: offers.pop() if offers else listen(host, port))
    (listener,), _ = both("127.0.0.1", 0, opened)
    assert not offers and listener.getsockname()[1] != taken.getsockname()[1]


def test_the_search_for_a_port_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[socket.socket] = []

    def refuse(datagrams: socket.socket, address: object) -> None:
        calls.append(datagrams)
        raise OSError(errno.EADDRINUSE, "address already in use")

    monkeypatch.setattr(module, "_bind", refuse)
    with pytest.raises(ListenError, match="no port of 127.0.0.1 is free"):
        listen_both("127.0.0.1", 0)
    assert len(calls) == TRIES


def test_a_connected_socket_hears_that_nobody_listens() -> None:
    with connect_datagrams("127.0.0.1", unused_port()) as connection:
        connection.settimeout(DEADLINE)
        connection.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            connection.recv(100)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=20) | st.just(b"x" * (MAX_DATAGRAM - 3)), max_size=8))
def test_lines_and_pieces_of_long_ones_are_taken_in_order_and_nothing_is_lost(pieces: list[bytes]) -> None:
    buffer, taken = bytearray(), []
    for piece in pieces:
        buffer += piece
        while line := take_line(buffer):
            taken.append(line)
    assert b"".join(taken) + buffer == b"".join(pieces)
    assert all(line.find(b"\n") in (-1, len(line) - 1) and len(line) <= MAX_DATAGRAM for line in taken)
    assert all(line.endswith(b"\n") or len(line) == MAX_DATAGRAM for line in taken)
    assert b"\n" not in buffer and len(buffer) < MAX_DATAGRAM
