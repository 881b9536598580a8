"""The request machine beside llhttp (Node's, by way of httptools) and h11: is a message valid, and where does it end?

They need not agree: RFC 9112 leaves a reader some freedom, and limits are everyone's own. But each disagreement on the
table of ambiguous messages, and on what is made of them, has a row here with the section that decides. One that has
none fails: so a fault of ours is found that one of the two does not share.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.http1.limits import Limits
from aiolsp.http1.messages import Data, EndOfMessage, ProtocolError
from aiolsp.http1.parser import RequestParser
from ambiguous import TAKEN, UNFINISHED
from parsing import in_pieces
from refused import REFUSED, SMUGGLED


class Outcome(NamedTuple):
    """What a parser makes of the first message in some bytes."""

    verdict: str
    """taken, refused, or open: it waits for more bytes."""
    end: int = 0
    body: bytes = b""
    reason: str = ""


OPEN = Outcome("open")


def refused(reason: str) -> Outcome:
    """The message is refused, and that is why."""
    return Outcome("refused", reason=reason)


def by_aiolsp(data: bytes) -> Outcome:
    """Ours."""
    parser, body = RequestParser(Limits()), b""
    for end, byte in enumerate(in_pieces(data, 1), 1):
        for event in parser.feed(byte):
            match event:
                case Data(piece):
                    body += piece
                case EndOfMessage():
                    return Outcome("taken", end, body)
                case ProtocolError(status, reason):
                    return refused(f"{status} {reason}")
    return OPEN


def by_h11(data: bytes) -> Outcome:
    """h11's."""
    connection, body = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20), b""
    connection.receive_data(data)
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                return OPEN
            if isinstance(event, h11.Data):
                body += event.data
    except h11.RemoteProtocolError as error:
        return refused(str(error))
    return Outcome("taken", len(data) - len(connection.trailing_data[0]), body)


class _Callbacks:
    def __init__(self) -> None:
        self.body = b""
        self.complete = False

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def by_llhttp(data: bytes) -> Outcome:
    """llhttp's, which says nothing of places: so it gets one byte after another."""
    seen = _Callbacks()
    parser = httptools.HttpRequestParser(seen)
    for end, byte in enumerate(in_pieces(data, 1), 1):
        try:
            parser.feed_data(byte)
        except httptools.HttpParserUpgrade:
            return Outcome("taken", end, seen.body)
        except httptools.HttpParserError as error:
            return refused(str(error))
        if seen.complete:
            return Outcome("taken", end, seen.body)
    return OPEN


PEERS: dict[str, Callable[[bytes], Outcome]] = {"h11": by_h11, "llhttp": by_llhttp}


class Row(NamedTuple):
    """Why one of two who disagree refuses a message that the other takes, or waits for the rest of."""

    section: str
    """What decides."""
    why: str
    peers: str
    reason: str
    """An expression for what is said by the one that refuses."""
    shown: bytes = b""
    """An expression for what in the message is the matter."""

    def explains(self, data: bytes, peer: str, reason: str) -> bool:
        """Whether this row is about that."""
        matches = re.match(self.reason, reason) and re.search(self.shown, data, re.DOTALL)
        return peer in self.peers and matches is not None


BOTH = "h11 llhttp"
LINE = rb"\A(?:\r\n)*[^\n]*"

STRICTER = [
    # Lines
    Row("RFC 9112 2.2", "a bare CR is invalid", BOTH, "400 a control", rb"\r(?!\n)"),
    Row("RFC 9112 2.2", "a bare LF may be taken for the end of a line, and need not", BOTH, "400 a con", rb"(?<!\r)\n"),
    Row(
        "RFC 9110 5.5", "a CTL is invalid, though it may be kept", BOTH, "400 a con", rb"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]"
    ),
    Row("RFC 9112 2.2", "one empty line is passed over, but not any number", "llhttp", "400 empty li", rb"\A(\r\n){5}"),
    Row("RFC 9112 2.2", "a line is judged before the rest is here", "h11", "400", rb"(?<!\n\r\n)(?<!\n\n)\Z"),
    # Request-line
    Row(
        "RFC 9112 3", "one space, though a reader may take more", "llhttp", "400 bad request-line", LINE + rb"(  | \r)"
    ),
    Row("RFC 9112 3", "there is a version", "llhttp", "400 bad request-line", rb"\A(\r\n)*\S+ +\S+\r\n"),
    Row("RFC 3986 2.1", "% begins an escape", BOTH, "400 bad request-line", LINE + rb"%(?![0-9A-Fa-f]{2})"),
    Row("RFC 9112 3.2", "a request-target has no fragment", BOTH, "400 bad request-line", LINE + rb"#"),
    Row(
        "RFC 9112 3.2",
        "a request-target has one of four forms, and it goes with the method",
        BOTH,
        "400 bad request-target",
        rb"\A(\r\n)*(CONNECT (?![a-z]+:[0-9]+ )|\S+ (?!/|https?://[a-z]+(:[0-9]+)?[/? ]))",
    ),
    Row("RFC 9110 2.5", "another major version is another protocol", BOTH, "505", rb"HTTP/[^1]"),
    # Fields
    Row("RFC 9112 5.2", "obs-fold is to be refused or replaced", "h11", "400 a line starts with", rb"\n[ \t]"),
    Row("RFC 9112 3.2", "Host must be there", "llhttp", "400 no Host"),
    Row("RFC 9110 2.5", "and in a later minor version too", "h11", "400 no Host", rb"HTTP/1[.][2-9]"),
    Row("RFC 9112 3.2", "Host must be there once", "llhttp", "400 more than one Host"),
    Row(
        "RFC 9112 3.2",
        "Host must be valid",
        BOTH,
        "400 bad Host",
        rb"(?i)host:(?![ \t]*[a-z0-9.-]*(:[0-9]{0,5})?[ \t]*\r)",
    ),
    Row("RFC 9110 15.5.18", "an unknown expectation may be refused", BOTH, "417", b"Expect:"),
    # Length
    Row("RFC 9112 6.3", "both fields may be refused", "h11", "400 both"),
    Row("RFC 9112 6.1", "a coding in HTTP/1.0 is faulty framing", BOTH, "400 Transfer-Encoding in", rb"HTTP/1.0"),
    Row("RFC 9112 6.1", "an unknown coding should get 501", "llhttp", "501"),
    Row(
        "RFC 9112 7",
        "a coding is a token",
        "llhttp",
        "400 bad Transfer-Encoding",
        rb"ing:[^\n]*([^!#-~ \t\r\n]|[?;:=\"(){}@/<>\[\\\]]|[^,:\s][ \t]+[^,\s])",
    ),
    Row(
        "RFC 9112 11.2",
        "an empty member of the list is ignored by RFC 9110 5.6.1.2; but readers differ, and no sender writes it",
        "llhttp",
        "400 bad Transfer-Encoding",
        rb":[ \t]*,|,[ \t]*[,\r]",
    ),
    # Chunks
    Row(
        "RFC 9112 7.1",
        "chunk-size is hexadecimal digits alone, and not any number",
        BOTH,
        "400 bad chunk size",
        rb"\r\n[0-9A-Fa-f]*[^0-9A-Fa-f\r]|[0-9A-Fa-f]{17}",
    ),
    Row(
        "RFC 9112 6.3",
        "a CONNECT that opens no tunnel has a body as any",
        "llhttp",
        "4.*(chunk|trailer)",
        rb"\A(\r\n)*CONNECT ",
    ),
    # Limits
    Row("RFC 9110 15.5.14", "content has a limit", BOTH, "413"),
    Row("RFC 9110 15.5.15", "a request-target has a limit", BOTH, "414"),
    Row("RFC 6585 5", "a head has limits", BOTH, "431"),
]
"""Where ours refuses, and the other takes the message or waits."""

MORE_LENIENT = [
    Row("RFC 9112 2.2", "at least one empty line is passed over", "h11", "no request line received", rb"\A\r\n"),
    Row("RFC 9112 2.2", "a line is judged when it is whole", BOTH, "", rb"(\A|\n)[^\r\n]*\r?\Z"),
    Row("RFC 9110 9.1", "a method is any token", "llhttp", "Invalid method|Expected space after method"),
    Row("RFC 9110 2.5", "a later minor version is read as the last known", "llhttp", "Invalid HTTP version"),
    Row("RFC 9110 8.6", "a length has any number of digits", "h11", "bad Content-Length", rb"0{20}"),
    Row(
        "RFC 9112 6.3",
        "one length said twice may be taken",
        "llhttp",
        "(Duplicate|Invalid character in) Content-Length",
    ),
    Row(
        "RFC 9110 6.5.1",
        "a field that frames the message is ignored as a trailer",
        BOTH,
        "Content-Length can't|Invalid `Transfer-Encoding|Only Transfer-Encoding|bad Content-Length",
        rb"\r\n0+[^\n]*\r\n",
    ),
    Row("RFC 9112 6.3", "a CONNECT that opens no tunnel has a body as any", "llhttp", "taken", rb"\A(\r\n)*CONNECT "),
    Row("RFC 9112 7.1.1", "bad white space is taken", BOTH, "illegal chunk|Invalid character in chunk", rb"[ \t]*[;=]"),
]
"""Where the other refuses, and ours takes the message or waits; or ours finds its end further on."""


def disagreements(data: bytes) -> Iterator[tuple[str, Outcome, Outcome, list[Row]]]:
    """Each peer that does not agree on *data*, with both outcomes, and the rows that explain it."""
    ours = by_aiolsp(data)
    for peer, parse in PEERS.items():
        theirs = parse(data)
        if theirs != ours and not (ours.reason and theirs.reason):
            table, reason = (STRICTER, ours.reason) if ours.reason else (MORE_LENIENT, theirs.reason or theirs.verdict)
            yield peer, ours, theirs, [row for row in table if row.explains(data, peer, reason)]


def unexplained(data: bytes) -> list[tuple[str, Outcome, Outcome]]:
    """The disagreements on *data* that no row is about."""
    return [(peer, ours, theirs) for peer, ours, theirs, rows in disagreements(data) if not rows]


KNOWN = {name: data for name, (_, data) in {**REFUSED, **TAKEN}.items()} | UNFINISHED


@pytest.mark.parametrize("name", KNOWN)
def test_each_disagreement_on_an_ambiguous_message_is_explained(name: str) -> None:
    assert unexplained(KNOWN[name]) == []


def test_each_row_explains_something() -> None:
    used = {row for data in KNOWN.values() for *_, rows in disagreements(data) for row in rows}
    assert used == {*STRICTER, *MORE_LENIENT}


SHORT = [data for data in KNOWN.values() if len(data) < 400]
LINES = sorted({line for data in SHORT for line in data.partition(b"\r\n\r\n")[0].split(b"\r\n")})
BODIES = sorted({data.partition(b"\r\n\r\n")[2] for data in SHORT})
ADDED = [*in_pieces(b'\r\n \t\0\x0b:;,="%/?#aGHh0159fF_-+.\x7f\xff', 1), b"\r\n", SMUGGLED]


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A message of the table, or one put together from lines and bodies of several, with up to three changes."""
    data = draw(st.sampled_from(SHORT))
    if draw(st.booleans()):
        lines = [data.partition(b"\r\n")[0], *draw(st.lists(st.sampled_from(LINES), max_size=4)), b"Host: a", b"", b""]
        data = b"\r\n".join(lines) + draw(st.sampled_from(BODIES))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(st.sampled_from(ADDED)) + data[place + draw(st.integers(0, 2)) :]
    return data


@settings(max_examples=500, deadline=None, derandomize=True)
@given(messages())
def test_each_disagreement_on_what_is_made_of_such_messages_is_explained(data: bytes) -> None:
    assert unexplained(data) == []
