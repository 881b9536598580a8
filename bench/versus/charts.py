"""Draws ratios as bars, in SVG that needs nothing else and can be read at 400 pixels. Pure.

The axis is logarithmic, for twice and half are equally far from one; a bar begins at one and ends at the ratio, a thin
line is its interval. Better and worse differ in colour and in direction; where less is better, the axis is turned
round, so that to the right is always better. A tick across a bar is what was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log2
from textwrap import wrap

from load.bootstrap import Ratio
from load.units import three_digits
from versus.results import CaseResult

WIDTH, LEFT, RIGHT = 400, 126, 346
"""Pixels: of the whole, and where the axis begins and ends; names stand on the left of it, values on the right."""

ROW, BAR, LINE = 17, 10, 15
"""Pixels: height of a row, of a bar, and of a line of text."""

MOST_WORDS = 66
"""Characters in a line of a note."""


@dataclass(frozen=True)
class Bar:
    """One ratio."""

    name: str
    ratio: Ratio
    asked: float | None = None
    limited: bool = False
    """Whether the generator set the pace of either side."""


@dataclass(frozen=True)
class Chart:
    """Bars in groups; a group without a name has no line of its own."""

    title: str
    note: str
    groups: Sequence[tuple[str, Sequence[Bar]]]
    more_is_better: bool = True


@dataclass(frozen=True)
class Theme:
    """Colours; better and worse are told apart by colour-blind people too."""

    ground: str
    text: str
    faint: str
    better: str
    worse: str


THEMES = {
    "light": Theme("#ffffff", "#1f2328", "#8c959f", "#1d4ed8", "#c2410c"),
    "dark": Theme("#0d1117", "#e6edf3", "#7d8590", "#79a8ff", "#ff9a5c"),
}


def twin_charts(cases: Iterable[CaseResult]) -> dict[str, Chart]:
    """The charts of programs beside their twins, by the names of their files."""
    cases = [case for case in cases if case.contender(case.about.reference) is not None]
    note = "Each bar: how the asyncio program does beside its blocking twin under the same load. Right of 1 is better."
    return {
        "twins-rate": Chart("Work per second, over the blocking twin's", note, _groups(cases, "rate")),
        "twins-cpu": Chart(
            "CPU time for each unit of work, over the blocking twin's",
            "Bars to the right of 1 need less CPU time than the twin does.",
            _groups(cases, "cpu"),
            more_is_better=False,
        ),
    }


def peer_charts(cases: Sequence[CaseResult], reference: str, ours: str) -> dict[str, Chart]:
    """The charts of the web server beside its peers."""
    beside = [case for case in cases if case.about.reference == reference]
    hot = [case for case in beside if len(case.measured()) > 2 and case.about.name == "hot"]
    return {
        "peers-cases": Chart(
            f"Answers per second of {ours}, over {reference}'s",
            f"One worker each, the same load in turn. Right of 1, {ours} is faster. The tick is what was asked for.",
            [("", [bar for case in beside if (bar := _bar(case, "rate", ours, case.about.title)) is not None])],
        ),
        "peers-hot": Chart(
            f"Answers per second for a hot file of 1 KiB, over {reference}'s",
            "One worker each, 64 connections kept alive, no access log.",
            [("", [bar for case in hot for name in _others(case) if (bar := _bar(case, "rate", name, name))])],
        ),
    }


def draw(chart: Chart, theme: Theme) -> str:
    """The chart as SVG; an empty string when there is nothing to draw."""
    bars = [bar for _, group in chart.groups for bar in group]
    if not bars:
        return ""
    scale = Scale.over(bars, chart.more_is_better)
    title, note = wrap(chart.title, 46), wrap(_note(chart, bars), MOST_WORDS)
    canvas = _Canvas(theme)
    for line in title:
        canvas.line(line, _Style(size=14, bold=True))
    canvas.skip(4)
    top = canvas.at
    canvas.skip(LINE)
    for name, group in chart.groups:
        if name:
            canvas.line(name, _Style(bold=True))
        for bar in group:
            canvas.bar(bar, scale)
        canvas.skip(4)
    canvas.axis(scale, top)
    canvas.skip(4)
    for line in note:
        canvas.line(line, _Style(size=11, faint=True))
    return canvas.svg(chart.title)


@dataclass(frozen=True)
class Scale:
    """A logarithmic axis from 2**low to 2**high; turned round when less is better."""

    low: int
    high: int
    more_is_better: bool

    @classmethod
    def over(cls, bars: Sequence[Bar], more_is_better: bool) -> Scale:
        """A scale on which all bars fit."""
        ends = [end for bar in bars for end in (bar.ratio.value, bar.ratio.low, bar.ratio.high, bar.asked) if end]
        return cls(min(floor(log2(min(ends))), -1), max(ceil(log2(max(ends))), 1), more_is_better)

    def x(self, ratio: float) -> float:
        """The pixel of *ratio*."""
        share = (log2(ratio) - self.low) / (self.high - self.low)
        share = share if self.more_is_better else 1 - share
        return round(LEFT + min(max(share, 0), 1) * (RIGHT - LEFT), 1)

    def ticks(self) -> list[float]:
        """Ratios to mark: powers of two, at most nine of them, one among them."""
        step = ceil((self.high - self.low) / 8)
        return [2.0**power for power in range(self.low, self.high + 1) if power % step == 0]


@dataclass(frozen=True)
class _Style:
    size: int = 12
    bold: bool = False
    faint: bool = False
    anchor: str = "start"


class _Canvas:
    """Draws from top to bottom."""

    def __init__(self, theme: Theme) -> None:
        self._theme = theme
        self._parts: list[str] = []
        self.at = 10.0

    def skip(self, pixels: float) -> None:
        self.at += pixels

    def line(self, words: str, style: _Style) -> None:
        self.at += LINE
        self._write(12, self.at, words, style)
        self.at += 3

    def bar(self, bar: Bar, scale: Scale) -> None:
        better = (bar.ratio.value >= 1) == scale.more_is_better
        colour = self._theme.better if better else self._theme.worse
        names = wrap(bar.name, 18) or [""]
        height = max(ROW, len(names) * (LINE - 2) + 4)
        middle = self.at + height / 2
        for number, line in enumerate(names):
            self._write(12, middle + 4 + (number - (len(names) - 1) / 2) * (LINE - 2), line, _Style(size=11))
        one, end = scale.x(1), scale.x(bar.ratio.value)
        self._rectangle(min(one, end), middle - BAR / 2, max(abs(end - one), 1), BAR, colour)
        if bar.ratio.low is not None and bar.ratio.high is not None:
            low, high = sorted((scale.x(bar.ratio.low), scale.x(bar.ratio.high)))
            self._rectangle(low, middle - 0.75, max(high - low, 1), 1.5, self._theme.text)
        if bar.asked is not None:
            self._rectangle(scale.x(bar.asked) - 1, middle - BAR / 2 - 2, 2, BAR + 4, self._theme.text)
        mark = "*" if bar.limited else ""
        self._write(WIDTH - 8, middle + 4, _value(bar.ratio.value) + mark, _Style(bold=True, anchor="end"))
        self.at += height

    def axis(self, scale: Scale, top: float) -> None:
        lines = []
        for tick in scale.ticks():
            x = scale.x(tick)
            lines.append(
                f'<line x1="{x}" x2="{x}" y1="{top + LINE}" y2="{self.at}" stroke="{self._theme.faint}" '
                f'stroke-width="{1.5 if tick == 1 else 0.4}"/>'
            )
            self._write(x, top + LINE - 4, _tick(tick), _Style(size=10, faint=True, anchor="middle"))
        self._parts[:0] = lines

    def svg(self, title: str) -> str:
        height = ceil(self.at + 10)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" role="img" font-family="system-ui, sans-serif"><title>{escape(title)}</title>'
            f'<rect width="{WIDTH}" height="{height}" fill="{self._theme.ground}"/>\n'
            + "\n".join(self._parts)
            + "\n</svg>\n"
        )

    def _write(self, x: float, y: float, words: str, style: _Style) -> None:
        colour = self._theme.faint if style.faint else self._theme.text
        weight = "bold" if style.bold else "normal"
        halo = f'stroke="{self._theme.ground}" stroke-width="3" paint-order="stroke"'
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{style.size}" font-weight="{weight}" text-anchor="{style.anchor}" '
            f'fill="{colour}" {halo}>{escape(words)}</text>'
        )

    def _rectangle(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        self._parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{colour}"/>')


def _groups(cases: Iterable[CaseResult], figure: str) -> list[tuple[str, list[Bar]]]:
    groups = [
        (_label(case), [bar for name in _others(case) if (bar := _bar(case, figure, name, name)) is not None])
        for case in cases
    ]
    return [(name, bars) for name, bars in groups if bars]


def _label(case: CaseResult) -> str:
    return case.about.name if case.about.program in case.about.name else f"{case.about.program}: {case.about.title}"


def _others(case: CaseResult) -> list[str]:
    return [contender.name for contender in case.measured() if contender.name != case.about.reference]


def _bar(case: CaseResult, figure: str, of: str, name: str) -> Bar | None:
    ratio = case.ratio(figure, of, case.about.reference)
    if ratio is None:
        return None
    asked = [
        goal.bound
        for goal in case.about.goals
        if (goal.figure, goal.of, goal.against) == (figure, of, case.about.reference)
    ]
    sides = [each for each in case.measured() if each.name in (of, case.about.reference)]
    limited = figure == "rate" and any(map(case.limited, sides))
    return Bar(name, ratio, asked[0] if asked else None, limited)


def _note(chart: Chart, bars: Sequence[Bar]) -> str:
    limited = " *: the generator set the pace; see the CPU time." if any(bar.limited for bar in bars) else ""
    intervals = " Thin lines: 95 % intervals." if any(bar.ratio.low for bar in bars) else ""
    return chart.note + intervals + limited


def _value(ratio: float) -> str:
    return three_digits(ratio) if ratio >= 0.1 else f"{ratio:.3f}"


def _tick(value: float) -> str:
    return f"{value:g}" if value >= 1 else f"1/{1 / value:g}"
