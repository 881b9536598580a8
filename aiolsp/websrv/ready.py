"""Answers that are bytes already, for a second: what was answered a moment ago is answered again.

Facts: within one second the answers to equal requests are equal bytes (clock.py). A busy client's requests are often
equal to the byte; those of many clients differ, but mostly in fields that decide nothing (http1/sieve.py).
Decision: one table, of packets that were one head, and of what the sieve leaves of them. A packet is looked up as it
came, then by its rest, as if it were one head; then head by head, if it begins with several, and equal ones in a row at
once. What is not found is for the request machine: this table knows answers, and no grammar.
Large ones are lent to the sockets, which copy the small (linux/pages.py). Of files that are larger than that, the file
is kept open, and looked at each time: with what was changed or replaced, it all goes the long way.
Price: the answers and heads of a second stay in memory, and files open, up to the bounds below.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from aiolsp.http1.sieve import END
from aiolsp.linux.pages import Pages, Place

if TYPE_CHECKING:
    from aiolsp.http1.messages import Request
    from aiolsp.http1.whole import HeadReader
    from aiolsp.static.access_log import LogRecord
    from aiolsp.static.answer import Answer

LARGEST = 64 * 1024
"""Bytes of an answer that is kept ready, at the most."""

LENT = 16 * 1024
"""Bytes from which on an answer is lent: with fewer, a copy costs less."""

SIZE = 16 * 1024 * 1024
"""Bytes of all ready answers and of what is left of their requests; they live for a second at the most."""

PACKETS = 1024 * 1024
"""Bytes of whole packets that may be kept besides, to spare them the sieve: no more than repeat themselves in a second.

Those that never do are soon too many, and cost nothing from there on.
"""

PARTS = 1024
"""Parts of large files, asked for in this second, that are remembered to see whether they are asked for again.

By their hashes, for a client may write 32 KiB to ask for one: of two that are equal, an answer is only kept too early.
"""

OPEN = 32
"""Files that are kept open."""


class ReadyAnswer:
    """The bytes that answer a request until the second is over, where they are lent from, and how often they did."""

    __slots__ = ("closes", "hits", "payload", "place", "record", "status", "told")

    def __init__(
        self, status: int, payload: bytes, place: Place | None, record: LogRecord | None, closes: bool
    ) -> None:
        self.status = status
        self.payload = payload
        self.place = place
        self.record = record
        self.closes = closes
        self.hits = 0
        self.told: dict[str, LogRecord] = {}
        """What the log was told of it, by client."""


Run = tuple[bytes, ReadyAnswer, int]
"""A head, its answer, and how many times in a row it was sent."""


class ReadyAnswers:
    """The ready answers of one server; *heads* reads what they answer, within the limits of the request machine."""

    def __init__(self, heads: HeadReader) -> None:
        self.table: dict[bytes, ReadyAnswer] = {}
        self.heads = heads
        self._pages = Pages()
        self._parts: set[int] = set()
        self.files: dict[bytes, tuple[Request, Answer]] = {}
        """Requests whose answers are in open files, by what the sieve leaves of their heads."""
        self._open: list[Answer] = []
        self._size = self._packets = 0

    def keep(
        self, head: bytes, status: int, payload: bytes, record: LogRecord | None = None, *, closes: bool = False
    ) -> None:
        """Answer *head*, which the request machine took for a request without a body, by *payload* from now on.

        *closes*: the request asks for the connection to be closed after it.
        """
        rest = self.heads.sift(head)
        known = self.table.get(rest)
        lent = known is None and len(payload) >= LENT
        self._size += len(rest) + len(payload) * (1 + lent) if known is None else len(payload) - len(known.payload)
        if self._size > SIZE:
            return
        place = self._pages.put(payload) if lent else None
        if known is None:
            self.table[rest] = ReadyAnswer(status, payload, place, record, closes)
        else:  # the head came in pieces, which are not looked up
            known.status, known.payload, known.place, known.record = status, payload, place, record
            known.told.clear()

    def keep_open(self, request: Request, answer: Answer) -> None:
        """Answer *request* by *answer*, whose file is open, from now on."""
        known = self.files.get(rest := self.heads.sift(request.head))
        new = known is None or known[1].own_file != answer.own_file
        if new and len(self._open) < OPEN and answer.hold():
            self.files[rest] = request, answer
            self._open.append(answer)

    def asked_again(self, part: Hashable) -> bool:
        """Whether *part* was asked for before, as far as that is remembered, so that its answer is to be kept."""
        known = hash(part)
        again = known in self._parts
        if len(self._parts) < PARTS:
            self._parts.add(known)
        return again

    def note(self, packet: bytes, ready: ReadyAnswer) -> None:
        """*ready*, found by its rest, answers *packet* as well: the next one like it may not need the sieve."""
        self._packets += len(packet)
        if self._packets <= PACKETS:
            self.table[packet] = ready

    def find_first(self, data: bytes, start: int, most: int) -> list[Run]:
        """The heads that *data* has from *start* on, as far as their answers are known and *most* bytes in all.

        One head alone is left to who asks.
        """
        found: list[Run] = []
        while most > 0 and (end := data.find(END, start, start + self.heads.max_head)) >= 0:
            head = data[start : end + len(END)]
            if len(head) == len(data):
                break
            ready = self.table.get(head)
            if ready is None:
                ready = self.table.get(self.heads.rest(head) or b"")
                if ready is None:
                    break
                self.note(head, ready)
            if ready.closes:
                found.append((head, ready, 1))
                break
            # Who pipelines often asks for the same many times in a row: one look-up does for all of them.
            first, size = start, len(ready.payload)
            limit = start + len(head) * ((most - 1) // size + 1)
            while start < limit and data.startswith(head, start):
                start += len(head)
            times = (start - first) // len(head)
            most -= times * size
            found.append((head, ready, times))
        return found

    def forget(self) -> None:
        """The second is over."""
        self.table.clear()
        self._pages.clear()
        self._parts.clear()
        for answer in self._open:
            answer.close()
        self._open.clear()
        self.files.clear()
        self._size = self._packets = 0


def more_than_a_head(packet: bytes) -> bool:
    """Whether something follows the first head of *packet*."""
    return 0 <= packet.find(END) < len(packet) - len(END)
