"""What fields say, and how much of it is remembered."""

from __future__ import annotations

import pytest

from aiolsp.http1.sections import LONGEST, REMEMBERED, Section, read_section


def read(*lines: bytes) -> Section:
    """The section of these lines, which must be right."""
    section = read_section(b"\r\n".join([*lines, b"", b""]) if lines else b"\r\n")
    assert section is not None
    return section


@pytest.mark.parametrize(
    ("lines", "plain"),
    [
        ([b"Host: a"], True),
        ([b"Host:"], True),
        ([b"X: y", b"hOST: a", b"X: z"], True),
        ([], False),
        ([b"X: y"], False),
        ([b"Host: a b"], False),
        ([b"Host: a", b"Host: a"], False),
        ([b"Host: a", b"Content-Length: 0"], False),
        ([b"Host: a", b"Transfer-Encoding: chunked"], False),
        ([b"Host: a", b"Expect: 100-continue"], False),
    ],
)
def test_plain_are_those_with_a_right_host_and_nothing_more_to_do(lines: list[bytes], plain: bool) -> None:
    assert read(*lines).plain is plain


def test_a_wrong_line_makes_no_section() -> None:
    assert read_section(b"Host: a\r\nX : y\r\n\r\n") is None
    assert read_section(b"Host: a\r\n folded\r\n\r\n") is None


def test_equal_sections_are_read_once() -> None:
    assert read(b"Host: once") is read(b"Host: once")
    assert read(b"Host: once").fields == read(b"HOST: once").fields


def test_the_last_ones_are_remembered_and_no_more() -> None:
    first = read(b"Host: first")
    others = [read(b"Host: %d" % number) for number in range(REMEMBERED - 1)]
    assert read(b"Host: first") is first
    others.append(read(b"Host: one more"))
    assert read(b"Host: first") is first
    assert read(b"Host: 0") is not others[0]


def test_a_long_one_is_read_each_time() -> None:
    long = b"X: " + b"y" * (LONGEST - len(b"Host: a\r\nX: \r\n\r\n"))
    assert read(b"Host: a", long) is read(b"Host: a", long)
    longer = long + b"y"
    assert read(b"Host: a", longer) is not read(b"Host: a", longer)
