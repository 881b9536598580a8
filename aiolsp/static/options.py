"""The answer to OPTIONS: which methods there are, and for a script's preflight, what it may send (Fetch, 3.2)."""

from __future__ import annotations

from aiolsp.http1.messages import Fields
from aiolsp.http1.response import Field, HeadTemplate, ResponseHead
from aiolsp.static.answer import Answer
from aiolsp.static.policy import Policy, common_fields

METHODS = b"GET, HEAD, OPTIONS"

PREFLIGHT: tuple[Field, ...] = (
    (b"Access-Control-Allow-Methods", METHODS),
    (
        b"Access-Control-Allow-Headers",
        b"If-Match, If-Modified-Since, If-None-Match, If-Range, If-Unmodified-Since, Range",
    ),
    (b"Access-Control-Max-Age", b"86400"),
)


def options_answer(policy: Policy, fields: Fields) -> Answer:
    """204 with Allow; with ``--cors`` also what a preflight asks."""
    told = (*common_fields(policy), (b"Allow", METHODS))
    if policy.cors and b"access-control-request-method" in fields:
        told += PREFLIGHT
    return Answer(204, HeadTemplate(ResponseHead(204, told)), (), 0)
