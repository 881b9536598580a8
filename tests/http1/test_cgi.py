"""CGI without I/O: what programs are told, what their heads mean, how their output is framed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.http1.cgi import (
    MAX_OUTPUT_FIELDS,
    MAX_OUTPUT_HEAD,
    CgiHead,
    Ends,
    OutputHead,
    ResponseBody,
    ScriptPath,
    body_length,
    end_of_program,
    meta_variables,
    redirected,
)
from aiolsp.http1.limits import Limits
from aiolsp.http1.messages import END_OF_MESSAGE, Data, ProtocolError, Request
from aiolsp.http1.parser import RequestParser

ENDS = Ends(("192.0.2.1", 8080), ("198.51.100.7", 40000))
PATH = ScriptPath(b"cgi-bin", b"show", b"/a b/c")


def parsed(head: str, *fields: str) -> Request:
    data = "\r\n".join((head, *fields, "", "")).encode("latin-1")
    (request, *_) = RequestParser(Limits()).feed(data)
    assert isinstance(request, Request), request
    return request


def variables(
    *fields: str,
    head: str = "GET /cgi-bin/show/a%20b/c?q=%41 HTTP/1.1",
    host: str = "Host: a.example:8080",
    length: int = 0,
) -> dict[bytes, bytes]:
    return meta_variables(parsed(head, host, *fields), PATH, ENDS, length=length, root=b"/srv/www")


def test_a_program_is_told_all_that_rfc_3875_requires_and_nothing_of_the_server() -> None:
    assert variables() == {
        b"GATEWAY_INTERFACE": b"CGI/1.1",
        b"SERVER_SOFTWARE": b"aiolsp",
        b"SERVER_PROTOCOL": b"HTTP/1.1",
        b"SERVER_NAME": b"a.example",
        b"SERVER_PORT": b"8080",
        b"REMOTE_ADDR": b"198.51.100.7",
        b"REMOTE_HOST": b"198.51.100.7",
        b"REMOTE_PORT": b"40000",
        b"REQUEST_METHOD": b"GET",
        b"SCRIPT_NAME": b"/cgi-bin/show",
        b"PATH_INFO": b"/a b/c",
        b"PATH_TRANSLATED": b"/srv/www/a b/c",
        b"QUERY_STRING": b"q=%41",
        b"HTTP_HOST": b"a.example:8080",
    }


def test_a_body_has_a_length_and_a_type() -> None:
    told = variables("Content-Length: 5", "Content-Type: text/x", head="POST /cgi-bin/show HTTP/1.1", length=5)
    assert (told[b"CONTENT_LENGTH"], told[b"CONTENT_TYPE"]) == (b"5", b"text/x")
    assert not {b"HTTP_CONTENT_LENGTH", b"HTTP_CONTENT_TYPE"} & told.keys()


@pytest.mark.parametrize(
    "field",
    [
        "Proxy: http://evil.example/",
        "Authorization: Basic c2VjcmV0",
        "Proxy-Authorization: Basic c2VjcmV0",
        "Connection: keep-alive",
        "Keep-Alive: 5",
        "TE: trailers",
        "Upgrade: h2c",
        "Content_Length: 7",
        "X_Forwarded_For: 127.0.0.1",
        "A.B: x",
    ],
)
def test_a_field_that_could_pose_as_something_else_is_not_told(field: str) -> None:
    assert variables(field) == variables()


def test_fields_that_connection_names_were_for_the_server_alone() -> None:
    assert variables("Connection: close, X-Hop", "X-Hop: 1") == variables()


def test_fields_of_one_name_become_one_variable() -> None:
    told = variables("X-A: 1", "X-A: 2", "Cookie: a=1", "Cookie: b=2")
    assert (told[b"HTTP_X_A"], told[b"HTTP_COOKIE"]) == (b"1, 2", b"a=1; b=2")


@pytest.mark.parametrize(
    ("host", "name"),
    [("a.example", b"a.example"), ("[::1]:80", b"[::1]"), ("[::1]", b"[::1]"), ("10.0.0.1:", b"10.0.0.1")],
)
def test_the_servers_name_is_the_clients_word_without_its_port(host: str, name: bytes) -> None:
    assert variables(host=f"Host: {host}")[b"SERVER_NAME"] == name


def test_without_a_host_the_servers_name_is_its_address() -> None:
    request = parsed("GET / HTTP/1.0")
    path = ScriptPath(b"cgi-bin", b"x", b"")
    told = meta_variables(request, path, Ends(("::1", 80), None), length=0, root=b"")
    assert (told[b"SERVER_NAME"], told[b"REMOTE_ADDR"]) == (b"[::1]", b"unix:")
    assert b"PATH_TRANSLATED" not in told and told[b"PATH_INFO"] == b""


def head_of(output: bytes, cuts: tuple[int, ...] = ()) -> tuple[CgiHead | ProtocolError, bytes]:
    """The head of *output* fed in pieces, and the body's bytes."""
    reader = OutputHead()
    places = sorted({0, len(output), *(min(cut, len(output)) for cut in cuts)})
    for start, end in zip(places, places[1:], strict=False):
        head = reader.feed(output[start:end])
        if head is not None:
            return head, reader.rest() + output[end:]
    return reader.receive_eof(), b""


@pytest.mark.parametrize(
    ("output", "head"),
    [
        (b"Content-Type: text/plain\n\n", CgiHead(200, ((b"Content-Type", b"text/plain"),))),
        (b"content-type:  a/b \r\nX-A:\r\n\r\n", CgiHead(200, ((b"content-type", b"a/b"), (b"X-A", b"")))),
        (b"Status: 404 Not here\n\n", CgiHead(404)),
        (b"Status: 204\nContent-Length: 3\n\n", CgiHead(204, (), 3)),
        (b"Location: /x?y\n\n", CgiHead(200, local=b"/x?y")),
        (b"Status: 200 OK\nLocation: /x\nContent-Type: a/b\n\n", CgiHead(200, local=b"/x")),
        (b"Location: http://b.example/\n\n", CgiHead(302, ((b"Location", b"http://b.example/"),))),
        (b"Location: other\n\n", CgiHead(302, ((b"Location", b"other"),))),
        (b"Status: 303\nLocation: /x\n\n", CgiHead(303, ((b"Location", b"/x"),))),
        (b"Status: 301 x\nLocation: http://b/\n\n", CgiHead(301, ((b"Location", b"http://b/"),))),
        (
            b"Server: me\nDate: now\nConnection: close\nX-CGI-Secret: 1\nSet-Cookie: a\nSet-Cookie: b\nStatus: 200\n\n",
            CgiHead(200, ((b"Set-Cookie", b"a"), (b"Set-Cookie", b"b"))),
        ),
    ],
)
def test_a_programs_head_is_read_with_either_line_end(output: bytes, head: CgiHead) -> None:
    assert head_of(output + b"body\n\nmore") == (head, b"body\n\nmore")


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (b"", "ended before"),
        (b"Content-Type: a/b\n", "ended before"),
        (b"\n", "no Content-Type"),
        (b"X-A: 1\n\n", "no Content-Type"),
        (b"Content-Length: 5\n\n", "no Content-Type"),
        (b"Hello, world\n\n", "no colon"),
        (b"#!/bin/sh\n\n", "no colon"),
        (b"Content Type: a/b\n\n", "no field"),
        (b": a\n\n", "no field"),
        (b"A: b\n folded: c\n\n", "no field"),
        (b"A: b\0c\n\n", "no field"),
        (b"A: b\rSet-Cookie: c\n\n", "no field"),
        (b"Content-Type: a/b\nContent-type: c/d\n\n", "two Content-type"),
        (b"Status: 200\nStatus: 302\n\n", "two Status"),
        (b"Status: 200\nContent-Length: 1\nContent-Length: 1\n\n", "two Content-Length"),
        (b"Status: 200\nTransfer-Encoding: chunked\n\n", "Transfer-Encoding"),
        (b"Status: 200\nContent-Length: -1\n\n", "Content-Length"),
        (b"Status: 200\nContent-Length: " + b"9" * 19 + b"\n\n", "Content-Length"),
        (b"Status: OK\n\n", "Status"),
        (b"Status: 100\n\n", "Status"),
        (b"Status: 600\n\n", "Status"),
        (b"Status: 2000\n\n", "Status"),
        (b"A: b\n" * (MAX_OUTPUT_FIELDS + 1) + b"\n", "fields"),
        (b"A" * MAX_OUTPUT_HEAD, "ended before"),
        (b"A" * (MAX_OUTPUT_HEAD + 1), "bytes"),
        (b"Content-Type: a/b\n" + (b"A: " + b"b" * 9000 + b"\n") * 4, "bytes"),
    ],
)
def test_a_bad_head_is_a_bad_gateway(output: bytes, reason: str) -> None:
    head, _ = head_of(output)
    assert isinstance(head, ProtocolError) and head.status == 502 and reason in head.reason, head


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [b"Content-Type: a/b", b"Status: 404", b"Location: /x", b"A: " + b"b" * 20000, b"C: \xff", b"no colon", b""]
        ),
        max_size=6,
    ),
    st.sampled_from([b"\n", b"\r\n"]),
    st.sampled_from([b"", b"\n", b"\r\n", b"\r", b"\r\r\n"]),
    st.binary(max_size=8),
    st.lists(st.integers(0, 70000), max_size=8).map(tuple),
)
def test_any_split_of_an_output_gives_the_same_head(
    lines: list[bytes], end: bytes, last: bytes, body: bytes, cuts: tuple[int, ...]
) -> None:
    output = b"".join(line + end for line in lines) + last + body
    head, rest = head_of(output, cuts)
    whole, whole_rest = head_of(output)
    assert head == whole and (isinstance(head, ProtocolError) or rest == whole_rest)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5).map(tuple))
def test_any_bytes_at_all_give_a_head_or_a_fault(output: bytes, cuts: tuple[int, ...]) -> None:
    head, _ = head_of(output, cuts)
    assert head == head_of(output)[0]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=8))
def test_a_head_that_never_ends_is_kept_to_its_limit(pieces: list[bytes]) -> None:
    reader = OutputHead()
    for piece in pieces * 200:
        if reader.feed(piece.translate(None, b"\n")) is not None:
            return
        assert len(reader._lines) <= MAX_OUTPUT_HEAD


NAMES = st.text("abz09-_.ABZ", min_size=1, max_size=12).map(str.lower) | st.sampled_from(
    ["proxy", "authorization", "connection", "content-type", "te", "cookie", "x_a", "x-a"]
)
VALUES = st.text([*map(chr, range(0x20, 0x7F)), "\t", "\xff"], max_size=20)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_whatever_the_fields_the_environment_has_only_names_that_are_safe(fields: list[tuple[str, str]]) -> None:
    own = variables("Content-Type: a/b").keys() - {b"HTTP_HOST"}
    told = variables(*(f"{name}: {value}" for name, value in fields if name != "host"))
    for name, value in told.items():
        assert name in own or re.fullmatch(rb"HTTP_[A-Z0-9_]+", name)
        assert not re.search(rb"[\0\r\n]", value)
    assert not {b"HTTP_PROXY", b"HTTP_AUTHORIZATION", b"HTTP_CONNECTION", b"HTTP_TE"} & told.keys()
    names = {name for name, _ in fields}
    assert (b"HTTP_X_A" in told) == ("x-a" in names and not hidden("x-a", fields))


def hidden(name: str, fields: list[tuple[str, str]]) -> bool:
    """Whether a Connection field among *fields* names that one."""
    options = [option.strip() for field, value in fields if field == "connection" for option in value.split(",")]
    return name in map(str.lower, options)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=20), max_size=8), st.none() | st.integers(0, 60), st.sampled_from(["1.0", "1.1"]))
def test_a_client_reads_what_the_program_wrote(pieces: list[bytes], length: int | None, version: str) -> None:
    body = body_for(length, version=version)
    sent, written = b"".join(map(body.data, pieces)), b"".join(pieces)
    end = body.end(0)
    if length is not None:
        assert sent == written[:length] and (end is None) == (len(written) < length)
    elif version == "1.0":
        assert (sent, end) == (written, b"")
    else:
        assert end is not None
        events = RequestParser(Limits()).feed(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + sent + end
        )
        assert b"".join(event.data for event in events if isinstance(event, Data)) == written
        assert events[-1] == END_OF_MESSAGE


def body_for(length: int | None = None, status: int = 200, method: str = "GET", version: str = "1.1") -> ResponseBody:
    return ResponseBody(CgiHead(status, (), length), parsed(f"{method} / HTTP/{version}", "Host: a"))


def test_a_body_without_a_length_is_chunked() -> None:
    body = body_for()
    assert body.delimited and body.response_head(()).render(b"", b"").count(b"Transfer-Encoding: chunked") == 1
    assert body.data(b"0123456789abcdef") + body.data(b"") == b"10\r\n0123456789abcdef\r\n"
    assert body.end(0) == b"0\r\n\r\n"


def test_http_1_0_gets_a_body_without_a_length_until_the_connection_closes() -> None:
    body = body_for(version="1.0")
    assert not body.delimited and b"Transfer" not in body.response_head(()).render(b"", b"")
    assert body.data(b"x") == b"x" and body.end(0) == b""


def test_a_length_is_kept_and_what_passes_it_is_cut() -> None:
    body = body_for(5)
    assert body.delimited and b"Content-Length: 5\r\n" in body.response_head(()).render(b"", b"")
    assert body.data(b"abc") == b"abc" and not body.complete
    assert [body.data(b"defg"), body.data(b"h")] == [b"de", b""]
    assert body.complete and body.end(0) == b""


def test_less_than_the_length_cannot_be_mended() -> None:
    body = body_for(5)
    body.data(b"abcd")
    assert body.end(0) is None
    body.data(b"e")
    assert body.end(-9) == b""


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_body_that_a_killed_program_left_is_not_passed_off_as_whole(version: str) -> None:
    body = body_for(version=version)
    body.data(b"x")
    assert body.end(-9) is None and body.end(1) is not None and body.sent == 1
    assert body_for(version=version, method="HEAD").end(-9) == b""


def test_a_chunked_body_must_be_counted() -> None:
    post = "POST / HTTP/1.1"
    assert body_length(parsed(post, "Host: a", "Content-Length: 007, 007")) == 7
    assert body_length(parsed(post, "Host: a", "Content-Length: " + "0" * 5000 + "7")) == 7
    assert body_length(parsed(post, "Host: a", "Content-Length: 0")) == 0 == body_length(parsed(post, "Host: a"))
    assert body_length(parsed(post, "Host: a", "Transfer-Encoding: chunked")) is None
    assert variables("Content-Length: 0", head=post)[b"CONTENT_LENGTH"] == b"0"


@pytest.mark.parametrize(("method", "then"), [("POST", b"GET"), ("GET", b"GET"), ("HEAD", b"HEAD")])
def test_a_local_redirect_is_a_request_without_a_body(method: str, then: bytes) -> None:
    asked = parsed(f"{method} /x HTTP/1.1", "Host: a", "Content-Length: 3", "Content-Type: b/c", "Accept: d/e")
    again = redirected(asked, b"/y?z")
    assert again.head == b"", "no client sent it"
    assert (again.method, again.target, again.has_body) == (then, b"/y?z", False)
    assert list(again.fields) == [(b"host", b"a"), (b"accept", b"d/e")]


@pytest.mark.parametrize("body", [body_for(5, method="HEAD"), body_for(5, 204), body_for(None, 304), body_for(0)])
def test_a_response_without_a_body_is_whole_whatever_the_program_writes(body: ResponseBody) -> None:
    assert body.delimited and body.complete and body.data(b"abc") == b"" and body.end(0) == b""
    assert (b"Content-Length" in body.response_head(()).render(b"", b"")) == (body.head.status == 200)


def test_what_the_program_says_takes_the_place_of_what_every_answer_says() -> None:
    head = CgiHead(200, ((b"x-frame-options", b"mine"), (b"Content-Type", b"a/b")))
    said = ResponseBody(head, parsed("GET / HTTP/1.0")).response_head(
        ((b"Server", b"s"), (b"X-Frame-Options", b"ours"))
    )
    assert said.render(b"D", b"") == (
        b"HTTP/1.1 200 OK\r\nServer: s\r\nx-frame-options: mine\r\nContent-Type: a/b\r\nDate: D"
    )


def test_the_ends_of_a_connection_are_told_for_both_families_and_for_a_unix_socket_are_none() -> None:
    both = Ends.of(("192.0.2.1", 8080), ("2001:db8::7", 40000, 0, 0))
    assert both == Ends(("192.0.2.1", 8080), ("2001:db8::7", 40000))
    assert Ends.of("/run/site.sock", "") == Ends.of(b"\0abstract", None) == Ends(None, None)


def test_the_end_of_a_program_is_told_by_its_status_or_by_the_signal() -> None:
    assert end_of_program(3) == b"exit status 3" and end_of_program(-9) == b"ended by signal 9"
