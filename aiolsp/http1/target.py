"""The request target: what a client asks for, as names of files (RFC 9112 section 3.2, RFC 3986 section 5.2.4).

A target is cut at its slashes first and each piece is percent-decoded after that, exactly once. So an encoded slash
never becomes a separator, an encoded dot segment is a dot segment like any other, and ``%252e`` is the name ``%2e``.
What comes out are bare names: never empty, never ``.`` or ``..``, never with a NUL in it.
"""

import re
from binascii import unhexlify
from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

from aiolsp.http1.expressions import expression

_MALFORMED = re.compile(rb"[\x00-\x20\x7f#]|%(?![0-9A-Fa-f]{2})")
"""What no target holds: controls, a space, a fragment, a percent sign that encodes nothing (RFC 3986 section 2.1).

Wider than the grammar in one way: ``|``, ``"``, raw UTF-8 and the like, which clients do send, stand for themselves.
"""

_ABSOLUTE = expression(
    rb"https?://(?P<authority>(?:\[[0-9A-Fa-f:.]+\]|[\w.~!$&'()*+,;=%-]+)(?::[0-9]*)?)(?=[/?]|\Z)",
    re.IGNORECASE,
)
"""scheme and authority of absolute-form; no userinfo, which RFC 9110 section 4.2.4 calls an error in a request."""

# Not urllib.parse, which loads ipaddress and its tables before it encodes a byte.
_ESCAPE = expression(rb"%([0-9A-Fa-f]{2})")
"""pct-encoded (RFC 3986 section 2.1)."""

_NOT_UNRESERVED = expression(rb"[^0-9A-Za-z._~-]")
"""All but unreserved (RFC 3986 section 2.3)."""

_NOT_QUERY = expression(rb"[^0-9A-Za-z._~!$&'()*+,;=:@/?%-]")
"""Bytes that cannot stand in a query (RFC 3986 section 3.4), which may hold the sign that starts an escape."""


class TargetForm(Enum):
    """The forms of RFC 9112 section 3.2 that this server answers; authority-form is for CONNECT, which it does not."""

    ORIGIN = auto()
    ABSOLUTE = auto()
    ASTERISK = auto()


_NO_NAMES = frozenset({b"", b".", b".."})
"""Segments that name no file, but say how to go on from the one before."""


class RequestTarget(NamedTuple):
    """A well-formed target.

    ``segments`` are the names from the root down, and ``is_directory`` says that the target ended in a slash or in a
    dot segment, so that only a directory can be meant. ``query`` is what followed the question mark, undecoded (None:
    there was none). ``authority`` is the host and port of absolute-form, which replace the Host field (RFC 9112
    section 3.2.2).
    """

    form: TargetForm
    segments: tuple[bytes, ...] = ()
    is_directory: bool = False
    query: bytes | None = None
    authority: bytes | None = None

    @property
    def nameable(self) -> bool:
        """Whether a file can have this name: no segment holds a slash, which no file name can (answer 404 if not)."""
        return not any(b"/" in segment for segment in self.segments)


def parse_target(raw: bytes) -> RequestTarget | None:
    """The target *raw* stands for, or None if it is malformed (answer 400).

    Malformed are bad percent-escapes, a NUL even when encoded, controls and spaces that are not encoded, fragments, and
    anything in no form of TargetForm. ``..`` stops at the root. Empty segments are dropped before the dot segments are
    resolved (as by nginx with merge_slashes, and by the file system): ``/a//../b`` is ``/b``.
    """
    if _MALFORMED.search(raw):
        return None
    if raw.startswith(b"/"):
        return _parse_path(TargetForm.ORIGIN, raw, None)
    if raw == b"*":
        return RequestTarget(TargetForm.ASTERISK)
    absolute = _ABSOLUTE.match(raw)
    if absolute is None:
        return None
    return _parse_path(TargetForm.ABSOLUTE, raw[absolute.end() :], absolute["authority"])


def _parse_path(form: TargetForm, path_and_query: bytes, authority: bytes | None) -> RequestTarget | None:
    path, mark, query = path_and_query.partition(b"?")
    # What stands before the first slash is empty, and no segment.
    names = path.split(b"/")[1:]
    if path.find(b"%") >= 0:  # bytes try whether what is looked for "in" them is a number first
        names = [_ESCAPE.sub(lambda escape: unhexlify(escape[1]), name) for name in names]
        if any(b"\0" in name for name in names):
            return None
    is_directory = not names or names[-1] in _NO_NAMES
    segments = tuple(names) if _NO_NAMES.isdisjoint(names) else _resolve(names)
    return RequestTarget(form, segments, is_directory, query if mark else None, authority)


def _resolve(names: Sequence[bytes]) -> tuple[bytes, ...]:
    """What is left of *names* when dot segments and empty ones have been followed."""
    segments: list[bytes] = []
    for name in names:
        if name == b"..":
            del segments[-1:]
        elif name not in _NO_NAMES:
            segments.append(name)
    return tuple(segments)


def encode_segment(name: bytes) -> str:
    """*name*, of any bytes, as a segment of a link: all but unreserved characters encoded (RFC 3986 section 2.3).

    The result needs no escaping in HTML, and its first segment cannot be read as a scheme, for the colon is encoded.
    """
    return _NOT_UNRESERVED.sub(_escaped, name).decode("ascii")


def directory_location(target: RequestTarget) -> bytes:
    """The Location that sends a client from ``/sub?query`` to ``/sub/?query`` (RFC 9110 section 10.2.2).

    It is built from the names, not from the bytes received: with no empty segment it cannot begin with ``//`` (which
    would name another host), and with all else encoded no backslash, CR or LF can stand in it.
    """
    location = "/" + "".join(encode_segment(segment) + "/" for segment in target.segments)
    if target.query is not None:
        location += "?" + _NOT_QUERY.sub(_escaped, target.query).decode("ascii")
    return location.encode("ascii")


def _escaped(byte: re.Match[bytes]) -> bytes:
    return b"%%%02X" % ord(byte[0])
