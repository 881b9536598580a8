"""What a server and all processes below it take: descriptors, threads, memory, sampled over a run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from statistics import median

GROWTH = 1.1
"""How many times the memory of a quarter of the run may be that of an earlier one, for it to be called flat."""

ROOM = 4 << 20
"""Bytes that it may differ by besides: the allocator's pools, and a large file more or less in memory."""

DESCRIPTORS = 8
"""Descriptors that the median of a quarter may differ by: connections come and go."""


@dataclass(frozen=True)
class Sample:
    """All processes of a server together at one instant."""

    at: float
    """Seconds since the run began."""
    processes: int
    descriptors: int
    threads: int
    memory: int
    """Bytes, shared pages counted by their share (PSS)."""


def sample(pid: int, at: float) -> Sample | None:
    """What process *pid* and those below it take now; None while they come and go."""
    import psutil  # here, so that soak.py can say in a line that it is missing

    processes = descriptors = threads = memory = 0
    with suppress(psutil.Error, OSError):
        first = psutil.Process(pid)
        for process in (first, *first.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # a program has ended
                memory += process.memory_full_info().pss
                descriptors += process.num_fds()
                threads += process.num_threads()
                processes += 1
        return Sample(at, processes, descriptors, threads, memory)
    return None


@dataclass(frozen=True)
class Course:
    """How the samples went: medians of the second and of the last quarter of a run, and the most of all."""

    early: Sample
    late: Sample
    most: Sample

    @property
    def faults(self) -> list[str]:
        """What has grown."""
        faults = []
        if self.late.memory > GROWTH * self.early.memory + ROOM:
            faults.append(f"memory has grown from {self.early.memory:,} to {self.late.memory:,} bytes")
        if self.late.descriptors > self.early.descriptors + DESCRIPTORS:
            faults.append(f"descriptors have grown from {self.early.descriptors} to {self.late.descriptors}")
        return faults


def course(samples: Sequence[Sample]) -> Course | None:
    """The course of *samples*; None if there are too few to speak of quarters."""
    quarter = len(samples) // 4
    if quarter < 2:
        return None
    return Course(_middle(samples[quarter : 2 * quarter]), _middle(samples[-quarter:]), _most(samples))


def _middle(samples: Sequence[Sample]) -> Sample:
    return Sample(
        at=median(sample.at for sample in samples),
        processes=round(median(sample.processes for sample in samples)),
        descriptors=round(median(sample.descriptors for sample in samples)),
        threads=round(median(sample.threads for sample in samples)),
        memory=round(median(sample.memory for sample in samples)),
    )


def _most(samples: Sequence[Sample]) -> Sample:
    return Sample(
        at=samples[-1].at,
        processes=max(sample.processes for sample in samples),
        descriptors=max(sample.descriptors for sample in samples),
        threads=max(sample.threads for sample in samples),
        memory=max(sample.memory for sample in samples),
    )


def course_json(found: Course | None) -> dict[str, object] | None:
    """The course as JSON has it."""
    return None if found is None else asdict(found)
