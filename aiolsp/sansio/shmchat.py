"""One seat in the shared-memory chat: a client's lines into its own slot, the others' lines to the client.

Book p. 255, listing 13-4. Calling sequence: (said | hear | lag | catch_up | write | tick)* -> leave -> (write | tick)*.
What comes back are the slots whose doorbells the shell must ring.

Facts
    - A ring in shared memory takes lines as fast as its writer stores them, and the next ones overwrite the first: no
      kernel buffer fills up, so nothing slows a flood down.
    - A reader is behind either because its client does not read, or because it was not scheduled yet.
Consequence
    To lose nothing of a pasted file, a writer must wait for readers of the second kind; waiting for the first would let
    one client stop all.
Decision
    A reader whose client lags says so, is not waited for, and is overtaken: it tells its client how many lines it
    missed. For the others a writer waits when its ring is full of what they have not read, and meanwhile does not read
    its client, so that TCP slows the flood; for at most PATIENCE, because a reader may be stopped by a signal.
Price
    A reader that is stopped holds up whoever has filled a ring, once for PATIENCE; never one who speaks less.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from aiolsp.sansio.chat import LINE_LIMIT, PATIENCE, SLACK, TURN_LIMIT
from aiolsp.sansio.lines import LineSplitter, LineStatus
from aiolsp.sansio.slots import SharedSlots, SlotReader, SlotWriter

HIGH_WATER = 64 * 1024
"""Bytes unread by a client that make it one that lags; the poll chat's default."""

GRACE = 1.0
"""Seconds that the members' processes have to end in."""

NO_PROCESS = b"no process left\n"
"""What a client is told when fork fails."""


@dataclass(frozen=True, slots=True)
class RoomSettings:
    """How many may be in the room, by which of linux/shm.py's KINDS they share memory, and bytes of a member's ring."""

    max_users: int = 5
    shm: str = "memfd"
    slot_size: int = 64 * 1024


class Hearing(NamedTuple):
    """Bytes for the client, the lines that were missed before them, and the slots to ring."""

    data: bytes
    missed: int
    ring: list[int]


class Seat:
    """The owner of *slot*, from the moment the slot was taken."""

    def __init__(self, shared: SharedSlots, slot: int) -> None:
        self._shared = shared
        self._slot = slot
        self._writer = SlotWriter(shared, slot)
        self._reader = SlotReader(shared, slot)
        self._splitter = LineSplitter(LINE_LIMIT)
        self._unwritten: deque[bytes] = deque()
        self._deadline: float | None = None
        self._hears = True

    @property
    def held_up(self) -> bool:
        """Whether lines wait for room in the ring: then the client must not be read from."""
        return bool(self._unwritten)

    def said(self, data: bytes, now: float) -> list[int]:
        """Bytes of the client, cut anywhere; *now* in seconds of any clock."""
        self._splitter.feed(data)
        while (found := self._splitter.next_line())[0] is LineStatus.OK:
            self._unwritten.append(found[1] + b"\n")
        return self.write(now)

    def leave(self, now: float) -> list[int]:
        """The client has ended: its last line needs no end, and it hears no more."""
        if rest := self._splitter.rest():
            self._unwritten.append(rest + b"\n")
        return [*self.lag(), *self.write(now)]

    def write(self, now: float) -> list[int]:
        """Write what waits, as far as there is room; to be called when the doorbell has rung."""
        before = len(self._unwritten)
        while self._unwritten and (room := self._writer.room()):
            for _ in range(min(room, len(self._unwritten))):
                self._writer.write(self._unwritten.popleft())
        written = len(self._unwritten) < before
        if not self._unwritten:
            self._deadline = None
        elif written or self._deadline is None:
            self._deadline = now + PATIENCE
        return self._shared.others(self._slot) if written else []

    def next_deadline(self) -> float | None:
        """When to call `tick`; None while nothing waits for room."""
        return self._deadline

    def tick(self, now: float) -> list[int]:
        """Patience may have run out by *now*: then those who left no room are overtaken."""
        if self._deadline is None or self._deadline > now + SLACK:
            return []
        self._writer.give_up()
        return self.write(now)

    def hear(self) -> Hearing:
        """What the others have said; about TURN_LIMIT bytes at most, and the own doorbell is rung if there is more."""
        pieces: list[bytes] = []
        ring: list[int] = []
        size = missed = 0
        for news in self._reader.read() if self._hears else ():
            missed += news.missed
            pieces += news.lines
            ring += [news.slot] * news.tell
            size += sum(map(len, news.lines))
            if size >= TURN_LIMIT:
                break
        if self._hears and self._reader.waiting:
            ring.append(self._slot)
        if missed:
            pieces.insert(0, b"* %d line%s missed\n" % (missed, b"s"[: missed > 1]))
        return Hearing(b"".join(pieces), missed, ring)

    def lag(self) -> list[int]:
        """The client does not read: hear no more for now, and let nobody wait for this seat."""
        self._hears = False
        self._reader.pause()
        return self._shared.others(self._slot)

    def catch_up(self) -> None:
        """The client reads again; `hear` tells what it missed."""
        self._hears = True
        self._reader.resume()
