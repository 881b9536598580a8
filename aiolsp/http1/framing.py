"""Where a body ends: the rules of RFC 9112 6.3, and one reader for each kind of body.

Calling sequence: body_of(...) once for each head, then ``read(lines)`` until it gives EndOfMessage or a ProtocolError.
A reader takes bytes from *lines* and gives one event; None is "need more bytes".
"""

from __future__ import annotations

from typing import Protocol

from aiolsp.http1.grammar import CHUNK_LINE, CONTENT_LENGTH, TRANSFER_CODING, Pair, field_fault, field_pair
from aiolsp.http1.limits import Limits
from aiolsp.http1.messages import END_OF_MESSAGE, HTTP_1_0, Data, EndOfMessage, Event, Fields, ProtocolError, Version
from aiolsp.http1.states import CHUNKED_TRANSITIONS, ChunkState, Seen
from aiolsp.sansio.lines import CrlfSplitter, LineStatus

_MAX_SIZE_DIGITS = 16
"""As in the grammar's chunk_size."""

_MAX_LENGTH_DIGITS = 18
"""Digits of a Content-Length that are worth turning into a number: 18 are an exabyte, and any limit is below."""

BAD_BYTE = "a control character, or a CR or LF alone"


class BodyReader(Protocol):
    """What the three readers below have in common."""

    @property
    def left(self) -> int:
        """Bytes of content that come before anything else does, as far as that is known."""

    def read(self, lines: CrlfSplitter) -> Event | None:
        """The next event of the body, or None if more bytes are needed."""


class NoBody:
    """The message ended with its head."""

    __slots__ = ()

    left = 0

    def read(self, lines: CrlfSplitter) -> Event:
        """The end, at once."""
        return END_OF_MESSAGE


class ContentLengthBody:
    """So many bytes, then the end (RFC 9112 6.2)."""

    __slots__ = ("left",)

    def __init__(self, length: int) -> None:
        self.left = length

    def read(self, lines: CrlfSplitter) -> Event | None:
        """What is here of the body, at most to its end."""
        if not self.left:
            return END_OF_MESSAGE
        data = lines.take(self.left)
        self.left -= len(data)
        return Data(data) if data else None


class ChunkedBody:
    """Chunks with their sizes before them, a chunk of size 0, trailers (RFC 9112 7.1); states in CHUNKED_TRANSITIONS.

    All but the data of a chunk are lines. Limits are looked at before grammar, and on lines that are still open: so the
    same bytes meet the same error however they are cut.
    """

    __slots__ = ("_body_left", "_extensions_left", "_limits", "_state", "_trailers", "_trailers_left", "left")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._state = ChunkState.CHUNK_SIZE
        self._body_left = limits.max_body
        self._extensions_left = limits.max_extensions
        self._trailers_left = limits.max_trailers
        self._trailers: list[Pair] = []
        self.left = 0

    def read(self, lines: CrlfSplitter) -> Event | None:
        """What is here of the current chunk, or the end with its trailers."""
        while True:
            if self._state is ChunkState.CHUNK_DATA:
                return self._read_data(lines)
            status, line = lines.next_line()
            if (lines.searched if status is LineStatus.OPEN else len(line)) > self._room():
                return self._too_long()
            if status is LineStatus.OPEN:
                return None
            if status is LineStatus.BAD:
                return ProtocolError(400, f"{BAD_BYTE} in the framing of a chunked body")
            event = self._read_line(line)
            if event is not None:
                return event

    def _read_data(self, lines: CrlfSplitter) -> Event | None:
        data = lines.take(self.left)
        self.left -= len(data)
        if not self.left:
            self._advance(Seen.END_OF_DATA)
        return Data(data) if data else None

    def _room(self) -> int:
        """How long the line may be that is read now."""
        if self._state is ChunkState.CHUNK_SIZE:
            return _MAX_SIZE_DIGITS + self._extensions_left
        return self._trailers_left if self._state is ChunkState.TRAILERS else 0

    def _too_long(self) -> ProtocolError:
        if self._state is ChunkState.CHUNK_SIZE:
            return ProtocolError(413, f"more than {self._limits.max_extensions} bytes of chunk extensions")
        if self._state is ChunkState.TRAILERS:
            return ProtocolError(431, f"more than {self._limits.max_trailers} bytes of trailers")
        return ProtocolError(400, "a chunk's data does not end in CR LF")

    def _read_line(self, line: bytes) -> EndOfMessage | ProtocolError | None:
        """Act on one whole line; None to go on."""
        if self._state is ChunkState.CHUNK_SIZE:
            return self._read_size(line)
        if self._state is ChunkState.TRAILERS and line:
            return self._read_trailer(line)
        self._advance(Seen.EMPTY_LINE)
        if self._state is not ChunkState.COMPLETE:
            return None
        return EndOfMessage(Fields(self._trailers)) if self._trailers else END_OF_MESSAGE

    def _read_size(self, line: bytes) -> ProtocolError | None:
        found = CHUNK_LINE.fullmatch(line)
        if found is None:
            return ProtocolError(400, "bad chunk size or chunk extension")
        size = int(found[1], 16)
        if size > self._body_left:
            return ProtocolError(413, f"a body of more than {self._limits.max_body} bytes")
        self._extensions_left -= len(line) - found.end(1)
        self._body_left -= size
        self.left = size
        self._advance(Seen.CHUNK_LINE if size else Seen.LAST_CHUNK)
        return None

    def _read_trailer(self, line: bytes) -> ProtocolError | None:
        pair = field_pair(line)
        if pair is None:
            return ProtocolError(400, f"{field_fault(line)}, in a trailer")
        self._trailers.append(pair)
        if len(self._trailers) > self._limits.max_fields:
            return ProtocolError(431, f"more than {self._limits.max_fields} trailers")
        self._trailers_left -= len(line)
        self._advance(Seen.FIELD_LINE)
        return None

    def _advance(self, seen: Seen) -> None:
        self._state = CHUNKED_TRANSITIONS[self._state][seen]


NO_BODY = NoBody()


def body_of(version: Version, fields: Fields, limits: Limits) -> BodyReader | ProtocolError:
    """How the body of a request is framed, by the steps of RFC 9112 6.3."""
    # Steps 1 and 2 are about responses.
    coded = fields.get(b"transfer-encoding") is not None
    sized = fields.get(b"content-length") is not None
    if coded:
        # Step 3: both fields may be an attempt at request smuggling. 6.1: in HTTP/1.0 the framing is faulty.
        if sized:
            return ProtocolError(400, "both Content-Length and Transfer-Encoding")
        if version == HTTP_1_0:
            return ProtocolError(400, "Transfer-Encoding in an HTTP/1.0 request")
        # Step 4: chunked must be the last coding, else the length cannot be known.
        return _fault_of_codings(fields.combined(b"transfer-encoding")) or ChunkedBody(limits)
    if sized:
        # Steps 5 and 6: one valid length, however often it is said.
        length = _content_length(fields.get_all(b"content-length"), limits)
        if isinstance(length, ProtocolError):
            return length
        return ContentLengthBody(length) if length else NO_BODY
    # Step 7. (Step 8 is about responses.)
    return NO_BODY


def _fault_of_codings(value: bytes | None) -> ProtocolError | None:
    """What is wrong with the list of transfer codings, unless it is just ``chunked``."""
    codings = [coding.strip(b" \t").lower() for coding in (value or b"").split(b",")]
    if codings == [b"chunked"]:
        return None
    if not all(TRANSFER_CODING.fullmatch(coding) for coding in codings):
        return ProtocolError(400, "bad Transfer-Encoding")
    if b"chunked" in codings[:-1]:
        return ProtocolError(400, "chunked is not the last transfer coding, or applied twice")
    return ProtocolError(501, "an unknown transfer coding")


def _content_length(values: list[bytes], limits: Limits) -> int | ProtocolError:
    """The one length that all members of all Content-Length fields agree on, digit by digit."""
    members = {member.strip(b" \t") for value in values for member in value.split(b",")}
    digits = members.pop()
    if members or not CONTENT_LENGTH.fullmatch(digits):
        return ProtocolError(400, "bad Content-Length")
    digits = digits.lstrip(b"0")
    if len(digits) > _MAX_LENGTH_DIGITS or int(digits or b"0") > limits.max_body:
        return ProtocolError(413, f"a body of more than {limits.max_body} bytes")
    return int(digits or b"0")
