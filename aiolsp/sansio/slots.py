"""Lines in shared memory: one writer for each slot, any number of readers, no lock.

Book p. 255, listing 13-4 (the shared-memory chat): there a user's one buffer is overwritten by its next message,
whether the others have read it or not.

Facts (CPython 3.11 to 3.13)
    - ``view[i] = n`` on a ``memoryview.cast("Q")`` is a memcpy of 8 bytes, which compilers make one store; an aligned
      store of 8 bytes is one for all who look (Intel SDM 3A 9.1.1, Arm ARM B2.2.1). ``struct.pack_into("<Q")`` stores
      byte by byte.
    - x86-64 keeps the order of stores, and of loads (SDM 3A 9.2.2). Arm keeps neither, and Python has no barrier.
    - A process may be killed between any two stores.
Consequence
    A word is never torn. Anything longer may be overwritten while it is read, or be half written for ever.
Decision
    A slot is a ring of cells. Line *n* of a slot, counted since the memory was made, stands in cell *n* modulo their
    number. Its writer stores ``claimed = n + 1``, the line, its head (length, checksum), ``published = n + 1``. A
    reader copies up to `published`, then looks at `claimed`: what is older than ``claimed - cells`` may be torn, is
    thrown away and counted as missed. A claim that a killed writer left is claimed again by the next; counts go on.
    Each reader stores how far it has read, so that a writer can tell that it would overtake one that was merely not
    scheduled yet. Who does not want to be waited for stores 0.
    The checksum answers for the order that a machine does not keep: a line that does not match is not here yet, and
    the doorbell that is rung after it, a system call, orders it.
Price
    A cell for each line, however short; a word for each pair of slots. Lines of two speakers have no common order.

The memory, in words of 8 bytes, for n slots:

    0                claimed[n]    lines begun                            stored by the slot's writer
    n                published[n]  lines whole                            stored by the slot's writer
    2n               taken[n]      1 while the slot has an owner          stored by who gives slots out
    3n               heard[n][n]   by speaker, then listener: lines read  stored by who gives slots out while the
                                   plus 1, or 0: do not wait for it       listener has no owner, else by that
    3n + n*n         closed        1 when all shall end                   stored by who gives slots out
    3n + n*n + 1     rings[n]      cells: length | checksum << 32, and 1,024 bytes of line

Calling sequence: take -> (SlotWriter, SlotReader in the owner: write | read)* -> release; close at the end.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

WORD = 8

LONGEST = 1024
"""Bytes of the longest line, its end included: the book's BUFFER_SIZE."""

CELL = WORD + LONGEST

MINIMUM = 2 * CELL
"""Bytes of the smallest ring: with one cell, the next line would always overwrite one that is being read."""

BATCH = 64
"""Lines of one speaker that a reader copies at once, before those of another."""


class News(NamedTuple):
    """What a reader found in *slot*: lines in order, after *missed* others that it was too late for.

    *tell* asks to ring its writer: half a ring has been read since it was last told, so it may be waiting for room.
    """

    slot: int
    lines: list[bytes]
    missed: int
    tell: bool


class SharedSlots:
    """*slots* rings of *size* bytes in the writable *buffer*, zeros when it is new.

    Raises ValueError if *size* is below MINIMUM or *buffer* is too small.
    """

    def __init__(self, buffer: memoryview, slots: int, size: int) -> None:
        if len(buffer) < (needed := memory_size(slots, size)):
            raise ValueError(f"{len(buffer)} bytes are less than the {needed} that {slots} slots need")
        self.slots = slots
        self.cells = size // CELL
        self._published = slots
        self._taken = 2 * slots
        self._heard = 3 * slots
        self._closed = self._heard + slots * slots
        self._rings = (self._closed + 1) * WORD
        self._bytes = buffer[:needed]
        self._words = buffer[:needed].cast("Q")

    def detach(self) -> None:
        """Let go of the buffer, so that its owner can unmap it; nothing else may be called afterwards."""
        self._words.release()
        self._bytes.release()

    def take(self) -> int | None:
        """Give out a free slot, whose owner hears what is published from now on; None if there is none.

        For the one process that gives slots out, as `release` and `close`.
        """
        taken = self._words[self._taken : self._heard].tolist()
        if 0 not in taken:
            return None
        slot = taken.index(0)
        self.listen(slot, self.published())
        self._words[self._taken + slot] = 1
        return slot

    def release(self, slot: int) -> None:
        """The owner of *slot* has ended, perhaps killed: nobody waits for it any more, and the slot is free.

        A writer that did wait has to be rung.
        """
        self.deafen(slot)
        self._words[self._taken + slot] = 0

    def close(self) -> None:
        """Say to all owners that they shall end."""
        self._words[self._closed] = 1

    @property
    def closed(self) -> bool:
        """Whether `close` was called, in whatever process."""
        return bool(self._words[self._closed])

    def others(self, slot: int) -> list[int]:
        """The slots but *slot* that have an owner."""
        taken = self._words[self._taken : self._heard].tolist()
        return [other for other, owned in enumerate(taken) if owned and other != slot]

    def heard(self, speaker: int) -> list[int]:
        """How many lines of *speaker* each owner has read, plus one; 0: do not wait for it."""
        row = self._heard + speaker * self.slots
        return self._words[row : row + self.slots].tolist()

    def set_heard(self, speaker: int, listener: int, count: int) -> None:
        """The owner of *listener* has read *count* lines of *speaker*."""
        self._words[self._heard + speaker * self.slots + listener] = count + 1

    def listen(self, listener: int, counts: list[int]) -> None:
        """The owner of *listener* has read *counts* lines of each slot; writers but its own wait for it."""
        for speaker, count in enumerate(counts):
            if speaker != listener:
                self.set_heard(speaker, listener, count)

    def deafen(self, listener: int) -> None:
        """No writer shall wait for the owner of *listener*."""
        for speaker in range(self.slots):
            self._words[self._heard + speaker * self.slots + listener] = 0

    def published(self) -> list[int]:
        """How many lines of each slot are whole."""
        return self._words[self._published : self._taken].tolist()

    def claimed(self, slot: int) -> int:
        """How many lines of *slot* were begun."""
        return self._words[slot]

    def store(self, slot: int, number: int, line: bytes) -> None:
        """Store line *number* of *slot*, in the order that readers and a next writer rely on."""
        cell = self._cell(slot, number)
        self._words[slot] = number + 1
        self._bytes[cell + WORD : cell + WORD + len(line)] = line
        self._words[cell // WORD] = len(line) | _checksum(line, number) << 32
        self._words[self._published + slot] = number + 1

    def load(self, slot: int, number: int) -> bytes | None:
        """A copy of line *number* of *slot*; None if it is not whole: overwritten, or not here yet."""
        cell = self._cell(slot, number)
        head = self._words[cell // WORD]
        length = head & 0xFFFFFFFF
        line = bytes(self._bytes[cell + WORD : cell + WORD + length])
        return line if _checksum(line, number) == head >> 32 else None

    def _cell(self, slot: int, number: int) -> int:
        return self._rings + (slot * self.cells + number % self.cells) * CELL


class SlotWriter:
    """The one writer of *slot*: it goes on where the slot's last owner stopped or was killed."""

    def __init__(self, shared: SharedSlots, slot: int) -> None:
        self._shared = shared
        self._slot = slot
        self._next = shared.published()[slot]
        self._given_up = [0] * shared.slots

    def write(self, line: bytes) -> None:
        """Publish *line*, whoever is overtaken by it. Raises ValueError if it is longer than LONGEST."""
        if len(line) > LONGEST:
            raise ValueError(f"a line of {len(line)} bytes does not fit a cell")
        self._shared.store(self._slot, self._next, line)
        self._next += 1

    def room(self) -> int:
        """How many lines can be written before somebody who listens is overtaken; 0: wait to be rung."""
        heard = zip(self._shared.heard(self._slot), self._given_up, strict=True)
        slowest = min((count for count, given_up in heard if count not in (0, given_up)), default=self._next + 1)
        return max(0, slowest - self._least())

    def give_up(self) -> None:
        """Wait no longer for those who leave no room, until they have read on."""
        self._given_up = [count if count <= self._least() else 0 for count in self._shared.heard(self._slot)]

    def _least(self) -> int:
        """The count in `heard` of one whom the next line would overtake."""
        return self._next + 1 - self._shared.cells


class SlotReader:
    """Reads for the owner of *slot* what the others have published since it was taken."""

    def __init__(self, shared: SharedSlots, slot: int) -> None:
        self._shared = shared
        self._slot = slot
        self._cursors = [shared.heard(speaker)[slot] - 1 for speaker in range(shared.slots)]
        self._told = list(self._cursors)
        self._listening = True
        self._first = 0

    def pause(self) -> None:
        """Let nobody wait for this reader: it may be overtaken from now on. A writer that did wait has to be rung."""
        self._listening = False
        self._shared.deafen(self._slot)

    def resume(self) -> None:
        """Let the others wait again before they overtake this reader."""
        self._listening = True
        self._shared.listen(self._slot, self._cursors)

    @property
    def waiting(self) -> list[int]:
        """The slots that hold something to read, those first whose turn it is."""
        order = [*range(self._first, self._shared.slots), *range(self._first)]
        published = self._shared.published()
        return [slot for slot in order if published[slot] != self._cursors[slot] and slot != self._slot]

    def read(self) -> Iterator[News]:
        """News of each slot that has any, at most BATCH lines; stopped early, it goes on there the next time."""
        for slot in self.waiting:
            self._first = (slot + 1) % self._shared.slots
            yield self._read(slot)

    def _read(self, slot: int) -> News:
        shared, cursor = self._shared, self._cursors[slot]
        published = shared.published()[slot]
        first = max(cursor, published - shared.cells)
        copies = [shared.load(slot, number) for number in range(first, min(published, first + BATCH))]
        oldest = max(first, shared.claimed(slot) - shared.cells)
        overtaken = copies[: oldest - first]
        lines: list[bytes] = []
        for copy in copies[oldest - first :]:
            if copy is None:
                break
            lines.append(copy)
        self._cursors[slot] = reached = first + len(overtaken) + len(lines)
        if self._listening:
            shared.set_heard(slot, self._slot, reached)
        tell = reached - self._told[slot] >= (shared.cells + 1) // 2
        if tell:
            self._told[slot] = reached
        return News(slot, lines, first + len(overtaken) - cursor, tell)


def memory_size(slots: int, size: int) -> int:
    """Bytes of memory for *slots* rings of *size* bytes. Raises ValueError for a *size* below MINIMUM."""
    if size < MINIMUM:
        raise ValueError(f"a ring of {size} bytes holds less than two lines")
    return (slots * (3 + slots) + 1) * WORD + slots * (size // CELL) * CELL


def _checksum(line: bytes, number: int) -> int:
    return zlib.crc32(line, number & 0xFFFFFFFF)
