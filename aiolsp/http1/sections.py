"""What the fields of a request say, whatever request-line stands before them; what was read lately is not read again.

Facts
    - A client sends the same fields with each of its requests, or changes them seldom; and most clients of a kind send
      the same ones.
    - Which fields there are, whether Host is right, whether a body follows: the answers depend on the bytes of the
      section alone. To find them takes two thirds of the time of a head.
Decision
    `read_section` is a function of these bytes that remembers its last REMEMBERED results, for all connections at once:
    so there is no more of them than that, however many clients there are, and a newcomer finds them too.
Price
    Fields that are never the same again cost a twentieth of a head more; and the last ones stay in memory, with their
    cookies, until others take their place. Those of more than LONGEST bytes do not.
"""

from __future__ import annotations

from functools import lru_cache

from aiolsp.http1.grammar import field_pairs, is_host
from aiolsp.http1.messages import HTTP_1_1, Fields, ProtocolError, Version

REMEMBERED = 128
"""Sections, of all clients."""

LONGEST = 1024
"""Bytes of one that is remembered."""

_ASKING = (b"content-length", b"transfer-encoding", b"expect")
"""Fields for which there is more to do than to answer."""


class Section:
    """The fields of a head whose lines are all right; *plain*: with these a request for a path in HTTP/1.1 is complete.

    Then *keep_alive* is what it allows. Without *plain* there is a body, an expectation, or something to complain of.
    """

    __slots__ = ("fields", "keep_alive", "plain")

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        asking = [name for name in _ASKING if fields.get(name) is not None]
        self.plain = not asking and fault_of_host(fields, HTTP_1_1) is None
        self.keep_alive = keeps_alive(fields, HTTP_1_1)


def read_section(lines: bytes) -> Section | None:
    """What the field *lines*, with the empty one that ends them, say; None if any of them is wrong."""
    return _remembered(lines) if len(lines) <= LONGEST else _read(lines)


def _read(lines: bytes) -> Section | None:
    pairs = field_pairs(lines)
    return None if pairs is None else Section(Fields(pairs))


_remembered = lru_cache(maxsize=REMEMBERED)(_read)


def fault_of_host(fields: Fields, version: Version) -> ProtocolError | None:
    """RFC 9112 3.2: exactly one in HTTP/1.1; a second or a bad one is refused in HTTP/1.0 as well."""
    host = fields.get(b"host")
    if host is None:
        return ProtocolError(400, "no Host") if version == HTTP_1_1 else None
    if fields.repeated and len(fields.get_all(b"host")) > 1:
        return ProtocolError(400, "more than one Host")
    return None if is_host(host) else ProtocolError(400, "bad Host")


def keeps_alive(fields: Fields, version: Version) -> bool:
    """RFC 9112 9.3: "close" wins; HTTP/1.1 persists unless told otherwise, HTTP/1.0 only if told so."""
    if fields.get(b"connection") is None:
        return version == HTTP_1_1
    options = [option.strip() for option in (fields.combined(b"connection") or b"").lower().split(b",")]
    return b"close" not in options and (version == HTTP_1_1 or b"keep-alive" in options)
