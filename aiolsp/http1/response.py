"""Response heads: status line and field lines (RFC 9112 section 4), checked, and prepared once for many answers."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

Field: TypeAlias = tuple[bytes, bytes]
"""A field line: its name and its value."""

_PHRASES = b"""\
100 Continue, 101 Switching Protocols, 102 Processing, 103 Early Hints,
200 OK, 201 Created, 202 Accepted, 203 Non-Authoritative Information, 204 No Content, 205 Reset Content,
206 Partial Content, 207 Multi-Status, 208 Already Reported, 226 IM Used,
300 Multiple Choices, 301 Moved Permanently, 302 Found, 303 See Other, 304 Not Modified, 305 Use Proxy,
307 Temporary Redirect, 308 Permanent Redirect,
400 Bad Request, 401 Unauthorized, 402 Payment Required, 403 Forbidden, 404 Not Found, 405 Method Not Allowed,
406 Not Acceptable, 407 Proxy Authentication Required, 408 Request Timeout, 409 Conflict, 410 Gone,
411 Length Required, 412 Precondition Failed, 413 Content Too Large, 414 URI Too Long, 415 Unsupported Media Type,
416 Range Not Satisfiable, 417 Expectation Failed, 418 I'm a Teapot, 421 Misdirected Request,
422 Unprocessable Content, 423 Locked, 424 Failed Dependency, 425 Too Early, 426 Upgrade Required,
428 Precondition Required, 429 Too Many Requests, 431 Request Header Fields Too Large,
451 Unavailable For Legal Reasons,
500 Internal Server Error, 501 Not Implemented, 502 Bad Gateway, 503 Service Unavailable, 504 Gateway Timeout,
505 HTTP Version Not Supported, 506 Variant Also Negotiates, 507 Insufficient Storage, 508 Loop Detected,
510 Not Extended, 511 Network Authentication Required"""

REASONS: dict[int, bytes] = {int(text[:3]): text[4:] for text in _PHRASES.replace(b"\n", b" ").split(b", ")}
"""Reason phrases by status, named as in RFC 9110. To load the module http takes more than a hundredth of a start."""

PERSISTENT = b"\r\n\r\n"
"""The end of a head with no Connection field, so that an HTTP/1.1 connection stays open (RFC 9112 section 9.3)."""

KEEP_ALIVE = b"\r\nConnection: keep-alive\r\n\r\n"
"""The end of a head for an HTTP/1.0 client that asked to keep the connection, which must be told."""

CLOSE = b"\r\nConnection: close\r\n\r\n"
"""The end of a head that is the connection's last."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""The interim response that asks for the body of a request that waits with it (RFC 9110 section 15.2.1)."""

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""field-name = token (RFC 9110 section 5.6.2)."""

_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
"""field-value (RFC 9110 section 5.5): no CR, LF, NUL or other control, no white space at either end."""

_ADDED_LATER = frozenset({b"date", b"connection"})
_ADDED_TWICE = "a head template adds Date and Connection itself"

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})

_NEVER_WITHOUT_BODY = frozenset({b"content-length", b"transfer-encoding"})


class ResponseHead(NamedTuple):
    """The head of a response before it is bytes: what was decided, for a shell to complete and send."""

    status: int
    fields: tuple[Field, ...] = ()

    @property
    def carries_body(self) -> bool:
        """Whether a body may follow this status, in answer to anything but HEAD."""
        return carries_body(self.status)

    def serialize(self) -> bytes:
        """The head as it is sent; raises ValueError as ``serialize_head`` does."""
        return serialize_head(self.status, self.fields)


class HeadTemplate:
    """A head that is the same each time but for Date and Connection, made bytes once.

    On the hot path an answer then costs a concatenation. The fields given must hold neither of the two.
    """

    __slots__ = ("_common", "_own")

    def __init__(self, head: ResponseHead, *own: Field) -> None:
        """*head* is what many answers have in common, which is kept once; *own* are the fields of this one alone.

        Raises ValueError as ``serialize_head`` does, and for a Date or Connection among the fields.
        """
        self._common = _common_part(head)
        self._own = _field_lines(head.status, own) + b"Date: "
        if not _ADDED_LATER.isdisjoint([name.lower() for name, _ in own]):
            raise ValueError(_ADDED_TWICE)

    def render(self, date: bytes, connection: bytes = PERSISTENT) -> bytes:
        """The head at *date* (``dates.format_date``), ended by *connection*: PERSISTENT, KEEP_ALIVE or CLOSE."""
        return self._common + self._own + date + connection


def carries_body(status: int) -> bool:
    """Whether a body may follow *status*, in answer to anything but HEAD (RFC 9112 section 6.3, rule 1)."""
    return status >= 200 and status not in (204, 304)


def check_field(name: bytes, value: bytes) -> None:
    """Raise ValueError if the field cannot be sent as it is: its head could be read as two (RFC 9110 section 5.5)."""
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"invalid field name: {name!r}")
    if _VALUE.fullmatch(value) is None:
        raise ValueError(f"invalid value for field {name.decode('ascii')}: {value!r}")


def serialize_head(status: int, fields: Sequence[Field], *, version: bytes = b"HTTP/1.1") -> bytes:
    """Status line, *fields* in their order, and the empty line.

    *version* is the server's own, whatever the request's was (RFC 9110 section 6.2). Raises ValueError for a field that
    cannot be sent, and for one that announces a body where none may follow (section 8.6; 304 may, but need not).
    """
    return b"%b %d %b\r\n%b\r\n" % (version, status, REASONS.get(status, b""), _field_lines(status, fields))


def _field_lines(status: int, fields: Sequence[Field]) -> bytes:
    lines = [_field_line(name, value) for name, value in fields]
    if not carries_body(status):
        for name, _ in fields:
            if name.lower() in _NEVER_WITHOUT_BODY:
                raise ValueError(f"a {status} response has no body, so no {name.decode('ascii')}")
    return b"".join(lines)


@lru_cache(maxsize=64)
def _common_part(head: ResponseHead) -> bytes:
    """Status line and fields, without the empty line."""
    if not _ADDED_LATER.isdisjoint([name.lower() for name, _ in head.fields]):
        raise ValueError(_ADDED_TWICE)
    return head.serialize().removesuffix(b"\r\n")


@lru_cache(maxsize=128)
def _field_line(name: bytes, value: bytes) -> bytes:
    """The field as it is sent; most fields are the same in every head, and are checked once."""
    check_field(name, value)
    return b"%b: %b\r\n" % (name, value)


def escape(text: str) -> str:
    """*text* as it may stand in HTML, in an attribute too: ``html.escape``, without that module's 2,231 entities."""
    return text.translate(_ESCAPES)


def error_page(status: int, detail: str = "") -> bytes:
    """A page, complete in itself, that names *status* and says *detail* in plain text. It tells nothing else."""
    title = f"{status} {REASONS.get(status, b'').decode('ascii')}".rstrip()
    paragraph = f"<p>{escape(detail)}</p>\n" if detail else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{title}</title>\n"
        "<style>body { font: 1em/1.5 system-ui, sans-serif; margin: 10vh auto; max-width: 40em }</style>\n"
        f"</head>\n<body>\n<h1>{title}</h1>\n{paragraph}</body>\n</html>\n"
    ).encode()
