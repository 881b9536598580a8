"""What an operator may decide, and what is refused before a server starts."""

from __future__ import annotations

from typing import Any

import pytest

from aiolsp.static.policy import Policy


def test_nothing_is_opened_up_unless_asked_for() -> None:
    policy = Policy()
    assert not (policy.follow_symlinks or policy.dotfiles or policy.spa or policy.cors or policy.headers)


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
