"""Requests that are right, wrong, or garbage, cut anywhere: the events are those of the whole."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.http1.limits import Limits
from aiolsp.http1.messages import Data, EndOfMessage, ProtocolError, Request
from aiolsp.http1.parser import RequestParser
from parsing import CHUNKED, POST, check, head, in_pieces, joined, parse, status_of

ACCEPTED = [
    head(),
    head(b"GET / HTTP/1.0", host=None),
    head(b"GET / HTTP/1.0"),
    head(b"GET / HTTP/1.7"),
    head(b"BREW /pot HTTP/1.1"),
    head(b"!#$%&'*+-.^_`|~ / HTTP/1.1"),
    head(b'GET /a%20b?c=d|[]{}^"\\ HTTP/1.1'),
    head(b"GET //evil/../.. HTTP/1.1"),
    head(b"GET http://b/c HTTP/1.1"),
    head(b"GET HTTPS://b:1?d HTTP/1.1"),
    head(b"GET http://[::1]:80 HTTP/1.1"),
    head(b"OPTIONS * HTTP/1.1"),
    head(b"CONNECT a:443 HTTP/1.1"),
    head(b"CONNECT [::1]:443 HTTP/1.1"),
    head(host=b"Host:"),
    head(host=b"HOST:\t a:80 \t"),
    head(b"GET / HTTP/1.1", b"X:", b"Y: \xff\t\xfe", b"x: again"),
    head(b"GET / HTTP/1.1", *(b"X%d: y" % i for i in range(5))),
    head(b"GET /" + b"a" * 39 + b" HTTP/1.1"),
    head(b"GET / HTTP/1.1", b"X: " + b"y" * (300 - 32)),
    b"\r\n\r\n\r\n\r\n" + head(),
    head() * 3,
    head() + b"\r\n" + head(),
    head(POST, b"Content-Length: 5") + b"hello" + head(),
    head(POST, b"Content-Length: 0") + head(),
    head(POST, b"Content-Length: 50") + b"\0\r\n\n\x7f" * 10,
    head(POST, b"Content-Length: 5, 5", b"Content-Length: 5") + b"hello",
    head(b"POST / HTTP/1.0", b"Content-Length: 5") + b"hello",
    head(POST, CHUNKED) + b"5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nT: u\r\n\r\n" + head(),
    head(POST, b"Expect: 100-Continue", b"Content-Length: 5") + b"hello",
    head(b"GET / HTTP/1.1", b"Connection: close"),
]

REFUSED: list[tuple[int, bytes]] = [
    # The request-line
    (400, b"\r\n" * 5 + head()),
    (400, head(b"GET /")),
    (400, head(b"GET")),
    (400, head(b"GET  / HTTP/1.1")),
    (400, head(b"GET /  HTTP/1.1")),
    (400, head(b"GET / HTTP/1.1 ")),
    (400, head(b" GET / HTTP/1.1")),
    (400, head(b"GET\t/\tHTTP/1.1")),
    (400, head(b"GET /a b HTTP/1.1")),
    (400, head(b"G@T / HTTP/1.1")),
    (400, head(b"(GET) / HTTP/1.1")),
    (400, head(b"GET / http/1.1")),
    (400, head(b"GET / HTTP/1")),
    (400, head(b"GET / HTTP/1.10")),
    (400, head(b"GET / HTTP/11.1")),
    (400, head(b"GET / HTTP/x.1")),
    (400, head(b"GET / HTCPCP/1.0")),
    (505, head(b"GET / HTTP/2.0")),
    (505, head(b"GET / HTTP/0.9")),
    (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"),
    (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    (400, b"GET / HTTP/1.1\rHost: a\r\r"),
    (400, b"GET / HTTP/1.1\r\r\n"),
    (400, b"GET /\0 HTTP/1.1"),
    (400, b"GET /\x7f HTTP/1.1"),
    (400, head(b"GET /\xc3\xa9 HTTP/1.1")),
    (400, head(b"GET /%zz HTTP/1.1")),
    (400, head(b"GET /% HTTP/1.1")),
    (400, head(b"GET /a?b=%4 HTTP/1.1")),
    (400, head(b"GET /a#b HTTP/1.1")),
    (400, head(b"GET a HTTP/1.1")),
    (400, head(b"GET * HTTP/1.1")),
    (400, head(b"OPTIONS ** HTTP/1.1")),
    (400, head(b"GET a:80 HTTP/1.1")),
    (400, head(b"GET ftp://a/ HTTP/1.1")),
    (400, head(b"GET http:/a HTTP/1.1")),
    (400, head(b"GET http:///a HTTP/1.1")),
    (400, head(b"GET http://:80/ HTTP/1.1")),
    (400, head(b"GET http://u@a/ HTTP/1.1")),
    (400, head(b"GET http://[::1/ HTTP/1.1")),
    (400, head(b"CONNECT / HTTP/1.1")),
    (400, head(b"CONNECT a HTTP/1.1")),
    (400, head(b"CONNECT :80 HTTP/1.1")),
    (400, head(b"CONNECT http://a/ HTTP/1.1")),
    (414, b"GET /" + b"a" * 40),
    (414, head(b"GET /" + b"a" * 40 + b" HTTP/1.1")),
    (414, head(b"GET /" + b"a" * 41)),
    (414, b"GET /" + b"a" * 400),
    (414, b"GET /" + b"a" * 40 + b"\0 HTTP/1.1"),
    (400, b"GET /" + b"a" * 30 + b"\0" + b"a" * 400),
    (431, b"G" * 300),
    (431, b"G" * 280 + b" /" + b"a" * 60),
    (414, b"G" * 200 + b" /" + b"a" * 60),
    (400, b"G" * 200 + b"\n" + b"G" * 200),
    # Host
    (400, head(host=None)),
    (400, head(b"GET / HTTP/1.1", b"Host: a")),
    (400, head(b"GET / HTTP/1.1", b"hOST: b")),
    (400, head(b"GET / HTTP/1.0", b"Host: a")),
    (400, head(host=b"Host: a b")),
    (400, head(host=b"Host: a, b")),
    (400, head(host=b"Host: a/b")),
    (400, head(host=b"Host: u@a")),
    (400, head(host=b"Host: a:x")),
    (400, head(host=b"Host: [::1")),
    (400, head(host=b"Host: \xe9")),
    (400, head(b"GET / HTTP/1.0", host=b"Host: a b")),
    (400, head(b"GET http://b/ HTTP/1.1", host=None)),
    # Fields
    (400, head(b"GET / HTTP/1.1", b"X: y", b" z")),
    (400, head(b"GET / HTTP/1.1", b"X: y", b"\tz: a")),
    (400, head(b"GET / HTTP/1.1", b" ", b"X: y")),
    (400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    (400, head(b"GET / HTTP/1.1", b"X : y")),
    (400, head(b"GET / HTTP/1.1", b"X\t: y")),
    (400, head(b"GET / HTTP/1.1", b": y")),
    (400, head(b"GET / HTTP/1.1", b"X")),
    (400, head(b"GET / HTTP/1.1", b"X Y: z")),
    (400, head(b"GET / HTTP/1.1", b"X(Y): z")),
    (400, head(b"GET / HTTP/1.1", b"X\xe9: z")),
    (400, head(b"GET / HTTP/1.1", b"X: a\0b")),
    (400, head(b"GET / HTTP/1.1", b"X: a\rb")),
    (400, head(b"GET / HTTP/1.1", b"X: a\nY: b")),
    (400, head(b"GET / HTTP/1.1", b"X: a\x0bb")),
    (400, head(b"GET / HTTP/1.1", b"X: a\x7fb")),
    (400, head(b"GET / HTTP/1.1", b"X\0: b")),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\n\rX"),
    (431, head(b"GET / HTTP/1.1", *(b"X%d: y" % i for i in range(6)))),
    (431, head(b"GET / HTTP/1.1", b"X: " + b"y" * 300)),
    (431, b"GET / HTTP/1.1\r\nX: " + b"y" * 300),
    (431, head(b"GET / HTTP/1.1", b"X: " + b"y" * (300 - 31))),
    (431, b"GET / HTTP/1.1\r\nX: " + b"y" * 300 + b"\0"),
    (400, b"GET / HTTP/1.1\r\nX: " + b"y" * 200 + b"\0" + b"y" * 300),
    # Framing
    *((400, head(POST, b"Content-Length: " + value)) for value in (b"", b"-1", b"+1", b"0x1", b"1 1", b"1, 2", b"1.0")),
    (400, head(POST, b"Content-Length: 1", b"Content-Length: 2")),
    (400, head(POST, b"Content-Length: 1", CHUNKED)),
    (400, head(b"POST / HTTP/1.0", CHUNKED)),
    (400, head(POST, CHUNKED, CHUNKED)),
    (400, head(POST, b"Transfer-Encoding: chunked, gzip")),
    (400, head(POST, b"Transfer-Encoding: chunked, chunked")),
    (400, head(POST, b"Transfer-Encoding:")),
    (400, head(POST, b"Transfer-Encoding: \x0bchunked")),
    (501, head(POST, b"Transfer-Encoding: gzip, chunked")),
    (501, head(POST, b"Transfer-Encoding: xchunked")),
    (413, head(POST, b"Content-Length: 51")),
    (413, head(POST, b"Content-Length: " + b"9" * 200)),
    (413, head(POST, b"Expect: 100-continue", b"Content-Length: 51")),
    (413, head(POST, CHUNKED) + b"33\r\n"),
    (413, head(POST, CHUNKED) + b"30\r\n" + b"x" * 48 + b"\r\n3\r\n"),
    (400, head(POST, CHUNKED) + b"x\r\n"),
    (400, head(POST, CHUNKED) + b"1\r\nxy\r\n"),
    (400, head(POST, CHUNKED) + b"1\r\nx\n0\r\n\r\n"),
    (400, head(POST, CHUNKED) + b"1\n"),
    (400, head(POST, CHUNKED) + b"0\r\nX : y\r\n\r\n"),
    (417, head(POST, b"Expect: 200-ok", b"Content-Length: 5")),
    (417, head(POST, b"Expect: 100-continue, x", b"Content-Length: 5")),
    (400, head() + head(b"BAD")),
]

CASES = [*ACCEPTED, *(data for _, data in REFUSED)]


@pytest.mark.parametrize("data", ACCEPTED)
def test_a_good_request_is_taken(data: bytes) -> None:
    events = parse(data)
    assert status_of(events) == 0
    assert isinstance(events[0], Request)
    assert isinstance(events[-1], EndOfMessage)


@pytest.mark.parametrize(("status", "data"), REFUSED)
def test_a_bad_request_is_refused(status: int, data: bytes) -> None:
    events = parse(data)
    assert status_of(events) == status
    assert sum(isinstance(event, ProtocolError) for event in events) == 1


@pytest.mark.parametrize("data", CASES)
def test_every_split_gives_the_same_events(data: bytes) -> None:
    whole = parse(data)
    for cut in range(len(data)):
        assert parse(data[:cut], data[cut:]) == whole, data[:cut]
    assert parse(*in_pieces(data, 1)) == whole


@pytest.mark.parametrize("data", ACCEPTED)
def test_a_head_read_at_once_and_one_read_by_lines_give_the_same(data: bytes) -> None:
    by_lines = RequestParser(Limits(), lambda state, status, line: None)
    assert joined(by_lines.feed(data)) == parse(data, limits=Limits())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(CASES), min_size=1, max_size=3), st.lists(st.integers(0, 1000), max_size=8))
def test_many_splits_of_pipelined_requests_give_the_same_events(messages: list[bytes], cuts: list[int]) -> None:
    data = b"".join(messages)
    ends = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in zip(ends, ends[1:], strict=False)]
    check(*pieces)


FRAGMENTS = [
    b"GET",
    b"POST",
    b" ",
    b"/",
    b" / HTTP/1.1\r\n",
    b"\r\n",
    b"\r",
    b"\n",
    b"Host: a\r\n",
    b":",
    b"0",
    b"5",
    b"%",
]
FRAGMENTS += [
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"\0",
    b"\xff",
    b"a" * 50,
    b"Expect: ",
    b"GET / HTTP/1.1",
]


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.binary(max_size=80), st.lists(st.sampled_from(FRAGMENTS), max_size=30).map(b"".join)))
def test_garbage_never_raises_and_reads_the_same_byte_by_byte(data: bytes) -> None:
    check(*in_pieces(data, 1))


NAMES = st.text("abcXYZ-09_", min_size=1, max_size=8).map(lambda name: b"x-" + name.encode())
VALUES = st.binary(max_size=12).map(lambda value: value.translate(None, bytes(range(32)) + b"\x7f").strip())
PAIRS = st.lists(st.tuples(NAMES, VALUES), max_size=5)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(PAIRS, st.binary(max_size=40), st.sampled_from(["none", "length", "chunked"])), max_size=4))
def test_what_was_written_is_read_back(messages: list[tuple[list[tuple[bytes, bytes]], bytes, str]]) -> None:
    sent, expected = b"", list[tuple[list[tuple[bytes, bytes]], bytes]]()
    for pairs, body, framing in messages:
        framed = {
            "none": (b"", b""),
            "length": (b"Content-Length: %d\r\n" % len(body), body),
            "chunked": (CHUNKED + b"\r\n", b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"),
        }[framing]
        fields = b"".join(b"%s: %s\r\n" % pair for pair in pairs)
        sent += POST + b"\r\nHost: a\r\n" + fields + framed[0] + b"\r\n" + framed[1]
        expected.append(([(name.lower(), value) for name, value in pairs], body if framing != "none" else b""))
    found: list[tuple[list[tuple[bytes, bytes]], bytes]] = []
    for event in parse(sent, limits=Limits()):
        if isinstance(event, Request):
            found.append(([pair for pair in event.fields if pair[0].startswith(b"x-")], b""))
        elif isinstance(event, Data):
            found[-1] = (found[-1][0], found[-1][1] + event.data)
        else:
            assert isinstance(event, EndOfMessage)
    assert found == expected
