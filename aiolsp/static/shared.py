"""What the workers of one web server share: their numbers, their clients, their programs."""

from __future__ import annotations

from dataclasses import dataclass

from aiolsp.linux.places import Places
from aiolsp.sansio.scoreboard import Scoreboard, memory_size
from aiolsp.sansio.tally import LocalTally, Tally


@dataclass(frozen=True, slots=True)
class Shared:
    """One worker's view: *row* is its own of the scoreboard; *programs* bounds those of all, if there are any."""

    scoreboard: Scoreboard
    row: int
    tally: Tally
    programs: Places | None = None


def unshared() -> Shared:
    """What a worker has that has no others beside it."""
    return Shared(Scoreboard(memoryview(bytearray(memory_size(1))), 1), 0, LocalTally())
