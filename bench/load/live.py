"""Shows a run while it goes: one live line with rich on a terminal, a plain line a second elsewhere; always on stderr.

Percentiles are not shown here: walking a histogram takes a millisecond, which would be in the latencies of what is
measured.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from load.measurement import Sample
from load.units import SECOND, format_duration, format_rate

BLOCKS = "▁▂▃▄▅▆▇█"

WIDTH = 40
"""Samples in the sparkline: the last 20 seconds."""


class Progress:
    """Turns samples into lines."""

    def __init__(self) -> None:
        self._last = Sample(0, 0, 0, 0, 0)
        self._rates: deque[float] = deque(maxlen=WIDTH)

    def line(self, sample: Sample, *, sparkline: bool = False) -> str:
        """The state of the run since the last sample."""
        last, self._last = self._last, sample
        good = sample.good - last.good
        rate = good * SECOND / max(sample.at - last.at, 1)
        self._rates.append(rate)
        mean = format_duration((sample.total_service - last.total_service) / good) if good else "-"
        line = f"{sample.at / SECOND:6.1f} s  {format_rate(rate):>10} good  mean {mean:>8}  errors {sample.failed:,}"
        return f"{line}  {spark(self._rates)}" if sparkline else line


def spark(values: deque[float]) -> str:
    """*values* as a row of blocks, the largest as the highest."""
    top = max(values, default=0) or 1
    return "".join(BLOCKS[min(int(value / top * len(BLOCKS)), len(BLOCKS) - 1)] for value in values)


@contextmanager
def live_view(*, quiet: bool) -> Iterator[Callable[[Sample], None] | None]:
    """An observer for a run; None when nothing is to be shown."""
    progress = Progress()
    if quiet:
        yield None
        return
    if sys.stderr.isatty():
        try:
            from rich.console import Console
            from rich.live import Live
        except ImportError:
            pass
        else:
            with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:

                def update(sample: Sample) -> None:
                    with suppress(OSError):
                        live.update(progress.line(sample, sparkline=True), refresh=True)

                yield update
            return

    def print_each_second(sample: Sample) -> None:
        if round(2 * sample.at / SECOND) % 2 == 0:
            # A run goes on, and ends in time, when nobody reads along any more.
            with suppress(OSError):
                print(progress.line(sample), file=sys.stderr, flush=True)

    yield print_each_second
