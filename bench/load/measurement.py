"""What a run hands to the summary: the record and the readings around it. Data only; picklable."""

from __future__ import annotations

from dataclasses import dataclass, field

from load.record import Record


@dataclass(frozen=True)
class Sample:
    """Counts at one instant of a run, for the rate over time."""

    at: int
    """Nanoseconds since the measured part began."""
    good: int
    failed: int
    total_service: int
    """The sum of all service times so far, nanoseconds."""


@dataclass
class Measurement:
    """A finished run."""

    record: Record
    elapsed: int
    """Nanoseconds in which requests could start."""
    good_in_time: int
    """Good answers within *elapsed*: those that came later count in the latencies, not in the rate."""
    answers_in_time: int
    octets_in_time: int
    generator_seconds: float
    """Processor time of the generator within *elapsed*."""
    server_seconds: float | None
    interrupted: bool = False
    loop: str = ""
    samples: list[Sample] = field(default_factory=list)
    processes: int = 1
    """Generator processes whose figures are in here."""
