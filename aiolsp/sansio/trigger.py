"""What is counted when a descriptor is watched level- or edge-triggered, and the rows of ``trigger matrix``.

Book p. 154, listing 9-3. Both shells run the same scenarios and print the same table; only the counting differs, since
an event loop does not tell how often it called epoll_wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Mode: TypeAlias = Literal["lt", "et"]
Watched: TypeAlias = Literal["listener", "connection"]

BUDGET = 64
"""Reads of one wake-up under edge triggering: then the others get a turn, or a peer that floods would keep the loop."""

PAUSE = 0.2
"""Seconds between the client's bytes and its end of stream, so that the end is an event of its own."""

PATIENCE = 2.0
"""Seconds that the client waits for the server to read to the end: a server that drains needs milliseconds."""

ALL_READ = "the server has read to the end"
STUCK = f"after {PATIENCE:g} s the server has not read to the end"

QUIET = 0.5
"""Seconds without a wake-up after which a scenario of the matrix has come to rest; all it waits for is there before."""

END = "end of stream"
RESET = "reset by the peer"
LATER = "read later"
"""EAGAIN: the next segment is the next edge."""


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
        calls = [
            ("accept", self.accepts or None),
            ("recv", self.reads),
            ("EAGAIN", self.again),
            ("epoll_wait", self.waits),
        ]
        told = ", ".join(f"{number} {name}" for name, number in calls if number is not None)
        return f"{self.received} bytes in {self.wakeups} wake-ups: {told}"


MAX_CONNECTIONS = 1000
"""Connections of a scenario: all wait in one backlog (1024), and each takes two descriptors of this process."""

MAX_BYTES = 32 * 1024
"""Bytes on each connection: they all wait in its receive buffer (128 KiB by default, of which overhead takes half)."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many connections a scenario has, the bytes sent on each, and the bytes of one read.

    Raises ValueError for more than can wait unread.
    """

    connections: int = 20
    bytes: int = 54
    buffer: int = 10

    def __post_init__(self) -> None:
        if self.connections > MAX_CONNECTIONS:
            raise ValueError(f"{self.connections} connections are too many to wait in a backlog: {MAX_CONNECTIONS} can")
        if self.bytes > MAX_BYTES:
            raise ValueError(f"{self.bytes} bytes are too many to wait in a receive buffer: {MAX_BYTES} can")

    def total(self, watched: Watched) -> int:
        """The connections that wait at a listener, or the bytes that wait on the connections."""
        return self.connections if watched == "listener" else self.connections * self.bytes

    def __str__(self) -> str:
        return f"{self.connections} connections, {self.bytes} bytes on each, {self.buffer} bytes a read"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row of the matrix: what is watched, how, whether the draining is left out, and why the counts are so."""

    watched: Watched
    mode: Mode
    broken: bool
    why: str


SCENARIOS = (
    Scenario("listener", "lt", False, "one accept a wake-up is enough: while connections wait, it is reported again"),
    Scenario("listener", "et", False, "one report for all that came before it, so accept until EAGAIN"),
    Scenario(
        "listener", "et", True, "one accept for that one report: the others wait, and a newcomer frees only one of them"
    ),
    Scenario("connection", "lt", False, "one recv a wake-up is enough: while bytes wait, it is reported again"),
    Scenario("connection", "et", False, "one report for all bytes that came before it, so recv until EAGAIN"),
    Scenario("connection", "et", True, "one recv for that one report: the rest is stuck until more bytes arrive"),
)

HEADINGS = ("watched", "trigger", "wake-ups", "epoll_wait", "accept", "recv", "EAGAIN", "done", "left")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scenario gave: its counts, and how many of its connections or bytes were taken."""

    scenario: Scenario
    counts: Counts
    total: int
    done: int

    def cells(self) -> tuple[str, ...]:
        """The row as text; ``-`` for calls that the shell could not see."""
        counts, scenario = self.counts, self.scenario
        trigger = scenario.mode.upper() + (" broken" if scenario.broken else "")
        numbers = (
            counts.wakeups,
            counts.waits,
            counts.accepts,
            counts.reads,
            counts.again,
            self.done,
            self.total - self.done,
        )
        return (scenario.watched, trigger, *("-" if number is None else str(number) for number in numbers))


class Trial:
    """A scenario while it plays: ``wake* -> outcome``; its ``counts``, and what is ``done``."""

    def __init__(self, scenario: Scenario, sizes: Sizes, counts: Counts) -> None:
        self.counts = counts
        self.done = 0
        """Connections or bytes that were taken."""
        self._scenario = scenario
        self._total = sizes.total(scenario.watched)

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be taken."""
        return self.done >= self._total

    @property
    def outcome(self) -> Outcome:
        """What it has given."""
        return Outcome(self._scenario, self.counts, self._total, self.done)

    def wake(self, take: Callable[[], int]) -> None:
        """A wake-up: *take* once, or until it raises BlockingIOError (EAGAIN), as the scenario says.

        *take* accepts one connection, or reads from one and returns how many bytes. What else it raises is passed on.
        """
        self.counts.wakeups += 1
        try:
            self._take(take)
            while self._scenario.mode == "et" and not self._scenario.broken:
                self._take(take)
        except BlockingIOError:
            self.counts.again += 1

    def _take(self, take: Callable[[], int]) -> None:
        if self._scenario.watched == "listener":
            self.counts.accepts += 1
            take()
            self.done += 1
            return
        self.counts.reads += 1
        size = take()
        self.counts.received += size
        self.done += size


def table(title: str, outcomes: Iterable[Outcome]) -> str:
    """The matrix for people: *title*, then a row for each outcome with its sentence below."""
    rows = [(outcome.cells(), outcome.scenario.why) for outcome in outcomes]
    widths = [max(len(cells[column]) for cells in (HEADINGS, *(cells for cells, _ in rows))) for column in range(9)]
    lines = [title, "", _aligned(HEADINGS, widths)]
    for cells, why in rows:
        lines += [_aligned(cells, widths), f"    {why}"]
    if any("-" in cells for cells, _ in rows):
        lines += ["", "-  called by the event loop, which does not tell how often"]
    return "\n".join(lines)


def _aligned(cells: tuple[str, ...], widths: list[int]) -> str:
    words = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
    words += [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
    return "  ".join(words)
