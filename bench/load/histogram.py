"""A log-linear histogram of latencies: constant memory, mergeable, three significant digits at every magnitude.

Facts. A mean hides the tail, and a list of all samples grows for ever. Latencies span six orders of magnitude, so
linear buckets are too coarse at one end or too many at the other. Consequence: buckets that are linear within each
power of two and double from one to the next, as in HdrHistogram (G. Tene). With ``SUB_BUCKET_BITS`` = 11 a value of up
to 2,047 ns has a bucket of its own, and any larger one shares it with values that differ by less than 1/1024 of it.
Price: 34,816 counters of 8 bytes, 272 KiB, whether ten samples or ten thousand million were recorded.

The index of a value is a shift and an addition, for this is called once per answer in the hottest place of the
generator.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from math import ceil
from typing import Self

SUB_BUCKET_BITS = 11
"""2**11 sub-buckets: the least number that gives three significant decimal digits (HdrHistogram does the same)."""

HALF = 1 << (SUB_BUCKET_BITS - 1)

VALUE_BITS = 43
"""Values up to 2**43 - 1 ns (2 h 26 min) are told apart; no request is given longer than that."""

HIGHEST = (1 << VALUE_BITS) - 1

BUCKETS = (VALUE_BITS - SUB_BUCKET_BITS + 2) * HALF


class Histogram:
    """Counts of non-negative whole numbers (nanoseconds); minimum, maximum and sum are exact."""

    __slots__ = ("_counts", "count", "maximum", "minimum", "total")

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * BUCKETS))
        self.count = 0
        self.total = 0
        self.minimum = HIGHEST
        self.maximum = 0

    def record(self, value: int) -> None:
        """Count one *value*. Below zero counts as zero, above HIGHEST goes into the last bucket."""
        if value < 0:
            value = 0
        shift = value.bit_length() - SUB_BUCKET_BITS
        if shift <= 0:
            self._counts[value] += 1
        elif value <= HIGHEST:
            self._counts[(shift << (SUB_BUCKET_BITS - 1)) + (value >> shift)] += 1
        else:
            self._counts[-1] += 1
        self.count += 1
        self.total += value
        if value > self.maximum:
            self.maximum = value
        if value < self.minimum:
            self.minimum = value

    def record_many(self, value: int, count: int) -> None:
        """Count *value*, from 0 to HIGHEST, so many times."""
        if count:
            self._counts[bucket_index(value)] += count - 1
            self.count += count - 1
            self.total += value * (count - 1)
            self.record(value)

    def merge(self, other: Histogram) -> None:
        """Add all that *other* has counted."""
        for index, count in enumerate(other._counts):
            if count:
                self._counts[index] += count
        self.count += other.count
        self.total += other.total
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)

    def percentile(self, percent: float) -> int:
        """The least value, to three digits, that *percent* of all values do not exceed; 0 when nothing was recorded."""
        return self.percentiles((percent,))[0]

    def percentiles(self, percents: Iterable[float]) -> list[int]:
        """The same for several, which must ascend, in one pass over the buckets."""
        found: list[int] = []
        buckets = self.buckets()
        value = seen = 0
        for percent in percents:
            rank = max(1, ceil(round(percent / 100 * self.count, 6)))
            while seen < rank:
                bucket = next(buckets, None)
                if bucket is None:
                    break
                value, count = bucket
                seen += count
            found.append(min(value, self.maximum))
        return found

    @property
    def mean(self) -> float:
        """The exact arithmetic mean; 0 when nothing was recorded."""
        return self.total / self.count if self.count else 0.0

    def buckets(self) -> Iterator[tuple[int, int]]:
        """(highest value of the bucket, count) of every bucket in use, ascending."""
        for index, count in enumerate(self._counts):
            if count:
                yield highest_equivalent(index), count

    def to_json(self) -> dict[str, object]:
        """A form that ``from_json`` reads back without loss."""
        counts = [[index, count] for index, count in enumerate(self._counts) if count]
        minimum = self.minimum if self.count else 0
        return {"count": self.count, "total": self.total, "min": minimum, "max": self.maximum, "counts": counts}

    @classmethod
    def from_json(cls, data: dict[str, object]) -> Self:
        """The histogram that ``to_json`` wrote. Raises LookupError, TypeError or ValueError for anything else."""
        histogram = cls()
        histogram.count, histogram.total = int(data["count"]), int(data["total"])  # type: ignore[call-overload]
        histogram.maximum = int(data["max"])  # type: ignore[call-overload]
        if histogram.count:
            histogram.minimum = int(data["min"])  # type: ignore[call-overload]
        for index, count in data["counts"]:  # type: ignore[attr-defined]
            histogram._counts[index] = count
        return histogram


def bucket_index(value: int) -> int:
    """The bucket that counts *value*, as ``record`` finds it."""
    shift = max(value.bit_length() - SUB_BUCKET_BITS, 0)
    return (shift << (SUB_BUCKET_BITS - 1)) + (value >> shift)


def highest_equivalent(index: int) -> int:
    """The highest value that is counted in bucket *index*."""
    if index < 2 * HALF:
        return index
    shift = (index >> (SUB_BUCKET_BITS - 1)) - 1
    return ((index - (shift << (SUB_BUCKET_BITS - 1)) + 1) << shift) - 1
