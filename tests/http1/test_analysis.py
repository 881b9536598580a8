"""What is printed of a request, and the verdict, however its bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.http1.analysis import CORRECT, REQUEST, SHOWN, WRONG, RequestAnalysis, checked, pieces
from aiolsp.http1.limits import Limits
from ambiguous import TAKEN
from refused import REFUSED

GOOD = b"GET /index.html HTTP/1.1\r\nHost: example\r\nAccept: */*\r\n\r\n"

REPORT = [
    "REQUEST_LINE OK   'GET /index.html HTTP/1.1'",
    "HEADERS      OK   'Host: example'",
    "HEADERS      OK   'Accept: */*'",
    "HEADERS      OK   ''",
    "correct: GET /index.html, 2 fields, no body",
]


def analyse(*pieces: bytes) -> tuple[list[str], bytes | None]:
    """All that is printed but for "need more", and the answer."""
    analysis = RequestAnalysis()
    report = [line for piece in pieces for line in analysis.feed(piece)]
    return [line for line in report if " OPEN " not in line], analysis.answer


def test_each_line_is_told_with_its_state_and_status() -> None:
    assert RequestAnalysis().feed(GOOD) == REPORT


@pytest.mark.parametrize("cut", range(1, len(GOOD)))
def test_a_cut_anywhere_gives_the_same_report(cut: int) -> None:
    assert analyse(GOOD[:cut], GOOD[cut:]) == (REPORT, CORRECT)


def test_an_unfinished_line_is_open_in_its_state() -> None:
    analysis = RequestAnalysis()
    assert analysis.feed(b"GET /") == ["REQUEST_LINE OPEN need more"]
    assert analysis.feed(b" HTTP/1.1\r\nHo") == ["REQUEST_LINE OK   'GET / HTTP/1.1'", "HEADERS      OPEN need more"]
    assert analysis.answer is None


def test_a_line_that_cannot_be_one_is_bad() -> None:
    report, answer = analyse(b"GET / HTTP/1.1\nHost: example\n\n")
    assert report == [r"REQUEST_LINE BAD  'GET / HTTP/1.1\n'", "wrong: 400 " + report[-1].removeprefix("wrong: 400 ")]
    assert answer == WRONG


def test_a_line_may_be_ok_and_wrong_to_the_machine_above() -> None:
    report, answer = analyse(b"GET\r\n")
    assert report[0] == "REQUEST_LINE OK   'GET'"
    assert report[1].startswith("wrong: 400 ")
    assert answer == WRONG


def test_a_body_is_content() -> None:
    report, answer = analyse(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel", b"lo")
    assert report[-3:] == ["CONTENT      OK   3 B", "CONTENT      OK   2 B", "correct: POST /, 2 fields, with a body"]
    assert answer == CORRECT


def test_what_follows_the_request_is_ignored() -> None:
    assert analyse(GOOD + b"GET /second HTTP/1.1\r\n", GOOD) == (REPORT, CORRECT)
    assert analyse(GOOD + b"\x00garbage") == (REPORT, CORRECT)


def test_a_head_over_the_limit_is_wrong_at_once() -> None:
    analysis = RequestAnalysis(Limits(max_target=1024, max_head=2048))
    assert analysis.feed(b"GET / HTTP/1.1\r\n")[-1] == "HEADERS      OPEN need more"
    assert analysis.feed(b"A" * 4096)[-1].startswith("wrong: 431 ")
    assert analysis.answer == WRONG


def test_a_long_line_is_shown_in_part() -> None:
    [line] = [line for line in RequestAnalysis().feed(b"GET /" + b"a" * 500 + b" HTTP/1.1\r\n") if "OK" in line]
    assert line.endswith("...") and len(line) < SHOWN + 30


def test_an_end_in_the_middle_is_wrong() -> None:
    analysis = RequestAnalysis()
    analysis.feed(b"GET / HTTP/1.1\r\n")
    assert analysis.receive_eof() == ["wrong: it ended in HEADERS"]
    assert analysis.answer == WRONG


def test_an_end_before_anything_or_after_the_answer_says_nothing() -> None:
    analysis = RequestAnalysis()
    assert analysis.receive_eof() == []
    assert analysis.answer is None
    analysis.feed(GOOD)
    assert analysis.receive_eof() == []
    assert analysis.answer == CORRECT


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([data for _, data in (*REFUSED.values(), *TAKEN.values()) if len(data) < 400]), st.data())
def test_a_cut_anywhere_changes_no_verdict(data: bytes, draw: st.DataObject) -> None:
    cut = draw.draw(st.integers(0, len(data)))
    report, answer = analyse(data)
    cut_report, cut_answer = analyse(data[:cut], data[cut:])
    assert (cut_report[-1], cut_answer) == (report[-1], answer)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=200)))
def test_garbage_is_reported_in_printable_lines(pieces: list[bytes]) -> None:
    analysis = RequestAnalysis()
    report = [line for piece in pieces for line in analysis.feed(piece)] + analysis.receive_eof()
    assert all(line.isprintable() for line in report)
    assert analysis.answer in (None, CORRECT, WRONG)


def test_what_the_client_sends_if_it_is_not_told_otherwise_is_correct_in_any_pieces() -> None:
    for split in (None, 1, 7, len(REQUEST), 1000):
        analysis, sent = RequestAnalysis(), pieces(REQUEST, split)
        assert b"".join(sent) == REQUEST and max(map(len, sent)) == min(split or 1000, len(REQUEST))
        for piece in sent:
            analysis.feed(piece)
        assert analysis.answer == CORRECT
    assert pieces(b"", None) == pieces(b"", 3) == []


def test_an_answer_is_text_and_none_is_an_error() -> None:
    assert checked(CORRECT) == "I get a correct result"
    assert checked(b"\xff\n") == "\\xff"
    with pytest.raises(ConnectionError, match="without an answer"):
        checked(b"")
