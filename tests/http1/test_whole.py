"""The usual request in one step. That it is the one which the parser reads, `parsing.check` asks for all that is tried
on the parser; here stands what is usual, and what is not.
"""

from __future__ import annotations

import pytest

from aiolsp.http1.limits import Limits
from aiolsp.http1.messages import Fields, Request
from parsing import LIMITS, check, in_pieces, whole_request

USUAL = b"GET /a?b=%20 HTTP/1.1\r\nHost: a:80\r\nX: y\r\n\r\n"


def test_a_usual_request_is_read_at_once() -> None:
    fields = Fields([(b"host", b"a:80"), (b"x", b"y")])
    assert whole_request(USUAL) == Request(b"GET", b"/a?b=%20", (1, 1), fields, True, False, False, USUAL)
    closing = whole_request(USUAL.replace(b"X: y", b"Connection: close"))
    assert closing is not None
    assert not closing.keep_alive


def test_fields_that_decide_nothing_are_there_as_soon_as_they_are_asked_for() -> None:
    data = USUAL.replace(b"X: y", b"Other: z\r\nX: y\r\nOther: w")
    check(data)
    request = whole_request(data)
    assert request is not None
    assert list(request.fields) == [(b"host", b"a:80"), (b"other", b"z"), (b"x", b"y"), (b"other", b"w")]
    assert request.fields.combined(b"other") == b"z, w" and not hasattr(request.fields, "other")


@pytest.mark.parametrize(
    "data",
    [
        USUAL[:-1],
        USUAL[:-2],
        USUAL + b"G",
        USUAL * 2,
        b"\r\n" + USUAL,
        USUAL.replace(b"\r\n\r\n", b"\r\n\n"),
        USUAL.replace(b"\r\n", b"\n"),
        USUAL.replace(b"X: y\r\n", b"X: y\r\n folded\r\n"),
        USUAL.replace(b"X: y", b"X : y"),
        USUAL.replace(b"X: y", b"X: \0"),
        USUAL.replace(b"X: y", b"Host: a:80"),
        USUAL.replace(b"X: y", b"Content-Length: 0"),
        USUAL.replace(b"X: y", b"Content-Length: 1"),
        USUAL.replace(b"X: y", b"Transfer-Encoding: chunked"),
        USUAL.replace(b"X: y", b"Expect: 100-continue"),
        USUAL.replace(b"Host: a:80\r\n", b""),
        USUAL.replace(b"a:80", b"a b"),
        USUAL.replace(b"1.1", b"1.0"),
        USUAL.replace(b"1.1", b"2.0"),
        USUAL.replace(b"/a?b=%20", b"http://a/"),
        USUAL.replace(b"GET /a?b=%20", b"OPTIONS *"),
        USUAL.replace(b"GET", b"CONNECT"),
        USUAL.replace(b"%20", b"%2"),
        USUAL.replace(b"/a", b"/" + b"a" * LIMITS.max_target),
        USUAL.replace(b"X: y\r\n", b"X: y\r\n" * LIMITS.max_fields),
        USUAL.replace(b"X: y\r\n", b"X: " + b"y" * LIMITS.max_head + b"\r\n"),
        b"",
    ],
)
def test_any_other_is_left_to_the_parser(data: bytes) -> None:
    assert whole_request(data) is None
    check(*in_pieces(data, 7))


def test_limits_hold_for_fields_that_were_read_under_others() -> None:
    data = USUAL.replace(b"X: y\r\n", b"X: y\r\n" * LIMITS.max_fields)
    assert whole_request(data, Limits()) is not None
    assert whole_request(data) is None
