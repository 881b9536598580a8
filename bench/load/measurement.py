"""What a run hands to the summary: the record and the readings around it. Data only; picklable."""

from __future__ import annotations

from collections.abc import Sequence
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
    total_response: int
    """The sum of all response times so far, nanoseconds."""

    @classmethod
    def of(cls, record: Record, at: int) -> Sample:
        """The counts of *record* now."""
        return cls(at, record.good, record.failed, record.service.total, record.response.total)

    @classmethod
    def sum(cls, samples: Sequence[Sample]) -> Sample:
        """The counts of several workers at about the same instant."""
        return cls(
            max(sample.at for sample in samples),
            sum(sample.good for sample in samples),
            sum(sample.failed for sample in samples),
            sum(sample.total_service for sample in samples),
            sum(sample.total_response for sample in samples),
        )


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
    lag: int = 0
    """Nanoseconds by which the last request of an open loop was behind the plan; over several runs, their sum."""
    loop: str = ""
    samples: list[Sample] = field(default_factory=list)
    processes: int = 1
    """Generator processes whose figures are in here."""
    usable_processors: int = 1
    """Processors that the generator may run on."""


def merge_workers(parts: Sequence[Measurement]) -> Measurement:
    """The measurement of workers that loaded the same server in the same time."""
    whole = _sum(parts)
    whole.elapsed = max(part.elapsed for part in parts)
    whole.lag = max(part.lag for part in parts)
    # Each worker read the same server processes: the figures are copies, not parts.
    readings = [part.server_seconds for part in parts if part.server_seconds is not None]
    whole.server_seconds = max(readings) if len(readings) == len(parts) else None
    whole.processes = len(parts)
    whole.samples = [Sample.sum(samples) for samples in zip(*(part.samples for part in parts), strict=False)]
    return whole


def merge_rounds(parts: Sequence[Measurement]) -> Measurement:
    """The measurement of runs of the same plan one after another; without samples, for time stood still between."""
    whole = _sum(parts)
    readings = [part.server_seconds for part in parts if part.server_seconds is not None]
    whole.server_seconds = sum(readings) if len(readings) == len(parts) else None
    return whole


def _sum(parts: Sequence[Measurement]) -> Measurement:
    first = parts[0].record
    record = Record(open_loop=first.open_loop, good_statuses=first.good_statuses)
    for part in parts:
        record.merge(part.record)
    return Measurement(
        record=record,
        elapsed=sum(part.elapsed for part in parts),
        good_in_time=sum(part.good_in_time for part in parts),
        answers_in_time=sum(part.answers_in_time for part in parts),
        octets_in_time=sum(part.octets_in_time for part in parts),
        generator_seconds=sum(part.generator_seconds for part in parts),
        server_seconds=None,
        interrupted=any(part.interrupted for part in parts),
        lag=sum(part.lag for part in parts),
        loop=parts[0].loop,
        processes=parts[0].processes,
        usable_processors=parts[0].usable_processors,
    )
