"""The request machine: bytes in, the events of pipelined requests out (RFC 9112).

Book p. 137, listing 8-3: parse_requestline, parse_headers and parse_content over parse_line.
Calling sequence: feed* on one parser for each connection; ``Request Data* EndOfMessage`` again and again, at most one
ProtocolError, nothing after it. "Need more bytes" is an empty list.

Facts: a peer may cut its bytes anywhere; two readers that cut one stream into different requests are request smuggling;
and most heads come whole, in one packet.
Consequence: the same bytes must give the same events however they were cut, and what could be read in two ways must be
refused. A regular expression over a whole head costs a third of a loop over its lines.
Decision: lines are read one by one, and a fault is told on the line that has it; what is wrong with a single byte (a
control character, a limit passed) is told on that byte. The fault that stands first in the stream wins: so limits are
looked at before grammar, on open lines too. A head that is here as a whole is matched at once instead, and only if all
of it is right: any doubt is left to the loop over the lines, which alone knows how to complain.
Price: two ways to read a head, which tests must prove equal, and a faulty head is looked at twice. (A third is
whole.py, for a packet that is one usual request and needs no parser.)
"""

from __future__ import annotations

import re
from collections.abc import Callable

from aiolsp.http1.framing import BAD_BYTE, NO_BODY, BodyReader, body_of
from aiolsp.http1.grammar import (
    ABSOLUTE_FORM,
    AUTHORITY,
    AUTHORITY_FORM,
    REQUEST_LINE,
    REQUEST_LINE_CRLF,
    Pair,
    field_fault,
    field_pair,
)
from aiolsp.http1.limits import Limits
from aiolsp.http1.messages import (
    END_OF_MESSAGE,
    HTTP_1_0,
    HTTP_1_1,
    EndOfMessage,
    Event,
    Fields,
    ProtocolError,
    Request,
    Version,
)
from aiolsp.http1.sections import fault_of_host, keeps_alive, read_section
from aiolsp.http1.states import TRANSITIONS, ParseState, Seen, walk
from aiolsp.sansio.lines import CrlfSplitter, LineStatus

MAX_EMPTY_LINES = 4
"""Empty lines to pass over before a request-line: RFC 9112 2.2 asks for one, that some client sends after a POST."""

_EMPTY_LINE_SIZE = 2
"""Bytes of the empty line that ends a head: CR LF."""

# The walk of a message that came at once, looked up once for all.
_AFTER_FIELDS = walk(ParseState.REQUEST_LINE, Seen.REQUEST_LINE, Seen.FIELD_LINE)
_AFTER_MESSAGE = walk(_AFTER_FIELDS, Seen.EMPTY_LINE, Seen.END_OF_MESSAGE)

LineObserver = Callable[[ParseState, LineStatus, bytes], None]


class RequestParser:
    """Reads the requests of one connection. Never raises for what the peer sends.

    *on_line*, if given, is told of each line of a head as it is read: the state it was read in, OK or BAD, the line.
    """

    __slots__ = (
        "_authority",
        "_body",
        "_empty_lines",
        "_head",
        "_head_left",
        "_lines",
        "_looked",
        "_method",
        "_on_line",
        "_pairs",
        "_target",
        "_target_end",
        "_target_start",
        "_version",
        "limits",
        "state",
    )

    def __init__(self, limits: Limits, on_line: LineObserver | None = None) -> None:
        # Connection
        self.limits = limits
        self.state = ParseState.REQUEST_LINE
        self._on_line = on_line
        self._lines = CrlfSplitter()
        # Request
        self._begin_request()

    def _begin_request(self) -> None:
        self._head_left = self.limits.max_head - _EMPTY_LINE_SIZE
        self._empty_lines = 0
        self._looked = self._target_start = self._target_end = 0
        self._method = self._target = b""
        self._version: Version = HTTP_1_1
        self._authority: bytes | None = None
        self._pairs: list[Pair] = []
        self._head: bytes | bytearray = b""
        self._body: BodyReader = NO_BODY

    @property
    def between_messages(self) -> bool:
        """Whether no part of a request has come since the last one ended."""
        return self.state is ParseState.REQUEST_LINE and not self._lines

    @property
    def content_left(self) -> int:
        """Bytes of a body that come before a chunk, a trailer or a request does: they are one event if fed at once."""
        return self._body.left

    def feed(self, data: bytes) -> list[Event]:
        """The events that *data* completes, in order; [] if more is needed, and always after a ProtocolError."""
        events: list[Event] = []
        if self.state is ParseState.FAILED:
            return events
        self._lines.feed(data)
        while _STEPS[self.state](self, events):
            pass
        return events

    def refusal(self, status: int, reason: str) -> ProtocolError:
        """What to answer to the request that is being read, as far as it has come."""
        return ProtocolError(status, reason, self._method == b"HEAD")

    # Each step appends what it found to the events and says whether another may follow.

    def _read_request_line(self, events: list[Event]) -> bool:
        lines = self._lines
        if not lines:
            return False
        if self._on_line is None and self._read_whole_head(events):
            return True
        status, line = lines.next_line()
        if status is LineStatus.OPEN:
            fault = self._oversize(lines.find, lines.searched)
            return self._fail(events, fault) if fault else False
        self._observe(status, line)
        fault = self._oversize(line.find, len(line))
        if fault is None and status is LineStatus.BAD:
            fault = ProtocolError(400, f"{BAD_BYTE} in the request-line")
        if fault is None and not line:
            return self._pass_over(events)
        fault = fault or self._take_request_line(REQUEST_LINE.fullmatch(line))
        if fault:
            return self._fail(events, fault)
        self._head_left -= len(line) + 2
        self._head = bytearray(line + b"\r\n")
        self._advance(Seen.REQUEST_LINE)
        return True

    def _read_field_line(self, events: list[Event]) -> bool:
        status, line = self._lines.next_line()
        if (self._lines.searched if status is LineStatus.OPEN else len(line)) > self._head_left:
            return self._fail(events, self._head_too_large())
        if status is LineStatus.OPEN:
            return False
        self._observe(status, line)
        if status is LineStatus.BAD:
            return self._fail(events, ProtocolError(400, f"{BAD_BYTE} in a field line"))
        if not line:
            self._head += b"\r\n"
            return self._end_head(events, Fields(self._pairs))
        pair = field_pair(line)
        if pair is None:
            return self._fail(events, ProtocolError(400, field_fault(line)))
        if len(self._pairs) == self.limits.max_fields:
            return self._fail(events, ProtocolError(431, f"more than {self.limits.max_fields} fields"))
        self._pairs.append(pair)
        self._head_left -= len(line) + 2
        self._head += line + b"\r\n"
        self._advance(Seen.FIELD_LINE)
        return True

    def _read_content(self, events: list[Event]) -> bool:
        event = self._body.read(self._lines)
        if event is None:
            return False
        if isinstance(event, ProtocolError):
            return self._fail(events, event)
        events.append(event)
        if isinstance(event, EndOfMessage):
            self._advance(Seen.END_OF_MESSAGE)
            self._begin_request()
        else:
            self._advance(Seen.DATA)
        return True

    def _read_whole_head(self, events: list[Event]) -> bool:
        """Read a head that is all here and all right, in one go; False to have its lines read one by one."""
        head = self._lines.peek_block(self.limits.max_head)
        found = REQUEST_LINE_CRLF.match(head)
        if found is None:
            return False
        fields_start = found.end()
        # A request-line that is short enough holds a target that is.
        if fields_start > self.limits.max_target:
            return False
        section = read_section(head[fields_start:])
        if section is None or len(section.fields) > self.limits.max_fields:
            return False
        if self._take_request_line(found):
            return False
        self._lines.skip(len(head))
        self._head = head
        self.state = _AFTER_FIELDS
        return self._end_head(events, section.fields)

    def _end_head(self, events: list[Event], fields: Fields) -> bool:
        request = self._request(fields)
        if isinstance(request, ProtocolError):
            return self._fail(events, request)
        events.append(request)
        if request.has_body:
            self._advance(Seen.EMPTY_LINE)
        else:
            events.append(END_OF_MESSAGE)
            self.state = _AFTER_MESSAGE
            self._begin_request()
        return True

    def _pass_over(self, events: list[Event]) -> bool:
        self._empty_lines += 1
        if self._empty_lines > MAX_EMPTY_LINES:
            return self._fail(events, ProtocolError(400, "empty lines instead of a request"))
        self._advance(Seen.EMPTY_LINE)
        return True

    def _fail(self, events: list[Event], fault: ProtocolError) -> bool:
        events.append(self.refusal(fault.status, fault.reason))
        self._advance(Seen.BAD)
        self._lines.rest()
        self._pairs = []
        self._head = b""
        return False

    def _advance(self, seen: Seen) -> None:
        self.state = TRANSITIONS[self.state][seen]

    def _observe(self, status: LineStatus, line: bytes) -> None:
        if self._on_line is not None:
            self._on_line(self.state, status, line)

    def _oversize(self, find: Callable[[bytes, int], int], size: int) -> ProtocolError | None:
        """Whether the first *size* bytes of a request-line pass a limit, whichever they pass first.

        *find* searches them; what an earlier call has searched of the same line is not searched again.
        """
        if not self._target_start:
            self._target_start = find(b" ", self._looked) + 1
            if self._target_start == len(b"HEAD ") and find(b"HEAD ", 0) == 0:
                self._method = b"HEAD"  # a refusal of what follows must know
        if self._target_start and not self._target_end:
            self._target_end = max(0, find(b" ", max(self._target_start, self._looked)))
        self._looked = size
        longest = self._target_start + self.limits.max_target
        if self._target_start and longest <= self._head_left and (self._target_end or size) > longest:
            return ProtocolError(414, f"a request-target of more than {self.limits.max_target} bytes")
        return self._head_too_large() if size > self._head_left else None

    def _head_too_large(self) -> ProtocolError:
        return ProtocolError(431, f"a head of more than {self.limits.max_head} bytes")

    def _take_request_line(self, found: re.Match[bytes] | None) -> ProtocolError | None:
        """Keep the parts of a request-line, or say what is wrong with it."""
        if found is None:
            return ProtocolError(400, "bad request-line")
        self._method, self._target, major, minor = found.groups()
        if major != b"1":
            return ProtocolError(505, "a major version other than HTTP/1")
        # RFC 9110 2.5: a higher minor version is read as the highest known.
        self._version = HTTP_1_0 if minor == b"0" else HTTP_1_1
        if self._target[:1] == b"/" and self._method != b"CONNECT":
            return None
        return self._take_other_form()

    def _take_other_form(self) -> ProtocolError | None:
        """RFC 9112 3.2.2 to 3.2.4: the forms of a request-target that do not start with a slash."""
        target = self._target
        if self._method == b"CONNECT":
            if AUTHORITY_FORM.fullmatch(target):
                self._authority = target
                return None
        elif target == b"*":
            if self._method == b"OPTIONS":
                return None
        elif found := ABSOLUTE_FORM.fullmatch(target):
            if AUTHORITY.fullmatch(found[1]):
                self._authority = found[1]
                return None
        return ProtocolError(400, "bad request-target")

    def _request(self, fields: Fields) -> Request | ProtocolError:
        """The request that has these *fields*, with the reader of its body set up."""
        version = self._version
        fault = fault_of_host(fields, version)
        if fault:
            return fault
        body = body_of(version, fields, self.limits)
        if isinstance(body, ProtocolError):
            return body
        self._body = body
        expects_continue = False
        if fields.get(b"expect") is not None:
            # RFC 9110 5.6.1.2: a list, whose empty members are none.
            members = (fields.combined(b"expect") or b"").lower().split(b",")
            expected = {member.strip(b" \t") for member in members} - {b""}
            if not expected <= {b"100-continue"}:
                return ProtocolError(417, "an unknown expectation")
            # RFC 9110 10.1.1: not in HTTP/1.0, and not without content.
            expects_continue = bool(expected) and version == HTTP_1_1 and body is not NO_BODY
        if self._authority is not None:
            # RFC 9112 3.2.2: the target's authority counts, whatever Host says.
            fields = fields.replaced(b"host", self._authority)
        keep_alive = keeps_alive(fields, version)
        has_body = body is not NO_BODY
        head = bytes(self._head)
        return Request(self._method, self._target, version, fields, keep_alive, expects_continue, has_body, head)


_STEPS = {
    ParseState.REQUEST_LINE: RequestParser._read_request_line,
    ParseState.HEADERS: RequestParser._read_field_line,
    ParseState.CONTENT: RequestParser._read_content,
}
