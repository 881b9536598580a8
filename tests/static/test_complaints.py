"""What a program complains of, in lines, however it came, and no more of it than is wanted."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.static.complaints import MAX_COMPLAINTS, MAX_LINE, Complaints


def said(*pieces: bytes) -> list[bytes]:
    lines: list[bytes] = []
    complaints = Complaints(lines.append)
    for piece in pieces:
        complaints.feed(piece)
    complaints.receive_eof()
    return lines


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=30)))
def test_any_split_gives_the_same_lines(pieces: list[bytes]) -> None:
    assert said(*pieces) == said(b"".join(pieces))


def test_the_last_line_needs_no_end_and_a_long_one_is_several() -> None:
    assert said(b"one\r\ntwo\n", b"th", b"ree") == [b"one", b"two", b"three"]
    assert said(b"x" * (2 * MAX_LINE + 1)) == [b"x" * MAX_LINE, b"x" * MAX_LINE, b"x"]


def test_the_rest_of_too_much_is_said_once_to_be_left_out() -> None:
    lines = said(*[b"y" * 99 + b"\n"] * 2000)
    assert lines.count(b"y" * 99) == MAX_COMPLAINTS // 100
    assert sum(b"the rest is not logged" in line for line in lines) == 1
