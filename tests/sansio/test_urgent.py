"""The report of normal and urgent bytes, driven by a model of what the kernel does with them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.sansio.urgent import SHOWN, WHOLE, Part, UrgentStream, parse_part, show


def test_the_books_exchange_is_reported_in_stream_order() -> None:
    stream = UrgentStream()
    lines = stream.feed_urgent(b"c", at_mark=False)
    lines += stream.feed(b"123ab", at_mark=True)
    lines += stream.feed(b"123", at_mark=False)
    lines += stream.end("end of stream")
    assert lines == [
        "normal b'123ab'",
        "urgent b'c', its mark after 5 normal bytes",
        "normal b'123'",
        "end of stream after 8 normal bytes and 1 urgent byte",
    ]


def test_an_urgent_byte_that_comes_first_stands_at_position_0() -> None:
    assert UrgentStream().feed_urgent(b"x", at_mark=True) == ["urgent b'x', its mark after 0 normal bytes"]


def test_several_urgent_bytes_in_a_row_share_one_position() -> None:
    stream = UrgentStream()
    stream.feed(b"ab", at_mark=True)
    lines = [line for byte in (b"x", b"y") for line in stream.feed_urgent(byte, at_mark=True)]
    assert lines == ["urgent b'x', its mark after 2 normal bytes", "urgent b'y', its mark after 2 normal bytes"]


def test_a_mark_reached_before_its_byte_is_taken_gives_the_position_all_the_same() -> None:
    stream = UrgentStream()
    assert stream.feed(b"ab", at_mark=True) == ["normal b'ab'"]
    assert stream.feed_urgent(b"x", at_mark=True) == ["urgent b'x', its mark after 2 normal bytes"]


def test_a_byte_whose_mark_was_moved_is_reported_without_a_place() -> None:
    stream = UrgentStream()
    stream.feed_urgent(b"x", at_mark=False)
    lines = stream.feed_urgent(b"y", at_mark=False)
    assert lines == ["urgent b'x', place unknown: a newer urgent byte moved the mark"]
    assert stream.feed(b"abxmid", at_mark=True)[1] == "urgent b'y', its mark after 6 normal bytes"


def test_a_byte_whose_mark_was_not_reached_is_reported_at_the_end() -> None:
    stream = UrgentStream()
    stream.feed_urgent(b"x", at_mark=False)
    assert stream.end("reset by the peer") == [
        "urgent b'x', place unknown: its mark was never reached",
        "reset by the peer after 0 normal bytes and 1 urgent byte",
    ]


class Kernel:
    """A receive queue whose reader always takes an urgent byte before its mark is passed or the next one comes."""

    def __init__(self, parts: list[Part]) -> None:
        self.queue: list[tuple[int, bool]] = []
        for part in parts:
            self.queue += [(byte, False) for byte in part.data]
            if part.urgent:
                self.queue[-1] = (self.queue[-1][0], True)
        self.taken = False

    def at_mark(self) -> bool:
        return bool(self.queue) and self.queue[0][1]

    def announced(self) -> bytes | None:
        """The next urgent byte, whose pointer comes with the bytes before it."""
        return next((bytes([byte]) for byte, urgent in self.queue if urgent), None)

    def read(self, size: int) -> bytes:
        if self.at_mark():
            assert self.taken, "a read that starts at the mark would lose the byte"
            self.queue.pop(0)
            self.taken = False
        data = bytearray()
        while self.queue and len(data) < size and not self.at_mark():
            data.append(self.queue.pop(0)[0])
        return bytes(data)


parts = st.lists(st.builds(Part, st.binary(min_size=1, max_size=5), st.booleans()), max_size=8)


def lines_of(sent: list[Part]) -> tuple[bytes, list[str], int]:
    """The normal bytes, and the lines on urgent bytes, that a report of *sent* must have."""
    normal, urgent, position, count = bytearray(), [], 0, 0
    for part in sent:
        plain = part.data[:-1] if part.urgent else part.data
        normal += plain
        position += len(plain)
        if part.urgent:
            count += 1
            urgent.append(f"urgent {part.data[-1:]!r}, its mark after {position} normal bytes")
    return bytes(normal), urgent, count


@settings(max_examples=200, deadline=None)
@given(parts, st.data())
def test_any_order_of_reading_and_taking_gives_every_urgent_byte_its_place(
    sent: list[Part], data: st.DataObject
) -> None:
    kernel, stream = Kernel(sent), UrgentStream()
    lines: list[str] = []
    normal = bytearray()
    while kernel.queue:
        byte = kernel.announced()
        if byte is not None and not kernel.taken and (kernel.at_mark() or data.draw(st.booleans())):
            kernel.taken = True
            lines += stream.feed_urgent(byte, kernel.at_mark())
        elif piece := kernel.read(data.draw(st.integers(1, 7))):
            normal += piece
            lines += stream.feed(piece, kernel.at_mark())
    expected_normal, expected_urgent, count = lines_of(sent)
    assert bytes(normal) == expected_normal
    assert [line for line in lines if line.startswith("urgent")] == expected_urgent
    assert (stream.position, stream.urgent_count) == (len(expected_normal), count)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("feed"), st.binary(max_size=4), st.booleans()),
            st.tuples(st.just("feed_urgent"), st.binary(min_size=1, max_size=1), st.booleans()),
        ),
        max_size=12,
    )
)
def test_each_urgent_byte_is_reported_once_whatever_the_kernel_says(calls: list[tuple[str, bytes, bool]]) -> None:
    stream = UrgentStream()
    lines = [line for name, data, at_mark in calls for line in getattr(stream, name)(data, at_mark)]
    lines += stream.end("end of stream")
    urgent = [data for name, data, _ in calls if name == "feed_urgent"]
    assert [line.split(",")[0] for line in lines if line.startswith("urgent")] == [
        f"urgent {byte!r}".split(",")[0] for byte in urgent
    ]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("123", Part(b"123")),
        ("!abc", Part(b"abc", urgent=True)),
        ("!!", Part(b"!", urgent=True)),
        ("é", Part("é".encode())),
        ("\udcff", Part(b"\xff")),
    ],
)
def test_a_word_of_the_command_line_becomes_a_part(text: str, part: Part) -> None:
    assert parse_part(text) == part


@pytest.mark.parametrize("text", ["", "!"])
def test_a_word_without_a_byte_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="holds no byte"):
        parse_part(text)


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=10))
def test_any_bytes_of_the_command_line_are_sent_as_they_are(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    assert parse_part("!" + text) == Part(data, urgent=True)
    assert text.startswith("!") or parse_part(text) == Part(data)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=3 * SHOWN))
def test_whatever_is_shown_fits_a_line(data: bytes) -> None:
    assert show(data).isprintable() and len(show(data)) <= 4 * SHOWN + len("b''... (192 bytes)")


def test_a_long_piece_is_cut_off_in_the_report() -> None:
    assert show(b"x" * SHOWN) == repr(b"x" * SHOWN)
    assert show(b"x" * 1000) == f"{b'x' * SHOWN!r}... (1000 bytes)"


@pytest.mark.parametrize(
    ("part", "pieces"),
    [
        (Part(b"abc"), (b"abc", b"")),
        (Part(b"abc", urgent=True), (b"", b"abc")),
        (Part(b"a" * 5000), (b"a" * 5000, b"")),
        (Part(b"a" * 5000, urgent=True), (b"a" * (5000 - WHOLE), b"a" * WHOLE)),
    ],
)
def test_what_is_sent_urgent_is_no_more_than_a_socket_takes_whole(part: Part, pieces: tuple[bytes, bytes]) -> None:
    assert part.pieces == pieces
