"""Conditional requests: RFC 9110 section 13 as truth tables."""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.http1 import conditions
from aiolsp.http1.conditions import (
    Outcome,
    Preconditions,
    Validators,
    etag_of,
    evaluate,
    lists_tag,
    range_applies,
)
from aiolsp.http1.dates import LATEST, format_date

ELEMENT = re.compile(rb'[ \t,]*(?P<weak>W/)?(?P<opaque>"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?=,|\Z)')

MODIFIED = 1_000_000_000
NOW = MODIFIED + 86_400
FILE = Validators(b'"v1"', MODIFIED)
SAME, EARLIER, LATER = (format_date(MODIFIED + shift) for shift in (0, -1, 1))
PROCEED, NOT_MODIFIED, FAILED = Outcome.PROCEED, Outcome.NOT_MODIFIED, Outcome.PRECONDITION_FAILED


class EntityTag(NamedTuple):
    """An entity tag of a request; ``opaque`` has its quotes."""

    weak: bool
    opaque: bytes


def parse_entity_tags(value: bytes) -> list[EntityTag] | None:
    """The entity tags of the list *value*, read one by one, or None if it is malformed."""
    tags: list[EntityTag] = []
    position = 0
    while element := ELEMENT.match(value, position):
        tags.append(EntityTag(element["weak"] is not None, element["opaque"]))
        position = element.end()
    return None if value[position:].strip(b" \t,") else tags


def lists_as_one_by_one(value: bytes, etag: bytes) -> bool:
    """Whether a list is found to have *etag*, or not, as if it were read tag by tag; both ways of comparing."""
    tags = parse_entity_tags(value) or []
    strongly, weakly = EntityTag(False, etag) in tags, etag in [tag.opaque for tag in tags]
    return lists_tag(value, etag, weakly=False) is strongly and lists_tag(value, etag, weakly=True) is weakly


def outcome(
    method: bytes = b"GET",
    *,
    if_match: bytes | None = None,
    if_none_match: bytes | None = None,
    if_modified_since: bytes | None = None,
    if_unmodified_since: bytes | None = None,
) -> Outcome:
    conditions = Preconditions(
        if_match=if_match,
        if_none_match=if_none_match,
        if_modified_since=if_modified_since,
        if_unmodified_since=if_unmodified_since,
        now=NOW,
    )
    return evaluate(conditions, FILE, method)


def test_a_request_without_conditions_proceeds() -> None:
    assert outcome() is PROCEED


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"*", PROCEED),
        (b'"v1"', PROCEED),
        (b'"v0", "v1"', PROCEED),
        (b'W/"v1"', FAILED),  # strong comparison
        (b'"v0"', FAILED),
        (b'"V1"', FAILED),
        (b"v1", FAILED),
        (b"", FAILED),
    ],
)
def test_if_match(value: bytes, expected: Outcome) -> None:
    assert outcome(if_match=value) is expected
    assert outcome(b"DELETE", if_match=value) is expected


@pytest.mark.parametrize(
    ("value", "matches"),
    [
        (b"*", True),
        (b" * ", True),
        (b'"v1"', True),
        (b'W/"v1"', True),  # weak comparison
        (b'"v0",W/"v1"', True),
        (b', ,"v0" ,, "v1",', True),
        (b'"v0"', False),
        (b'w/"v1"', False),
        (b"v1", False),
        (b'"v1', False),
        (b'"v1" "v0"', False),
        (b'"v1", *', False),
        (b'"a,"v1",b"', False),
        (b"", False),
    ],
)
def test_if_none_match(value: bytes, matches: bool) -> None:
    assert outcome(if_none_match=value) is (NOT_MODIFIED if matches else PROCEED)
    assert outcome(b"HEAD", if_none_match=value) is (NOT_MODIFIED if matches else PROCEED)
    assert outcome(b"POST", if_none_match=value) is (FAILED if matches else PROCEED)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(SAME, NOT_MODIFIED), (LATER, NOT_MODIFIED), (EARLIER, PROCEED), (b"yesterday", PROCEED), (b"", PROCEED)],
)
def test_if_modified_since(value: bytes, expected: Outcome) -> None:
    assert outcome(if_modified_since=value) is expected
    assert outcome(b"HEAD", if_modified_since=value) is expected
    assert outcome(b"POST", if_modified_since=value) is PROCEED


@pytest.mark.parametrize(
    ("value", "expected"),
    [(SAME, PROCEED), (LATER, PROCEED), (EARLIER, FAILED), (b"yesterday", PROCEED), (b"", PROCEED)],
)
def test_if_unmodified_since(value: bytes, expected: Outcome) -> None:
    assert outcome(if_unmodified_since=value) is expected
    assert outcome(b"POST", if_unmodified_since=value) is expected


def test_the_old_forms_of_a_date_count_too() -> None:
    assert outcome(if_modified_since=b"Sunday, 09-Sep-01 01:46:40 GMT") is NOT_MODIFIED
    assert outcome(if_modified_since=b"Sun Sep  9 01:46:39 2001") is PROCEED


@pytest.mark.parametrize("method", [b"OPTIONS", b"TRACE", b"CONNECT"])
def test_methods_that_select_nothing_ignore_conditions(method: bytes) -> None:
    assert outcome(method, if_match=b'"v0"', if_none_match=b"*", if_unmodified_since=EARLIER) is PROCEED


TAGS = (None, b"*", b'"v1"', b'W/"v1"', b'"v0"', b"malformed")
DATES = (None, SAME, EARLIER, LATER, b"malformed")


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT"])
def test_the_order_of_precedence_is_that_of_the_rfc(method: bytes) -> None:
    """Every combination of the four fields against section 13.2.2, written with its steps."""
    strong = {None: None, b"*": True, b'"v1"': True, b'W/"v1"': False, b'"v0"': False, b"malformed": False}
    weak = {**strong, b'W/"v1"': True}
    unmodified = {None: None, b"malformed": None, SAME: True, LATER: True, EARLIER: False}
    for match, none_match, modified_since, unmodified_since in itertools.product(TAGS, TAGS, DATES, DATES):
        step_1, step_2, step_3 = strong[match], unmodified[unmodified_since], weak[none_match]
        step_4 = unmodified[modified_since] if method != b"PUT" else None
        if step_1 is False or (step_1 is None and step_2 is False):
            expected = FAILED
        elif step_3 is True:
            expected = FAILED if method == b"PUT" else NOT_MODIFIED
        elif step_3 is None and step_4 is True:
            expected = NOT_MODIFIED
        else:
            expected = PROCEED
        got = outcome(
            method,
            if_match=match,
            if_none_match=none_match,
            if_modified_since=modified_since,
            if_unmodified_since=unmodified_since,
        )
        assert got is expected, (match, none_match, modified_since, unmodified_since)


@pytest.mark.parametrize(
    ("value", "applies"),
    [
        (None, True),
        (b'"v1"', True),
        (b'W/"v1"', False),
        (b'"v0"', False),
        (b'"v0", "v1"', False),  # one tag, not a list
        (b"*", False),
        (b"v1", False),
        (b"", False),
        (SAME, True),
        (EARLIER, False),
        (LATER, False),  # the exact date, not a later one
        (b"Sun Sep  9 01:46:40 2001", True),
        (b"yesterday", False),
    ],
)
def test_if_range(value: bytes | None, applies: bool) -> None:
    assert range_applies(value, FILE, NOW) is applies


def test_a_date_is_weak_until_its_second_is_over() -> None:
    assert not range_applies(SAME, FILE, MODIFIED + 0.9)
    assert range_applies(SAME, FILE, MODIFIED + 1)
    assert range_applies(b'"v1"', FILE, MODIFIED + 0.9)


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        (b'"xyzzy"', [EntityTag(False, b'"xyzzy"')]),
        (b'W/"xyzzy"', [EntityTag(True, b'"xyzzy"')]),
        (b'""', [EntityTag(False, b'""')]),
        (
            b'"xyzzy", "r2d2xxxx", "c3piozzzz"',
            [EntityTag(False, b'"%b"' % o) for o in (b"xyzzy", b"r2d2xxxx", b"c3piozzzz")],
        ),
        (b'"a,b" , W/"c,\\"', [EntityTag(False, b'"a,b"'), EntityTag(True, b'"c,\\"')]),
        (b'"\xff\x80!"', [EntityTag(False, b'"\xff\x80!"')]),
        (b"", []),
        (b" , ,", []),
        (b'"a b"', None),
        (b'"a"b"', None),
        (b'"a""b"', None),
        (b'W/ "a"', None),
        (b'"a", b', None),
    ],
)
def test_lists_of_entity_tags(value: bytes, tags: list[EntityTag] | None) -> None:
    assert parse_entity_tags(value) == tags
    for tag in (b'"xyzzy"', b'"r2d2xxxx"', b'""', b'"a"', b'"b"', b'"a,b"', b'"c,\\"', b'"\xff\x80!"', b'","'):
        assert lists_as_one_by_one(value, tag)


@settings(max_examples=300, deadline=None)
@given(st.text('W/",a ', max_size=30).map(str.encode), st.sampled_from([b'"a"', b'""', b'","', b'",W/"', b'"aa"']))
def test_a_tag_is_in_a_list_as_if_it_were_read_tag_by_tag(value: bytes, etag: bytes) -> None:
    assert lists_as_one_by_one(value, etag)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([b'"a"', b'W/"a"', b'","', b'W/","', b'"W/"', b"", b" "]), max_size=9))
def test_a_tag_is_in_a_good_list_as_if_it_were_read_tag_by_tag(elements: list[bytes]) -> None:
    for etag in (b'"a"', b'","', b'"W/"', b'""'):
        assert lists_as_one_by_one(b",".join(elements), etag)


def test_thousands_of_tags_are_not_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    class Counting:
        """The expression of a list, that counts its use."""

        @staticmethod
        def fullmatch(value: bytes) -> object:
            asked.append(value)
            return whole.fullmatch(value)

    whole = conditions._LIST
    monkeypatch.setattr(conditions, "_LIST", Counting)
    others = b",".join([b'""', b'W/"v1"'] * 3_000)
    assert outcome(if_none_match=b'"",' * 10_000) is PROCEED and not asked, "it is not even there"
    assert outcome(if_match=others) is FAILED and outcome(if_none_match=others) is NOT_MODIFIED
    assert outcome(if_match=others + b',"v1"') is PROCEED
    assert len(asked) == 3


def test_a_tag_changes_with_each_thing_it_is_made_of() -> None:
    tags = {
        etag_of(1, 2, 3),
        etag_of(2, 2, 3),
        etag_of(1, 3, 3),
        etag_of(1, 2, 4),
        etag_of(1, 2, 3, b"br"),
        etag_of(1, 2, 3, b"gzip"),
        etag_of(1, -2, 3),
    }
    assert len(tags) == 7
    assert etag_of(0x1B, 2, 3, b"r") != etag_of(1, 2, 3, b"br"), "b is a digit as well"


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**63), st.integers(-(2**70), 2**70), st.integers(0, 2**64), st.sampled_from([b"", b"br", b"gzip"])
)
def test_the_validators_of_any_file_match_themselves(size: int, mtime_ns: int, inode: int, coding: bytes) -> None:
    validators = Validators.of_file(size, mtime_ns, inode, coding)
    date = format_date(validators.last_modified)
    assert parse_entity_tags(validators.etag) == [EntityTag(False, validators.etag)]
    assert 0 <= validators.last_modified <= LATEST
    assert evaluate(Preconditions(if_match=validators.etag, now=NOW), validators, b"GET") is PROCEED
    assert evaluate(Preconditions(if_none_match=validators.etag, now=NOW), validators, b"GET") is NOT_MODIFIED
    assert evaluate(Preconditions(if_modified_since=date, now=NOW), validators, b"GET") is NOT_MODIFIED
    assert evaluate(Preconditions(if_unmodified_since=date, now=NOW), validators, b"GET") is PROCEED
    assert range_applies(validators.etag, validators, NOW)


def test_the_last_modified_second_is_the_one_begun() -> None:
    assert Validators.of_file(0, 1_999_999_999, 0).last_modified == 1


OPAQUE = st.binary(max_size=8).map(lambda raw: b'"%b"' % bytes(b for b in raw if b > 0x20 and b not in (0x22, 0x7F)))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.builds(EntityTag, st.booleans(), OPAQUE), max_size=6), st.sampled_from([b",", b", ", b"\t, ,,"]))
def test_a_list_of_tags_is_read_as_it_was_written(tags: list[EntityTag], comma: bytes) -> None:
    value = comma.join((b"W/" if tag.weak else b"") + tag.opaque for tag in tags)
    assert parse_entity_tags(value) == tags
    assert all(lists_as_one_by_one(value, tag.opaque) for tag in tags)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=30) | st.text('W/",* \\a', max_size=30).map(str.encode))
def test_any_bytes_have_an_outcome(value: bytes) -> None:
    assert outcome(if_none_match=value) in (PROCEED, NOT_MODIFIED)
    assert outcome(if_match=value) in (PROCEED, FAILED)
    assert range_applies(value, FILE, NOW) in (True, False)
