"""Finds the end of HTTP/1 answers in a stream of bytes: sans-I/O, for the wire client and the probe.

Bytes in by ``feed``, whole answers out as a list; ``feed_eof`` when the stream has ended. It never raises for what a
server sends: what is wrong is an answer with a ``failure``, after which the stream is of no more use. Any split of the
bytes gives the same answers.

Most answers of a server under load have one and the same head, byte for byte, for a second at a time (until Date
changes). So parsed heads are kept, shared by all connections; and a whole answer with the head of the one before costs
a comparison of bytes. Nothing is taken on trust: equal heads announce equal lengths, and where an answer ends, another
must begin, or nothing be left.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from load.record import Failure

MAX_HEAD = 65536
"""Bytes of an answer's head, fields and all; browsers allow 256 KiB, servers send less than 8 KiB."""

MAX_LINE = 8192
"""Bytes of a chunk's size line with its extensions, or of a trailer line."""

MAX_DIGITS = 18
"""Of a length; Python refuses to read more than 4,300."""

MAX_KNOWN_HEADS = 1024
"""Parsed heads kept: more means that every answer has its own (a serial number, say), and keeping them is of no use."""

_STATUS_LINE = re.compile(rb"HTTP/1\.(?P<minor>[01]) (?P<status>[1-9]\d\d)(?: [^\r\n]*)?")


class Answer(NamedTuple):
    """One whole answer, or the failure that ends the stream."""

    status: int
    octets: int
    last: bool
    """The server closes the connection after this one."""
    failure: Failure | None = None
    example: str = ""
    content: bytes = b""


class State(Enum):
    """What the next bytes are."""

    HEAD = auto()
    COUNTED = auto()
    CHUNK_SIZE = auto()
    CHUNK = auto()
    TRAILER = auto()
    TO_THE_END = auto()
    BROKEN = auto()


class Head(NamedTuple):
    """A parsed head: how the content is framed (RFC 9112 section 6.3)."""

    status: int
    framing: State
    length: int
    last: bool
    block: bytes
    """Its bytes."""
    alone: list[Answer]
    """The answer with this head, ready to be returned; none if the head is an interim one."""


NO_HEAD = Head(0, State.BROKEN, 0, True, b"\0", [])
"""One that no answer begins with."""


class AnswerFramer:
    """One connection's answers."""

    def __init__(self, known: dict[bytes, Head], *, to_head: bool = False, keep_content: bool = False) -> None:
        self._known = known
        self._to_head = to_head
        self._keep_content = keep_content
        self._buffer = bytearray()
        self._usual = NO_HEAD
        self._state = State.HEAD
        self._steps: dict[State, Callable[[list[Answer]], bool]] = {
            State.HEAD: self._head,
            State.COUNTED: self._counted,
            State.CHUNK_SIZE: self._chunk_size,
            State.CHUNK: self._chunk,
            State.TRAILER: self._trailer,
            State.TO_THE_END: self._to_the_end,
            State.BROKEN: self._broken,
        }
        self._begin_answer()

    def _begin_answer(self) -> None:
        self._state = State.HEAD
        self._remaining = 0
        self._octets = 0
        self._content = bytearray()

    @property
    def surplus(self) -> int:
        """Bytes that came after the last whole answer."""
        return len(self._buffer)

    @property
    def between(self) -> bool:
        """Not one byte of another answer has come."""
        return self._state is State.HEAD and not self._buffer

    def feed(self, data: bytes) -> list[Answer]:
        """The answers that *data* completes."""
        answers: list[Answer] = []
        if not self._buffer and not self._keep_content:
            data = self._feed_whole(data, answers)
        if data:
            self._buffer += data
            while self._steps[self._state](answers):
                pass
        return answers

    def _feed_whole(self, data: bytes, answers: list[Answer]) -> bytes:
        """Take the end of a counted answer, then whole ones with known heads; the bytes that are left."""
        start = 0
        if self._state is State.COUNTED:
            start = min(self._remaining, len(data))
            self._remaining -= start
            self._octets += start
            if self._remaining:
                return b""
            answers.append(self._whole())
        elif self._state is not State.HEAD:
            return data
        head = self._usual
        while start < len(data):
            if not data.startswith(head.block, start):
                end = data.find(b"\r\n\r\n", start) + 4
                head = self._known.get(data[start:end], NO_HEAD)
                if head.framing is not State.COUNTED:
                    return data[start:]
                self._usual = head
            end = start + len(head.block) + head.length
            if end > len(data):
                return data[start:]
            answers += head.alone
            start = end
        return b""

    def feed_eof(self) -> Answer | None:
        """What the end of the stream completes or cuts short; None between two answers."""
        if self.between or self._state is State.BROKEN:
            return None
        if self._state is State.TO_THE_END:
            return self._whole()
        if self._state is State.HEAD:
            return self._failed(Failure.RESET, "the connection ended within an answer's head")
        missing = f", {self._remaining:,} bytes missing" if self._remaining else ""
        return self._failed(Failure.LENGTH, f"the connection ended after {self._octets:,} bytes of content{missing}")

    # One method a state: consume what is there, return whether there may be more to do.

    def _head(self, answers: list[Answer]) -> bool:
        if not self._buffer:
            return False
        if not b"HTTP/1.".startswith(self._buffer[:7]):
            return self._break(answers, Failure.PROTOCOL, f"an answer begins with {bytes(self._buffer[:20])!r}")
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            too_long = len(self._buffer) > MAX_HEAD
            return too_long and self._break(answers, Failure.PROTOCOL, f"a head of more than {MAX_HEAD} bytes")
        block = bytes(self._buffer[:end])
        del self._buffer[:end]
        head = self._known.get(block) or self._learn(block)
        if head is None:
            return self._break(answers, Failure.PROTOCOL, f"a head that cannot be read: {block[:60]!r}")
        if not head.alone:
            return True
        self._answering = head
        self._state, self._remaining = head.framing, head.length
        return True

    def _counted(self, answers: list[Answer]) -> bool:
        self._consume()
        if not self._remaining:
            answers.append(self._whole())
        return not self._remaining

    def _chunk_size(self, answers: list[Answer]) -> bool:
        line = self._line()
        if line is None:
            too_long = len(self._buffer) > MAX_LINE
            return too_long and self._break(answers, Failure.PROTOCOL, "a chunk's size line without an end")
        size = line.partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", size):
            return self._break(answers, Failure.PROTOCOL, f"a chunk of size {size[:20]!r}")
        # A chunk is followed by CRLF, counted here as two more bytes to come.
        self._remaining = int(size, 16)
        self._state = State.CHUNK if self._remaining else State.TRAILER
        return True

    def _chunk(self, answers: list[Answer]) -> bool:
        self._consume()
        if self._remaining or len(self._buffer) < 2:
            return False
        if not self._buffer.startswith(b"\r\n"):
            return self._break(answers, Failure.LENGTH, "a chunk is longer than its size says")
        del self._buffer[:2]
        self._state = State.CHUNK_SIZE
        return True

    def _trailer(self, answers: list[Answer]) -> bool:
        line = self._line()
        if line is None:
            too_long = len(self._buffer) > MAX_LINE
            return too_long and self._break(answers, Failure.PROTOCOL, "a trailer line without an end")
        if not line:
            answers.append(self._whole())
        return True

    def _to_the_end(self, answers: list[Answer]) -> bool:
        self._remaining = len(self._buffer)
        self._consume()
        return False

    def _broken(self, answers: list[Answer]) -> bool:
        self._buffer.clear()
        return False

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _consume(self) -> None:
        count = min(self._remaining, len(self._buffer))
        if self._keep_content:
            self._content += self._buffer[:count]
        del self._buffer[:count]
        self._remaining -= count
        self._octets += count

    def _whole(self) -> Answer:
        head = self._answering
        answer = Answer(head.status, self._octets, head.last, content=bytes(self._content))
        self._begin_answer()
        return answer

    def _failed(self, kind: Failure, example: str) -> Answer:
        self._state = State.BROKEN
        return Answer(0, 0, True, kind, example)

    def _break(self, answers: list[Answer], kind: Failure, example: str) -> bool:
        answers.append(self._failed(kind, example))
        return True

    def _learn(self, block: bytes) -> Head | None:
        head = parse_head(block, to_head=self._to_head)
        if head is not None:
            if len(self._known) >= MAX_KNOWN_HEADS:
                self._known.clear()
            self._known[block] = head
        return head


def parse_head(block: bytes, *, to_head: bool) -> Head | None:
    """The framing that a head announces, by the steps of RFC 9112 section 6.3; None when it cannot be read."""
    first, *lines = block[:-4].split(b"\r\n")
    found = _STATUS_LINE.fullmatch(first)
    if found is None:
        return None
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            return None
        fields.setdefault(name.strip().lower(), []).append(value.strip().lower())
    status = int(found["status"])
    options = b",".join(fields.get(b"connection", []))
    last = b"close" in options or status == 101 or (found["minor"] == b"0" and b"keep-alive" not in options)
    framed = _framing(status, fields, to_head=to_head)
    if framed is None:
        return None
    framing, length = framed
    last = last or framing is State.TO_THE_END
    interim = status < 200 and status != 101
    return Head(status, framing, length, last, block, [] if interim else [Answer(status, length, last)])


def _framing(status: int, fields: dict[bytes, list[bytes]], *, to_head: bool) -> tuple[State, int] | None:
    # Step 1: no content whatever the fields say. Step 2 (CONNECT) is not sent.
    if to_head or status in {204, 304} or status < 200:
        return State.COUNTED, 0
    # Steps 3 and 4: a transfer coding overrides a length.
    coding = b",".join(fields.get(b"transfer-encoding", []))
    if coding:
        return (State.CHUNK_SIZE, 0) if coding.rpartition(b",")[2].strip() == b"chunked" else (State.TO_THE_END, 0)
    # Steps 5 and 6: one length, or several that agree.
    lengths = {part.strip() for value in fields.get(b"content-length", []) for part in value.split(b",")}
    if lengths:
        length = lengths.pop()
        counted = not lengths and length.isdigit() and len(length) <= MAX_DIGITS
        return (State.COUNTED, int(length)) if counted else None
    # Step 8: the content ends with the connection.
    return State.TO_THE_END, 0
