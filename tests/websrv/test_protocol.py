"""HTTP/1.1 as a client meets it on the wire: what is refused and how, what is read past, what keeps its order."""

from __future__ import annotations

import socket
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from harness import Server, receive_to_end
from webclient import ask, exchange, read_reply, request, send_raw

BODY = b"body" * 50


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("protocol")
    (root / "file.txt").write_bytes(BODY)
    (root / "sub").mkdir()
    return root


def post(*fields: str, content: bytes = b"") -> bytes:
    return request("/file.txt", *fields, method="POST") + content


CHUNKED = "Transfer-Encoding: chunked"

REFUSED = {
    # Request-line
    "a misspelt version": (b"GET / HTP/1.1\r\nHost: a\r\n\r\n", 400),
    "the version of HTTP/2": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), 400),
    "nothing but empty lines": (b"\r\n" * 20, 400),
    "two spaces": (b"GET  /file.txt HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a tab for a space": (b"GET\t/file.txt HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a space in the target": (b"GET /file .txt HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a space after the version": (b"GET /file.txt HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    "a space before the method": (b" GET /file.txt HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "no version": (b"GET /file.txt\r\n\r\n", 400),
    "a version in lower case": (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
    "a version of two digits": (b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400),
    "HTTP/0.9 by name": (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "a method that is no token": (b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    # Target
    "an escape that is none": (b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a target without end": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "a control in the target": (b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a DEL in the target": (b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a fragment": (b"GET /file.txt#a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "half an escape": (b"GET /file.txt%4 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an escape in a query that is none": (b"GET /file.txt?%g1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an encoded NUL": (b"GET /file.txt%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "no slash": (b"GET file.txt HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "GET of the asterisk": (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a URI without authority": (b"GET http:///file.txt HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "user information": (b"GET http://user@a/file.txt HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "another scheme": (b"GET ftp://a/file.txt HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a URI but no Host": (b"GET http://a/file.txt HTTP/1.1\r\n\r\n", 400),
    "CONNECT to a path": (b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    # Fields
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two equal Hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    "a space in Host": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "obs-fold": (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
    "a space before the colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "no name": (b"GET / HTTP/1.1\r\nHost: a\r\n: v\r\n\r\n", 400),
    "bare LFs": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "a CR in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
    "a NUL in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
    "a field without end": (request("/", "X: " + "a" * 40_000), 431),
    "an unknown expectation": (request("/", "Expect: 200-maybe"), 417),
    "Host with user information": (b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", 400),
    "Host with a path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "two Hosts in one": (b"GET / HTTP/1.1\r\nHost: a, a\r\n\r\n", 400),
    "two Hosts in HTTP/1.0": (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "obs-fold by a tab": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n", 400),
    "space before the first field": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "a tab before the colon": (b"GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", 400),
    "no colon": (b"GET / HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n", 400),
    "a name that is no token": (b"GET / HTTP/1.1\r\nHost: a\r\nX(Y): a\r\n\r\n", 400),
    "a name beyond ASCII": (b"GET / HTTP/1.1\r\nHost: a\r\nX\xe9: a\r\n\r\n", 400),
    "an escape character in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x1b[31m\r\n\r\n", 400),
    "a bare LF after a field": (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
    "a bare LF for the empty line": (b"GET / HTTP/1.1\r\nHost: a\r\n\nX", 400),
    "CR CR LF": (b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400),
    "more than a hundred fields": (request("/", *["X: y"] * 100), 431),
    # Bodies
    "Content-Length with a minus": (post("Content-Length: -1"), 400),
    "Content-Length with a plus": (post("Content-Length: +1"), 400),
    "Content-Length with a prefix": (post("Content-Length: 0x1"), 400),
    "two lengths in one": (post("Content-Length: 1, 2"), 400),
    "two lengths": (post("Content-Length: 1", "Content-Length: 2"), 400),
    "Content-Length past the limit": (post("Content-Length: 99999999"), 413),
    "Content-Length before Transfer-Encoding": (post("Content-Length: 1", CHUNKED), 400),
    "chunked twice": (post("Transfer-Encoding: chunked, chunked"), 400),
    "chunked not last": (post("Transfer-Encoding: chunked, gzip"), 400),
    "a coding that is not known": (post("Transfer-Encoding: gzip"), 501),
    "a chunk size that is no number": (post(CHUNKED, content=b"x\r\n"), 400),
    "Content-Length of nothing": (post("Content-Length:"), 400),
    "Content-Length with a point": (post("Content-Length: 1.0"), 400),
    "Content-Length in two words": (post("Content-Length: 1 1"), 400),
    "Content-Length that ends in a comma": (post("Content-Length: 1,"), 400),
    "Content-Length with an underscore": (post("Content-Length: 1_0"), 400),
    "Content-Length of a thousand digits": (post("Content-Length: " + "9" * 1000), 413),
    "Transfer-Encoding before Content-Length": (post(CHUNKED, "Content-Length: 3", content=b"0\r\n\r\n"), 400),
    "Transfer-Encoding in HTTP/1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked not last, in two lines": (post(CHUNKED, "Transfer-Encoding: identity"), 400),
    "chunked with a parameter": (post("Transfer-Encoding: chunked;q=1"), 400),
    "a coding that looks like chunked": (post("Transfer-Encoding: xchunked"), 501),
    "a chunk without a size": (post(CHUNKED, content=b"\r\n"), 400),
    "a negative chunk": (post(CHUNKED, content=b"-1\r\n"), 400),
    "a chunk size with a prefix": (post(CHUNKED, content=b"0x1\r\n"), 400),
    "a chunk size of seventeen digits": (post(CHUNKED, content=b"0" * 17 + b"\r\n"), 400),
    "a space after a chunk size": (post(CHUNKED, content=b"1 \r\na\r\n"), 400),
    "a bare LF after a chunk size": (post(CHUNKED, content=b"1\na\r\n0\r\n\r\n"), 400),
    "a bare LF after a chunk": (post(CHUNKED, content=b"1\r\na\n0\r\n\r\n"), 400),
    "a chunk longer than its size": (post(CHUNKED, content=b"1\r\nab\r\n0\r\n\r\n"), 400),
    "a trailer without a colon": (post(CHUNKED, content=b"0\r\nnothing\r\n\r\n"), 400),
    "extensions without end": (post(CHUNKED, content=b"1;a=" + b"b" * 5000), 413),
    "trailers without end": (post(CHUNKED, content=b"0\r\n" + b"X: y\r\n" * 2000), 431),
    "chunks past the limit": (post(CHUNKED, content=b"100001\r\n"), 413),
    "an unknown expectation among known ones": (request("/", "Expect: 100-continue, x"), 417),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_fault_is_named_by_its_status_and_the_connection_closed(server: Server, name: str) -> None:
    data, status = REFUSED[name]
    assert send_raw(server, data).status == status


@pytest.mark.parametrize("name", ["an escape character in a value", "a chunk longer than its size", "CR CR LF"])
def test_a_fault_is_the_same_fault_byte_by_byte(server: Server, name: str) -> None:
    data, status = REFUSED[name]
    with server.connect() as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in data:
            peer.send(bytes([byte]))
        assert read_reply(peer).status == status
        assert receive_to_end(peer) == b""


def test_what_came_before_a_fault_is_answered_and_nothing_after_it(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(request("/file.txt") * 2 + b"bad\r\n\r\n" + request("/file.txt"))
        assert read_reply(peer).body == read_reply(peer).body == BODY
        assert read_reply(peer).status == 400
        assert receive_to_end(peer) == b""


def test_a_refusal_reaches_a_client_that_is_still_sending(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(post("Content-Length: 4000000", content=bytes(4_000_000)))
        assert read_reply(peer).status == 413
        assert receive_to_end(peer) == b""


def test_a_refusal_repeats_nothing_of_the_request(server: Server) -> None:
    for data in (
        b"GET /<script> HTTP/1.1\r\nHost: a\r\n<script>: x\r\n\r\n",
        b"GET /%zz<script> HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: <script>\r\n\r\n",
    ):
        assert b"script" not in send_raw(server, data).body
    for target in ("/<script>", "/%3Cscript%3E"):
        assert b"script" not in ask(server, target).body


@pytest.mark.parametrize(
    "fields",
    [
        "Host: a:80",
        "Host: a:",
        "Host: [::1]:8080",
        "Host: xn--bcher-kva.example",
        "Host:",
        "hOsT:\ta \t",
        "Host: a\r\nX:",
        "Host: a\r\nX: caf\xe9",
        "Host: a\r\nContent-Length: 0",
        "Host: a\r\nContent-Length: 000",
        "Host: a\r\nContent-Length: 0, 0\r\nContent-Length: 0",
        "Host: a\r\nExpect: 100-continue",
        "Host: a\r\n" + "X: y\r\n" * 98 + "X: y",
    ],
)
def test_what_is_odd_but_clear_is_answered(server: Server, fields: str) -> None:
    with server.connect() as peer:
        for _ in range(2):
            peer.sendall(f"GET /file.txt HTTP/1.1\r\n{fields}\r\n\r\n".encode("latin-1"))
            assert read_reply(peer).body == BODY


def test_empty_lines_before_a_request_are_passed_over(server: Server) -> None:
    with server.connect() as peer:
        for _ in range(2):
            peer.sendall(b"\r\n\r\n" + request("/file.txt"))
            assert read_reply(peer).body == BODY


def test_a_later_minor_version_is_read_as_1_1(server: Server) -> None:
    with server.connect() as peer:
        for _ in range(2):
            peer.sendall(request("/file.txt", version="1.7"))
            reply = read_reply(peer)
            assert reply.body == BODY and "connection" not in reply.fields


def test_http_1_0_needs_no_host_and_no_absolute_form_its_own(server: Server) -> None:
    for target in (b"/file.txt", b"http://a/file.txt", b"HTTP://A:80/sub/../file.txt?query"):
        assert send_raw(server, b"GET " + target + b" HTTP/1.0\r\n\r\n").body == BODY


def test_the_absolute_form_of_the_root_needs_no_path(server: Server) -> None:
    with server.connect() as peer:
        listing = exchange(peer, "/").body
        assert exchange(peer, "http://a").body == exchange(peer, "http://a?query").body == listing


def test_methods_are_names_in_capitals_and_only_three_are_answered(server: Server) -> None:
    with server.connect() as peer:
        for method in ("get", "Get", "GETS", "M-SEARCH", "!"):
            reply = exchange(peer, "/file.txt", method=method)
            assert reply.status == 501 and "allow" not in reply.fields
        for target, method in (("a:443", "CONNECT"), ("/missing", "DELETE"), ("/", "POST"), ("/sub", "PATCH")):
            reply = exchange(peer, target, method=method)
            assert (reply.status, reply.fields["allow"]) == (405, "GET, HEAD, OPTIONS")
        for target in ("*", "/", "/missing", "http://a"):
            reply = exchange(peer, target, method="OPTIONS")
            assert reply.status == 204 and "content-length" not in reply.fields


def test_trace_sends_nothing_back(server: Server) -> None:
    reply = ask(server, "/file.txt", "Cookie: secret", method="TRACE")
    assert reply.status == 405 and b"secret" not in reply.body


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "BREW"])
def test_a_body_up_to_the_limit_is_read_past_after_any_method(server: Server, method: str) -> None:
    # Sent as the body, a whole request must not be taken for one.
    content = (request("/missing") * 30_000)[: 1 << 20]
    first, second = content[:100_000], content[100_000:]
    sizes = b"%x" % len(first), b'%X ;a="b;\\"c"' % len(second)
    chunks = b"%b\r\n%b\r\n%b\r\n%b\r\n0\r\nTrailer: x\r\n\r\n" % (sizes[0], first, sizes[1], second)
    with server.connect() as peer:
        for fields, data in ((f"Content-Length: {len(content)}", content), (CHUNKED, chunks)):
            peer.sendall(request("/file.txt", fields, method=method) + data + request("/file.txt?next"))
            read_reply(peer, head=method == "HEAD")
            reply = read_reply(peer)
            assert (reply.status, reply.body) == (200, BODY)


def test_answers_without_a_body_have_none_on_the_wire(server: Server) -> None:
    etag = ask(server, "/file.txt").fields["etag"]
    with server.connect() as peer:
        for target in ("/file.txt", "/missing", "/sub", "/", "/sub/"):
            peer.sendall(request(target, method="HEAD") + request("/file.txt"))
            assert int(read_reply(peer, head=True).fields["content-length"]) > 0
            assert read_reply(peer).body == BODY
        peer.sendall(request("/file.txt", f"If-None-Match: {etag}") + request("/file.txt"))
        assert read_reply(peer).status == 304
        assert read_reply(peer).body == BODY


def test_100_continue_is_sent_only_where_somebody_waits_for_it(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(b"GET /file.txt HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab")
        assert read_reply(peer).status == 200
    with server.connect() as peer:
        peer.sendall(request("/file.txt", "Expect: 100-Continue", CHUNKED))
        assert read_reply(peer).status == 100
        peer.sendall(b"1\r\na\r\n0\r\n\r\n" + request("/missing"))
        assert [read_reply(peer).status for _ in range(2)] == [200, 404]
    assert send_raw(server, request("/", "Expect: 100-continue", "Content-Length: 2000000")).status == 413


@pytest.mark.parametrize(
    ("version", "options", "persists"),
    [
        ("1.1", "Connection: keep-alive", True),
        ("1.1", "Connection: x-close", True),
        ("1.1", "Connection: CLOSE", False),
        ("1.1", "Connection: keep-alive, close", False),
        ("1.1", "Connection: te\r\nConnection: close", False),
        ("1.0", "Connection: Keep-Alive", True),
        ("1.0", "Connection: close, keep-alive", False),
        ("1.0", "Keep-Alive: timeout=5", False),
    ],
)
def test_the_connection_field_decides_what_follows(server: Server, version: str, options: str, persists: bool) -> None:
    with server.connect() as peer:
        peer.sendall(request("/file.txt", options, version=version) + request("/missing", "Connection: close"))
        assert read_reply(peer).fields.get("connection", "keep-alive") == ("keep-alive" if persists else "close")
        if persists:
            assert read_reply(peer).status == 404
        assert receive_to_end(peer) == b""


def test_the_date_is_now_in_the_one_form_that_may_be_sent(server: Server) -> None:
    date = ask(server, "/file.txt").fields["date"]
    assert time.strftime("%a, %d %b %Y %H:%M:%S GMT", parsedate_to_datetime(date).timetuple()) == date
    assert abs(parsedate_to_datetime(date).timestamp() - time.time()) < 30


def test_pipelines_of_many_clients_do_not_mix(server: Server) -> None:
    peers = [server.connect() for _ in range(20)]
    try:
        for number, peer in enumerate(peers):
            peer.sendall(b"".join(request(f"/sub/{number}-{count}") + request("/file.txt") for count in range(10)))
        for peer in peers:
            for _ in range(10):
                assert read_reply(peer).status == 404
                assert read_reply(peer).body == BODY
    finally:
        for peer in peers:
            peer.close()
