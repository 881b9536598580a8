"""What the workers of one web server share: their numbers, their clients, their programs."""

from __future__ import annotations

from dataclasses import dataclass

from aiolsp.linux.places import Places
from aiolsp.linux.shm import SharedMemory
from aiolsp.sansio import scoreboard, tally
from aiolsp.sansio.scoreboard import Scoreboard
from aiolsp.sansio.tally import LocalTally, SharedTally, Tally


@dataclass(frozen=True, slots=True)
class Shared:
    """One worker's view: *row* is its own of the scoreboard; *programs* bounds those of all, if there are any."""

    scoreboard: Scoreboard
    row: int
    tally: Tally
    programs: Places | None = None


def unshared() -> Shared:
    """What a worker has that has no others beside it."""
    return Shared(Scoreboard(memoryview(bytearray(scoreboard.memory_size(1))), 1), 0, LocalTally())


class Commons:
    """What up to *rows* workers share, made before they are forked; at most *programs* run in all of them.

    Raises OSError if there is not enough shared memory.
    """

    def __init__(self, rows: int, programs: int) -> None:
        self.programs = Places(programs)
        self._rows = rows
        numbers = scoreboard.memory_size(rows)
        self._memory = SharedMemory("memfd", numbers + tally.memory_size(rows))
        self._scoreboard = Scoreboard(self._memory.buffer[:numbers], rows)
        self._tallies = self._memory.buffer[numbers:]
        self._tally = SharedTally(self._tallies, rows)

    def of(self, row: int) -> Shared:
        """What the worker of *row* has of it."""
        return Shared(self._scoreboard, row, SharedTally(self._tallies, self._rows, row), self.programs)

    def vacate(self, row: int) -> None:
        """The worker of *row* has ended: what it had at that moment is nobody's."""
        self._scoreboard.vacate(row)
        self._tally.vacate(row)
