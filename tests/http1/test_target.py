"""The request target: names of files out of bytes from anyone."""

from __future__ import annotations

import html
from urllib.parse import quote_from_bytes, unquote_to_bytes, urljoin, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.http1.target import RequestTarget, TargetForm, directory_location, encode_segment, parse_target

PATH_ALPHABET = st.sampled_from(
    [b"/", b"//", b".", b"..", b"%2e", b"%2E%2e", b"%2f", b"%252e", b"%00", b"a", b"\\", b"%"]
)
FILE_NAME = st.binary(min_size=1, max_size=20).filter(lambda name: b"/" not in name and b"\0" not in name)


def parsed(raw: bytes) -> RequestTarget:
    target = parse_target(raw)
    assert target is not None
    return target


@pytest.mark.parametrize(
    ("raw", "segments", "is_directory"),
    [
        (b"/", (), True),
        (b"/a", (b"a",), False),
        (b"/a/", (b"a",), True),
        (b"/a/b/c/./../../g", (b"a", b"g"), False),  # RFC 3986 section 5.2.4
        (b"/mid/content=5/../6", (b"mid", b"6"), False),
        (b"/a/.", (b"a",), True),
        (b"/a/..", (), True),
        (b"/a/%2E%2e/", (), True),
        (b"/..", (), True),
        (b"/../../../etc/passwd", (b"etc", b"passwd"), False),
        (b"/%2e%2e/%2E./etc", (b"etc",), False),
        (b"//a///b", (b"a", b"b"), False),
        (b"/a//../b", (b"b",), False),
        (b"/...", (b"...",), False),
        (b"/..a", (b"..a",), False),
        (b"/caf%C3%A9", (b"caf\xc3\xa9",), False),
        (b"/caf\xc3\xa9", (b"caf\xc3\xa9",), False),
        (b"/a+b%20c", (b"a+b c",), False),
        (b"/a\\..\\b", (b"a\\..\\b",), False),
        (b"/%5c..%5C", (b"\\..\\",), False),
        (b"/a%0Ab%0d", (b"a\nb\r",), False),
        (b"/a:b@c;d=1", (b"a:b@c;d=1",), False),
    ],
)
def test_the_names_of_a_path(raw: bytes, segments: tuple[bytes, ...], is_directory: bool) -> None:
    target = parsed(raw)
    assert target.segments == segments
    assert target.is_directory is is_directory
    assert target.form is TargetForm.ORIGIN
    assert target.nameable


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"a",
        b"?a",
        b"**",
        b"/%",
        b"/%4",
        b"/%zz",
        b"/%4g",
        b"/a?%zz",
        b"/%00",
        b"/a/%00/../b",
        b"/\x00",
        b"/\x01",
        b"/a b",
        b"/a\tb",
        b"/a\r\nb",
        b"/\x7f",
        b"/a#b",
        b"example.com:443",
        b"ftp://example.com/",
        b"http:/a",
        b"http://",
        b"http:///a",
        b"http://user@example.com/",
        b"http://user:word@example.com/",
        b"http://example.com:80:80/",
        b"http://exa\\mple/",
        b"http://[::1/",
    ],
)
def test_a_malformed_target_is_none(raw: bytes) -> None:
    assert parse_target(raw) is None


def test_the_path_is_decoded_exactly_once() -> None:
    """dubyte/dir2opds#17: a second decoding made this a way out."""
    assert parsed(b"/.%252e/%252e%252e/%2525").segments == (b".%2e", b"%2e%2e", b"%25")


def test_an_encoded_slash_separates_nothing_and_names_nothing() -> None:
    target = parsed(b"/a%2F..%2f../etc/passwd")
    assert target.segments == (b"a/../..", b"etc", b"passwd")
    assert not target.nameable


def test_dot_segments_remove_a_name_that_cannot_be() -> None:
    assert parsed(b"/a%2Fb/../c").nameable


@pytest.mark.parametrize(
    ("raw", "query"), [(b"/a", None), (b"/a?", b""), (b"/a?b=%2F..", b"b=%2F.."), (b"/a?b?/../c", b"b?/../c")]
)
def test_the_query_is_kept_as_it_came(raw: bytes, query: bytes | None) -> None:
    assert parsed(raw) == RequestTarget(TargetForm.ORIGIN, (b"a",), False, query)


@pytest.mark.parametrize(
    ("raw", "authority", "segments", "query"),
    [
        (b"http://example.com", b"example.com", (), None),
        (b"http://example.com?q", b"example.com", (), b"q"),
        (b"HTTPS://example.com:8080/a/../b?q", b"example.com:8080", (b"b",), b"q"),
        (b"http://[::1]:80/a", b"[::1]:80", (b"a",), None),
        (b"http://example.com:/a", b"example.com:", (b"a",), None),
        (b"http://example.com//a", b"example.com", (b"a",), None),
    ],
)
def test_absolute_form(raw: bytes, authority: bytes, segments: tuple[bytes, ...], query: bytes | None) -> None:
    target = parsed(raw)
    assert (target.form, target.authority) == (TargetForm.ABSOLUTE, authority)
    assert (target.segments, target.query) == (segments, query)


def test_asterisk_form() -> None:
    assert parsed(b"*") == RequestTarget(TargetForm.ASTERISK)


@settings(max_examples=300, deadline=None)
@given(st.lists(PATH_ALPHABET, max_size=12).map(b"".join))
def test_no_segment_climbs_or_is_empty(path: bytes) -> None:
    target = parse_target(b"/" + path)
    if target is not None:
        assert not {b"", b".", b".."}.intersection(target.segments)
        assert not any(b"\0" in segment for segment in target.segments)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_target_or_none(raw: bytes) -> None:
    target = parse_target(raw)
    assert target is None or directory_location(target).isascii()


@settings(max_examples=200, deadline=None)
@given(st.lists(FILE_NAME.filter(lambda name: name not in (b".", b"..")), max_size=4), st.booleans())
def test_every_file_name_survives_a_link(names: list[bytes], is_directory: bool) -> None:
    link = "/" + "/".join(encode_segment(name) for name in names) + ("/" if is_directory else "")
    target = parsed(link.encode("ascii"))
    assert target.segments == tuple(names)
    assert target.is_directory is (is_directory or not names)


@settings(max_examples=200, deadline=None)
@given(FILE_NAME)
def test_a_link_needs_no_escaping_in_html_and_is_relative(name: bytes) -> None:
    link = encode_segment(name)
    assert html.escape(link) == link
    assert not urlsplit(link).scheme and not urlsplit(link).netloc


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_escapes_are_what_urllib_makes_and_reads(data: bytes) -> None:
    assert encode_segment(data) == quote_from_bytes(data, safe="")
    target = parse_target(b"/a" + data)
    if target is not None and target.query is None and b"/" not in data:
        assert target.segments == (unquote_to_bytes(b"/a" + data)[1:],)


@pytest.mark.parametrize(
    ("raw", "location"),
    [
        (b"/sub", b"/sub/"),
        (b"/sub?q=1&r=%20", b"/sub/?q=1&r=%20"),
        (b"/sub?", b"/sub/?"),
        (b"/a%20b", b"/a%20b/"),
        (b"//evil.example/..", b"/"),
        (b"//evil.example", b"/evil.example/"),
        (b"/\\evil.example", b"/%5Cevil.example/"),
        (b"/%2Fevil.example", b"/%2Fevil.example/"),
        (b"/a%0d%0aSet-Cookie:%20b", b"/a%0D%0ASet-Cookie%3A%20b/"),
        (b"http://example.com/sub?q", b"/sub/?q"),
        (b"/sub?\xff|\\", b"/sub/?%FF%7C%5C"),
    ],
)
def test_the_location_of_a_directory(raw: bytes, location: bytes) -> None:
    assert directory_location(parsed(raw)) == location


@settings(max_examples=300, deadline=None)
@given(st.lists(PATH_ALPHABET | st.sampled_from([b"evil.example", b"%0d%0a", b"%5c", b"?", b"@", b":"]), max_size=12))
def test_a_location_never_leaves_this_host(pieces: list[bytes]) -> None:
    target = parse_target(b"/" + b"".join(pieces))
    if target is not None:
        location = directory_location(target).decode("ascii")
        # What a browser makes of it, which takes a backslash for a slash.
        assert urlsplit(urljoin("http://here.example/x/y", location.replace("\\", "/"))).netloc == "here.example"
        assert "\r" not in location and "\n" not in location
        assert parsed(location.encode("ascii")).segments == target.segments
