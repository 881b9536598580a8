"""What OPTIONS says: the methods, and to a script's preflight what it may send."""

from __future__ import annotations

import pytest

from aiolsp.http1.messages import NO_FIELDS, Fields
from aiolsp.http1.response import Field
from aiolsp.static.answer import DECIDING, Answer
from aiolsp.static.options import METHODS, PREFLIGHT, options_answer
from aiolsp.static.policy import Policy

PREFLIGHT_FIELDS = Fields([(b"origin", b"https://a.example"), (b"access-control-request-method", b"GET")])


def fields_of(answer: Answer) -> list[Field]:
    """The fields of the answer's head as they are sent."""
    lines = answer.head.render(b"now").split(b"\r\n")[1:-2]
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]


@pytest.mark.parametrize("policy", [Policy(), Policy(cors=True), Policy(headers=((b"X-Own", b"1"),))])
def test_the_methods_are_told_without_a_body_or_its_length(policy: Policy) -> None:
    answer = options_answer(policy, NO_FIELDS)
    assert (answer.status, answer.pieces, answer.size, answer.streamed) == (204, (), 0, False)
    names = [name for name, _ in fields_of(answer)]
    assert (b"Allow", METHODS) in fields_of(answer) and len(set(names)) == len(names)
    assert not {b"Content-Length", b"Content-Type", b"Transfer-Encoding"} & set(names)
    assert set(policy.headers) <= set(fields_of(answer))


def test_a_preflight_is_told_more_only_if_other_origins_are_welcome() -> None:
    assert set(PREFLIGHT) < set(fields_of(options_answer(Policy(cors=True), PREFLIGHT_FIELDS)))
    for policy, fields in ((Policy(), PREFLIGHT_FIELDS), (Policy(cors=True), NO_FIELDS)):
        assert not set(PREFLIGHT) & set(fields_of(options_answer(policy, fields)))


def test_a_script_may_send_what_a_part_or_a_fresh_copy_needs() -> None:
    told = dict(PREFLIGHT)
    allowed = {name.strip().lower() for name in told[b"Access-Control-Allow-Headers"].split(b",")}
    # A script may not set Accept-Encoding; the browser does.
    assert allowed == set(DECIDING) - {b"accept-encoding"}
    assert told[b"Access-Control-Allow-Methods"] == METHODS


def test_what_the_operator_says_of_origins_counts() -> None:
    policy = Policy(cors=True, headers=((b"access-control-allow-origin", b"https://a.example"), (b"SERVER", b"none")))
    told = [(name.lower(), value) for name, value in fields_of(options_answer(policy, NO_FIELDS))]
    origins = [value for name, value in told if name == b"access-control-allow-origin"]
    servers = [value for name, value in told if name == b"server"]
    assert (origins, servers) == ([b"https://a.example"], [b"none"])
