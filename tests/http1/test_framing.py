"""Where a body ends: the walk of RFC 9112 6.3, and the three readers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.http1.framing import NO_BODY, ChunkedBody, ContentLengthBody, NoBody, body_of
from aiolsp.http1.limits import Limits
from aiolsp.http1.messages import (
    HTTP_1_0,
    HTTP_1_1,
    Data,
    EndOfMessage,
    Event,
    Fields,
    ProtocolError,
    Version,
)
from aiolsp.sansio.lines import CrlfSplitter

LIMITS = Limits(max_body=20, max_fields=3, max_trailers=30, max_extensions=10)
TE, CL = b"transfer-encoding", b"content-length"


@pytest.mark.parametrize(
    ("version", "pairs", "expected"),
    [
        (HTTP_1_1, [], NoBody),
        (HTTP_1_1, [(CL, b"0")], NoBody),
        (HTTP_1_1, [(CL, b"000")], NoBody),
        (HTTP_1_1, [(CL, b"5")], ContentLengthBody),
        (HTTP_1_0, [(CL, b"5")], ContentLengthBody),
        (HTTP_1_1, [(CL, b"20")], ContentLengthBody),
        (HTTP_1_1, [(CL, b"5, 5")], ContentLengthBody),
        (HTTP_1_1, [(CL, b"5"), (CL, b"5")], ContentLengthBody),
        (HTTP_1_1, [(CL, b"0" * 5000 + b"5")], ContentLengthBody),
        (HTTP_1_1, [(CL, b"21")], 413),
        (HTTP_1_1, [(CL, b"9" * 30_000)], 413),
        *((HTTP_1_1, [(CL, value)], 400) for value in (b"", b"-1", b"+5", b"0x5", b"5.0", b"5 5", b"1e1", b"1_0")),
        *((HTTP_1_1, [(CL, value)], 400) for value in (b"5, 6", b"5, 05", b"5,", b",5", b"5,,5", b"\xb2", b"'5'")),
        (HTTP_1_1, [(CL, b"5"), (CL, b"6")], 400),
        (HTTP_1_1, [(CL, b"5"), (CL, b"5"), (CL, b"6")], 400),
        (HTTP_1_1, [(TE, b"chunked")], ChunkedBody),
        (HTTP_1_1, [(TE, b"CHUNKED")], ChunkedBody),
        (HTTP_1_1, [(TE, b"chunked"), (CL, b"5")], 400),
        (HTTP_1_1, [(CL, b"5"), (TE, b"identity")], 400),
        (HTTP_1_0, [(TE, b"chunked")], 400),
        (HTTP_1_1, [(TE, b"chunked, chunked")], 400),
        (HTTP_1_1, [(TE, b"chunked"), (TE, b"chunked")], 400),
        (HTTP_1_1, [(TE, b"chunked, gzip")], 400),
        (HTTP_1_1, [(TE, b"chunked"), (TE, b"gzip")], 400),
        *((HTTP_1_1, [(TE, value)], 400) for value in (b"", b"chunked,", b",chunked", b'"chunked"', b"chunked;q=1")),
        *((HTTP_1_1, [(TE, value)], 501) for value in (b"gzip", b"identity", b"xchunked", b"gzip, chunked")),
    ],
)
def test_the_walk_of_the_rfc(version: Version, pairs: list[tuple[bytes, bytes]], expected: type | int) -> None:
    body = body_of(version, Fields(pairs), LIMITS)
    assert (body.status if isinstance(body, ProtocolError) else type(body)) == expected


def read_all(body: ChunkedBody | ContentLengthBody, pieces: list[bytes]) -> tuple[bytes, Event | None, bytes]:
    """The whole body, the event after it (None if it is still open), and the bytes that are left."""
    lines, data = CrlfSplitter(), b""
    for number, piece in enumerate(pieces, 1):
        lines.feed(piece)
        while (event := body.read(lines)) is not None:
            if not isinstance(event, Data):
                return data, event, lines.rest() + b"".join(pieces[number:])
            data += event.data
    return data, None, b""


def test_no_body_ends_at_once_and_takes_nothing() -> None:
    lines = CrlfSplitter()
    lines.feed(b"GET")
    assert NO_BODY.read(lines) == EndOfMessage()
    assert lines.rest() == b"GET"


def test_a_counted_body_takes_its_bytes_and_no_more() -> None:
    assert read_all(ContentLengthBody(5), [b"he", b"llo, next"]) == (b"hello", EndOfMessage(), b", next")
    assert read_all(ContentLengthBody(5), [b"hell"]) == (b"hell", None, b"")


CHUNKED: list[tuple[bytes, bytes, Event | int | None]] = [
    (b"0\r\n\r\n", b"", EndOfMessage()),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello", EndOfMessage()),
    (b"5\r\nh\r\n\0!\r\n0\r\n\r\n", b"h\r\n\0!", EndOfMessage()),
    (b"a\r\n0123456789\r\nA\r\n0123456789\r\n000\r\n\r\n", b"0123456789" * 2, EndOfMessage()),
    (b'1;a\r\nx\r\n1 ; b="c"\r\ny\r\n0;d\r\n\r\n', b"xy", EndOfMessage()),
    (b"0\r\nA: b\r\nc: d \r\n\r\n", b"", EndOfMessage(Fields([(b"a", b"b"), (b"c", b"d")]))),
    (b"5\r\nhel", b"hel", None),
    (b"5\r\nhello", b"hello", None),
    (b"5\r\nhello\r", b"hello", None),
    (b"0\r\nA: b\r\n", b"", None),
    (b"\r\n", b"", 400),
    (b"x\r\n", b"", 400),
    (b"-1\r\n", b"", 400),
    (b"0x5\r\n", b"", 400),
    (b" 5\r\n", b"", 400),
    (b"5 \r\n", b"", 400),
    (b"5;\r\n", b"", 400),
    (b"5\n", b"", 400),
    (b"5\rx", b"", 400),
    (b"5;\0", b"", 400),
    (b"0" * 17 + b"\r\n", b"", 400),
    (b"5\r\nhellox", b"hello", 400),
    (b"5\r\nhello\n", b"hello", 400),
    (b"5\r\nhello\rx", b"hello", 400),
    (b"5\r\nhello0\r\n\r\n", b"hello", 400),
    (b"15\r\n", b"", 413),
    (b"ffffffffffffffff\r\n", b"", 413),
    (b"a\r\n0123456789\r\nb\r\n", b"0123456789", 413),
    (b"1;" + b"a" * 25, b"", 413),
    (b"1;aaaaa\r\nx\r\n1;aaaaa\r\nx\r\n", b"xx", None),
    (b"1;aaaaa\r\nx\r\n1;aaaa\r\nx\r\n1;aaaaaaaaaaaaaaaaaaaa", b"xx", 413),
    (b"0\r\n: b\r\n", b"", 400),
    (b"0\r\nA : b\r\n", b"", 400),
    (b"0\r\nA: b\r\n c\r\n", b"", 400),
    (b"0\r\nA: b\n", b"", 400),
    (b"0\r\nA: " + b"b" * 30, b"", 431),
    (b"0\r\nA: " + b"b" * 20 + b"\r\nB: " + b"b" * 10, b"", 431),
    (b"0\r\na:\r\nb:\r\nc:\r\n\r\n", b"", EndOfMessage(Fields([(b"a", b""), (b"b", b""), (b"c", b"")]))),
    (b"0\r\na:\r\nb:\r\nc:\r\nd:\r\n", b"", 431),
]


@pytest.mark.parametrize(("data", "content", "end"), CHUNKED)
def test_a_chunked_body_is_the_same_at_every_split(data: bytes, content: bytes, end: Event | int | None) -> None:
    whole = read_all(ChunkedBody(LIMITS), [data])
    assert whole[0] == content
    assert (whole[1].status if isinstance(whole[1], ProtocolError) else whole[1]) == end
    for cut in range(len(data)):
        assert read_all(ChunkedBody(LIMITS), [data[:cut], data[cut:]])[:2] == whole[:2]
    assert read_all(ChunkedBody(LIMITS), [data[i : i + 1] for i in range(len(data))])[:2] == whole[:2]


TOKENS = st.text("ab!1-", min_size=1, max_size=3).map(str.encode)
EXTENSIONS = st.sampled_from([b"", b";a", b"; a = b", b';a="\\"\t;"'])
TRAILERS = st.lists(st.tuples(TOKENS, st.sampled_from([b"", b"x", b"x y"])), max_size=3)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=20), st.lists(st.integers(0, 20), max_size=4), st.data(), TRAILERS, st.integers(1, 9))
def test_a_body_is_read_back_in_whatever_chunks_it_was_written(
    content: bytes, cuts: list[int], data: st.DataObject, trailers: list[tuple[bytes, bytes]], size: int
) -> None:
    ends = sorted({0, len(content), *(min(cut, len(content)) for cut in cuts)})
    written = b""
    for start, end in zip(ends, ends[1:], strict=False):
        digits = data.draw(st.sampled_from([b"%x", b"%X", b"%04x", b"%016X"])) % (end - start)
        written += digits + data.draw(EXTENSIONS) + b"\r\n" + content[start:end] + b"\r\n"
    written += b"0\r\n" + b"".join(b"%b: %b\r\n" % pair for pair in trailers) + b"\r\n"
    pieces = [written[place : place + size] for place in range(0, len(written), size)]
    limits = Limits(max_body=20, max_fields=3, max_trailers=30, max_extensions=70)
    assert read_all(ChunkedBody(limits), pieces) == (content, EndOfMessage(Fields(trailers)), b"")


def test_the_bytes_after_a_chunked_body_are_left() -> None:
    assert read_all(ChunkedBody(LIMITS), [b"1\r\nx\r\n0\r\n\r\nGET"]) == (b"x", EndOfMessage(), b"GET")


def test_extensions_are_counted_over_the_whole_body() -> None:
    body = ChunkedBody(Limits(max_extensions=10))
    data, end, _ = read_all(body, [b"1;ab\r\nx\r\n" * 10])
    assert len(data) < 10
    assert end == ProtocolError(413, "more than 10 bytes of chunk extensions")
