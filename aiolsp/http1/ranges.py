"""Byte ranges: which parts of a file a Range field asks for, and how to send several of them (RFC 9110 section 14).

The work is linear in the field's length, whatever it holds: it is read once, no number of more than 20 digits is ever
computed, and only as many ranges are sorted as the caller allows.
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple, TypeAlias

from aiolsp.http1.expressions import expression

_RANGE_SPEC = expression(rb"(?P<first>[0-9]*)-(?P<last>[0-9]*)")
"""int-range or suffix-range (RFC 9110 section 14.1.2); a lone ``-`` is neither, and is ruled out by hand."""

_BEYOND = 10**20
"""Stands for every number of more than 20 digits; no file is as large (off_t ends at 2**63 - 1)."""


class ByteRange(NamedTuple):
    """The bytes from ``start`` to ``end``, both included."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """How many bytes it holds."""
        return self.end - self.start + 1


class NoRange(Enum):
    """Why no part is sent. IGNORE: send the whole, 200. UNSATISFIABLE: answer 416 with ``Content-Range: bytes */N``."""

    IGNORE = auto()
    UNSATISFIABLE = auto()


RangeSelection: TypeAlias = tuple[ByteRange, ...] | NoRange
"""The parts to send with 206, at least one; or why there is none."""


class Multipart(NamedTuple):
    """The body of a multipart/byteranges answer: bytes to send as they are, ranges of the file; its length in bytes."""

    pieces: list[bytes | ByteRange]
    length: int


def select_ranges(value: bytes, size: int, max_ranges: int = 16) -> RangeSelection:
    """The ranges that the Range field *value* asks of a file of *size* bytes.

    Ignored, as section 14.2 allows, are malformed fields, other units than bytes, and more than *max_ranges* ranges. So
    is a suffix of an empty file: it is satisfiable (section 14.1.2), but no Content-Range can name zero bytes. Ranges
    that overlap or touch become one, which stands where the first of them was asked for; the others keep their order.
    """
    unit, _, range_set = value.partition(b"=")
    if unit.lower() != b"bytes":
        return NoRange.IGNORE
    specs = [spec for element in range_set.split(b",") if (spec := element.strip(b" \t"))]
    if not 0 < len(specs) <= max_ranges:
        return NoRange.IGNORE
    ranges: list[ByteRange] = []
    for spec in specs:
        selected = _select(spec, size)
        if selected is NoRange.IGNORE:
            return NoRange.IGNORE
        if isinstance(selected, ByteRange):
            ranges.append(selected)
    if len(ranges) > 1:
        ranges = _coalesce(ranges)
    return tuple(ranges) if ranges else NoRange.UNSATISFIABLE


def _select(spec: bytes, size: int) -> ByteRange | NoRange:
    match = _RANGE_SPEC.fullmatch(spec)
    if match is None or spec == b"-":
        return NoRange.IGNORE
    if not match["first"]:
        suffix = _number(match["last"])
        if suffix == 0:
            return NoRange.UNSATISFIABLE
        return ByteRange(max(0, size - suffix), size - 1) if size else NoRange.IGNORE
    first = _number(match["first"])
    last = _number(match["last"]) if match["last"] else _BEYOND
    if last < first:
        return NoRange.IGNORE
    return ByteRange(first, min(last, size - 1)) if first < size else NoRange.UNSATISFIABLE


def _number(digits: bytes) -> int:
    # int() takes quadratic time, and refuses more than 4300 digits (sys.set_int_max_str_digits).
    significant = digits.lstrip(b"0")
    return int(significant or b"0") if len(significant) <= 20 else _BEYOND


def _coalesce(ranges: list[ByteRange]) -> list[ByteRange]:
    merged: list[tuple[int, ByteRange]] = []
    for place, current in sorted(enumerate(ranges), key=lambda item: item[1]):
        if merged and current.start <= merged[-1][1].end + 1:
            first_place, previous = merged.pop()
            place = min(place, first_place)
            current = ByteRange(previous.start, max(previous.end, current.end))
        merged.append((place, current))
    return [current for _, current in sorted(merged)]


def content_range(selected: ByteRange | None, size: int) -> bytes:
    """The value of Content-Range for a part of *size* bytes, or for a 416 when None (RFC 9110 section 14.4)."""
    if selected is None:
        return b"bytes */%d" % size
    return b"bytes %d-%d/%d" % (selected.start, selected.end, size)


def multipart_type(boundary: bytes) -> bytes:
    """The Content-Type of a multipart answer (RFC 9110 section 14.6)."""
    return b"multipart/byteranges; boundary=" + boundary


def multipart(ranges: Sequence[ByteRange], size: int, content_type: bytes, boundary: bytes) -> Multipart:
    """The body that carries *ranges* of a file of *size* bytes, each part with its Content-Type and Content-Range.

    *boundary* is 1 to 70 letters and digits (RFC 2046 section 5.1.1) which must not occur in the file: take at least
    64 random bits for each answer.
    """
    pieces: list[bytes | ByteRange] = []
    for place, current in enumerate(ranges):
        line_end = b"\r\n" if place else b""
        fields = b"Content-Type: %b\r\nContent-Range: %b" % (content_type, content_range(current, size))
        pieces += [b"%b--%b\r\n%b\r\n\r\n" % (line_end, boundary, fields), current]
    pieces.append(b"\r\n--%b--\r\n" % boundary)
    return Multipart(pieces, sum(piece.length if isinstance(piece, ByteRange) else len(piece) for piece in pieces))
