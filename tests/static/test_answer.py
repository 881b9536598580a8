"""Conditions and ranges on a file in memory and on an open one: the answer is the same."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiolsp.http1.messages import Fields
from aiolsp.http1.target import parse_target
from aiolsp.static.answer import DECIDING, Answer, respond
from aiolsp.static.policy import Policy
from aiolsp.static.representation import Resource, Wanted
from aiolsp.static.resource import DocumentRoot

CONTENT = bytes(range(100))
MTIME = 1_000_000_000
DATE = b"Sun, 09 Sep 2001 01:46:40 GMT"
BEFORE, AFTER = b"Sun, 09 Sep 2001 01:46:39 GMT", b"Sun, 09 Sep 2001 01:46:41 GMT"
NOW = 2_000_000_000.0


@pytest.fixture(params=["in memory", "open"])
def resource(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Resource]:
    (tmp_path / "file.bin").write_bytes(CONTENT)
    os.utime(tmp_path / "file.bin", (MTIME, MTIME))
    target = parse_target(b"/file.bin")
    assert target is not None
    policy = Policy(cache_control=b"max-age=60", headers=((b"X-Own", b"1"),))
    root = DocumentRoot(str(tmp_path), policy, small=1000 if request.param == "in memory" else 0)
    found = root.load(Wanted(target))
    root.close()
    yield found
    found.close()


def ask(resource: Resource, *pairs: tuple[bytes, bytes], method: bytes = b"GET", max_ranges: int = 16) -> Answer:
    return respond(resource, method, Fields(pairs), NOW, max_ranges=max_ranges)


def body(answer: Answer) -> bytes:
    data = b""
    for piece in answer.pieces:
        data += piece if isinstance(piece, bytes) else os.pread(piece.fd, piece.length, piece.offset)
    assert len(data) == answer.size
    return data


def head(answer: Answer) -> dict[bytes, bytes]:
    lines = answer.head.render(b"now").removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert lines[0].startswith(b"HTTP/1.1 %d " % answer.status)
    pairs = [line.split(b": ", 1) for line in lines[1:]]
    assert len({name.lower() for name, _ in pairs}) == len(pairs)
    return {line[0]: line[1] for line in pairs}


def tag(resource: Resource) -> bytes:
    assert resource.outline.validators is not None
    return resource.outline.validators.etag


def test_the_plain_answer_is_the_whole_file(resource: Resource) -> None:
    answer = ask(resource)
    assert (answer.status, body(answer)) == (200, CONTENT)
    assert head(answer)[b"Content-Length"] == b"100"
    assert ask(resource).head is answer.head, "made once"


def test_a_head_says_what_a_get_would(resource: Resource) -> None:
    assert head(ask(resource, method=b"HEAD")) == head(ask(resource))
    ranged = ask(resource, (b"range", b"bytes=0-1"), method=b"HEAD")
    assert ranged.status == 200, "Range is for GET (RFC 9110 section 14.2)"


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        (b"if-none-match", b"{etag}", 304),
        (b"if-none-match", b"W/{etag}", 304),
        (b"if-none-match", b'"a,b", {etag}', 304),
        (b"if-none-match", b"*", 304),
        (b"if-none-match", b'"other"', 200),
        (b"if-modified-since", DATE, 304),
        (b"if-modified-since", AFTER, 304),
        (b"if-modified-since", BEFORE, 200),
        (b"if-modified-since", b"yesterday", 200),
        (b"if-match", b"{etag}", 200),
        (b"if-match", b"*", 200),
        (b"if-match", b"W/{etag}", 412),
        (b"if-match", b'"other"', 412),
        (b"if-unmodified-since", DATE, 200),
        (b"if-unmodified-since", BEFORE, 412),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_conditions(resource: Resource, name: bytes, value: bytes, status: int, method: bytes) -> None:
    answer = ask(resource, (name, value.replace(b"{etag}", tag(resource))), method=method)
    assert answer.status == status
    assert body(answer) == (CONTENT if status == 200 else b"")


def test_conditions_have_an_order(resource: Resource) -> None:
    other = (b"if-none-match", b'"other"')
    assert ask(resource, other, (b"if-modified-since", DATE)).status == 200
    assert ask(resource, (b"if-match", b'"other"'), (b"if-none-match", tag(resource))).status == 412
    assert ask(resource, (b"if-match", tag(resource)), (b"if-unmodified-since", BEFORE)).status == 200


def test_a_condition_in_two_lines_is_one_list(resource: Resource) -> None:
    assert ask(resource, (b"if-none-match", b'"a"'), (b"if-none-match", tag(resource))).status == 304


def test_a_304_repeats_what_a_cache_needs_and_has_no_body(resource: Resource) -> None:
    fields = head(ask(resource, (b"if-none-match", b"*")))
    assert fields[b"ETag"] == tag(resource)
    assert fields[b"Cache-Control"] == b"max-age=60"
    assert fields[b"Vary"] == b"Accept-Encoding"
    assert fields[b"X-Own"] == b"1"
    assert not {b"Content-Length", b"Content-Type", b"Transfer-Encoding"} & fields.keys()


def test_a_412_and_a_416_have_an_empty_body_and_claim_no_tag(resource: Resource) -> None:
    for refused in (ask(resource, (b"if-match", b'"x"')), ask(resource, (b"range", b"bytes=100-"))):
        fields = head(refused)
        assert fields[b"Content-Length"] == b"0"
        assert not {b"ETag", b"Cache-Control", b"Content-Type"} & fields.keys()


@pytest.mark.parametrize(
    ("value", "start", "end"),
    [
        (b"bytes=0-0", 0, 0),
        (b"bytes=10-19", 10, 19),
        (b"bytes=90-", 90, 99),
        (b"bytes=-10", 90, 99),
        (b"bytes=-1000", 0, 99),
        (b"bytes=99-1000", 99, 99),
        (b"BYTES=5-6", 5, 6),
        (b"bytes=0-10,5-20", 0, 20),
        (b"bytes=0-1,500-600", 0, 1),
    ],
)
def test_a_single_range(resource: Resource, value: bytes, start: int, end: int) -> None:
    answer = ask(resource, (b"range", value))
    assert (answer.status, body(answer)) == (206, CONTENT[start : end + 1])
    fields = head(answer)
    assert fields[b"Content-Range"] == b"bytes %d-%d/100" % (start, end)
    assert fields[b"Content-Length"] == b"%d" % (end + 1 - start)
    assert fields[b"ETag"] == tag(resource)


@pytest.mark.parametrize(
    "value", [b"bytes=", b"bytes=5-1", b"bytes=a-b", b"lines=0-1", b"bytes=-", b"bytes 0-1", b"bytes=0-1-2", b""]
)
def test_a_range_that_is_none_is_ignored(resource: Resource, value: bytes) -> None:
    answer = ask(resource, (b"range", value))
    assert (answer.status, body(answer)) == (200, CONTENT)


def test_a_range_in_two_lines_is_ignored(resource: Resource) -> None:
    assert ask(resource, (b"range", b"bytes=0-1"), (b"range", b"bytes=2-3")).status == 200


def test_more_ranges_than_allowed_get_the_whole(resource: Resource) -> None:
    many = b"bytes=" + b",".join(b"%d-%d" % (n, n) for n in range(0, 6, 2))
    assert ask(resource, (b"range", many), max_ranges=3).status == 206
    assert ask(resource, (b"range", many), max_ranges=2).status == 200


@pytest.mark.parametrize("value", [b"bytes=100-", b"bytes=-0", b"bytes=200-300,400-"])
def test_a_range_outside_is_told_the_size(resource: Resource, value: bytes) -> None:
    answer = ask(resource, (b"range", value))
    assert (answer.status, body(answer)) == (416, b"")
    assert head(answer)[b"Content-Range"] == b"bytes */100"


def test_several_ranges_come_in_parts(resource: Resource) -> None:
    answer = ask(resource, (b"range", b"bytes=50-59,0-4,-1"))
    assert answer.status == 206
    fields = head(answer)
    assert b"Content-Range" not in fields
    message = message_from_bytes(b"Content-Type: " + fields[b"Content-Type"] + b"\r\n\r\n" + body(answer))
    parts = list(message.walk())[1:]
    assert [part["Content-Range"] for part in parts] == ["bytes 50-59/100", "bytes 0-4/100", "bytes 99-99/100"]
    assert {part["Content-Type"] for part in parts} == {"application/octet-stream"}
    assert re.findall(rb"\r\n\r\n(.*?)\r\n--", body(answer), re.DOTALL) == [CONTENT[50:60], CONTENT[:5], CONTENT[99:]]


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (b"{etag}", 206),
        (b"W/{etag}", 200),
        (b'"other"', 200),
        (DATE, 206),
        (BEFORE, 200),
        (AFTER, 200),
        (b"yesterday", 200),
    ],
)
def test_a_range_of_another_version_is_the_whole(resource: Resource, value: bytes, status: int) -> None:
    answer = ask(resource, (b"range", b"bytes=0-1"), (b"if-range", value.replace(b"{etag}", tag(resource))))
    assert answer.status == status


def test_conditions_come_before_ranges(resource: Resource) -> None:
    assert ask(resource, (b"range", b"bytes=0-1"), (b"if-none-match", tag(resource))).status == 304
    assert ask(resource, (b"range", b"bytes=500-"), (b"if-match", b'"x"')).status == 412


@pytest.mark.parametrize("small", [0, 100])
def test_an_empty_file_has_no_piece_and_no_range(tmp_path: Path, small: int) -> None:
    (tmp_path / "empty").write_bytes(b"")
    target = parse_target(b"/empty")
    assert target is not None
    root = DocumentRoot(str(tmp_path), Policy(), small=small)
    resource = root.load(Wanted(target))
    root.close()
    assert ask(resource).pieces == ()
    assert head(ask(resource))[b"Content-Length"] == b"0"
    assert ask(resource, (b"range", b"bytes=0-")).status == 416
    assert ask(resource, (b"range", b"bytes=-1")).status == 200
    resource.close()


@pytest.mark.parametrize("raw", [b"/", b"/nothing"])
def test_a_page_made_here_has_neither_dates_nor_ranges(tmp_path: Path, raw: bytes) -> None:
    target = parse_target(raw)
    assert target is not None
    root = DocumentRoot(str(tmp_path), Policy())
    page = root.load(Wanted(target))
    root.close()
    dates = (b"if-modified-since", AFTER), (b"if-unmodified-since", BEFORE)
    answer = ask(page, *dates, (b"range", b"bytes=0-1"), (b"if-range", AFTER))
    assert answer.status == page.outline.status
    assert body(answer) == page.body


def test_closing_an_answer_closes_its_file(resource: Resource) -> None:
    answer = ask(resource)
    fd = resource.fd
    assert answer.streamed is (fd >= 0)
    answer.close()
    answer.close()
    assert not answer.streamed
    if fd >= 0:
        with pytest.raises(OSError):
            os.fstat(fd)


@pytest.mark.parametrize("value", [b"bytes=3-5", b"bytes=0-1,7-8"])
def test_what_is_in_memory_of_a_file_is_read_without_waiting(resource: Resource, value: bytes) -> None:
    answer = ask(resource, (b"range", value))
    expected = body(answer)
    assert not answer.read_cached(answer.size - 1) and body(answer) == expected
    if answer.read_cached(answer.size):
        assert answer.ready == expected
        resource.close()
        assert body(answer) == expected
    else:
        assert answer.streamed, "the file system cannot tell"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since"]),
            st.one_of(st.binary(max_size=30), st.sampled_from([b"*", b"bytes=0-1,3-4", b"bytes=-5", DATE])),
        ),
        max_size=4,
    )
)
def test_whatever_is_asked_the_length_is_right(resource: Resource, pairs: list[tuple[bytes, bytes]]) -> None:
    answer = ask(resource, *pairs)
    assert answer.status in (200, 206, 304, 412, 416)
    length = head(answer).get(b"Content-Length")
    assert length == (None if answer.status == 304 else b"%d" % len(body(answer)))


def test_no_field_but_those_that_decide_is_looked_at(resource: Resource) -> None:
    class Watched(Fields):
        def __init__(self, *names: bytes) -> None:
            super().__init__([(name, b"*" if name != b"range" else b"bytes=0-1") for name in names])
            self.asked: set[bytes] = set()
            self.get = self._watched_get  # type: ignore[assignment]

        def _watched_get(self, name: bytes) -> bytes | None:
            self.asked.add(name)
            return self._first.get(name)

        def combined(self, name: bytes) -> bytes | None:
            self.asked.add(name)
            return super().combined(name)

        def has_any(self, names: frozenset[bytes]) -> bool:
            self.asked |= names
            return super().has_any(names)

        def __contains__(self, name: bytes) -> bool:
            self.asked.add(name)
            return super().__contains__(name)

    for names in ((), (b"range",), (b"range", b"if-range"), (b"if-match",), (b"if-modified-since", b"range")):
        fields = Watched(*names)
        respond(resource, b"GET", fields, NOW)
        assert fields.asked <= set(DECIDING)
