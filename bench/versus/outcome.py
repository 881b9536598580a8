"""What one run of a load gave, and the figures that follow. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from load.histogram import Histogram
from load.units import SECOND

Figures = dict[str, float]
"""Figures by the names of ``figures.KINDS``."""


@dataclass
class Outcome:
    """A run, or several of the same load added up."""

    units: float = 0
    """Pieces of work done within *elapsed*."""
    done: float = 0
    """Pieces of work that the processor time is for: those that came after the end as well."""
    elapsed: int = 0
    """Nanoseconds."""
    server_seconds: float = 0
    """Processor time of the server and of everything below it."""
    generator_seconds: float = 0
    latency: Histogram = field(default_factory=Histogram)
    counts: Counter[str] = field(default_factory=Counter)
    """Events that the server counted itself, to be given per unit."""
    failed: int = 0
    example: str = ""
    """The first failure in a few words."""

    def add(self, other: Outcome) -> None:
        """Count what *other* counted."""
        self.units += other.units
        self.done += other.done
        self.elapsed += other.elapsed
        self.server_seconds += other.server_seconds
        self.generator_seconds += other.generator_seconds
        self.latency.merge(other.latency)
        self.counts.update(other.counts)
        self.failed += other.failed
        self.example = self.example or other.example

    def fail(self, example: str) -> None:
        """Count a piece of work that came to nothing."""
        self.failed += 1
        self.example = self.example or example

    def figures(self) -> Figures:
        """Every figure that there is a basis for."""
        found = {f"{name} each": count / self.done for name, count in self.counts.items() if self.done}
        if self.units and self.elapsed:
            found["rate"] = self.units * SECOND / self.elapsed
        if self.latency.count:
            p50, p99 = self.latency.percentiles((50, 99))
            found |= {"p50": p50, "p99": p99}
        if self.done and self.server_seconds > 0:
            found["cpu"] = self.server_seconds / self.done * SECOND
        if self.elapsed:
            found["server busy"] = self.server_seconds * SECOND / self.elapsed
            found["generator busy"] = self.generator_seconds * SECOND / self.elapsed
        return {name: value for name, value in found.items() if value > 0}
