"""The request machine: what it makes of a request, what it knows between two, and how little it searches."""

from __future__ import annotations

from typing import Any

import pytest

from aiolsp.http1.limits import UNITS, Limits
from aiolsp.http1.messages import Data, EndOfMessage, Event, Fields, ProtocolError, Request
from aiolsp.http1.parser import RequestParser
from aiolsp.http1.states import ParseState
from aiolsp.sansio import lines as lines_module
from aiolsp.sansio.lines import CrlfSplitter, LineStatus
from ambiguous import TAKEN
from parsing import CHUNKED, LIMITS, POST, head, in_pieces, parse, status_of


def request_of(events: list[Event]) -> Request:
    """The first event, which must be a request."""
    assert isinstance(events[0], Request), events
    return events[0]


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
        (b"GET / HTTP/1.0", [b"Connection: TE"], False),
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
        least: dict[str, Any] = {limit: 1 if isinstance(default, int) else 0.001}
        if limit != "max_head":  # more than max_target
            assert Limits(**least) == Limits()._replace(**least)
    with pytest.raises(ValueError, match="max_target"):
        Limits(max_target=100, max_head=100)
