"""When requests are due: the schedule, one of the three axes of a run.

A **closed loop** sends the next request when a connection is free: a slow server slows the load down, and the latencies
of the requests that were *not* sent meanwhile are missing (coordinated omission, G. Tene). An **open loop** makes a
plan that the server cannot change; latency counts from the *intended* start, so a stall shows in every request it
delayed.

A schedule is pure: it yields offsets from the start of the run and reads no clock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from random import Random
from typing import Protocol

from load.units import SECOND, format_rate

PAGE = 256
"""Arrivals that are drawn together: in some 0.05 ms, and 40,000 such pages are counted in a tenth of a second."""


class Schedule(Protocol):
    """Yields the intended starts of a run."""

    @property
    def rate(self) -> float | None:
        """Planned requests per second; None when the server sets the pace."""

    def offsets(self) -> Iterator[int] | None:
        """Ascending nanoseconds after the start, without end; None for a closed loop."""

    def due(self, before: int) -> int:
        """How many of them are less than *before*, without looking at each; 0 for a closed loop."""

    def describe(self) -> str:
        """A few words for the report."""


@dataclass(frozen=True)
class ClosedLoop:
    """A request is due whenever a connection is free."""

    rate: None = None

    def offsets(self) -> None:
        """None: there is no plan."""

    def due(self, before: int) -> int:
        """0: none was planned."""
        return 0

    def describe(self) -> str:
        """A few words for the report."""
        return "closed loop"


@dataclass(frozen=True)
class ConstantRate:
    """A request every 1/rate seconds, computed from its number so that no rounding adds up."""

    rate: float

    def offsets(self) -> Iterator[int]:
        """0, 1/rate, 2/rate ..."""
        return (round(number * SECOND / self.rate) for number in count())

    def due(self, before: int) -> int:
        """See ``Schedule``."""
        more_than_all = int(max(before, 0) * self.rate / SECOND * (1 + 1e-9)) + 2
        return bisect_left(range(more_than_all), before, key=lambda number: round(number * SECOND / self.rate))

    def describe(self) -> str:
        """A few words for the report."""
        return f"open loop at a constant {format_rate(self.rate)}"


@dataclass(frozen=True)
class PoissonRate:
    """Independent arrivals, as from many users: exponentially distributed gaps with mean 1/rate.

    Made a page at a time, so that those of a page can be counted without being made: the last of PAGE arrivals comes
    after a time of the gamma distribution, and the others are anywhere before it, which is the same process.
    """

    rate: float
    seed: int = 0

    def offsets(self) -> Iterator[int]:
        """The same arrivals for the same seed, so that two servers can be given the same load."""
        for number, begin, end in self._pages():
            yield from self._page(number, begin, end)

    def due(self, before: int) -> int:
        """See ``Schedule``."""
        number, begin, end = next(page for page in self._pages() if round(page[2] * SECOND) >= before)
        return number * PAGE + bisect_left(self._page(number, begin, end), before)

    def _pages(self) -> Iterator[tuple[int, float, float]]:
        """The number of each page, when it begins, and when the last of it comes, in seconds."""
        random = Random(self.seed)
        begin = 0.0
        for number in count():
            end = begin + random.gammavariate(PAGE, 1 / self.rate)
            yield number, begin, end
            begin = end

    def _page(self, number: int, begin: float, end: float) -> list[int]:
        random = Random(f"{number} of {self.seed}").random
        others = sorted(random() for _ in range(PAGE - 1))
        return [round((begin + (end - begin) * part) * SECOND) for part in others] + [round(end * SECOND)]

    def describe(self) -> str:
        """A few words for the report."""
        return f"open loop, Poisson arrivals at {format_rate(self.rate)}"


@dataclass(frozen=True)
class Share:
    """Every *of*-th request of another schedule, from number *index*: all shares together are that schedule exactly."""

    schedule: Schedule
    index: int
    of: int

    @property
    def rate(self) -> float | None:
        """This share's part of the rate."""
        return None if self.schedule.rate is None else self.schedule.rate / self.of

    def offsets(self) -> Iterator[int] | None:
        """The offsets numbered index, index + of, index + 2 of ..."""
        offsets = self.schedule.offsets()
        return None if offsets is None else islice(offsets, self.index, None, self.of)

    def due(self, before: int) -> int:
        """See ``Schedule``."""
        return len(range(self.index, self.schedule.due(before), self.of))

    def describe(self) -> str:
        """A few words for the report."""
        return f"{self.schedule.describe()}, share {self.index + 1} of {self.of}"
