"""From what is to be sent, and what the request says of it, to the answer: conditions, ranges, the body's pieces.

No I/O: on the hot path of the web server the usual answer costs one look at the fields and a head that is made already.
"""

from __future__ import annotations

import os
from itertools import takewhile

from aiolsp.http1.conditions import Outcome, Preconditions, evaluate, range_applies
from aiolsp.http1.messages import Fields
from aiolsp.http1.ranges import ByteRange, NoRange, content_range, multipart, multipart_type, select_ranges
from aiolsp.http1.response import Field, HeadTemplate, ResponseHead
from aiolsp.linux import cached
from aiolsp.linux.cached import NotCached
from aiolsp.linux.resident import OwnFile
from aiolsp.linux.sendfile import FileSlice
from aiolsp.static.representation import Outline, Resource

CONDITIONS = (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since")

DECIDING = (b"accept-encoding", *CONDITIONS, b"range", b"if-range")
"""The fields that decide the answer to a request for a file; which file it is, Accept-Encoding decides too."""

_CONDITIONAL = frozenset(CONDITIONS)
_SELECTIVE = frozenset((*CONDITIONS, b"range"))

_DESCRIBING = frozenset({b"Content-Type", b"Content-Encoding", b"Last-Modified"})
"""Fields that describe a representation; an answer without it has none of them (RFC 9110 15.4.5)."""


class Answer:
    """A status, a head, and a body of *size* bytes in *pieces*; ``close`` it when sent, or when it will not be.

    Of its file, *own_file* is known once somebody has asked.
    """

    __slots__ = ("head", "own_file", "pieces", "resource", "size", "status")

    def __init__(
        self,
        status: int,
        head: HeadTemplate,
        pieces: tuple[bytes | FileSlice, ...],
        size: int,
        resource: Resource | None = None,
    ) -> None:
        self.status = status
        self.head = head
        self.pieces = pieces
        self.size = size
        self.resource = resource
        self.own_file: OwnFile | None = None

    @property
    def ready(self) -> bytes:
        """The body, if it needs no file."""
        if len(self.pieces) == 1 and isinstance(self.pieces[0], bytes):
            return self.pieces[0]
        return b"".join(piece for piece in self.pieces if isinstance(piece, bytes))

    @property
    def in_memory(self) -> bool:
        """Whether no part of it is in a file."""
        return not any(isinstance(piece, FileSlice) for piece in self.pieces)

    @property
    def streamed(self) -> bool:
        """Whether a part of it still has to be read from a file."""
        return self.resource is not None and self.resource.fd >= 0 and bool(self.pieces)

    def read_cached(self, limit: int) -> bool:
        """Read what is to come from a file, if that is *limit* bytes at the most and in memory; False if not."""
        if self.size > limit:
            return False
        try:
            self.pieces = tuple(cached.read_slice(p) if isinstance(p, FileSlice) else p for p in self.pieces)
        except NotCached:
            return False
        return True

    def hold(self) -> bool:
        """Keep the file open for one more who is to ``close`` the answer; False if it has changed."""
        if self.resource is None or not self.resource.unchanged:
            return False
        self.resource.hold()
        return True

    def close(self) -> None:
        """Let go of the file."""
        if self.resource is not None:
            self.resource.close()


def respond(resource: Resource, method: bytes, fields: Fields, now: float, max_ranges: int = 16) -> Answer:
    """The answer to a GET or HEAD of *resource* with these request *fields*, at *now* seconds.

    The pieces are those of a GET: to a HEAD, send the head alone (RFC 9110 9.3.2).
    """
    outline = resource.outline
    validators = outline.validators
    if outline.status == 200 and fields.has_any(_SELECTIVE):
        if fields.has_any(_CONDITIONAL):
            outcome = evaluate(_preconditions(fields, now), validators, method)
            if outcome is Outcome.NOT_MODIFIED:
                return _bodiless(304, _kept(outline), resource)
            if outcome is Outcome.PRECONDITION_FAILED:
                return _bodiless(412, (*_plain(outline), (b"Content-Length", b"0")), resource)
        wanted = fields.combined(b"range")
        if wanted is not None and validators is not None and method == b"GET":
            if range_applies(fields.combined(b"if-range"), validators, now):
                selected = select_ranges(wanted, outline.size, max_ranges)
                if selected is not NoRange.IGNORE:
                    return _partial(resource, selected)
    return Answer(outline.status, outline.whole, _pieces(resource, 0, outline.size), outline.size, resource)


def _preconditions(fields: Fields, now: float) -> Preconditions:
    return Preconditions(
        if_match=fields.combined(b"if-match"),
        if_none_match=fields.combined(b"if-none-match"),
        if_modified_since=fields.combined(b"if-modified-since"),
        if_unmodified_since=fields.combined(b"if-unmodified-since"),
        now=now,
    )


def _partial(resource: Resource, selected: tuple[ByteRange, ...] | NoRange) -> Answer:
    outline = resource.outline
    if isinstance(selected, NoRange):
        told = (b"Content-Range", content_range(None, outline.size))
        return _bodiless(416, (*_plain(outline), told, (b"Content-Length", b"0")), resource)
    if len(selected) == 1:
        only = selected[0]
        told = (b"Content-Range", content_range(only, outline.size))
        length = (b"Content-Length", b"%d" % only.length)
        head = HeadTemplate(ResponseHead(206, outline.common), *outline.own, told, length)
        return Answer(206, head, _pieces(resource, only.start, only.length), only.length, resource)
    boundary = os.urandom(16).hex().encode()
    parts = multipart(selected, outline.size, outline.content_type, boundary)
    kind = (b"Content-Type", multipart_type(boundary))
    others = tuple(pair for pair in outline.fields if pair[0] != b"Content-Type")
    head = HeadTemplate(ResponseHead(206), kind, *others, (b"Content-Length", b"%d" % parts.length))
    pieces: list[bytes | FileSlice] = []
    for part in parts.pieces:
        pieces += [part] if isinstance(part, bytes) else _pieces(resource, part.start, part.length)
    return Answer(206, head, tuple(pieces), parts.length, resource)


def _pieces(resource: Resource, start: int, length: int) -> tuple[bytes | FileSlice, ...]:
    if length == 0:
        return ()
    if resource.body is not None:
        whole = start == 0 and length == resource.outline.size
        return (resource.body if whole else resource.body[start : start + length],)
    identity = resource.outline.identity
    assert identity is not None
    return (FileSlice(resource.fd, start, length, identity.size, identity.mtime_ns),)


def _bodiless(status: int, fields: tuple[Field, ...], resource: Resource) -> Answer:
    return Answer(status, HeadTemplate(ResponseHead(status), *fields), (), 0, resource)


def _kept(outline: Outline) -> tuple[Field, ...]:
    return tuple(pair for pair in outline.fields if pair[0] not in _DESCRIBING)


def _plain(outline: Outline) -> tuple[Field, ...]:
    """What every answer says: it stands before what is said of this one, which begins with its type."""
    return tuple(takewhile(lambda pair: pair[0] != b"Content-Type", outline.common))
