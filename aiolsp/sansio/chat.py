"""The rules of the chat room: what is said goes to all but its sender, and who does not read has to leave.

Book p. 165, listing 9-7 (the poll server).
Calling sequence: join -> (said | unread | turn | tick)* -> leave, each giving decisions for the shell to carry out.

Facts
    - A room of n members in which each says k lines makes n * k * (n - 1) deliveries: 10 million for 1,000 members of
      10 lines. A send(2) takes microseconds, so one call per line and receiver would take a minute.
    - What one turn of an event loop reads is the same for all who hear it, except for a speaker's own part.
    - "Does not read" cannot be told from "was not scheduled yet" by bytes alone: one turn of a busy room may be more
      than any mark. Only time tells them apart.
Consequence
    The room collects what is said in a turn and delivers it as one piece per member; silent members share one object.
    A member over the high-water mark gets PATIENCE to come down, unless it is so far over that memory is at stake.
Decision
    - Lines of up to LINE_LIMIT bytes; a longer one is delivered as several lines, so that none can be merged with
      another's. The last line of one who leaves is delivered although its newline never came.
    - More than *high_water* bytes unread: *lagging*. Lagging for PATIENCE, or OVERRUN times over the mark: dropped.
    - A line never waits for one who lags; a flood does: whoever says FLOOD bytes at once is not read from again
      before all have caught up or were dropped. TCP then slows the flood to what the readers can take.
Price
    A member that does not read holds up a flood, though never a conversation, for up to PATIENCE.
The book's server keeps one pointer per member to what is to be written, and overwrites it when two speak at once.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import takewhile
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from aiolsp.sansio.lines import LineSplitter

M = TypeVar("M", bound=Hashable)

LINE_LIMIT = 1023
"""Bytes of a line without its end: the book's buffers of 1,024 less the terminating NUL."""

TURN_LIMIT = 64 * 1024
"""Bytes said that end a turn at once, so that a flood is delivered in steps that a socket can take."""

FLOOD = 4 * 1024
"""Bytes said at once that no person types: four lines of full length."""

GRACE = 1.0
"""Seconds that members have at the end to take what is on its way to them."""

PATIENCE = 1.0
"""Seconds that a member may stay over the high-water mark: far more than a busy machine leaves a process waiting."""

OVERRUN = 16
"""Multiple of the high-water mark that is dropped without patience: 1 MiB by default."""

SLACK = 0.001
"""Seconds by which a deadline may be early: uvloop's clock and timers have whole milliseconds."""

TOO_MANY = b"too many users\n"


class Deliver(NamedTuple, Generic[M]):
    """Send *data*, whole lines, to *member*."""

    member: M
    data: bytes


class Reject(NamedTuple, Generic[M]):
    """The room is full: send *member* the reason and close."""

    member: M
    data: bytes


class Drop(NamedTuple, Generic[M]):
    """*member* does not read: cut it off. It has left the room."""

    member: M
    reason: str


class Pause(NamedTuple, Generic[M]):
    """Do not read from *member* for now."""

    member: M


class Resume(NamedTuple, Generic[M]):
    """Read from *member* again."""

    member: M


Decision: TypeAlias = "Deliver[M] | Reject[M] | Drop[M] | Pause[M] | Resume[M]"


class ChatRoom(Generic[M]):
    """The members, what was said in this turn, and who lags behind."""

    def __init__(self, max_members: int, high_water: int) -> None:
        self.max_members = max_members
        self.high_water = high_water
        self._members: dict[M, LineSplitter] = {}
        # This turn.
        self._said: list[bytes] = []
        self._size = 0
        self._own: dict[M, list[tuple[int, int]]] = {}
        # Until all have caught up; one patience for all, so the order of insertion is the order of deadlines.
        self._lagging: dict[M, float] = {}
        self._flooding: set[M] = set()
        self._paused: set[M] = set()

    def __len__(self) -> int:
        """How many members there are."""
        return len(self._members)

    def __contains__(self, member: M) -> bool:
        """Whether *member* has joined and not left."""
        return member in self._members

    @property
    def pending(self) -> bool:
        """Whether something was said that `turn` has yet to deliver."""
        return bool(self._said)

    def join(self, member: M) -> list[Decision[M]]:
        """Let *member* in, or reject it; it hears nothing of what was said before."""
        if len(self._members) >= self.max_members:
            return [Reject(member, TOO_MANY)]
        decisions = self.turn()
        self._members[member] = LineSplitter(LINE_LIMIT)
        return decisions

    def said(self, member: M, data: bytes) -> list[Decision[M]]:
        """Bytes of *member*, cut anywhere; those of one who is not in the room are ignored."""
        if member not in self._members:
            return []
        splitter = self._members[member]
        splitter.feed(data)
        if lines := splitter.whole_lines():
            self._add(member, lines)
        decisions = self.turn() if self._size >= TURN_LIMIT else []
        if len(data) < FLOOD:
            self._flooding.discard(member)
        else:
            self._flooding.add(member)
            if self._lagging:
                decisions += self._hold_back()
        return decisions

    def turn(self) -> list[Decision[M]]:
        """The end of a turn: one delivery for each member that somebody else has said something to."""
        if not self._said:
            return []
        whole = b"".join(self._said)
        own, self._own, self._said, self._size = self._own, {}, [], 0
        decisions: list[Decision[M]] = []
        for member in self._members:
            data = _without(whole, own[member]) if member in own else whole
            if data:
                decisions.append(Deliver(member, data))
        return decisions

    def unread(self, member: M, size: int, now: float) -> list[Decision[M]]:
        """The shell holds *size* bytes that the socket of *member* does not take; *now* in seconds of any clock."""
        if member not in self._members:
            return []
        if size > self.high_water * OVERRUN:
            return self._drop(member, f"{size} bytes unread")
        if size > self.high_water:
            if member in self._lagging:
                return []
            self._lagging[member] = now + PATIENCE
            return self._hold_back()
        if size > self.high_water // 2:
            return []
        return self._caught_up(member)

    def leave(self, member: M, unread: int = 0, now: float = 0.0) -> list[Decision[M]]:
        """*member* has ended, and gets PATIENCE to read the *unread* bytes on their way; leaving twice does no harm."""
        splitter = self._members.pop(member, None)
        if splitter is not None and (rest := splitter.rest()):
            self._add(member, rest + b"\n")
        self._flooding.discard(member)
        self._paused.discard(member)
        if unread:
            self._lagging.setdefault(member, now + PATIENCE)
            return []
        return self._caught_up(member)

    def next_deadline(self) -> float | None:
        """When to call `tick`; None while nobody lags."""
        return next(iter(self._lagging.values()), None)

    def tick(self, now: float) -> list[Decision[M]]:
        """Drop those whose patience has run out by *now*."""
        due = list(takewhile(lambda member: self._lagging[member] <= now + SLACK, self._lagging))
        decisions: list[Decision[M]] = []
        for member in due:
            decisions += self._drop(member, f"over the high-water mark for {PATIENCE} s")
        return decisions

    def _add(self, member: M, lines: bytes) -> None:
        self._own.setdefault(member, []).append((self._size, self._size + len(lines)))
        self._said.append(lines)
        self._size += len(lines)

    def _drop(self, member: M, reason: str) -> list[Decision[M]]:
        return [Drop(member, reason), *self.leave(member)]

    def _hold_back(self) -> list[Decision[M]]:
        floods = self._flooding - self._paused
        self._paused |= floods
        return [Pause(member) for member in floods]

    def _caught_up(self, member: M) -> list[Decision[M]]:
        self._lagging.pop(member, None)
        if self._lagging or not self._paused:
            return []
        paused, self._paused = self._paused, set()
        return [Resume(member) for member in paused]


def _without(whole: bytes, own: list[tuple[int, int]]) -> bytes:
    """*whole* less the spans *own*, which are in order."""
    start, kept = 0, []
    for begin, end in own:
        kept.append(whole[start:begin])
        start = end
    kept.append(whole[start:])
    return b"".join(kept)
