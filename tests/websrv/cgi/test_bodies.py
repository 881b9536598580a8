"""Bodies on their way to a program: large, slow, chunked, bad, waited for, and not read."""

from __future__ import annotations

import os
import select
import socket

import pytest

from cgiprograms import await_end, post
from harness import Server, receive_to_end, receive_until
from webclient import exchange, read_chunks, read_reply, request, send_raw


def test_bodies_reach_the_program_whole(server: Server) -> None:
    large = os.urandom(1 << 20)
    assert post(server, "/cgi-bin/echo", b"").body == b""
    assert post(server, "/cgi-bin/echo", large).body == large
    assert post(server, "/cgi-bin/cat.sh", large).body == large
    with server.connect() as peer:
        peer.sendall(request("/cgi-bin/echo", "Transfer-Encoding: chunked", method="PUT"))
        for start in range(0, len(large), 100_000):
            piece = large[start : start + 100_000]
            peer.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        peer.sendall(b"0\r\n\r\n" + request("/cgi-bin/echo", "Transfer-Encoding: chunked", method="PUT") + b"0\r\n\r\n")
        assert read_reply(peer).body == large
        assert read_reply(peer).body == b""


def test_a_body_that_comes_slowly_is_passed_on_as_it_comes(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(request("/cgi-bin/cat.sh", "Content-Length: 6", method="POST"))
        head = receive_until(peer, b"\r\n\r\n")
        chunks = read_chunks(peer)
        for piece in (b"ab", b"cd", b"ef"):
            peer.sendall(piece)
            assert next(chunks) == piece
        assert b"chunked" in head and list(chunks) == []
        assert exchange(peer, "/file.txt").body == b"a file"


@pytest.mark.parametrize("name", ["deaf", "shut"])
def test_a_program_that_does_not_read_its_body_answers_all_the_same(server: Server, name: str) -> None:
    with server.connect() as peer:
        for framing in (f"Content-Length: {1 << 20}", "Transfer-Encoding: chunked"):
            peer.sendall(request(f"/cgi-bin/{name}.sh", framing, method="POST"))
            chunked = framing.startswith("T")
            peer.sendall(b"100000\r\n" * chunked + bytes(1 << 20) + b"\r\n0\r\n\r\n" * chunked)
            assert read_reply(peer).body == name.encode()
        assert exchange(peer, "/file.txt").body == b"a file"


def test_a_client_that_waits_for_a_100_gets_it_when_the_program_is_there(server: Server) -> None:
    for framing, body in (("Content-Length: 3", b"abc"), ("Transfer-Encoding: chunked", b"3\r\nabc\r\n0\r\n\r\n")):
        with server.connect() as peer:
            peer.sendall(request("/cgi-bin/echo", framing, "Expect: 100-continue", method="POST"))
            assert read_reply(peer).status == 100
            peer.sendall(body)
            assert read_reply(peer).body == b"abc"
            assert exchange(peer, "/file.txt").body == b"a file"


@pytest.mark.parametrize(("name", "status"), [("missing", 404), ("nph-x", 403)])
def test_a_client_that_waits_for_a_100_in_vain_is_told_why(server: Server, name: str, status: int) -> None:
    data = request(f"/cgi-bin/{name}", "Content-Length: 3", "Expect: 100-continue", method="POST")
    assert send_raw(server, data).status == status


def test_a_body_over_the_limit_starts_no_program(server: Server) -> None:
    assert send_raw(server, request("/cgi-bin/echo", "Content-Length: 1048577", method="POST")).status == 413
    with server.connect() as peer:
        peer.sendall(request("/cgi-bin/echo", "Transfer-Encoding: chunked", method="POST") + b"100001\r\n")
        assert read_reply(peer).status == 413


def test_a_bad_body_ends_the_program_that_reads_it(server: Server) -> None:
    before = server.stderr.text.count("waits.sh: ")
    with server.connect() as peer:
        peer.sendall(request("/cgi-bin/waits.sh", "Transfer-Encoding: chunked", method="POST") + b"nonsense\r\n")
        assert read_reply(peer).status == 400
    with server.connect() as peer:
        peer.sendall(request("/cgi-bin/waits.sh", "Content-Length: 9", method="POST") + b"half")
        server.stderr.wait_for(r"waits.sh: \d+", count=before + 1)
    await_end(server, "waits.sh", count=before + 1)


@pytest.mark.parametrize(
    ("name", "fields", "body", "status"),
    [
        ("waits.sh", ["Transfer-Encoding: chunked"], b"nonsense\r\n", 400),
        ("missing.sh", ["Expect: 100-continue", "Content-Length: 9"], b"", 404),
    ],
)
def test_no_refusal_of_a_head_has_content(
    server: Server, name: str, fields: list[str], body: bytes, status: int
) -> None:
    with server.connect() as peer:
        peer.sendall(request(f"/cgi-bin/{name}", *fields, method="HEAD") + body)
        assert read_reply(peer, head=True).status == status
        assert receive_to_end(peer) == b""


def test_a_program_that_lets_its_body_wait_is_late_as_well(hasty: Server) -> None:
    with hasty.connect() as peer:
        peer.sendall(request("/cgi-bin/hangs.sh", "Content-Length: 1048576", method="POST") + bytes(1 << 20))
        assert read_reply(peer).status == 504
        assert exchange(peer, "/file.txt").body == b"a file"


def test_a_client_that_is_slow_to_send_has_time_that_a_program_has_not(hasty: Server) -> None:
    with hasty.connect() as peer:
        peer.sendall(request("/cgi-bin/waits.sh", "Content-Length: 3", method="POST"))
        assert select.select([peer], [], [], 1.0)[0] == []
        peer.sendall(b"ab\n")
        assert read_reply(peer).body == b"ab"


def test_a_client_that_half_closes_gets_its_answer(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(request("/cgi-bin/echo", "Content-Length: 3", method="POST") + b"abc")
        peer.shutdown(socket.SHUT_WR)
        assert read_reply(peer).body == b"abc"
        assert receive_to_end(peer) == b""
