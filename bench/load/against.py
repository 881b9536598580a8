"""Compares two servers under the same load, interleaved: rounds of A B B A, or B A A B.

Facts. Machines warm up, throttle, and have other guests: whoever is measured later measures another machine. And what
comes round regularly, such as another guest's timer, can fall on the same run of each round: with A B B A alone, one
server compared with itself was found 10 % slower, in six rounds of six. Decision: short runs in turn, so that a drift
that is linear within a round cancels; half of the rounds begin with B, in an order drawn by lot; each round gives one
ratio, and the spread of the ratios gives the interval. Both are warmed by a run that does not count, and connections to
both stay open throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from load.bootstrap import SEED, paired_ratio
from load.comparison import FIGURES, Compared, Comparison
from load.generator import Generator
from load.measurement import Measurement, merge_rounds
from load.plan import Plan
from load.summary import Summary, summarize
from load.units import format_rate


@dataclass
class Side:
    """One of the two servers."""

    name: str
    plan: Plan
    generator: Generator
    rounds: list[Measurement] = field(default_factory=list)
    """The two runs of each round, merged."""

    @property
    def title(self) -> str:
        """The name with what it stands for."""
        return f"{self.name}  {self.plan.method} {self.plan.url}"

    async def run(self) -> Measurement:
        """One run."""
        return await self.generator.run(self.plan)

    def summary(self) -> Summary:
        """All rounds together."""
        return summarize(self.plan, merge_rounds(self.rounds))

    def figures(self) -> list[dict[str, float | None]]:
        """The figures of each round."""
        return [round_figures(summarize(self.plan, measured)) for measured in self.rounds]


def round_figures(summary: Summary) -> dict[str, float | None]:
    """The figures that are compared; None for what could not be measured."""
    response = summary.response
    seconds = summary.server_seconds_per_request
    return {
        "rate": summary.rate or None,
        "mean": response.mean or None,
        "p50": response.percentiles[50] or None,
        "p99": response.percentiles[99] or None,
        "cpu": None if seconds is None else seconds * 1e9 or None,
    }


async def run_rounds(first: Side, second: Side, rounds: int, show: Callable[[str], None]) -> bool:
    """Fill both sides with *rounds* rounds; False when a signal ended them early (the round under way is left out)."""
    for side in (first, second):
        if (await side.run()).interrupted:
            return False
    for number, swapped in enumerate(orders(rounds), 1):
        outer, inner = (second, first) if swapped else (first, second)
        runs: dict[str, list[Measurement]] = {first.name: [], second.name: []}
        for side in (outer, inner, inner, outer):
            measured = await side.run()
            if measured.interrupted:
                return False
            runs[side.name].append(measured)
        for side in (first, second):
            side.rounds.append(merge_rounds(runs[side.name]))
        rates = (f"{side.name} {format_rate(summarize(side.plan, side.rounds[-1]).rate)}" for side in (first, second))
        show(f"round {number} of {rounds}: {', '.join(rates)}")
    return True


def orders(rounds: int) -> list[bool]:
    """For each round, whether the second side begins: half of them, in an order that is random and reproducible."""
    swapped = [number % 2 == 1 for number in range(rounds)]
    Random(SEED).shuffle(swapped)
    return swapped


def compare_rounds(first: Side, second: Side, *, whole: bool) -> Comparison:
    """What the rounds say; there must be at least one."""
    columns = (first.figures(), second.figures())
    cautions = [f"{side.name}: {caution}" for side in (first, second) for caution in side.summary().cautions]
    leading = "rate" if first.plan.schedule.rate is None else "mean"
    for side, column in zip((first, second), columns, strict=True):
        # There is no ratio to nothing; but to leave these rounds out is to leave out the worst.
        if left_out := sum(figures[leading] is None for figures in column):
            cautions.append(f"{side.name}: no good answer came in time in {left_out} of {len(column)} rounds")
    if not whole:
        cautions.append(f"ended early, rounds finished: {len(first.rounds)}")
    return Comparison(
        names=(first.title, second.title),
        compared=tuple(filter(None, (_compare(name, *columns) for name in FIGURES))),
        leading=leading,
        basis=f"{len(first.rounds)} rounds of A B B A or B A A B",
        cautions=tuple(cautions),
    )


Column = Sequence[dict[str, float | None]]


def _compare(name: str, first: Column, second: Column) -> Compared | None:
    pairs = [(a[name], b[name]) for a, b in zip(first, second, strict=True)]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    if not known:
        return None
    ones, others = zip(*known, strict=True)
    return Compared(name, sum(ones) / len(ones), sum(others) / len(others), paired_ratio(known))
