"""The request machine: what it takes, what it refuses, and that no cut of the bytes changes either."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.http1.limits import UNITS, Limits
from aiolsp.http1.messages import Data, EndOfMessage, Event, Fields, ProtocolError, Request
from aiolsp.http1.parser import RequestParser
from aiolsp.http1.states import ParseState
from aiolsp.sansio import lines as lines_module
from aiolsp.sansio.lines import CrlfSplitter, LineStatus
from ambiguous import TAKEN
from parsing import LIMITS, check, in_pieces, joined, parse


def head(line: bytes = b"GET / HTTP/1.1", *fields: bytes, host: bytes | None = b"Host: a") -> bytes:
    """A head of these lines."""
    return b"\r\n".join([line, *([host] if host is not None else []), *fields, b"", b""])


def status_of(events: list[Event]) -> int:
    """The status of the error that ends *events*, 0 if none does."""
    return events[-1].status if events and isinstance(events[-1], ProtocolError) else 0


def request_of(events: list[Event]) -> Request:
    """The first event, which must be a request."""
    assert isinstance(events[0], Request), events
    return events[0]


POST = b"POST / HTTP/1.1"
CHUNKED = b"Transfer-Encoding: chunked"

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


def test_a_request_has_its_parts() -> None:
    data = head(b"GET /a%20?b HTTP/1.0", b"X:  y ", b"X: z", host=None)
    request = request_of(parse(b"\r\n" + data))
    assert request == Request(
        method=b"GET",
        target=b"/a%20?b",
        version=(1, 0),
        fields=Fields([(b"x", b"y"), (b"x", b"z")]),
        keep_alive=False,
        expects_continue=False,
        has_body=False,
        head=data,
    )


@pytest.mark.parametrize(
    ("line", "fields", "expected"),
    [
        (b"GET / HTTP/1.1", [], True),
        (b"GET / HTTP/1.1", [b"Connection: close"], False),
        (b"GET / HTTP/1.1", [b"Connection: CLOSE"], False),
        (b"GET / HTTP/1.1", [b"Connection: keep-alive, close"], False),
        (b"GET / HTTP/1.1", [b"Connection: keep-alive", b"Connection: x, close"], False),
        (b"GET / HTTP/1.1", [b"Connection: closed"], True),
        (b"GET / HTTP/1.1", [b"Connection:"], True),
        (b"GET / HTTP/1.0", [], False),
        (b"GET / HTTP/1.0", [b"Connection: Keep-Alive"], True),
        (b"GET / HTTP/1.0", [b"Connection: x , keep-alive"], True),
        (b"GET / HTTP/1.0", [b"Connection: keep-alive, close"], False),
    ],
)
def test_persistence_is_that_of_the_rfc(line: bytes, fields: list[bytes], expected: bool) -> None:
    assert request_of(parse(head(line, *fields))).keep_alive is expected


@pytest.mark.parametrize(
    ("line", "fields", "expected"),
    [
        (POST, [b"Expect: 100-continue", b"Content-Length: 1"], True),
        (POST, [b"Expect: 100-CONTINUE", CHUNKED], True),
        (POST, [b"Expect: 100-continue"], False),
        (POST, [b"Expect: 100-continue", b"Content-Length: 0"], False),
        (b"POST / HTTP/1.0", [b"Expect: 100-continue", b"Content-Length: 1"], False),
        (POST, [b"Content-Length: 1"], False),
    ],
)
def test_a_continue_is_expected_only_where_it_can_help(line: bytes, fields: list[bytes], expected: bool) -> None:
    assert request_of(parse(head(line, *fields))).expects_continue is expected


def test_the_authority_of_the_target_replaces_host() -> None:
    for line, authority in (
        (b"GET http://b:8/c HTTP/1.1", b"b:8"),
        (b"CONNECT b:8 HTTP/1.1", b"b:8"),
        (b"GET /c HTTP/1.1", b"a"),
    ):
        assert request_of(parse(head(line))).fields.get_all(b"host") == [authority]
    assert request_of(parse(head(b"GET http://b/ HTTP/1.0", host=None))).fields.get(b"host") == b"b"


def test_an_authority_is_not_carried_over_to_the_next_request() -> None:
    requests = [event for event in parse(head(b"GET http://b/ HTTP/1.1") + head()) if isinstance(event, Request)]
    assert [request.fields.get(b"host") for request in requests] == [b"b", b"a"]


def test_a_host_that_was_right_once_is_still_looked_at() -> None:
    assert status_of(parse(head() + head(host=b"Host: a b"))) == 400
    assert status_of(parse(head() + head(host=b"Host: [::1]") + head(host=None))) == 400


def test_nothing_comes_after_an_error() -> None:
    parser = RequestParser(LIMITS)
    assert status_of(parser.feed(head(b"BAD") + head())) == 400
    assert parser.state is ParseState.FAILED
    assert parser.feed(head()) == []
    assert not parser.between_messages


def test_requests_before_an_error_are_kept() -> None:
    events = parse(head() * 2 + b"\0" + head())
    assert [type(event) for event in events] == [Request, EndOfMessage, Request, EndOfMessage, ProtocolError]


def test_the_parser_knows_when_it_stands_between_messages() -> None:
    parser = RequestParser(LIMITS)
    assert parser.between_messages
    seen = []
    for byte in in_pieces(head(POST, b"Content-Length: 1") + b"x", 1):
        assert parser.feed(b"") == []
        parser.feed(byte)
        seen.append(parser.between_messages)
    assert seen == [False] * (len(seen) - 1) + [True]
    assert parser.state is ParseState.REQUEST_LINE


def test_body_pieces_come_as_soon_as_they_are_here() -> None:
    parser = RequestParser(LIMITS)
    assert parser.feed(head(POST, CHUNKED) + b"5\r\nhe")[1:] == [Data(b"he")]
    assert parser.state is ParseState.CONTENT
    assert parser.feed(b"llo\r\n0\r\nT: u\r\n\r\n") == [Data(b"llo"), EndOfMessage(Fields([(b"t", b"u")]))]


def test_a_line_is_told_to_the_observer_with_the_state_it_was_read_in() -> None:
    told: list[tuple[ParseState, LineStatus, bytes]] = []
    parser = RequestParser(LIMITS, lambda *line: told.append(line))
    parser.feed(head() + b"GET\n")
    ok = LineStatus.OK
    assert told == [
        (ParseState.REQUEST_LINE, ok, b"GET / HTTP/1.1"),
        (ParseState.HEADERS, ok, b"Host: a"),
        (ParseState.HEADERS, ok, b""),
        (ParseState.REQUEST_LINE, LineStatus.BAD, b"GET\n"),
    ]


class Counting:
    """Counts the bytes that a parser's buffers are searched for, wherever a search begins and ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.searched = 0
        pattern, find, peek = lines_module._CONTROL, CrlfSplitter.find, CrlfSplitter.peek_block
        counting = self

        class Pattern:
            """The pattern of the line machine, counted."""

            def search(self, data: bytes, start: int) -> object:
                """As re.Pattern.search."""
                found = pattern.search(data, start)
                counting.searched += (found.end() if found else len(data)) - start
                return found

        def counted_find(splitter: CrlfSplitter, byte: bytes, start: int) -> int:
            at = find(splitter, byte, start)
            counting.searched += (at if at >= 0 else splitter.searched) - start
            return at

        def counted_peek(splitter: CrlfSplitter, limit: int) -> bytes:
            block = peek(splitter, limit)
            if not splitter.searched:
                counting.searched += len(block) or min(limit, len(splitter))
            return block

        monkeypatch.setattr(lines_module, "_CONTROL", Pattern())
        monkeypatch.setattr(CrlfSplitter, "find", counted_find)
        monkeypatch.setattr(CrlfSplitter, "peek_block", counted_peek)


LONG = [
    b"GET /" + b"a" * 8000 + b" HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
    b"G" * 30_000,
    head(POST, CHUNKED) + (b"1;a\r\nx\r\n" * 1000) + b"0\r\nT: " + b"y" * 5000 + b"\r\n\r\n",
    head(b"GET / HTTP/1.1", *(b"X: y" for _ in range(90))) * 5,
    b"\r\n".join([b"", b"", head()]) * 200,
    b"".join(data for _, data in TAKEN.values()) * 3,
]


@pytest.mark.parametrize("data", LONG, ids=range(len(LONG)))
@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_each_byte_is_searched_a_bounded_number_of_times(
    data: bytes, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting(monkeypatch)
    parse(*in_pieces(data, size), limits=Limits())
    assert counting.searched <= 5 * len(data)


def test_nothing_is_searched_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting(monkeypatch)
    parse(head(b"BAD") + head() * 1000, *[head()] * 1000, limits=Limits())
    assert counting.searched < 3 * len(head(b"BAD"))


def test_limits_are_checked_and_have_a_unit() -> None:
    assert tuple(UNITS) == Limits._fields
    for limit, default in Limits._field_defaults.items():
        bad: list[object] = [0, -1, True, "1", None, float("nan"), float("inf")]
        for value in [*bad, 1.5] if isinstance(default, int) else bad:
            with pytest.raises(ValueError, match=limit):
                Limits(**{limit: value})
    with pytest.raises(ValueError, match="max_target"):
        Limits(max_target=100, max_head=100)
