"""No message is answered twice and no body is taken for a request: each odd message, and a request right behind it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ambiguous import TAKEN, UNFINISHED
from harness import Server, receive_to_end
from parsing import in_pieces
from refused import REFUSED
from webclient import Reply, read_reply, request

MARKER = request("/marker", "Connection: close")
"""The request that follows; its answer is the last of the connection."""


PLAIN = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
"""What many of the messages are but for one oddity."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("framing")
    for name in ("marker", "smuggled", "file.txt"):
        (root / name).write_bytes(b"This is " + name.encode())
    return root


def send(peer: socket.socket, data: bytes) -> None:
    """Send all, unless the server has closed before."""
    try:
        peer.sendall(data)
    except (ConnectionResetError, BrokenPipeError):
        pass


def answer(peer: socket.socket, data: bytes) -> Reply:
    """The final answer to the request that *data* begins with."""
    reply = read_reply(peer, head=data.startswith(b"HEAD"))
    return answer(peer, data) if reply.status == 100 else reply


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_message_is_answered_once_and_nothing_after_it_is(server: Server, name: str) -> None:
    status, data = REFUSED[name]
    with server.connect() as peer:
        send(peer, data + MARKER)
        reply = answer(peer, data)
        assert (reply.status, reply.fields["connection"]) == (status, "close")
        assert receive_to_end(peer) == b""


@pytest.mark.parametrize("name", ["an escape character in a value", "a chunk longer than its size", "CR CR LF"])
def test_a_fault_is_the_same_fault_byte_by_byte(server: Server, name: str) -> None:
    status, data = REFUSED[name]
    with server.connect() as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in in_pieces(data, 1):
            send(peer, byte)
        assert read_reply(peer).status == status
        assert receive_to_end(peer) == b""


@pytest.mark.parametrize("name", TAKEN)
def test_a_message_that_is_taken_ends_where_the_next_begins(server: Server, name: str) -> None:
    status, data = TAKEN[name]
    with server.connect() as peer:
        peer.sendall(data + MARKER)
        assert answer(peer, data).status == status and read_reply(peer).body == b"This is marker"
        assert receive_to_end(peer) == b""


def test_a_message_is_judged_by_itself_while_answers_to_its_like_are_kept_ready(server: Server) -> None:
    for name, (status, data) in {**REFUSED, **TAKEN}.items():
        with server.connect() as peer:
            for ready in (PLAIN, PLAIN, data):
                send(peer, ready)
                reply = answer(peer, ready)
            assert reply.status == status, name


@pytest.mark.parametrize("name", UNFINISHED)
def test_what_follows_an_unfinished_message_is_no_request(server: Server, name: str) -> None:
    with server.connect() as peer:
        peer.sendall(UNFINISHED[name] + MARKER)
        peer.shutdown(socket.SHUT_WR)
        received = receive_to_end(peer)
        assert received.count(b"HTTP/1.1 ") <= 1 and b"This is" not in received, received
