"""Accept-Encoding and Accept against tables and a naive model."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.http1.negotiation import SIBLINGS, accepted_codings, accepts_html, choose_coding

ALL = tuple(SIBLINGS)


@pytest.mark.parametrize(
    ("value", "codings"),
    [
        (None, {}),
        (b"", {}),
        (b"compress, gzip", {b"compress": 1000, b"gzip": 1000}),
        (b"compress;q=0.5, gzip;q=1.0", {b"compress": 500, b"gzip": 1000}),
        (b"gzip;q=1.0, identity; q=0.5, *;q=0", {b"gzip": 1000, b"identity": 500, b"*": 0}),
        (b"GZip ;Q=0.001", {b"gzip": 1}),
        (b"br;q=1.000,zstd;q=0.", {b"br": 1000, b"zstd": 0}),
        (b"x-gzip;q=0.25", {b"gzip": 250}),
        (b"gzip, gzip;q=0", {b"gzip": 0}),
        (b",, br ,", {b"br": 1000}),
        (b"br;q=1.001, zstd;q=0.1234, gzip;q=-1, a;q=, b;q=2, c;r=1, d e, ;q=1, f;q=1;q=1, g", {b"g": 1000}),
    ],
)
def test_codings_are_read_with_their_weights(value: bytes | None, codings: dict[bytes, int]) -> None:
    assert accepted_codings(value) == codings


def test_long_lists_are_read_as_short_ones_and_take_no_memory() -> None:
    value = b"br;q=0.5, gzip" + b"".join(b", %x" % number for number in range(5000))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(64):
            codings = accepted_codings(value + b", other-%d" % number)
        assert len(codings) == 5003 and (codings[b"br"], codings[b"gzip"]) == (500, 1000)
        del codings
        assert tracemalloc.get_traced_memory()[0] - before < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("value", "coding"),
    [
        (None, None),
        (b"", None),
        (b"gzip", b"gzip"),
        (b"gzip, deflate, br, zstd", b"br"),
        (b"gzip, zstd", b"zstd"),
        (b"br;q=0.5, gzip", b"gzip"),
        (b"br;q=0, gzip;q=0.001", b"gzip"),
        (b"gzip;q=0", None),
        (b"*", b"br"),
        (b"*;q=0.5, gzip", b"gzip"),
        (b"*, br;q=0", b"zstd"),
        (b"*;q=0", None),
        (b"identity", None),
        (b"identity, gzip", b"gzip"),
        (b"identity;q=0.5, gzip;q=0.5", b"gzip"),
        (b"identity;q=0.6, gzip;q=0.5", None),
        (b"identity;q=0, gzip;q=0.1", b"gzip"),
        (b"identity;q=0", None),  # nothing suits: the file itself (section 12.5.3)
        (b"identity;q=0, *", b"br"),
        (b"gzip;q=0.3, *;q=0.2", b"gzip"),
        (b"br;q=0.1, zstd;q=0.2, gzip;q=0.4, *;q=0.5", None),  # the star stands for identity as well
        (b"deflate", None),
    ],
)
def test_the_coding_chosen(value: bytes | None, coding: bytes | None) -> None:
    assert choose_coding(value, ALL) == coding


def test_only_what_is_available_is_chosen() -> None:
    assert choose_coding(b"br, gzip;q=0.5", (b"gzip",)) == b"gzip"
    assert choose_coding(b"br", (b"gzip",)) is None
    assert choose_coding(b"br, gzip", ()) is None


def test_among_equals_the_server_chooses() -> None:
    assert choose_coding(b"gzip, br", (b"gzip", b"br")) == b"gzip"
    assert ALL == (b"br", b"zstd", b"gzip")


def naive_choice(weights: dict[bytes, float], available: list[bytes]) -> bytes | None:
    def weight(coding: bytes) -> float:
        return weights.get(coding, weights.get(b"*", 0))

    identity = weights.get(b"identity", weights.get(b"*", 0.0001))
    acceptable = [coding for coding in available if weight(coding) > 0 and weight(coding) >= identity]
    return max(acceptable, key=weight, default=None)


WEIGHTS = st.dictionaries(
    st.sampled_from([*ALL, b"identity", b"*", b"deflate"]), st.integers(0, 10).map(lambda n: n / 10)
)


@settings(max_examples=500, deadline=None)
@given(WEIGHTS, st.lists(st.sampled_from(ALL), unique=True))
def test_the_choice_is_that_of_a_naive_model(weights: dict[bytes, float], available: list[bytes]) -> None:
    value = b", ".join(b"%b;q=%.1f" % item for item in weights.items())
    assert choose_coding(value, available) == naive_choice(weights, available)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40) | st.text("gzipbr*;q=01., ", max_size=40).map(str.encode))
def test_any_bytes_make_a_choice(value: bytes) -> None:
    choice = choose_coding(value, ALL)
    assert choice is None or accepted_codings(value).get(choice, accepted_codings(value).get(b"*", 0)) > 0
    assert accepts_html(value) in (True, False)


@pytest.mark.parametrize(
    "value",
    [
        b"text/html",
        b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",  # Firefox
        b"application/json, Text/HTML;q=0.1",
        b"text/html;level=1",
        b"text/html ; charset=utf-8 ; Q=0.001",
        b"application/xhtml+xml",
    ],
)
def test_a_browser_that_follows_a_link_asks_for_html(value: bytes) -> None:
    assert accepts_html(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"*/*",  # curl, and the fetch of a script
        b"text/*",
        b"text/css,*/*;q=0.1",
        b"image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5",
        b"application/json",
        b"text/html;q=0",
        b"text/html;level=1;q=0.000",
        b"text/html;q=2",
        b"text/htmlx",
        b"xtext/html",
    ],
)
def test_what_is_fetched_into_a_page_does_not(value: bytes | None) -> None:
    assert not accepts_html(value)
