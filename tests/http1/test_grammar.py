"""The productions: what each takes and refuses, by example and against the standard library."""

from __future__ import annotations

import ipaddress
import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.http1 import grammar

YES_AND_NO: list[tuple[str, list[bytes], list[bytes]]] = [
    ("token", [b"GET", b"!#$%&'*+-.^_`|~9aZ"], [b"", b"a b", b"a:", b"(", b"\xe9", b"a/b", b'"']),
    ("quoted_string", [b'""', b'"a b"', b'"a\\"b"', b'"\\\\"', b'"\xff\t"'], [b'"', b'"a', b'"a\\"', b'a""', b'"""']),
    ("field_value", [b"", b"a", b"a b\t", b"\xff"], [b" a", b"\ta", b"a\x00", b"a\r", b"a\n", b"\x7f"]),
    (
        "request_target",
        [b"/", b"/a%20b?c=%ff", b'/|[]{}^"\\`<>', b"*", b"http://h/"],
        [b"/%", b"/%2", b"/%zz", b"/%2g", b"/a b", b"/#x", b"/\xe9", b"/\x7f"],
    ),
    ("http_version", [b"HTTP/1.1", b"HTTP/9.0"], [b"http/1.1", b"HTTP/1", b"HTTP/1.10", b"HTTP/11.1", b"HTTP /1.1"]),
    ("chunk_size", [b"0", b"ff", b"0" * 16], [b"", b"0x1", b"-1", b"+1", b"1_0", b" 1", b"0" * 17]),
    (
        "chunk_ext",
        [b"", b";a", b";a=b", b' ; a = "b;c"', b";a;b=c"],
        [b";", b" ", b";a=", b"=b", b';a="b', b";a b", b";a ", b"; =b"],
    ),
    ("h16", [b"0", b"ffff"], [b"", b"fffff", b"g"]),
    ("ipv4_address", [b"127.0.0.1", b"255.255.255.255"], [b"256.0.0.1", b"1.2.3", b"01.2.3.4"]),
]


@pytest.mark.parametrize(
    ("name", "text", "right"),
    [(name, text, True) for name, yes, _ in YES_AND_NO for text in yes]
    + [(name, text, False) for name, _, no in YES_AND_NO for text in no],
)
def test_a_production_takes_what_the_rfc_says(name: str, text: bytes, right: bool) -> None:
    assert bool(re.fullmatch(getattr(grammar, name), text)) is right


@pytest.mark.parametrize(
    "host",
    [b"", b"a", b"a.b:80", b"a:", b"127.0.0.1:8080", b"[::1]", b"[::1]:80", b"[v1.a:b]", b"%41", b"a_b", b"x" * 300],
)
def test_a_host_is_taken(host: bytes) -> None:
    assert grammar.is_host(host)


@pytest.mark.parametrize(
    "host",
    [b"a b", b"a,b", b"a/b", b"a@b", b"::1", b"[::1", b"[]", b"[1]", b"[g::]", b"a:b", b"a:123456", b"a%4", b"\xe9"]
    + [b"a:1:2", b"[::1]x", b"a?b", b"a#b", b'"a"', b"a\\b", b"[::1%25eth0]"],
)
def test_a_host_is_refused(host: bytes) -> None:
    assert not grammar.is_host(host)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.ip_addresses(v=6).map(lambda address: address.compressed),
        st.ip_addresses(v=6).map(lambda address: address.exploded),
        st.text("0123456789abcdef:.", max_size=20),
        st.lists(st.sampled_from(["1", "ab", ":", "::", "1.2.3.4"]), max_size=12).map("".join),
    )
)
def test_ipv6_addresses_are_those_of_the_standard_library(text: str) -> None:
    try:
        ipaddress.IPv6Address(text)
        valid = True
    except ValueError:
        valid = False
    assert bool(re.fullmatch(grammar.ipv6_address, text.encode())) is valid


@pytest.mark.parametrize(
    ("line", "pair"),
    [
        (b"Host: a", (b"host", b"a")),
        (b"X:", (b"x", b"")),
        (b"X: \t ", (b"x", b"")),
        (b"X:\t a  b \t", (b"x", b"a  b")),
        (b"X: \xff:", (b"x", b"\xff:")),
    ],
)
def test_a_field_line_gives_its_lower_cased_name_and_stripped_value(line: bytes, pair: grammar.Pair) -> None:
    assert grammar.field_pair(line) == pair
    assert grammar.field_pairs(line + b"\r\n\r\n") == [pair]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b" folded", "obs-fold"),
        (b"\tX: folded", "obs-fold"),
        (b"X", "no colon"),
        (b": a", "empty"),
        (b"X : a", "before the colon"),
        (b"X\t: a", "before the colon"),
        (b"a b: c", "character"),
        (b"\xe9: c", "character"),
        (b"(X): c", "character"),
    ],
)
def test_a_bad_field_line_is_named(line: bytes, fault: str) -> None:
    assert grammar.field_pair(line) is None
    assert grammar.field_pairs(line + b"\r\n\r\n") is None
    assert fault in grammar.field_fault(line)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([b"a", b":", b" ", b"\t", b"\r\n", b"\n", b"\r", b"\x00", b"\xff", b"B: c"]), max_size=12)
)
def test_matching_all_lines_at_once_is_matching_each(parts: list[bytes]) -> None:
    block = b"".join(parts)
    each = [grammar.field_pair(line) if not re.search(rb"[\r\n\0]", line) else None for line in block.split(b"\r\n")]
    expected = each if all(each) else None
    assert grammar.field_pairs(block + b"\r\n\r\n") == expected


EXPRESSIONS = [value for name, value in vars(grammar).items() if name.isupper()]
PARTS = [
    b"a",
    b"1",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"=",
    b'"',
    b"\\",
    b"%",
    b"%41",
    b"/",
    b"[",
    b"::",
    b"1:",
    b".",
    b";a=b",
]


@pytest.mark.parametrize("pattern", EXPRESSIONS, ids=lambda pattern: pattern.pattern[:20].decode())
@pytest.mark.timeout(20)
def test_no_expression_takes_more_than_linear_time_for_what_repeats(pattern: re.Pattern[bytes]) -> None:
    starts = (b"", b"a", b"GET ", b"http://", b'1;a="', b"a:", b"[")
    for start, part, end in itertools.product(starts, PARTS, (b"", b"\0")):
        pattern.fullmatch(start + part * 5_000 + end)
        pattern.search(start + part * 100 + end)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (grammar.FIELD_LINE, b"a" * 40_000),
        (grammar.FIELD_LINE, b"a:" + b" " * 40_000 + b"\x00"),
        (grammar.FIELD_LINE, b"a:" + b" x" * 20_000 + b"\x00"),
        (grammar.REQUEST_LINE, b"GET " + b"%41" * 13_000 + b"%"),
        (grammar.NAMED_HOST, b"%41" * 13_000 + b"%"),
        (grammar.CHUNK_LINE, b"1" + b";a=b" * 10_000 + b"="),
        (grammar.CHUNK_LINE, b"1" + b" " * 40_000),
        (grammar.CHUNK_LINE, b'1;a="' + b"\\a" * 20_000),
        (grammar.ABSOLUTE_FORM, b"http://a/" + b"a" * 40_000 + b"\n"),
    ],
)
@pytest.mark.timeout(10)
def test_no_expression_takes_more_than_linear_time(pattern: re.Pattern[bytes], text: bytes) -> None:
    assert pattern.fullmatch(text) is None
