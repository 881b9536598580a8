"""What the workers of one web server share, as the parent makes it for them: their numbers, clients, programs.

Apart from `shared`, for a server of one process shares nothing, and starts sooner without the means.
"""

from __future__ import annotations

from aiolsp.linux.places import Places
from aiolsp.linux.shm import SharedMemory
from aiolsp.sansio import scoreboard, tally
from aiolsp.sansio.scoreboard import Scoreboard
from aiolsp.sansio.tally import SharedTally
from aiolsp.static.shared import Shared


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
