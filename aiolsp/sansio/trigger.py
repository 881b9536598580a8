"""What is counted when a descriptor is watched level- or edge-triggered, and the rows of ``trigger matrix``.

Book p. 154, listing 9-3. Both shells run the same scenarios and print the same table; only the counting differs, since
an event loop does not tell how often it called epoll_wait.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Mode: TypeAlias = Literal["lt", "et"]


@dataclass(slots=True)
class Counts:
    """Wake-ups and calls; *waits* stays None where the shell cannot see the calls of epoll_wait."""

    wakeups: int = 0
    waits: int | None = None
    accepts: int = 0
    reads: int = 0
    again: int = 0
    """Calls of accept or recv that ended with EAGAIN; they are among *accepts* and *reads*."""
    received: int = 0
    """Bytes."""

    def add(self, other: Counts) -> None:
        """Count what *other* counted, its epoll_wait calls excepted: they serve many connections."""
        self.wakeups += other.wakeups
        self.accepts += other.accepts
        self.reads += other.reads
        self.again += other.again
        self.received += other.received

    def __str__(self) -> str:
        waits = "" if self.waits is None else f", {self.waits} epoll_wait"
        return f"{self.received} bytes in {self.wakeups} wake-ups: {self.reads} recv, {self.again} EAGAIN{waits}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row of the matrix: what is watched, how, whether the draining is left out, and why the counts are so."""

    watched: Literal["listener", "connection"]
    mode: Mode
    broken: bool
    why: str


SCENARIOS = (
    Scenario("listener", "lt", False, "one accept a wake-up is enough: while connections wait, it is reported again"),
    Scenario("listener", "et", False, "one report for all that came before it, so accept until EAGAIN"),
    Scenario("listener", "et", True, "one accept for that one report: the others wait until somebody else connects"),
    Scenario("connection", "lt", False, "one recv a wake-up is enough: while bytes wait, it is reported again"),
    Scenario("connection", "et", False, "one report for all bytes that came before it, so recv until EAGAIN"),
    Scenario("connection", "et", True, "one recv for that one report: the rest is stuck until more bytes arrive"),
)

HEADINGS = ("watched", "trigger", "wake-ups", "epoll_wait", "accept", "recv", "EAGAIN", "done", "left")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scenario gave: its counts, and how many of its connections or bytes were taken and left."""

    scenario: Scenario
    counts: Counts
    done: int
    left: int

    def cells(self) -> tuple[str, ...]:
        """The row as text; ``-`` for calls that the shell could not see."""
        counts, scenario = self.counts, self.scenario
        trigger = scenario.mode.upper() + (" broken" if scenario.broken else "")
        numbers = (counts.wakeups, counts.waits, counts.accepts, counts.reads, counts.again, self.done, self.left)
        return (scenario.watched, trigger, *("-" if number is None else str(number) for number in numbers))


def table(title: str, outcomes: Iterable[Outcome]) -> str:
    """The matrix for people: *title*, then a row for each outcome with its sentence below."""
    rows = [(outcome.cells(), outcome.scenario.why) for outcome in outcomes]
    widths = [max(len(cells[column]) for cells in (HEADINGS, *(cells for cells, _ in rows))) for column in range(9)]
    lines = [title, "", _aligned(HEADINGS, widths)]
    for cells, why in rows:
        lines += [_aligned(cells, widths), f"    {why}"]
    return "\n".join(lines)


def _aligned(cells: tuple[str, ...], widths: list[int]) -> str:
    words = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
    words += [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
    return "  ".join(words)
