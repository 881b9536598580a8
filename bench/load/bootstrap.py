"""Says how sure a ratio is: bootstrap intervals, and the verdict that follows from one. Pure, and the same every time.

Facts. Two runs of the same server differ by several percent, so a ratio without an interval proves nothing. The
bootstrap (Efron) draws new samples from the sample and looks how far the ratio moves; with few rounds its interval is
too narrow. Decision: logarithms of ratios, for twice and half are equally far from one; the *expanded* percentile
interval (T. Hesterberg, "What Teachers Should Know about the Bootstrap", 2015, section 5.2), which takes percentiles
further out, as Student's t does; a verdict only when the whole interval lies on one side of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from math import exp, log, sqrt
from random import Random
from statistics import NormalDist, fmean

RESAMPLES = 4000
"""The outermost percentile asked for with eight rounds, 0.6 %, is then the 23rd value from the end."""

CONFIDENCE = 0.95

SEED = 0
"""The same figures give the same interval, today and in a year."""


class Verdict(Enum):
    """What can be said of the first of two servers."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "not distinguishable"


@dataclass(frozen=True)
class Ratio:
    """First over second, with its interval at CONFIDENCE; without one when there is nothing to compute it from."""

    value: float
    low: float | None = None
    high: float | None = None

    def verdict(self, *, more_is_better: bool) -> Verdict:
        """Who is faster; SAME unless the interval leaves one out."""
        if self.low is None or self.high is None or self.low <= 1 <= self.high:
            return Verdict.SAME
        return Verdict.FASTER if (self.low > 1) == more_is_better else Verdict.SLOWER

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def paired_ratio(pairs: Sequence[tuple[float, float]]) -> Ratio:
    """The geometric mean of the ratios of *pairs*, each measured side by side; all figures above zero."""
    logs = [log(first / second) for first, second in pairs]
    if len(logs) < 2:
        return Ratio(exp(fmean(logs)))

    def resample(random: Random) -> float:
        return fmean(random.choices(logs, k=len(logs)))

    return _ratio(fmean(logs), resample, len(logs))


def unpaired_ratio(first: Sequence[float], second: Sequence[float]) -> Ratio:
    """The ratio of the means of two series that were measured apart; all figures above zero."""
    fewest = min(len(first), len(second))
    middle = log(fmean(first) / fmean(second))
    if fewest < 2:
        return Ratio(exp(middle))

    def resample(random: Random) -> float:
        return log(fmean(random.choices(first, k=len(first))) / fmean(random.choices(second, k=len(second))))

    return _ratio(middle, resample, fewest)


def _ratio(middle: float, resample: Callable[[Random], float], size: int) -> Ratio:
    random = Random(SEED)
    drawn = sorted(resample(random) for _ in range(RESAMPLES))
    rank = int(RESAMPLES * _tail(size))
    # Summing in another order may differ in the last bit: the value itself is always inside.
    low, high = min(drawn[rank], middle), max(drawn[-1 - rank], middle)
    return Ratio(exp(middle), exp(low), exp(high))


def _tail(size: int) -> float:
    """The share of resamples to leave out at each end, for *size* observations."""
    normal = NormalDist()
    return normal.cdf(-sqrt(size / (size - 1)) * _student(normal.inv_cdf((1 + CONFIDENCE) / 2), size - 1))


def _student(normal: float, freedom: float) -> float:
    """The quantile of Student's t from that of the normal distribution (Abramowitz and Stegun 26.7.5)."""
    terms = (
        (normal**3 + normal) / 4,
        (5 * normal**5 + 16 * normal**3 + 3 * normal) / 96,
        (3 * normal**7 + 19 * normal**5 + 17 * normal**3 - 15 * normal) / 384,
    )
    return normal + sum(term / freedom ** (power + 1) for power, term in enumerate(terms))
