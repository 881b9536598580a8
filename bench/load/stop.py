"""When a run ends: the stop rule, one of the three axes of a run. Pure: time and counts come in as arguments."""

from __future__ import annotations

from dataclasses import dataclass

from load.units import format_duration

NEVER = 1 << 63
"""An instant and a number that no run reaches; two comparisons with whole numbers are all that a request can afford."""


@dataclass(frozen=True)
class StopRule:
    """No request starts after *duration* nanoseconds, nor after *requests* of them; at least one of the two is set."""

    duration: int | None = None
    requests: int | None = None

    def __post_init__(self) -> None:
        if self.duration is None and self.requests is None:
            raise ValueError("a run needs an end: a duration or a number of requests")

    def deadline(self, begin: int) -> int:
        """The instant from which no request starts in a run that began at *begin*."""
        return NEVER if self.duration is None else begin + self.duration

    @property
    def most(self) -> int:
        """The number of requests after which none starts."""
        return NEVER if self.requests is None else self.requests

    def share(self, index: int, of: int) -> StopRule:
        """The part of one of several workers: the same duration, and requests that add up to all."""
        return StopRule(self.duration, None if self.requests is None else len(range(index, self.requests, of)))

    def describe(self) -> str:
        """A few words for the report."""
        duration = format_duration(self.duration) if self.duration is not None else ""
        requests = f"{self.requests:,} requests" if self.requests is not None else ""
        return " or ".join(filter(None, (requests, duration)))
