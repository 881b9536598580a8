"""CGI/1.1 without I/O: what a program is told of a request, and what it says becomes a response (RFC 3875).

Book p. 289: the program behind a server; there it gets a socket for its output, here a gateway stands between them.
Calling sequence: ``meta_variables``; then ``OutputHead.feed* -> CgiHead``, ``ResponseBody.data* -> end``.

Facts
    - A program trusts its environment. What a client may name freely there, it may pass off as something else:
      ``Proxy:`` becomes HTTP_PROXY, which libraries take for a setting of the operator's ("httpoxy", CVE-2016-5385),
      and ``A_B`` and ``A-B`` become one variable.
    - A program's head is not a response's: lines may end in LF, and some of its fields speak to the server alone.
    - Where the body ends is told by the program's length, if it gave one, and by the end of its output.
Consequence
    Fields become variables by a list of what is safe, not of what is not; the head is read anew and written by us; the
    program's length is held against what it writes.
Decision
    Names of letters, digits and hyphens alone pass. What is wrong with an output is one ProtocolError with status 502,
    the same however the output was cut into pieces.
Price
    Authorization is kept from programs (RFC 3875 section 9.2 lets a server do so): they cannot check passwords.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from aiolsp.http1.grammar import CONTENT_LENGTH
from aiolsp.http1.messages import HTTP_1_1, Fields, ProtocolError, Request
from aiolsp.http1.response import Field, HeadTemplate, ResponseHead, carries_body, check_field
from aiolsp.sansio.lines import LineSplitter, LineStatus

MAX_OUTPUT_HEAD = 32 * 1024
"""Bytes of a program's head, as many as of a client's (``Limits.max_head``); nginx's fastcgi_buffer_size is 4 KiB."""

MAX_OUTPUT_FIELDS = 100

MAX_LOCAL_REDIRECTS = 10
"""Local redirects that one request may lead through, as Apache's LimitInternalRecursion."""

ENDLESS = ProtocolError(502, "the program's local redirects do not end")

_SAFE_NAME = re.compile(rb"[a-z0-9-]+")

_NOT_TOLD = frozenset(
    {
        # They have variables of their own, or would tell a secret (RFC 3875 section 4.1.18).
        b"authorization",
        b"content-length",
        b"content-type",
        b"proxy-authorization",
        # "httpoxy"
        b"proxy",
        # They were for this server (RFC 9110 sections 7.6.1 and 10.1.1).
        b"connection",
        b"expect",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

_OURS = frozenset(
    {b"connection", b"date", b"keep-alive", b"proxy-connection", b"server", b"te", b"trailer", b"upgrade"}
)
"""Fields of a program's head that are left out: this server says them, or they are between it and the client."""

_ONCE = frozenset({b"content-length", b"content-type", b"location", b"status"})

_STATUS = re.compile(rb"([2-5][0-9][0-9])(?: .*)?")
"""RFC 3875 section 6.3.3. A 1xx is no answer; the reason phrase is ours, for HTTP/1.1 gives it no meaning."""

_MAX_LENGTH_DIGITS = 18


class ScriptPath(NamedTuple):
    """How a target falls into the program's own path, SCRIPT_NAME, and what follows it, PATH_INFO; both decoded.

    *directory* is the URL's first name, *program* the file's.
    """

    directory: bytes
    program: bytes
    info: bytes

    @property
    def name(self) -> bytes:
        """SCRIPT_NAME."""
        return b"/%b/%b" % (self.directory, self.program)


class Ends(NamedTuple):
    """Host and port of both ends of a connection; None at a unix socket, which has none."""

    local: tuple[str, int] | None
    peer: tuple[str, int] | None

    @classmethod
    def of(cls, local: object, peer: object) -> Ends:
        """By the addresses that a socket gave, of any family."""
        return cls(_host_and_port(local), _host_and_port(peer))


def _host_and_port(address: object) -> tuple[str, int] | None:
    return (address[0], address[1]) if isinstance(address, tuple) else None


def end_of_program(status: int) -> bytes:
    """How a program ended that did not end well, for the log; *status* -N is an end by signal N."""
    return b"ended by signal %d" % -status if status < 0 else b"exit status %d" % status


def meta_variables(request: Request, path: ScriptPath, ends: Ends, *, length: int, root: bytes) -> dict[bytes, bytes]:
    """The environment that tells a program of *request* (RFC 3875 section 4.1), with no variable of the server's own.

    *length* is that of the body, in bytes. *root* is the path of the served directory, without a slash at its end.
    There is no AUTH_TYPE, REMOTE_IDENT or REMOTE_USER, and no look-up of the client's name.
    """
    host, port = ends.local or ("localhost", 80)
    peer, peer_port = ends.peer or ("unix:", 0)
    variables = {
        b"GATEWAY_INTERFACE": b"CGI/1.1",
        b"SERVER_SOFTWARE": b"aiolsp",
        b"SERVER_PROTOCOL": b"HTTP/%d.%d" % request.version,
        b"SERVER_NAME": _host_name(request.fields.get(b"host")) or _bracketed(host).encode(),
        b"SERVER_PORT": b"%d" % port,
        b"REMOTE_ADDR": peer.encode(),
        b"REMOTE_HOST": peer.encode(),
        b"REMOTE_PORT": b"%d" % peer_port,
        b"REQUEST_METHOD": request.method,
        b"SCRIPT_NAME": path.name,
        b"PATH_INFO": path.info,
        b"QUERY_STRING": request.target.partition(b"?")[2],
    }
    if path.info:
        variables[b"PATH_TRANSLATED"] = root + path.info
    if length or b"content-length" in request.fields:
        variables[b"CONTENT_LENGTH"] = b"%d" % length
    content_type = request.fields.get(b"content-type")
    if content_type is not None:
        variables[b"CONTENT_TYPE"] = content_type
    return variables | _protocol_variables(request)


def body_length(request: Request) -> int | None:
    """How long the body is, as *request* says, whose fields were checked; None if it is chunked: then count."""
    if not request.has_body:
        return 0
    value = request.fields.get(b"content-length")
    if value is None:
        return None
    # int() refuses more than 4300 digits, zeros included.
    return int(value.partition(b",")[0].strip(b" \t").lstrip(b"0"))


def redirected(request: Request, target: bytes) -> Request:
    """The request that a local redirect to *target* stands for: the client's, as a GET (RFC 3875 section 6.2.2).

    It never came as bytes: its answer must not be kept as the answer to those that did.
    """
    fields = Fields([pair for pair in request.fields if not pair[0].startswith(b"content-")])
    method = b"HEAD" if request.method == b"HEAD" else b"GET"
    return Request(method, target, request.version, fields, request.keep_alive, False, False)


def _protocol_variables(request: Request) -> dict[bytes, bytes]:
    """HTTP_*: the request's own fields (RFC 3875 section 4.1.18)."""
    nominated = (request.fields.combined(b"connection") or b"").lower().split(b",")
    hidden = _NOT_TOLD.union(name.strip(b" \t") for name in nominated)
    names = {name for name, _ in request.fields if name not in hidden and _SAFE_NAME.fullmatch(name)}
    return {
        b"HTTP_" + name.upper().replace(b"-", b"_"): (b"; " if name == b"cookie" else b", ").join(
            request.fields.get_all(name)
        )
        for name in names
    }


def _host_name(host: bytes | None) -> bytes:
    """A Host field without its port (RFC 3875 section 4.1.14)."""
    return re.sub(rb":[0-9]*\Z", b"", host or b"")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@dataclass(frozen=True, slots=True)
class CgiHead:
    """What a program's head asks for: a response of *status* and *fields*, or a look at *local* instead.

    *length* is the program's Content-Length; how the response is framed is told by `ResponseBody`.
    """

    status: int
    fields: tuple[Field, ...] = ()
    length: int | None = None
    local: bytes | None = None
    """The path and query of a local redirect (RFC 3875 section 6.2.2)."""


class OutputHead:
    """Reads the head of a program's output, piece by piece; never raises for what it writes."""

    def __init__(self) -> None:
        self._lines = LineSplitter(MAX_OUTPUT_HEAD)
        self._left = MAX_OUTPUT_HEAD
        self._fields: list[Field] = []

    def feed(self, data: bytes) -> CgiHead | ProtocolError | None:
        """The head as soon as its empty line is here, or what is wrong with it (502); None if more is needed.

        After either, only ``rest`` may be called.
        """
        self._lines.feed(data)
        while True:
            status, line = self._lines.next_line()
            if status is LineStatus.OPEN:
                return None
            self._left -= len(line) + 1
            if self._left < 0:
                return _bad(f"the program's head has more than {MAX_OUTPUT_HEAD} bytes")
            if not line:
                return _head_of(self._fields)
            fault = self._read_field(line)
            if fault is not None:
                return fault

    def receive_eof(self) -> ProtocolError:
        """The output has ended, and its head has not (502)."""
        return _bad("the program's output ended before its head did")

    def rest(self) -> bytes:
        """What came after the head: the beginning of the body."""
        return self._lines.rest()

    def _read_field(self, line: bytes) -> ProtocolError | None:
        name, colon, value = line.partition(b":")
        if not colon:
            return _bad("a line of the program's head has no colon")
        value = value.strip(b" \t")
        try:
            check_field(name, value)
        except ValueError:
            return _bad("a line of the program's head is no field")
        if len(self._fields) == MAX_OUTPUT_FIELDS:
            return _bad(f"the program's head has more than {MAX_OUTPUT_FIELDS} fields")
        self._fields.append((name, value))
        return None


def _bad(reason: str) -> ProtocolError:
    return ProtocolError(502, reason)


def _head_of(fields: list[Field]) -> CgiHead | ProtocolError:
    """What the whole head means (RFC 3875 sections 6.2 and 6.3)."""
    special: dict[bytes, bytes] = {}
    passed: list[Field] = []
    for name, value in fields:
        lowered = name.lower()
        if lowered in _ONCE:
            if lowered in special:
                return _bad(f"the program's head has two {name.decode('ascii')} fields")
            special[lowered] = value
        if lowered == b"transfer-encoding":
            return _bad("the program's head has a Transfer-Encoding, which is the server's")
        # X-CGI- fields are for servers that know them (section 6.3.5).
        if lowered not in _OURS and lowered not in (b"status", b"content-length") and not lowered.startswith(b"x-cgi-"):
            passed.append((name, value))
    if special.keys() <= {b"content-length"}:
        return _bad("the program's head has no Content-Type, Location or Status")
    length = _length(special.get(b"content-length"))
    if isinstance(length, ProtocolError):
        return length
    found = _STATUS.fullmatch(special.get(b"status", b"200"))
    if found is None:
        return _bad("the program's Status is none")
    status, location = int(found[1]), special.get(b"location")
    if location is None or b"status" in special and status != 200:
        return CgiHead(status, tuple(passed), length)
    if location.startswith(b"/"):
        return CgiHead(status, local=location)
    return CgiHead(302, tuple(passed), length)


def _length(value: bytes | None) -> int | None | ProtocolError:
    if value is None:
        return None
    if CONTENT_LENGTH.fullmatch(value) is None or len(value) > _MAX_LENGTH_DIGITS:
        return _bad("the program's Content-Length is none")
    return int(value)


@dataclass(slots=True)
class ResponseBody:
    """How a program's output goes out as the body of the response that *head* begins, in answer to *request*.

    Its length if the program tells it; chunked for HTTP/1.1; else all until the connection closes (RFC 9112 section
    6.3). A body that the program writes although the response has none is dropped, and what it writes past its length.
    """

    head: CgiHead
    request: Request
    sent: int = field(default=0, init=False)
    """Bytes of the body so far, without its framing."""

    @property
    def expected(self) -> bool:
        """Whether a body follows at all (RFC 9112 section 6.3, rule 1)."""
        return self.request.method != b"HEAD" and carries_body(self.head.status)

    @property
    def complete(self) -> bool:
        """Whether nothing that the program may still write goes out."""
        return not self.expected or self.sent == self.head.length

    @property
    def chunked(self) -> bool:
        """Whether it is sent in chunks."""
        return self.expected and self.head.length is None and self.request.version == HTTP_1_1

    @property
    def delimited(self) -> bool:
        """Whether the client is told where it ends, so that the connection can serve on."""
        return not self.expected or self.chunked or self.head.length is not None

    def response_head(self, common: tuple[Field, ...]) -> HeadTemplate:
        """The head that goes out: what the program says takes the place of *common*, which every answer says."""
        head = self.head
        said = {name.lower() for name, _ in head.fields}
        fields = [*(pair for pair in common if pair[0].lower() not in said), *head.fields]
        if self.chunked:
            fields.append((b"Transfer-Encoding", b"chunked"))
        elif head.length is not None and carries_body(head.status):
            fields.append((b"Content-Length", b"%d" % head.length))
        return HeadTemplate(ResponseHead(head.status), *fields)

    def data(self, output: bytes) -> bytes:
        """*output* as it goes out."""
        if not self.expected:
            return b""
        if self.head.length is not None:
            output = output[: self.head.length - self.sent]
        self.sent += len(output)
        return b"%x\r\n%b\r\n" % (len(output), output) if self.chunked and output else output

    def end(self, status: int) -> bytes | None:
        """What goes out when the output has ended, and the program with *status* (-N: by signal N).

        None if the body is not whole, and the client must be told by a connection that is cut: it is shorter than was
        announced, or a program that never told a length was killed.
        """
        if self.expected and self.head.length is not None:
            return None if self.sent < self.head.length else b""
        if self.expected and status < 0:
            return None
        return b"0\r\n\r\n" if self.chunked else b""
