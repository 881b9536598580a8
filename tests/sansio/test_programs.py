"""The request of a CGI client, however it is cut, and the words it gets."""

from __future__ import annotations

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiolsp.sansio.programs import LONGEST_NAME, NO_REQUEST, ProgramRequest, Refuse, Run, clean_environment, ended


def fed(pieces: list[bytes]) -> list[Run | Refuse]:
    request = ProgramRequest()
    return [decision for piece in pieces if (decision := request.feed(piece)) is not None]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[begin:end] for begin, end in zip(ends, ends[1:], strict=False)]


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=600), places=st.lists(st.integers(0, 600), max_size=8))
@example(data=b"hello\r\nmore\r\n", places=[5, 6])
@example(data=b"x" * LONGEST_NAME + b"\r\n", places=[LONGEST_NAME, LONGEST_NAME + 1])
@example(data=b"x" * (LONGEST_NAME + 1) + b"\r\n", places=[LONGEST_NAME])
def test_a_request_means_the_same_however_it_is_cut(data: bytes, places: list[int]) -> None:
    assert fed(cut(data, places)) == fed([data])


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=600))
@example(data=b".\r\n")
@example(data=b"..\r\n")
@example(data=b"a/b\r\n")
def test_what_runs_is_a_plain_name_and_nothing_comes_of_what_follows(data: bytes) -> None:
    decisions = fed([data, b"again\r\n"])
    assert len(decisions) <= 1
    for decision in decisions:
        if isinstance(decision, Run):
            assert re.fullmatch(rb"[^/\x00-\x1f\x7f]{1,255}", decision.name) and decision.name not in (b".", b"..")
            assert data.startswith((decision.name + b"\n", decision.name + b"\r\n")) or b"\n" not in data


@settings(max_examples=100, deadline=None)
@given(pieces=st.lists(st.binary(max_size=300), max_size=8))
def test_a_request_holds_no_more_than_the_longest_name(pieces: list[bytes]) -> None:
    request = ProgramRequest()
    for piece in pieces:
        request.feed(piece)
        assert request.complete or len(request._lines) <= LONGEST_NAME + 2


def test_the_longest_name_runs_and_one_more_byte_is_refused() -> None:
    name = b"x" * LONGEST_NAME
    assert fed([name + b"\r\n"]) == [Run(name)]
    assert fed([name + b"x\r\n"]) == fed([name * 2]) == [NO_REQUEST]


def test_a_name_without_its_end_is_no_request_yet() -> None:
    assert fed([b"hello"]) == fed([b"hello\r"]) == []


def test_the_environment_is_three_variables() -> None:
    assert set(clean_environment("::1")) == {"PATH", "LANG", "REMOTE_ADDR"}


def test_the_log_tells_a_status_from_a_signal_and_escapes_the_name() -> None:
    assert ended(b"a\xff", 3) == "a\\xff exited 3" and ended(b"a", 0) == "a exited 0"
    assert ended(b"a", -9) == "a killed by signal 9"
