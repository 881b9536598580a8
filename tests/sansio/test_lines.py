"""The line machines: what ends a line, what is refused, and that no byte is searched twice."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.sansio import lines
from aiolsp.sansio.lines import CrlfSplitter, LineBuffer, LineSplitter, LineStatus

OK, BAD, OPEN = LineStatus.OK, LineStatus.BAD, LineStatus.OPEN


def drain(splitter: LineSplitter | CrlfSplitter) -> list[tuple[LineStatus, bytes]]:
    """All lines that are there, up to the first BAD one."""
    found = []
    while (line := splitter.next_line())[0] is not OPEN:
        found.append(line)
        if line[0] is BAD:
            break
    return found


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    """*data* cut at each of *cuts*."""
    ends = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in zip(ends, ends[1:], strict=False)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a\r\nb\r\n", [(OK, b"a"), (OK, b"b")]),
        (b"\r\n\r\n", [(OK, b""), (OK, b"")]),
        (b"a\tb \xff\r\n", [(OK, b"a\tb \xff")]),
        (b"ab", []),
        (b"ab\r", []),
        (b"ab\n", [(BAD, b"ab\n")]),
        (b"\n", [(BAD, b"\n")]),
        (b"ab\rc", [(BAD, b"ab\rc")]),
        (b"ab\r\rc", [(BAD, b"ab\r\r")]),
        (b"a\r\nb\nc\r\n", [(OK, b"a"), (BAD, b"b\n")]),
        (b"a\x00b", [(BAD, b"a\x00")]),
        (b"a\x7f", [(BAD, b"a\x7f")]),
        (b"\x16\x03\x01", [(BAD, b"\x16")]),
    ],
)
def test_a_strict_line_ends_in_crlf_and_holds_no_control_character(
    data: bytes, expected: list[tuple[LineStatus, bytes]]
) -> None:
    splitter = CrlfSplitter()
    splitter.feed(data)
    assert drain(splitter) == expected


@pytest.mark.parametrize(
    ("data", "expected", "rest"),
    [
        (b"a\nb\n", [b"a", b"b"], b""),
        (b"a\r\nb\r\n", [b"a", b"b"], b""),
        (b"\n\r\n", [b"", b""], b""),
        (b"a\rb\n", [b"a\rb"], b""),
        (b"a\r\r\n", [b"a\r"], b""),
        (b"abcd\n", [b"abcd"], b""),
        (b"abcd\r\n", [b"abcd"], b""),
        (b"abcde\n", [b"abcd", b"e"], b""),
        (b"abcdefgh\n", [b"abcd", b"efgh"], b""),
        (b"abcd\re\n", [b"abcd", b"\re"], b""),
        (b"abcd", [], b"abcd"),
        (b"abcde", [b"abcd"], b"e"),
        (b"abcd\r", [], b"abcd\r"),
        (b"\x00\xff\n", [b"\x00\xff"], b""),
    ],
)
def test_a_line_of_people_ends_in_lf_and_a_long_one_comes_in_pieces(
    data: bytes, expected: list[bytes], rest: bytes
) -> None:
    splitter = LineSplitter(limit=4)
    splitter.feed(data)
    assert drain(splitter) == [(OK, line) for line in expected]
    assert splitter.rest() == rest
    assert len(splitter) == 0


NASTY = st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b"a", b"bc", b"\x00", b"\r\n\r\n", b"x" * 9]), max_size=12)


@settings(max_examples=150, deadline=None)
@given(NASTY, st.lists(st.integers(0, 200), max_size=6), st.booleans())
def test_any_split_gives_the_same_lines(parts: list[bytes], cuts: list[int], strict: bool) -> None:
    def fresh() -> LineSplitter | CrlfSplitter:
        return CrlfSplitter() if strict else LineSplitter(limit=7)

    data = b"".join(parts)
    whole = fresh()
    whole.feed(data)
    expected = drain(whole)
    for pieces in (pieces_of(data, cuts), [data[i : i + 1] for i in range(len(data))]):
        splitter, found = fresh(), []
        for piece in pieces:
            splitter.feed(piece)
            found += drain(splitter)
            if found and found[-1][0] is BAD:
                break
        else:
            assert splitter.rest() == whole.rest()
        assert found == expected
        whole = fresh()
        whole.feed(data)
        drain(whole)


@settings(max_examples=150, deadline=None)
@given(NASTY, st.lists(st.integers(0, 200), max_size=6))
def test_lines_at_once_are_those_one_by_one(parts: list[bytes], cuts: list[int]) -> None:
    one_by_one, at_once = LineSplitter(limit=7), LineSplitter(limit=7)
    for piece in pieces_of(b"".join(parts), cuts):
        one_by_one.feed(piece)
        at_once.feed(piece)
        assert at_once.whole_lines() == b"".join(line + b"\n" for _, line in drain(one_by_one))
        assert (len(at_once), at_once.searched) == (len(one_by_one), one_by_one.searched)
    assert at_once.rest() == one_by_one.rest()


def test_many_short_lines_at_once_take_few_steps() -> None:
    class Buffer(bytearray):
        """A bytearray that counts its searches."""

        searches = 0

        def find(self, *args: Any) -> int:
            Buffer.searches += 1
            return super().find(*args)

        def rfind(self, *args: Any) -> int:
            Buffer.searches += 1
            return super().rfind(*args)

    splitter = LineSplitter(limit=1023)
    splitter._data = Buffer(b"\n" * 100_000)
    assert splitter.whole_lines() == b"\n" * 100_000
    assert Buffer.searches <= 100


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_no_byte_of_a_text_is_lost(data: bytes, cuts: list[int]) -> None:
    splitter, found = LineSplitter(limit=5), b""
    for piece in pieces_of(data, cuts):
        splitter.feed(piece)
        for _, line in drain(splitter):
            assert len(line) <= 5
            found += line
        assert len(splitter) <= 6, "no more is held than a line and the CR of its end"
    assert (found + splitter.rest()).translate(None, b"\r\n") == data.translate(None, b"\r\n")


def test_take_hands_over_the_bytes_after_the_lines() -> None:
    splitter = CrlfSplitter()
    splitter.feed(b"head\r\nbo\ndy!next\r\n")
    assert splitter.next_line() == (OK, b"head")
    assert splitter.take(6) == b"bo\ndy!"
    assert splitter.next_line() == (OK, b"next")
    assert splitter.take(5) == b""


def test_feeding_without_draining_loses_nothing() -> None:
    splitter = LineSplitter(limit=100)
    for piece in (b"one\ntw", b"o\nth", b"ree\n"):
        splitter.feed(piece)
    assert splitter.next_line() == (OK, b"one")
    splitter.feed(b"four\n")
    assert [line for _, line in drain(splitter)] == [b"two", b"three", b"four"]


def test_a_block_is_offered_only_whole_within_its_limit_and_before_its_search_began() -> None:
    splitter = CrlfSplitter()
    splitter.feed(b"a\r\nb\r\n\r\nrest")
    assert splitter.peek_block(8) == b"a\r\nb\r\n\r\n"
    assert splitter.peek_block(7) == b""
    splitter.skip(8)
    assert splitter.peek_block(100) == b""
    assert splitter.next_line() == (OPEN, b"")
    assert splitter.searched == 4
    splitter.feed(b"\r\n\r\n")
    assert splitter.peek_block(100) == b""
    assert splitter.next_line() == (OK, b"rest")


def test_a_byte_is_found_in_the_open_line_alone() -> None:
    splitter = CrlfSplitter()
    splitter.feed(b"a b\r\nc d")
    assert splitter.next_line() == (OK, b"a b")
    assert splitter.next_line() == (OPEN, b"")
    assert [splitter.find(b" ", start) for start in range(3)] == [1, 1, -1]
    splitter.feed(b" e")
    assert splitter.find(b" ", 2) == -1, "not searched yet"


class CountingPattern:
    """A compiled pattern that counts how far it searched."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern
        self.searched = 0

    def search(self, data: bytes, start: int) -> re.Match[bytes] | None:
        """As re.Pattern.search."""
        found = self._pattern.search(data, start)
        self.searched += (found.end() if found else len(data)) - start
        return found


def test_bytes_fed_one_by_one_are_each_searched_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    counting = CountingPattern(lines._CONTROL)
    monkeypatch.setattr(lines, "_CONTROL", counting)
    splitter, data = CrlfSplitter(), (b"x" * 5000 + b"\r\n") * 3
    found = 0
    for byte in data:
        splitter.feed(bytes([byte]))
        found += len(drain(splitter))
    assert found == 3
    assert counting.searched <= 2 * len(data)


def test_a_line_of_people_fed_one_by_one_is_searched_once() -> None:
    splitter, data, count = LineSplitter(limit=1 << 20), b"x" * 5000 + b"\n", 0

    class Buffer(bytearray):
        """A bytearray that counts how far it is searched."""

        def find(self, sub: object, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
            nonlocal count
            count += len(self) - start
            return super().find(sub, start, end)  # type: ignore[arg-type]

    splitter.feed(data[:1])
    assert drain(splitter) == []
    splitter._data = Buffer(data[:1])
    for byte in data[1:]:
        splitter.feed(bytes([byte]))
        lines_found = drain(splitter)
    assert lines_found == [(OK, data[:-1])]
    assert count <= 2 * len(data)


def test_an_empty_buffer_holds_on_to_no_memory() -> None:
    splitter = LineSplitter(limit=10)
    splitter.feed(b"a\n" * 1000)
    drain(splitter)
    assert isinstance(splitter, LineBuffer)
    assert splitter._data == b""
