"""The kernel takes little for a peer that does not read, and all it can for one that does."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile

import pytest

from aiolsp.linux import unsent

WINDOW = 128 * 1024
"""Bytes: more than a peer with the least receive buffer makes room for, and than one segment of loopback."""


@contextmanager
def unread() -> Iterator[socket.socket]:
    """A non-blocking connection whose peer reads nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        peer.connect(listener.getsockname())
        ours, _ = listener.accept()
        with ours:
            ours.setblocking(False)
            yield ours


@pytest.fixture(scope="module")
def large() -> Iterator[int]:
    with TemporaryFile() as file:
        file.truncate(64 << 20)
        yield file.fileno()


def fill(sock: socket.socket, file: int) -> int:
    sent = 0
    while True:
        try:
            sent += os.sendfile(sock.fileno(), file, sent, 1 << 20)
        except BlockingIOError:
            return sent


def test_a_socket_that_is_bounded_takes_no_more_and_once_free_what_it_would_have_taken(large: int) -> None:
    with unread() as plain:
        usual = fill(plain, large)
    with unread() as sock:
        unsent.bound(sock)
        bounded = fill(sock, large)
        assert unsent.UNSENT <= bounded <= unsent.UNSENT + WINDOW < usual
        unsent.set_free(sock)
        assert bounded + fill(sock, large) > usual - WINDOW


def test_a_unix_socket_is_left_as_it_is() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        unsent.bound(ours)
        unsent.set_free(ours)
        ours.sendall(b"x")
        assert theirs.recv(1) == b"x"


def test_what_the_peer_has_yet_to_take_is_counted(large: int) -> None:
    with unread() as sock:
        assert unsent.untaken(sock) == 0
        sent = fill(sock, large)
        assert sent - WINDOW < unsent.untaken(sock) <= sent
    assert unsent.untaken(sock) == 0, "closed"
