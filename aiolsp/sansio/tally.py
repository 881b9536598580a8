"""How many connections there are, in all and from one address: in one process exactly, across workers by a sketch.

Cormode and Muthukrishnan, An Improved Data Stream Summary: The Count-Min Sketch, 2005.

Facts
    - A limit that each worker keeps for itself is no limit: N workers allow N times as much, or an N-th of it each.
    - A table by address that several processes write needs a lock, and whoever is killed holding it stops all.
    - A word that only one process writes needs none.
Consequence
    Each worker keeps counts of its own where the others can read them; a table of fixed size fits shared memory.
Decision
    A worker's row is its number of connections and two lines of COLUMNS counts. An address has a place in each line,
    which others may share; of the two sums over all rows the smaller one counts. It is never less than the truth. The
    hash is Python's own, which is seeded anew for each server and the same in all children of one process: nobody
    outside can choose addresses that meet.
    Who counts a connection before comparing never exceeds a limit: two that come at one moment see each other.
Price
    Of connections that reach several workers at one moment, more may be turned away than had to be; and so may a client
    whose two places are both taken by others, one in 10,000 if 160 addresses are at their limit. 128 KiB for each row.

The memory, in words of 4 bytes: rows x (1 + 2 x COLUMNS).
"""

from __future__ import annotations

from typing import Protocol

WORD = 4

COLUMNS = 16 * 1024
"""Counts in a line: as many as there are connections at most by default, so that a count is shared by few."""

_ROW = 1 + 2 * COLUMNS


class Tally(Protocol):
    """Counts connections; *host* is the client's address, "" where it has none."""

    def add(self, host: str) -> int:
        """One more connection of this process; how many there are of *host* now.

        0 for "", since clients without an address have nothing in common.
        """

    def remove(self, host: str) -> None:
        """One less."""

    @property
    def in_all(self) -> int:
        """How many there are."""


class LocalTally:
    """The tally of one process, counted exactly."""

    def __init__(self) -> None:
        self.in_all = 0
        """How many there are."""
        self._by_host: dict[str, int] = {}

    def add(self, host: str) -> int:
        """One more connection; how many there are of *host*, 0 for ""."""
        self.in_all += 1
        if not host:
            return 0
        of_host = self._by_host[host] = self._by_host.get(host, 0) + 1
        return of_host

    def remove(self, host: str) -> None:
        """One less."""
        self.in_all -= 1
        if host:
            left = self._by_host[host] - 1
            if left:
                self._by_host[host] = left
            else:
                del self._by_host[host]


class SharedTally:
    """The tally of several processes, this one being the writer of *row* of *rows* in *buffer* (zeros when it is new).

    Raises ValueError if *buffer* is too small.
    """

    def __init__(self, buffer: memoryview, rows: int, row: int = 0) -> None:
        if len(buffer) < (needed := memory_size(rows)):
            raise ValueError(f"{len(buffer)} bytes are less than the {needed} that {rows} rows need")
        self._words = buffer[:needed].cast("I")
        self._starts = range(0, rows * _ROW, _ROW)
        self._start = self._starts[row]

    def detach(self) -> None:
        """Let go of the buffer, so that its owner can unmap it."""
        self._words.release()

    def vacate(self, row: int) -> None:
        """The worker of *row* has ended, and with it its connections."""
        start = self._starts[row]
        self._words[start : start + _ROW] = memoryview(bytes(_ROW * WORD)).cast("I")

    def add(self, host: str) -> int:
        """One more connection of this worker; how many there are of *host* in all of them (see `of`)."""
        self._add(host, 1)
        return self.of(host)

    def remove(self, host: str) -> None:
        """One less."""
        self._add(host, -1)

    @property
    def in_all(self) -> int:
        """How many there are in all workers."""
        return sum(self._words[start] for start in self._starts)

    def of(self, host: str) -> int:
        """How many there are of *host* in all workers: never less than the truth, seldom more; 0 for ""."""
        if not host:
            return 0
        return min(sum(self._words[start + place] for start in self._starts) for place in _places(host))

    def _add(self, host: str, change: int) -> None:
        self._words[self._start] += change
        if host:
            for place in _places(host):
                self._words[self._start + place] += change


def _places(host: str) -> tuple[int, int]:
    """Where *host* is counted in each line."""
    bits = hash(host)
    return 1 + bits % COLUMNS, 1 + COLUMNS + (bits >> 32) % COLUMNS


def memory_size(rows: int) -> int:
    """Bytes of memory that *rows* rows take."""
    return rows * _ROW * WORD
