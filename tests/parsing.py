"""What holds of the request machine whatever it is fed: one oracle for tables, for hypothesis and for atheris."""

from __future__ import annotations

import re

from aiolsp.http1.limits import Limits
from aiolsp.http1.messages import END_OF_MESSAGE, HTTP_1_1, Data, EndOfMessage, Event, ProtocolError, Request
from aiolsp.http1.parser import RequestParser
from aiolsp.http1.sieve import FRAMING
from aiolsp.http1.whole import HeadReader

LIMITS = Limits(max_target=40, max_head=300, max_fields=6, max_body=50, max_trailers=60, max_extensions=20)
"""Small, so that the cases that reach them can be tried at every split."""

STATUSES = frozenset({400, 413, 414, 417, 431, 501, 505})
"""All that a ProtocolError may say."""

DECIDING = (b"range", b"x")
"""What decides besides the framing, for who answers."""

POST = b"POST / HTTP/1.1"
CHUNKED = b"Transfer-Encoding: chunked"

_LETTERS = {Request: "R", Data: "D", EndOfMessage: "E", ProtocolError: "X"}
_ORDER = re.compile("(?:RD?E)*(?:RD?)?X?")


def joined(events: list[Event]) -> list[Event]:
    """The events with adjacent Data made one: how a body is cut means nothing."""
    result: list[Event] = []
    for event in events:
        if isinstance(event, Data) and result and isinstance(result[-1], Data):
            event = Data(result.pop().data + event.data)  # type: ignore[union-attr]
        result.append(event)
    return result


def parse(*pieces: bytes, limits: Limits = LIMITS) -> list[Event]:
    """All events of a fresh parser fed these pieces."""
    parser = RequestParser(limits)
    return joined([event for piece in pieces for event in parser.feed(piece)])


def in_pieces(data: bytes, size: int) -> list[bytes]:
    """*data* in pieces of *size* bytes, the last one shorter."""
    return [data[start : start + size] for start in range(0, len(data), size)]


def whole_request(data: bytes, limits: Limits = LIMITS) -> Request | None:
    """What *data* is to a `HeadReader`."""
    reader = HeadReader(limits, DECIDING)
    rest = reader.rest(data)
    return None if rest is None else reader.request(data, rest)


def _is_usual(events: list[Event], data: bytes, limits: Limits) -> bool:
    """Whether *data* is what a `HeadReader` is for."""
    if len(events) != 2 or events[1] != END_OF_MESSAGE or not isinstance(events[0], Request):
        return False
    request = events[0]
    asks = any(name in request.fields for name in (b"content-length", b"transfer-encoding", b"expect"))
    for_a_path = request.version == HTTP_1_1 and request.target[:1] == b"/"
    return for_a_path and not asks and request.head == data and data.index(b"\r\n") + 2 <= limits.max_target


def check_whole(data: bytes, events: list[Event], limits: Limits) -> None:
    """What is read of *data* in one step is what the *events* say, whichever field is asked for first."""
    if not _is_usual(events, data, limits):
        assert whole_request(data, limits) is None
        return
    request = events[0]
    assert isinstance(request, Request)
    for name in {b"none", *(name for name, _ in request.fields), *FRAMING, *DECIDING}:
        whole = whole_request(data, limits)
        assert whole is not None
        assert whole.fields.combined(name) == request.fields.combined(name)
        assert whole.fields.has_any(frozenset({name})) == (name in request.fields)
        assert whole.fields.get(name) == request.fields.get(name)
        assert whole == request


def check(*pieces: bytes, limits: Limits = LIMITS) -> list[Event]:
    """The events of these pieces; AssertionError unless they are those of the whole, in order and within the limits.

    Nor may the parser hold more than the longest line that may come, and the CR of its end. A request that can be read
    in one step is the same, and no other is.
    """
    data = b"".join(pieces)
    events = parse(data, limits=limits)
    check_whole(data, events, limits)
    assert _ORDER.fullmatch("".join([_LETTERS[type(event)] for event in events])), events
    parser, cut = RequestParser(limits), list[Event]()
    most = max(limits.max_head, limits.max_trailers, limits.max_extensions + 16) + 1
    for piece in pieces:
        cut += parser.feed(piece)
        assert len(parser._lines) <= most
    assert joined(cut) == events
    for event in events:
        match event:
            case Request():
                assert len(event.head) <= limits.max_head and len(event.target) <= limits.max_target
                assert len(event.fields) <= limits.max_fields and event.head in data
                assert parse(event.head, limits=limits)[0] == event
            case Data(content):
                assert 0 < len(content) <= limits.max_body
            case EndOfMessage(trailers):
                assert len(trailers) <= limits.max_fields
            case ProtocolError(status):
                assert status in STATUSES
    return events


def head(line: bytes = b"GET / HTTP/1.1", *fields: bytes, host: bytes | None = b"Host: a") -> bytes:
    """A head of these lines."""
    return b"\r\n".join([line, *([host] if host is not None else []), *fields, b"", b""])


def status_of(events: list[Event]) -> int:
    """The status of the error that ends *events*, 0 if none does."""
    return events[-1].status if events and isinstance(events[-1], ProtocolError) else 0
