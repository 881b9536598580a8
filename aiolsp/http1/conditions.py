"""Conditional requests: whether what the client holds, or thinks the server holds, is still so (RFC 9110 section 13).

A file has two validators, and the fields of a request are tested against them in the order of section 13.2.2; the
range condition, the last step there, is asked apart, for only a GET with a Range comes to it.
"""

from enum import Enum, auto
from typing import NamedTuple, Self

from aiolsp.http1.dates import clamp, parse_date
from aiolsp.http1.expressions import expression

_ENTITY_TAG = expression(rb'(?P<weak>W/)?(?P<opaque>"[\x21\x23-\x7e\x80-\xff]*")')
"""entity-tag (RFC 9110 section 8.8.3): any visible byte but the quote, so commas too; ``W/`` is case-sensitive."""

_LIST = expression(rb'(?:[ \t,]*+(?:W/)?"[\x21\x23-\x7e\x80-\xff]*+"[ \t]*+(?=,|\Z))*+[ \t,]*+')
"""A list of them, in which elements may be empty (RFC 9110 section 5.6.1.2)."""


class Validators(NamedTuple):
    """What tells one version of a file from another: its strong entity tag, and the second it was last modified."""

    etag: bytes
    last_modified: int

    @classmethod
    def of_file(cls, size: int, mtime_ns: int, inode: int, coding: bytes = b"") -> Self:
        """The validators of the file that stat(2) describes so, served in the content coding *coding*."""
        return cls(etag_of(size, mtime_ns, inode, coding), clamp(mtime_ns // 1_000_000_000))


class Preconditions(NamedTuple):
    """The time of the request in seconds, and the values of its conditional fields (None: not there)."""

    now: float
    if_match: bytes | None = None
    if_none_match: bytes | None = None
    if_modified_since: bytes | None = None
    if_unmodified_since: bytes | None = None


class Outcome(Enum):
    """What the preconditions ask for: the method as usual, 304, or 412."""

    PROCEED = auto()
    NOT_MODIFIED = auto()
    PRECONDITION_FAILED = auto()


def etag_of(size: int, mtime_ns: int, inode: int, coding: bytes = b"") -> bytes:
    """A strong entity tag, quotes included, for the file that stat(2) describes so.

    Strong as far as the file system's clock is fine: the inode catches a file renamed into place, the time one written
    in place. A variant in another *coding* differs byte by byte, so it has a tag of its own (RFC 9110 section 8.8.3.3).
    """
    return b'"%x-%x-%x%b%b"' % (inode, mtime_ns, size, b"-" if coding else b"", coding)


def evaluate(conditions: Preconditions, validators: Validators | None, method: bytes) -> Outcome:
    """The outcome of the conditions for a file, or a page without validators, in the order of RFC 9110 section 13.2.2.

    A date that cannot be read makes its field count as absent (sections 13.1.3 and 13.1.4); a list of tags that cannot
    be read matches nothing. Methods that select no representation ignore conditions (section 13.2.1).
    """
    if method in (b"OPTIONS", b"TRACE", b"CONNECT"):
        return Outcome.PROCEED
    reads = method in (b"GET", b"HEAD")
    # Steps 1 and 2.
    if conditions.if_match is not None:
        if not _matches(conditions.if_match, validators, weakly=False):
            return Outcome.PRECONDITION_FAILED
    elif _modified_since(conditions.if_unmodified_since, conditions.now, validators) is True:
        return Outcome.PRECONDITION_FAILED
    # Steps 3 and 4.
    if conditions.if_none_match is not None:
        if _matches(conditions.if_none_match, validators, weakly=True):
            return Outcome.NOT_MODIFIED if reads else Outcome.PRECONDITION_FAILED
    elif reads and _modified_since(conditions.if_modified_since, conditions.now, validators) is False:
        return Outcome.NOT_MODIFIED
    return Outcome.PROCEED


def range_applies(if_range: bytes | None, validators: Validators, now: float) -> bool:
    """Whether the Range of a GET may be answered with a part, or the whole must be sent (step 5, and section 13.1.5).

    A tag must match strongly. A date must be the very one, and its second over: until then the file may change again
    and keep it, which makes it weak (section 8.8.2.2).
    """
    if if_range is None:
        return True
    tag = _ENTITY_TAG.fullmatch(if_range)
    if tag is not None:
        return tag["weak"] is None and tag["opaque"] == validators.etag
    return parse_date(if_range, now) == validators.last_modified < int(now)


def lists_tag(value: bytes, etag: bytes, *, weakly: bool) -> bool:
    """Whether *etag*, which is strong, is in the list of tags *value*; not in one that is malformed.

    A head has room for 10,000 tags, which to read one by one takes 5 ms: so they are not.
    """
    at = value.find(etag)
    if at < 0 or _LIST.fullmatch(value) is None:
        return False
    looked, quotes = 0, 0
    while at >= 0:
        quotes += value.count(b'"', looked, at)
        # An even number before it: it begins with a tag, and not with the end of one.
        if quotes % 2 == 0 and (weakly or not value.endswith(b"W/", 0, at)):
            return True
        looked, at = at, value.find(etag, at + 1)
    return False


def _matches(value: bytes, validators: Validators | None, *, weakly: bool) -> bool:
    if value.strip(b" \t") == b"*":
        return True
    if validators is None:
        return False
    return lists_tag(value, validators.etag, weakly=weakly)


def _modified_since(value: bytes | None, now: float, validators: Validators | None) -> bool | None:
    """Whether the file was modified after the date *value*; None if that is no date, or nobody knows."""
    date = None if value is None else parse_date(value, now)
    return None if date is None or validators is None else validators.last_modified > date
