"""Bytes in, lines out, however the bytes were cut on their way.

Book p. 137, listing 8-3: parse_line and its LINE_STATUS.
Calling sequence: feed -> next_line* (until OPEN) -> feed ...; take or rest where something other than lines follows.

"Need more bytes" is always ``(LineStatus.OPEN, b"")``. What has been searched is never searched again: the offset is
kept, so that n bytes fed one by one cost O(n). What is consumed only moves an offset; the front of the buffer is cut
off at most once a feed, which in CPython moves a pointer, not the bytes.
"""

from __future__ import annotations

import enum
import re

_CR = 0x0D
_LF = 0x0A

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""CTL of RFC 5234 without HTAB: none may stand in a protocol line, and CR LF ends it, so one search answers both."""


class LineStatus(enum.Enum):
    """What the line machine says of the bytes so far (the book's LINE_OK, LINE_BAD, LINE_OPEN)."""

    OK = "a whole line"
    BAD = "cannot become a line"
    OPEN = "no line yet"


Line = tuple[LineStatus, bytes]

_NEED_MORE: Line = (LineStatus.OPEN, b"")


class LineBuffer:
    """The bytes not yet taken, and how far they have been searched; the splitters below differ in what ends a line.

    Bytes that come to an empty buffer are used where they are, without a copy; only a rest is copied, into a bytearray.
    """

    __slots__ = ("_data", "_searched", "_start")

    def __init__(self) -> None:
        self._data: bytes | bytearray = b""
        self._start = 0
        self._searched = 0

    def __len__(self) -> int:
        """How many bytes are buffered."""
        return len(self._data) - self._start

    @property
    def searched(self) -> int:
        """How many bytes of the line that is still open are known to belong to it (a last CR is not known yet)."""
        return self._searched - self._start

    def feed(self, data: bytes) -> None:
        """Append what has come from the peer."""
        if self._start == len(self._data):
            self._data = data
            self._start = self._searched = 0
            return
        if isinstance(self._data, bytes):
            self._data = bytearray(self._data[self._start :])
        else:
            del self._data[: self._start]
        self._searched -= self._start
        self._start = 0
        self._data += data

    def take(self, count: int) -> bytes:
        """At most *count* bytes as they are, for what follows the lines; fewer if fewer are here."""
        end = min(self._start + count, len(self._data))
        data = bytes(self._data[self._start : end])
        self._consume(end)
        return data

    def rest(self) -> bytes:
        """All that is buffered: at the end of a stream, the last line that lacks its end."""
        return self.take(len(self))

    def _consume(self, end: int) -> None:
        """Everything before the offset *end* has been taken; an empty buffer holds on to no memory."""
        if end == len(self._data):
            self._data = b""
            end = 0
        self._start = self._searched = end


class LineSplitter(LineBuffer):
    """Lines for people: LF ends one, a CR before it is dropped with it, any other byte may stand in it.

    A line of more than *limit* bytes (its end not counted) comes out in pieces of *limit* as soon as it is known to be
    longer; nothing is lost and nothing waits for an end that never comes. Never says BAD.
    """

    __slots__ = ("_limit",)

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def next_line(self) -> Line:
        """The next line without its end, OK; or OPEN."""
        data, start, limit = self._data, self._start, self._limit
        end = data.find(b"\n", self._searched, start + limit + 2)
        if end >= 0:
            stop = end - 1 if end > start and data[end - 1] == _CR else end
            if stop - start <= limit:
                return self._cut(stop, end + 1)
        surplus = len(data) - start - limit
        # With one byte over the limit, a CR may still prove to be half of the line's end.
        if surplus > 1 or (surplus == 1 and data[start + limit] != _CR):
            return self._cut(start + limit, start + limit)
        self._searched = len(data)
        return _NEED_MORE

    def whole_lines(self) -> bytes:
        """All that `next_line` would give until OPEN, each with an LF behind it: in few steps, however short."""
        lines: list[bytes] = []
        while True:
            # No line that ends within the limit is longer than that.
            end = self._data.rfind(b"\n", self._searched, self._start + self._limit + 1) + 1
            if end:
                lines.append(bytes(self._data[self._start : end]).replace(b"\r\n", b"\n"))
                self._consume(end)
                continue
            status, line = self.next_line()
            if status is not LineStatus.OK:
                return b"".join(lines)
            lines.append(line + b"\n")

    def _cut(self, stop: int, end: int) -> Line:
        line = bytes(self._data[self._start : stop])
        self._consume(end)
        return LineStatus.OK, line


class CrlfSplitter(LineBuffer):
    """Lines for a protocol that must not be read in two ways (RFC 9112 2.2): CR LF ends one, and nothing else does.

    A bare CR, a bare LF and any other control character but HTAB are BAD as soon as they are here: readers differ on
    whether they end a line, and a request that two readers cut differently is a smuggled one.
    """

    __slots__ = ()

    def next_line(self) -> Line:
        """The next line without its CR LF, OK; or OPEN; or BAD with all up to the byte that proves it."""
        data = self._data
        found = _CONTROL.search(data, self._searched)
        if found is None:
            self._searched = len(data)
            return _NEED_MORE
        stop = found.start()
        end = stop + 1
        if data[stop] == _CR:
            if end == len(data):
                self._searched = stop
                return _NEED_MORE
            end += 1
            if data[stop + 1] == _LF:
                line = bytes(data[self._start : stop])
                self._consume(end)
                return LineStatus.OK, line
        line = bytes(data[self._start : end])
        self._consume(end)
        return LineStatus.BAD, line

    def find(self, byte: bytes, start: int) -> int:
        """Where *byte* stands in the line that is still open, from its offset *start* on; -1 if not yet."""
        found = self._data.find(byte, self._start + start, self._searched)
        return found - self._start if found >= 0 else -1

    def peek_block(self, limit: int) -> bytes:
        """All lines up to and with the next empty one, unchecked and not yet taken; b"" if they are not all here.

        Looks at no more than *limit* bytes, and at none of a line that next_line has begun to search: so a caller that
        goes on with next_line when this gave nothing has looked at each byte twice at most.
        """
        if self._searched != self._start:
            return b""
        end = self._data.find(b"\r\n\r\n", self._start, self._start + limit)
        return bytes(self._data[self._start : end + 4]) if end >= 0 else b""

    def skip(self, count: int) -> None:
        """Take *count* bytes, which must be here (after peek_block), without making them an object."""
        self._consume(self._start + count)
