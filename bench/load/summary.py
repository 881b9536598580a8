"""Computes the figures of a finished run from what was recorded: pure, nothing is read or printed here."""

from __future__ import annotations

from dataclasses import dataclass

from load.histogram import Histogram
from load.measurement import Measurement
from load.plan import Plan
from load.record import Failure
from load.units import SECOND, format_duration, format_rate

PERCENTS = (50.0, 75.0, 90.0, 99.0, 99.9, 99.99)

BUSY = 0.90
"""Share of one processor above which the generator, not the server, may set the pace (locust warns at the same)."""

SHORT = 0.01
"""Share of the planned requests not sent from which the rate counts as not reached."""


@dataclass(frozen=True)
class Latency:
    """The distribution of one kind of latency, nanoseconds."""

    count: int
    mean: float
    minimum: int
    maximum: int
    percentiles: dict[float, int]

    @classmethod
    def of(cls, histogram: Histogram) -> Latency:
        """The figures of a histogram."""
        values = dict(zip(PERCENTS, histogram.percentiles(PERCENTS), strict=True))
        return cls(
            histogram.count, histogram.mean, histogram.minimum if histogram.count else 0, histogram.maximum, values
        )

    def beyond(self, percent: float) -> int:
        """How many answers lie above the percentile: below ten of them it says little."""
        return int(round(self.count * (1 - percent / 100), 6))


@dataclass(frozen=True)
class Summary:
    """The figures of a run."""

    seconds: float
    rate: float
    """Good answers per second, those that came in time."""
    octets_per_second: float
    good: int
    failed: int
    late: int
    """Good answers after the end; they are in the latencies."""
    statuses: dict[int, int]
    failures: dict[Failure, int]
    examples: dict[Failure, str]
    service: Latency
    response: Latency
    planned_rate: float | None
    unsent: int
    cut: int
    connections: int
    repeated: int
    generator_share: float
    """Processor time of each generator process over the time of the run: 1.0 is a whole processor."""
    server_share: float | None
    server_seconds_per_request: float | None
    interrupted: bool
    loop: str
    processes: int
    """Generator processes."""
    cautions: tuple[str, ...]
    """Why the headline is not to be taken as the server's speed, a sentence each; none when the run is clean."""

    @property
    def finished(self) -> int:
        """Requests that had an answer or failed."""
        return self.good + self.failed


def summarize(plan: Plan, measured: Measurement) -> Summary:
    """The figures of *measured*, a run of *plan*."""
    record, seconds = measured.record, measured.elapsed / SECOND
    server = measured.server_seconds
    return Summary(
        seconds=seconds,
        rate=measured.good_in_time / seconds,
        octets_per_second=measured.octets_in_time / seconds,
        good=record.good,
        failed=record.failed,
        late=record.good - measured.good_in_time,
        statuses=dict(sorted(record.statuses.items())),
        failures={kind: record.failures[kind] for kind in Failure if record.failures[kind]},
        examples=dict(record.examples),
        service=Latency.of(record.service),
        response=Latency.of(record.response),
        planned_rate=plan.schedule.rate,
        unsent=record.unsent,
        cut=record.cut,
        connections=record.connections,
        repeated=record.repeated,
        generator_share=measured.generator_seconds / seconds / measured.processes,
        server_share=None if server is None else server / seconds,
        server_seconds_per_request=server / measured.answers_in_time if server and measured.answers_in_time else None,
        interrupted=measured.interrupted,
        loop=measured.loop,
        processes=measured.processes,
        cautions=tuple(_cautions(plan, measured)),
    )


def _cautions(plan: Plan, measured: Measurement) -> list[str]:
    record, seconds = measured.record, measured.elapsed / SECOND
    cautions = []
    total = record.good + record.failed
    if not record.good:
        cautions.append("no good answer came at all")
    elif not measured.good_in_time:
        cautions.append(f"all {record.good:,} good answers came after the end: give it longer")
    if record.good and record.failed:
        cautions.append(f"{record.failed:,} of {total:,} requests failed ({record.failed / total:.2%})")
    share = measured.generator_seconds / seconds / measured.processes
    if share > BUSY:
        hint = "; give it --workers" if plan.client == "wire" else "; --client wire needs far less"
        each = "each generator process" if measured.processes > 1 else "the generator"
        cautions.append(f"{each} used {share:.0%} of a processor: the server may be faster than this{hint}")
    elif measured.processes > 1 and share * measured.processes > BUSY * measured.usable_processors:
        cautions.append(f"the {measured.processes} generator processes left nothing of the machine's processors")
    if plan.schedule.rate is not None:
        cautions += _shortfall(plan.schedule.rate, measured)
    if measured.interrupted:
        cautions.append(_ending(plan, measured))
    return cautions


def _shortfall(rate: float, measured: Measurement) -> list[str]:
    record = measured.record
    started = record.good + record.failed + record.cut
    if record.unsent > SHORT * (started + record.unsent):
        seconds, lag, never = measured.elapsed / SECOND, record.unsent / rate, f", {record.unsent:,} requests never"
    elif not record.unsent and measured.lag * rate / SECOND > max(SHORT * started, 1):
        # A number of requests is sent in the end, however late: the last one tells how far behind.
        seconds, lag, never = started / rate + measured.lag / SECOND, measured.lag / SECOND, ""
    else:
        return []
    return [
        f"the rate was not reached: {format_rate(started / seconds)} of {format_rate(rate)} were sent{never}; "
        f"the end was {format_duration(lag * SECOND)} behind the plan"
    ]


def _ending(plan: Plan, measured: Measurement) -> str:
    cut, duration = measured.record.cut, plan.stop.duration
    if measured.elapsed <= 1:
        return "ended early, within the warm-up"
    if cut and duration is not None and measured.elapsed >= duration:
        return f"ended before {cut:,} answers had come or timed out"
    return f"ended early, after {format_duration(measured.elapsed)}"
