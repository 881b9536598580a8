"""What RFC 9110 asks of a server of files where few clients go, as tables of requests and what must come back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness import Server, Shell, receive_exactly, receive_to_end, receive_until
from plainfiles import EARLY, LATE, make_plain_files
from webclient import ask, read_reply, request

HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("conformance")
    make_plain_files(root)
    return root


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([f"If-Modified-Since: {LATE}"], 304),
        ([f"If-Modified-Since: {LATE}", f"If-Modified-Since: {LATE}"], 200),
        ([f"If-Modified-Since: {LATE}, {LATE}"], 200),
        ([f"If-Unmodified-Since: {EARLY}"], 412),
        ([f"If-Unmodified-Since: {EARLY}", f"If-Unmodified-Since: {EARLY}"], 200),
        ([f"If-Unmodified-Since: {EARLY}, {EARLY}"], 200),
    ],
)
def test_a_list_of_dates_is_no_condition(server: Server, fields: list[str], status: int) -> None:
    """Sections 13.1.3 and 13.1.4."""
    assert ask(server, "/data.bin", *fields).status == status


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"HEAD /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"HEAD /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"HEAD /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"HEAD / HTTP/1.1\r\n\r\n", 400),
        (HEAD + b"X : y\r\n\r\n", 400),
        (b"HEAD / HTTP/1.1\nHost: a\n\n", 400),
        (HEAD + b"Content-Length: x\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        (HEAD + b"Content-Length: 9000000\r\n\r\n", 413),
        (b"HEAD /" + b"a" * 9000, 414),
        (HEAD + b"Expect: more\r\n\r\n", 417),
        (b"HEAD / HTTP/1.1\r\nX: " + b"a" * 40_000, 431),
        (b"HEAD / HTTP/1.1\r\n" + b"X: y\r\n" * 101, 431),
        (b"HEAD / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else None,
)
@pytest.mark.parametrize("before", [b"", b"\r\n", HEAD + b"\r\n"], ids=["alone", "after CR LF", "second"])
def test_no_refusal_of_a_head_has_content(server: Server, before: bytes, data: bytes, status: int) -> None:
    """Section 9.3.2: not even the page that says why."""
    with server.connect() as peer:
        peer.sendall(before + data)
        if len(before) > 2:
            assert read_reply(peer, head=True).status == 200
        assert read_reply(peer, head=True).status == status
        assert receive_to_end(peer) == b""


@pytest.mark.parametrize(
    ("lines", "statuses"),
    [
        (["Expect: 100-continue"], [100, 200]),
        (["Expect: , 100-Continue ,"], [100, 200]),
        (["Expect: 100-continue", "Expect: 100-continue"], [100, 200]),
        (["Expect:", "Expect: 100-continue"], [100, 200]),
        (["Expect:"], [200]),
        (["Expect: ,"], [200]),
        (["Expect: 100-continue, more"], [417]),
        (["Expect: 100-continue", "Expect: more"], [417]),
        (["Expect: 100-continue=1"], [417]),
    ],
)
def test_expectations_are_a_list(server: Server, lines: list[str], statuses: list[int]) -> None:
    """Section 10.1.1, and 5.6.1.2 for its empty members."""
    with server.connect() as peer:
        peer.sendall(request("/empty.txt", "Content-Length: 1", *lines))
        if statuses[0] == 200:
            peer.sendall(b"x")
        assert read_reply(peer).status == statuses[0]
        for status in statuses[1:]:
            peer.sendall(b"x")
            assert read_reply(peer).status == status


@pytest.mark.parametrize("data", [b"HEAD /", HEAD, HEAD + b"Content-Length: 1\r\n\r\n"])
def test_no_head_that_is_timed_out_gets_content(shell: Shell, site: Path, data: bytes) -> None:
    with shell.server("websrv", site, "--head-timeout", "0.1", "--body-grace", "0.1", role="") as server:
        with server.connect() as peer:
            peer.sendall(data)
            assert read_reply(peer, head=True).status == 408
            assert receive_to_end(peer) == b""


@pytest.mark.parametrize(
    ("target", "field", "status"),
    [
        ("/sub/", "If-Match: *", 200),
        ("/sub/", 'If-Match: "x"', 412),
        ("/sub/", "If-None-Match: *", 304),
        ("/sub/", 'If-None-Match: "x"', 200),
        ("/sub/", f"If-Modified-Since: {LATE}", 200),
        ("/sub/", f"If-Unmodified-Since: {EARLY}", 200),
        ("/sub/", "Range: bytes=0-0", 200),
        ("/missing", 'If-Match: "x"', 404),
        ("/missing", "If-None-Match: *", 404),
        ("/sub", "If-None-Match: *", 308),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_listing_is_there_but_has_no_tag_and_no_date(
    server: Server, target: str, field: str, status: int, method: str
) -> None:
    """Section 13.1: what is there matches an asterisk, what has no tag matches none; 13.2.1: an error ignores them."""
    reply = ask(server, target, field, method=method)
    assert reply.status == status and "etag" not in reply.fields


ANY = [
    (request("/data.bin"), 200),
    (request("/data.bin", "Range: bytes=0-0"), 206),
    (request("/data.bin", "Range: bytes=0-0,5-5"), 206),
    (request("/", method="OPTIONS"), 204),
    (request("/data.bin", "If-None-Match: *"), 304),
    (request("/sub"), 308),
    (request("/missing"), 404),
    (request("/data.bin", method="PUT"), 405),
    (request("/data.bin", 'If-Match: "x"'), 412),
    (request("/sub/", 'If-Match: "x"'), 412),
    (request("/data.bin", "Range: bytes=99999999-"), 416),
    (request("/", method="BREW"), 501),
    (request("/%00"), 400),
]


def test_every_answer_says_what_the_operator_does(shell: Shell, site: Path) -> None:
    options = ("--header", "Cache-Control: no-store", "--header", "Vary: Origin", "--cors")
    with shell.server("websrv", site, *options, role="") as server, server.connect() as peer:
        for data, status in ANY:
            peer.sendall(data)
            told = receive_until(peer, b"\r\n\r\n")
            assert told.startswith(b"HTTP/1.1 %d " % status)
            lengths = re.findall(rb"\r\nContent-Length: (\d+)", told)
            receive_exactly(peer, int(lengths[0]) if lengths else 0)
            for field in (b"Cache-Control: no-store", b"Vary: Origin", b"Access-Control-Allow-Origin: *"):
                assert told.count(b"\r\n%b\r\n" % field) == 1, (status, field)
