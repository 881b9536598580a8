"""Answers found in a stream of bytes, at every split."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from load.framing import MAX_HEAD, Answer, AnswerFramer, Head
from load.record import Failure

COUNTED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
LONGER = COUNTED.replace(b"5", b"9") + b" you"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nX: y\r\n\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n" + COUNTED
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
OLD = b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx"
OLD_KEPT = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx"

WHOLE = [
    (COUNTED, Answer(200, 5, False, content=b"hello")),
    (CHUNKED, Answer(200, 5, False, content=b"hello")),
    (EMPTY, Answer(204, 0, False)),
    (INTERIM, Answer(200, 5, False, content=b"hello")),
    (CLOSING, Answer(200, 0, True)),
    (OLD, Answer(200, 1, True, content=b"x")),
    (OLD_KEPT, Answer(200, 1, False, content=b"x")),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Answer(304, 0, False)),
]

BROKEN = [
    (b"SSH-2.0-OpenSSH\r\n\r\n", Failure.PROTOCOL),
    (b"HTTP/2 200\r\n\r\n", Failure.PROTOCOL),
    (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Failure.PROTOCOL),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", Failure.PROTOCOL),
    (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", Failure.PROTOCOL),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", Failure.PROTOCOL),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", Failure.LENGTH),
    (b"HTTP/1.1 " + b"2" * MAX_HEAD, Failure.PROTOCOL),
]

CUT = [
    (b"", None),
    (b"HTTP/1.1 200", Failure.RESET),
    (COUNTED[:-1], Failure.LENGTH),
    (CHUNKED[:-1], Failure.LENGTH),
    (CHUNKED[:60], Failure.LENGTH),
]


def fed(pieces: list[bytes], *, known: dict[bytes, Head] | None = None, keep_content: bool = True) -> list[Answer]:
    framer = AnswerFramer({} if known is None else known, keep_content=keep_content)
    return [answer for piece in pieces for answer in framer.feed(piece)]


@pytest.mark.parametrize(("data", "expected"), WHOLE)
def test_any_split_gives_the_same_answer(data: bytes, expected: Answer) -> None:
    for at in range(len(data) + 1):
        assert fed([data[:at], data[at:]]) == [expected]
    assert fed([data[at : at + 1] for at in range(len(data))]) == [expected]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([COUNTED, LONGER, CHUNKED, EMPTY, INTERIM, CLOSING]), max_size=8),
    st.lists(st.integers(0, 500), max_size=5),
    st.booleans(),
)
@example([INTERIM], [len(INTERIM) - len(COUNTED)], True)
def test_pipelined_answers_are_told_apart_at_any_split(answers: list[bytes], cuts: list[int], known: bool) -> None:
    """Whether their heads are known from another connection or not."""
    data, edges = b"".join(answers), sorted(cuts)
    pieces = [data[a:b] for a, b in zip([0, *edges], [*edges, len(data)], strict=True)]
    heads: dict[bytes, Head] = {}
    expected = [answer for one in answers for answer in fed([one], known=heads, keep_content=False)]
    assert fed(pieces, known=heads if known else {}, keep_content=False) == expected
    assert len(expected) == len(answers)


@pytest.mark.parametrize("wrong", [b"HTTP/1.1 2x0 OK\r\n\r\n", b"x" + COUNTED, COUNTED[1:], LONGER[:-1] + COUNTED])
def test_what_follows_known_answers_must_be_one_too(wrong: bytes) -> None:
    known: dict[bytes, Head] = {}
    fed([COUNTED, LONGER], known=known)
    *good, bad = fed([COUNTED * 3 + wrong + COUNTED], known=known, keep_content=False)
    assert [answer.status for answer in good[:3]] == [200] * 3 and bad.failure is Failure.PROTOCOL


def test_a_known_head_gives_the_same_answer_as_a_new_one() -> None:
    framer = AnswerFramer({})
    first, second = framer.feed(COUNTED), framer.feed(COUNTED)
    assert first == second == [Answer(200, 5, False)] and framer.between


@pytest.mark.parametrize(("data", "kind"), BROKEN)
def test_what_cannot_be_read_is_a_failure_and_the_last_answer(data: bytes, kind: Failure) -> None:
    (answer,) = fed([data])
    assert answer.failure is kind and answer.last and answer.example
    framer = AnswerFramer({})
    framer.feed(data)
    assert framer.feed(COUNTED) == [] and framer.feed_eof() is None


@pytest.mark.parametrize(("data", "kind"), CUT)
def test_the_end_of_the_stream_cuts_an_answer_short(data: bytes, kind: Failure | None) -> None:
    framer = AnswerFramer({})
    assert framer.feed(data) == []
    end = framer.feed_eof()
    assert (end and end.failure) is kind


def test_content_without_a_length_ends_with_the_stream() -> None:
    framer = AnswerFramer({}, keep_content=True)
    assert framer.feed(b"HTTP/1.1 200 OK\r\n\r\nhel") == [] and framer.feed(b"lo") == []
    assert framer.feed_eof() == Answer(200, 5, True, content=b"hello")


def test_an_answer_to_head_has_no_content() -> None:
    framer = AnswerFramer({}, to_head=True)
    assert framer.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n") == [Answer(200, 0, False)]


def test_bytes_beyond_the_announced_length_are_surplus() -> None:
    framer = AnswerFramer({})
    assert framer.feed(COUNTED + b"H") == [Answer(200, 5, False)] and framer.surplus == 1


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([COUNTED, CHUNKED, b"HTTP/1.1 200 OK\r\n"])), max_size=8)
)
def test_no_bytes_make_it_raise(pieces: list[bytes]) -> None:
    framer = AnswerFramer({}, keep_content=True)
    for piece in pieces:
        framer.feed(piece)
    framer.feed_eof()
