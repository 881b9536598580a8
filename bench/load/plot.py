"""Draws a result: latency by percentile on the HDR axis, and the rate over time. matplotlib is imported only here.

On the HDR axis (G. Tene) each nine takes the same room - 90 %, 99 %, 99.9 % - so the tail, where users wait, is as wide
as the middle. It ends where a single answer lies beyond: further out there is nothing but the maximum.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from aiolsp.cli import UsageError
from load.histogram import Histogram
from load.measurement import Measurement, Sample
from load.plan import Plan
from load.report import describe_plan, headline
from load.summary import Summary
from load.units import SECOND

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg")

SIZE = (8.0, 7.0)
"""Inches."""

ROOM = 1.1
"""Height of the rate's axis over the highest rate, so that a steady one is seen and not the frame."""

RESPONSE, SERVICE = "#c2410c", "#1d4ed8"
"""Dark orange and blue: told apart by colour-blind people, and on paper by the dashes."""


def check_plot_name(name: str) -> str:
    """*name* if a plot can be written under it. Raises ValueError."""
    if Path(name).suffix not in FORMATS:
        raise ValueError(f"{name!r} is not a file for a plot: .png or .svg")
    return name


def write_plot(name: str, plan: Plan, summary: Summary, measured: Measurement) -> None:
    """Draw the run into the file *name*. Raises UsageError, and ImportError if matplotlib is not installed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    latency, rate = figure.subplots(2, 1)
    figure.suptitle(headline(summary), fontsize=11, wrap=True)
    latency.set_title(describe_plan(plan, summary.loop, summary.processes)[1], fontsize=8)
    _draw_latency(latency, measured)
    _draw_rate(rate, measured.samples)
    try:
        # Without a date in it, the same figures make the same file.
        figure.savefig(name, metadata={"Date": None} if name.endswith(".svg") else None)
    except OSError as error:
        raise UsageError(f"cannot write {name}: {(error.strerror or '').lower()}") from None


def percentile_curve(histogram: Histogram) -> tuple[list[float], list[float]]:
    """(1 / share of slower answers, milliseconds) of every bucket but the last, beyond which no answer lies."""
    across, up, seen = [], [], 0
    for value, count in histogram.buckets():
        seen += count
        if seen < histogram.count:
            across.append(histogram.count / (histogram.count - seen))
            up.append(min(value, histogram.maximum) / 1e6)
    return across, up


def rate_curve(samples: list[Sample]) -> tuple[list[float], list[float], list[float]]:
    """(seconds, good answers per second, failures per second), each at the end of its sample."""
    steps = [(last, now) for last, now in pairwise([Sample(0, 0, 0, 0, 0), *samples]) if now.at > last.at]
    return (
        [now.at / SECOND for _, now in steps],
        [(now.good - last.good) * SECOND / (now.at - last.at) for last, now in steps],
        [(now.failed - last.failed) * SECOND / (now.at - last.at) for last, now in steps],
    )


def _draw_latency(axes: Axes, measured: Measurement) -> None:
    record = measured.record
    if record.open_loop:
        axes.plot(*percentile_curve(record.response), color=RESPONSE, label="response time, from the moment it was due")
        axes.plot(*percentile_curve(record.service), "--", color=SERVICE, label="service time, from the request sent")
    else:
        axes.plot(*percentile_curve(record.service), color=SERVICE, label="service time (closed loop)")
    nines = range(max(len(str(record.good)), 2))
    axes.set_xscale("log")
    axes.set_xticks([10**nine for nine in nines], [_percent(nine) for nine in nines])
    axes.minorticks_off()
    axes.set_xlim(left=1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"percentile, n = {record.good:,}")
    axes.set_ylabel("milliseconds")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize=8)


def _percent(nines: int) -> str:
    """``0 %``, ``90 %``, ``99 %``, ``99.9 %`` ..."""
    return f"{100 - 100 / 10**nines:.{max(nines - 2, 0)}f} %"


def _draw_rate(axes: Axes, samples: list[Sample]) -> None:
    seconds, good, failed = rate_curve(samples)
    axes.plot(seconds, good, ".-", color=SERVICE, label="good answers")
    if any(failed):
        axes.plot(seconds, failed, "x--", color=RESPONSE, label="failures")
    axes.set_xlim(left=0)
    axes.set_ylim(0, ROOM * max([*good, *failed, 1]))
    axes.set_xlabel("seconds")
    axes.set_ylabel("per second")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
