"""Conditions on the figures of a run, as in ``--fail-if 'p99>10ms'``: parsed once, then judged on a summary. Pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from load.summary import PERCENTS, Latency, Summary
from load.units import format_duration, format_rate, parse_duration, parse_rate

_CONDITION = re.compile(r"\s*(?P<metric>[a-z]+(?:\.?[a-z0-9.]+)?)\s*(?P<sign><=|>=|<|>)\s*(?P<bound>\S+)\s*")

_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

_LATENCIES = (*(f"p{percent:g}" for percent in PERCENTS), "max", "mean")

METRICS = (*_LATENCIES, *(f"service.{name}" for name in _LATENCIES), "errors", "rate")
"""Latencies are response times, or service times by the prefix; ``errors`` a count or a percentage."""


@dataclass(frozen=True)
class Condition:
    """A comparison of one figure with a bound."""

    text: str
    metric: str
    sign: str
    bound: float
    relative: bool = False

    def holds(self, summary: Summary) -> bool:
        """Whether it is true of *summary*. A latency of a run without a good answer is above every bound."""
        return _SIGNS[self.sign](self.figure(summary), self.bound)

    def figure(self, summary: Summary) -> float:
        """The figure that is compared."""
        if self.metric == "errors":
            return 100 * summary.failed / max(summary.finished, 1) if self.relative else summary.failed
        if self.metric == "rate":
            return summary.rate
        latency = summary.service if self.metric.startswith("service.") else summary.response
        return _latency(latency, self.metric.removeprefix("service."))

    def describe(self, summary: Summary) -> str:
        """The condition with the figure that it met."""
        figure = self.figure(summary)
        if self.metric == "errors":
            return f"{self.text}: {figure:.2f} %" if self.relative else f"{self.text}: {figure:,.0f}"
        if self.metric == "rate":
            return f"{self.text}: {format_rate(figure)}"
        return f"{self.text}: {'no good answer' if figure == float('inf') else format_duration(figure)}"


def parse_condition(text: str) -> Condition:
    """A condition from ``p99>10ms``, ``errors>0``, ``errors>=1%``, ``rate<1000``. Raises ValueError."""
    found = _CONDITION.fullmatch(text)
    if found is None or found["metric"] not in METRICS:
        raise ValueError(f"{text!r} is not a condition: FIGURE > or < BOUND, FIGURE one of {', '.join(METRICS)}")
    metric, bound = found["metric"], found["bound"]
    if metric == "errors":
        return Condition(text, metric, found["sign"], parse_rate(bound.removesuffix("%")), bound.endswith("%"))
    parse = parse_rate if metric == "rate" else parse_duration
    return Condition(text, metric, found["sign"], parse(bound))


def parse_goal(text: str) -> Condition:
    """A condition that is to hold, as ``p99<10ms`` or ``errors<1%``. Raises ValueError."""
    condition = parse_condition(text)
    if condition.metric == "rate" or condition.sign.startswith(">"):
        raise ValueError(f"{text!r} is not a goal: say what must hold, as 'p99<10ms'")
    return condition


def _latency(latency: Latency, name: str) -> float:
    if not latency.count:
        return float("inf")
    if name == "max":
        return latency.maximum
    return latency.mean if name == "mean" else latency.percentiles[float(name[1:])]
