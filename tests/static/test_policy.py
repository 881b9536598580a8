"""What an operator may decide, and what is refused before a server starts."""

from __future__ import annotations

from typing import Any

import pytest

from aiolsp.static.policy import Policy, common_fields


def test_nothing_is_opened_up_unless_asked_for() -> None:
    policy = Policy()
    assert not (policy.follow_symlinks or policy.dotfiles or policy.spa or policy.cors or policy.headers)


def test_what_the_operator_says_takes_the_place_of_what_the_server_says() -> None:
    own = (b"server", b"mine"), (b"ACCESS-Control-Allow-Origin", b"https://a"), (b"X-Own", b"1")
    told = common_fields(Policy(headers=own, cors=True))
    assert told[-3:] == own and not {b"Server", b"Access-Control-Allow-Origin"} & {name for name, _ in told}
    assert {name for name, _ in told[:-3]} == {b"X-Content-Type-Options", b"Access-Control-Expose-Headers"}
    assert dict(common_fields(Policy(cors=True)))[b"Access-Control-Allow-Origin"] == b"*"
    assert not any(name.startswith(b"Access-Control") for name, _ in common_fields(Policy()))


@pytest.mark.parametrize(
    "options",
    [
        {"headers": ((b"X-A", b"1\r\nX-B: 2"),)},
        {"headers": ((b"X A", b"1"),)},
        {"headers": ((b"Content-Length", b"1"),)},
        {"headers": ((b"transfer-encoding", b"chunked"),)},
        {"headers": ((b"Connection", b"close"),)},
        {"headers": ((b"DATE", b"today"),)},
        {"headers": ((b"Content-Type", b"text/plain"),)},
        {"headers": ((b"ETag", b'"one for all"'),)},
        {"cache_control": b"no-store\n"},
        {"cache_control": b"max-age=9", "headers": ((b"cache-control", b"no-store"),)},
        {"index_page": b""},
        {"index_page": b".."},
        {"index_page": b"../secret"},
        {"not_found_page": b"/etc/passwd"},
        {"not_found_page": b"a\0b"},
    ],
)
def test_what_would_break_an_answer_or_leave_the_root_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Policy(**options)


def test_fields_of_the_operators_own_are_taken() -> None:
    headers = ((b"X-Frame-Options", b"DENY"), (b"Link", b"</a>; rel=preload"))
    assert Policy(headers=headers, cache_control=b"max-age=3600").headers == headers
