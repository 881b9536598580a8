"""The words of the events server."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.sansio.events import LONGEST_LINE, SHOWN, child_ended, child_wanted, line_came


@pytest.mark.parametrize(("line", "status"), [(b"child", 0), (b"child 0", 0), (b"child 7", 7), (b"child 255", 255)])
def test_a_child_is_asked_for_with_its_status(line: bytes, status: int) -> None:
    assert child_wanted(line) == status


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"children",
        b"child ",
        b" child",
        b"child 256",
        b"child -1",
        b"child 1;id",
        b"child  1",
        b"child 1\n",
        b"CHILD",
    ],
)
def test_any_other_line_asks_for_nothing(line: bytes) -> None:
    assert child_wanted(line) is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=12) | st.from_regex(rb"child ?[0-9 -]{0,4}", fullmatch=True))
def test_a_child_is_asked_for_in_no_other_words(line: bytes) -> None:
    wanted = child_wanted(line)
    words = {b"child": 0} | {b"child %0*d" % (width, n): n for n in range(256) for width in (1, 2, 3)}
    assert wanted == words.get(line)


def test_a_status_is_told_apart_from_a_signal() -> None:
    assert child_ended(123, 0) == "event: child 123 exited 0"
    assert child_ended(123, -9) == "event: child 123 killed by signal 9"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=LONGEST_LINE))
def test_a_line_is_told_in_one_printable_line(line: bytes) -> None:
    told = line_came("127.0.0.1:5", line)
    assert told.isprintable()
    assert told.endswith(" from 127.0.0.1:5")
    assert told.endswith("... from 127.0.0.1:5") or len(line) <= SHOWN


def test_what_is_left_out_of_a_line_is_shown_by_dots() -> None:
    assert line_came("::1", b"x" * SHOWN) == f"event: line '{'x' * SHOWN}' from ::1"
    assert line_came("::1", b"x" * (SHOWN + 1)) == f"event: line '{'x' * SHOWN}'... from ::1"
