"""Response heads: what is sent, and what is refused before it could split a response."""

from __future__ import annotations

import html
import re
from http import HTTPStatus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.http1.response import (
    CLOSE,
    KEEP_ALIVE,
    PERSISTENT,
    REASONS,
    Field,
    HeadTemplate,
    ResponseHead,
    carries_body,
    check_field,
    error_page,
    escape,
    serialize_head,
)

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"


def test_a_head_is_a_status_line_field_lines_and_an_empty_line() -> None:
    head = ResponseHead(200, ((b"Content-Length", b"3"), (b"X-Empty", b"")))
    assert head.serialize() == b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Empty: \r\n\r\n"
    assert serialize_head(404, [], version=b"HTTP/1.0") == b"HTTP/1.0 404 Not Found\r\n\r\n"


def test_an_unknown_status_has_an_empty_reason_after_its_space() -> None:
    assert serialize_head(299, []) == b"HTTP/1.1 299 \r\n\r\n"


def test_every_status_has_a_reason_by_its_name_in_rfc_9110() -> None:
    # Four are spelt out: RFC 9110 renamed them, and http.HTTPStatus only from Python 3.13 on.
    assert REASONS == {status.value: status.phrase.encode("ascii") for status in HTTPStatus} | {
        413: b"Content Too Large",
        414: b"URI Too Long",
        416: b"Range Not Satisfiable",
        422: b"Unprocessable Content",
    }
    for reason in REASONS.values():
        check_field(b"Reason", reason)


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\nb", b"\0", "é".encode(), b"(a)", b" a"])
def test_a_field_name_that_is_no_token_is_refused(name: bytes) -> None:
    with pytest.raises(ValueError, match="field name"):
        serialize_head(200, [(name, b"x")])


@pytest.mark.parametrize("value", [b"a\r\nb", b"a\nb", b"a\rb", b"a\0b", b"\x01", b"\x7f", b" a", b"a ", b"a\t", b"\n"])
def test_a_field_value_that_could_split_the_head_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="value for field X-A"):
        serialize_head(200, [(b"X-A", value)])


@pytest.mark.parametrize("value", [b"", b"a", b"a b\tc", "é".encode(), b'"<>{}[]"'])
def test_any_other_value_is_sent_as_it_is(value: bytes) -> None:
    assert serialize_head(200, [(b"X-A", value)]) == b"HTTP/1.1 200 OK\r\nX-A: " + value + b"\r\n\r\n"


@pytest.mark.parametrize("status", [100, 101, 103, 204, 304])
@pytest.mark.parametrize("name", [b"Content-Length", b"content-length", b"Transfer-Encoding"])
def test_where_no_body_may_follow_none_is_announced(status: int, name: bytes) -> None:
    with pytest.raises(ValueError, match="no body"):
        serialize_head(status, [(name, b"0")])
    assert not carries_body(status) and not ResponseHead(status).carries_body


@pytest.mark.parametrize("status", [200, 206, 308, 404, 412, 416, 503])
def test_the_other_statuses_carry_a_body(status: int) -> None:
    assert carries_body(status) and ResponseHead(status).carries_body


@pytest.mark.parametrize(
    ("connection", "line"),
    [(PERSISTENT, b""), (KEEP_ALIVE, b"Connection: keep-alive\r\n"), (CLOSE, b"Connection: close\r\n")],
)
def test_a_template_is_the_head_with_its_date_and_connection(connection: bytes, line: bytes) -> None:
    template = HeadTemplate(ResponseHead(200, ((b"Server", b"aiolsp"), (b"Content-Length", b"3"))))
    fields = b"Server: aiolsp\r\nContent-Length: 3\r\nDate: " + DATE + b"\r\n" + line
    assert template.render(DATE, connection) == b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n"


def test_a_template_without_fields_is_a_head_too() -> None:
    assert HeadTemplate(ResponseHead(304)).render(DATE) == b"HTTP/1.1 304 Not Modified\r\nDate: " + DATE + b"\r\n\r\n"


@pytest.mark.parametrize("name", [b"Date", b"date", b"Connection"])
def test_a_template_takes_no_field_that_it_adds(name: bytes) -> None:
    with pytest.raises(ValueError, match="itself"):
        HeadTemplate(ResponseHead(200, ((name, b"x"),)))
    with pytest.raises(ValueError, match="itself"):
        HeadTemplate(ResponseHead(200), (name, b"x"))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([200, 204, 304]),
    st.lists(
        st.tuples(
            st.sampled_from([b"Content-Length", b"ETag", b"X-A", b"Date", b"bad name"]),
            st.sampled_from([b"", b"1", b"x y", b"a\r\nb: c"]),
        ),
        max_size=4,
    ),
    st.integers(0, 4),
)
def test_fields_of_its_own_are_as_good_as_those_of_the_head(status: int, fields: list[Field], cut: int) -> None:
    def made(head: ResponseHead, *own: Field) -> bytes | None:
        try:
            return HeadTemplate(head, *own).render(DATE)
        except ValueError:
            return None

    together = made(ResponseHead(status, tuple(fields)))
    assert made(ResponseHead(status, tuple(fields[:cut])), *fields[cut:]) == together


@settings(max_examples=300, deadline=None)
@given(st.integers(200, 599), st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=12)), max_size=3))
def test_a_head_ends_only_where_it_ends(status: int, fields: list[tuple[bytes, bytes]]) -> None:
    try:
        head = serialize_head(status, fields)
    except ValueError:
        return
    lines = head.split(b"\r\n")
    assert lines[-2:] == [b"", b""]
    assert len(lines) == len(fields) + 3
    assert b"\n" not in b"".join(lines) and b"\r" not in b"".join(lines) and b"\0" not in head


@given(st.text())
def test_text_is_escaped_as_by_the_standard_library(text: str) -> None:
    assert escape(text) == html.escape(text)


def test_an_error_page_names_the_status_and_escapes_the_detail() -> None:
    page = error_page(404, 'no <b>"such"</b> file & more')
    assert b"<h1>404 Not Found</h1>" in page
    assert b"<p>no &lt;b&gt;&quot;such&quot;&lt;/b&gt; file &amp; more</p>" in page
    assert b'charset="utf-8"' in page


def test_an_error_page_needs_nothing_else_and_tells_nothing_else() -> None:
    page = error_page(403)
    assert not re.search(rb"src=|href=|url\(|<p>", page)
    assert len(page) < 500


def test_an_error_page_of_an_unknown_status_is_a_page_too() -> None:
    assert b"<title>499</title>" in error_page(499)
