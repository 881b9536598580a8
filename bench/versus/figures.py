"""The kinds of figures: what each is called, how it is written, which end of it is the good one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from load.units import format_duration, format_rate, format_size, three_digits


@dataclass(frozen=True)
class Kind:
    """One kind of figure."""

    title: str
    show: Callable[[float], str]
    more_is_better: bool = False


def _share(value: float) -> str:
    return f"{value:.0%}"


KINDS = {
    "rate": Kind("rate", format_rate, more_is_better=True),
    "p50": Kind("p50", format_duration),
    "p99": Kind("p99", format_duration),
    "cpu": Kind("CPU each", format_duration),
    "memory": Kind("memory", format_size),
    "growth": Kind("growth", format_size),
    "wake-ups each": Kind("wake-ups each", three_digits),
    "recv each": Kind("recv each", three_digits),
    "EAGAIN each": Kind("EAGAIN each", three_digits),
    "server busy": Kind("server busy", _share),
    "generator busy": Kind("generator busy", _share),
}
"""In the order of the tables. *memory* is per idle connection; *each* is for a unit of work; *busy* is the share of one
processor."""

COMPARED = ("rate", "p50", "p99", "cpu", "memory")
"""Those of which ratios are given."""
