"""HTTP/1.1 as a client meets it on the wire: what is refused and how, what is read past, what keeps its order."""

from __future__ import annotations

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


def test_an_encoded_nul_is_refused(server: Server) -> None:
    assert send_raw(server, request("/file.txt%00")).status == 400


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
