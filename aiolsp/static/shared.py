"""What a worker of a web server has in common with the others: their numbers, their clients, their programs."""

from typing import TYPE_CHECKING, NamedTuple

from aiolsp.sansio import scoreboard
from aiolsp.sansio.scoreboard import Scoreboard
from aiolsp.sansio.tally import LocalTally, Tally

if TYPE_CHECKING:
    from aiolsp.linux.places import Places


class Shared(NamedTuple):
    """One worker's view: *row* is its own of the scoreboard; *programs* bounds those of all, if there are any."""

    scoreboard: Scoreboard
    row: int
    tally: Tally
    programs: "Places | None" = None


def unshared() -> Shared:
    """What a worker has that has no others beside it."""
    return Shared(Scoreboard(memoryview(bytearray(scoreboard.memory_size(1))), 1), 0, LocalTally())
