"""Finds the highest rate at which a condition such as ``p99<10ms`` holds: doubling, then bisection.

Facts. "Requests per second" of a closed loop is the rate at which a server is already drowning; what an operator wants
is the rate at which it still answers in time. One run near the limit is a coin toss. Decision: open loop at each rate,
from a low one up; each step is confirmed, two runs of at most three must agree; a step holds only if the condition
holds, the rate was reached, nothing failed and the generator had time. Connections stay open between the steps. Price:
two dozen short runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt

from load.generator import Generator
from load.measurement import Measurement, merge_rounds
from load.plan import Plan
from load.report import figures
from load.schedule import ConstantRate, PoissonRate
from load.summary import BUSY, Summary, summarize
from load.thresholds import Condition
from load.units import format_duration, three_digits

PRECISION = 0.05
"""The search ends when the lowest rate that fails is at most this share above the highest that holds."""

LOWEST, HIGHEST = 1.0, 1e6
"""Requests per second beyond which nothing is searched."""

VOTES = 2
"""Runs that must agree on a step."""

SCHEMA = "aiolsp.stress.find-max/1"


class RateSearch:
    """Where to look next. Pure: it is told what held."""

    def __init__(self, first: float) -> None:
        self._first = first
        self.holding: float | None = None
        """The highest rate that held."""
        self.failing: float | None = None
        """The lowest rate that did not."""

    def next_rate(self) -> float | None:
        """The rate to try; None when the search is over."""
        low, high = self.holding, self.failing
        if low is None and high is None:
            return self._first
        if high is None:
            assert low is not None
            return 2 * low if 2 * low <= HIGHEST else None
        if low is None:
            return high / 2 if high / 2 >= LOWEST else None
        return sqrt(low * high) if high > low * (1 + PRECISION) else None

    def settle(self, rate: float, *, holds: bool) -> None:
        """Take the verdict on *rate*."""
        if holds:
            self.holding = rate
        else:
            self.failing = rate


@dataclass(frozen=True)
class Step:
    """One rate, with all its runs taken together."""

    rate: float
    holds: bool
    why: str
    """Why it does not hold; empty if it does."""
    runs: int
    summary: Summary
    interrupted: bool = False

    @property
    def generator_gave_out(self) -> bool:
        """Whether the step says nothing about the server."""
        return not self.holds and self.summary.generator_share > BUSY


async def find_max(generator: Generator, plan: Plan, condition: Condition, show: Callable[[str], None]) -> list[Step]:
    """Search from the rate of *plan*; each step goes to *show* as a line when it is settled."""
    assert plan.schedule.rate is not None
    search = RateSearch(plan.schedule.rate)
    steps: list[Step] = []
    while (rate := search.next_rate()) is not None:
        step = await _try_rate(generator, at_rate(plan, rate), condition)
        steps.append(step)
        show(row(step))
        if step.interrupted:
            break
        search.settle(rate, holds=step.holds)
    return steps


def at_rate(plan: Plan, rate: float) -> Plan:
    """*plan* in an open loop at *rate*, with the arrivals that it has."""
    poisson = isinstance(plan.schedule, PoissonRate)
    return replace(plan, schedule=PoissonRate(rate) if poisson else ConstantRate(rate))


async def _try_rate(generator: Generator, plan: Plan, condition: Condition) -> Step:
    assert plan.schedule.rate is not None
    runs: list[Measurement] = []
    reasons: list[str] = []
    while reasons.count("") < VOTES and len(reasons) - reasons.count("") < VOTES:
        measured = await generator.run(plan)
        runs.append(measured)
        reasons.append(why_not(summarize(plan, measured), condition))
        if measured.interrupted:
            break
    holds = reasons.count("") >= VOTES
    why = "" if holds else next(filter(None, reversed(reasons)), "ended early")
    return Step(plan.schedule.rate, holds, why, len(runs), summarize(plan, merge_rounds(runs)), runs[-1].interrupted)


def why_not(summary: Summary, condition: Condition) -> str:
    """Why the figures of a run do not bear its rate; empty when they do."""
    if not condition.holds(summary):
        return condition.describe(summary)
    allowed = summary.failed if condition.metric == "errors" else 0
    cautions = [caution for caution in summary.cautions if not (allowed and "requests failed" in caution)]
    return cautions[0] if cautions else ""


def best(steps: list[Step]) -> Step | None:
    """The highest rate that held."""
    return max((step for step in steps if step.holds), key=lambda step: step.rate, default=None)


def knee(steps: list[Step]) -> Step | None:
    """The lowest rate above the best that did not hold."""
    found = best(steps)
    above = [step for step in steps if not step.holds and not step.interrupted]
    return min((step for step in above if found is None or step.rate > found.rate), key=lambda s: s.rate, default=None)


HEADER = f"  {'rate':>9}{'sent':>10}{'p50':>10}{'p99':>10}{'max':>10}{'n':>10}{'runs':>6}   response times"


def row(step: Step) -> str:
    """A step as a line of the table."""
    summary = step.summary
    times = (summary.response.percentiles[50], summary.response.percentiles[99], summary.response.maximum)
    sent = (summary.finished + summary.cut) / summary.seconds
    columns = "".join(f"{format_duration(time):>10}" for time in times)
    verdict = "holds" if step.holds else f"no: {step.why}"
    return (
        f"  {three_digits(step.rate):>9}{three_digits(sent):>10}{columns}{summary.response.count:>10,}"
        f"{step.runs:>6}   {verdict}"
    )


def verdict(steps: list[Step], condition: Condition) -> str:
    """What the search found, a sentence."""
    found, limit = best(steps), knee(steps)
    if found is None and steps[-1].interrupted:
        return f"NOT FOUND: the search ended early, before {condition.text} held at any rate"
    if found is None:
        tried = f": {limit.why}" if limit is not None else ""
        return f"NOT FOUND: {condition.text} held at no rate that was tried{tried}"
    text = f"{three_digits(found.rate)} requests per second keep {condition.text}"
    if steps[-1].interrupted:
        return f"NOT CLEAN: {text}, but the search ended early"
    if limit is None:
        return f"NOT CLEAN: {text}, but no rate was found that does not"
    if limit.generator_gave_out:
        return f"NOT CLEAN: {text}, but above it the generator gave out, not the server ({limit.why})"
    return f"{text}; the knee: {three_digits(limit.rate)} do not ({limit.why})"


def search_report(steps: list[Step], condition: Condition) -> list[str]:
    """The table in the order of the rates, and the verdict."""
    return [HEADER, *(row(step) for step in sorted(steps, key=lambda step: step.rate)), "", verdict(steps, condition)]


def search_json(steps: list[Step], condition: Condition) -> dict[str, object]:
    """The search for a program; rates in requests per second, latencies in ns."""
    found, limit = best(steps), knee(steps)
    return {
        "schema": SCHEMA,
        "condition": condition.text,
        "clean": not verdict(steps, condition).startswith("NOT"),
        "verdict": verdict(steps, condition),
        "best": None if found is None else found.rate,
        "knee": None if limit is None else limit.rate,
        "steps": [
            {
                "rate": step.rate,
                "holds": step.holds,
                "why": step.why,
                "runs": step.runs,
                "figures": figures(step.summary),
            }
            for step in steps
        ],
    }
