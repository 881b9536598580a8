"""A run as text for a terminal: what the kernel reported in one column, what the shell did, and why, in the other."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from aiolsp.lab.model import CALLBACKS, NONE, Event, Run

NARROWEST = 60
"""Columns below which the text would be cut into single words."""

SIDE_BY_SIDE = 150
"""Columns from which two shells stand beside each other."""

LONGEST = 160
"""Events of a run that are shown; the middle of a longer one is left out."""

CLOCK = 10
"""Columns of the time, in milliseconds."""

COLOURS = {"<": "36", ">": "32", "=": "0", "x": "35", "-": "33", "%": "34", "!": "1;31"}
"""Of each sign, as the parameter of SGR (ECMA-48)."""

CLIENT = "2"
"""Faint: a client's line is the stimulus, not what is studied."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the timeline, at a time; *colour* is SGR's parameter. *beside* follows it in the same line."""

    t_us: float
    text: str
    colour: str = ""
    beside: Row | None = None

    def plain(self) -> str:
        """The line without colours."""
        return self.text + ("" if self.beside is None else self.beside.plain())

    def painted(self) -> str:
        """The line for a terminal."""
        painted = f"\x1b[{self.colour}m{self.text}\x1b[0m" if self.colour else self.text
        return painted + ("" if self.beside is None else self.beside.painted())


def timeline(runs: Sequence[Run], width: int) -> list[Row]:
    """*runs* of one scenario: beside each other if *width* columns are enough, or else one after the other."""
    width = max(width, NARROWEST)
    if len(runs) < 2 or width < SIDE_BY_SIDE:
        return [row for run in runs for row in (*_heading(run, width), *_rows(run, width), Row(0, ""))]
    half = (width - 3) // 2
    blocks = [[*_heading(run, half), *_rows(run, half)] for run in runs]
    return [_beside(left, right, half) for left, right in zip_longest(*blocks, fillvalue=Row(0, ""))] + [Row(0, "")]


def summary(runs: Sequence[Run], width: int) -> str:
    """What was seen in each shell, the counts beside each other, and the mend of what is broken."""
    width = max(width, NARROWEST)
    lines = [line for run in runs for line in _wrapped(f"{run.shell}: ", run.finding, width)]
    lines += [line for run in runs[:1] if run.mend for line in _wrapped("the mend: ", run.mend, width)]
    return "\n".join([*lines, "", *counts(runs, width)])


def paragraph(label: str, text: str, width: int) -> str:
    """*text* in lines of at most *width* columns, the first behind *label*."""
    return "\n".join(_wrapped(label, text, max(width, NARROWEST)))


def counts(runs: Sequence[Run], width: int) -> list[str]:
    """The table of counts, a column for each shell."""
    lines = [" " * 38 + "".join(f"{run.shell:>12}" for run in runs)]
    counted = [run.counts for run in runs if run.counts is not None]
    for label, figures in (
        ("wake-ups: told that something is ready", [c.wake_ups for c in counted]),
        ("sleeps: waited in a call to be woken", [c.usage.sleeps for c in counted]),
        ("EAGAIN: asked, and nothing was there", [c.eagain for c in counted]),
        ("bytes copied from and to the kernel", [c.bytes_copied for c in counted]),
        ("connections", [c.connections for c in counted]),
        ("threads, in all processes", [c.usage.threads for c in counted]),
        ("processes", [c.usage.processes for c in counted]),
    ):
        lines.append(f"{label:<38}" + "".join(f"{figure:>12,}" for figure in figures))
    for run, count in zip(runs, counted, strict=True):
        calls = ", ".join(f"{number} {call}" for call, number in count.calls.items())
        lines += _wrapped(f"calls, {run.shell}: ", calls, width)
    return lines


COUNTED = (
    "Sleeps, threads and processes are the kernel's figures for the server (/proc, voluntary_ctxt_switches), from its"
    " ready line to the end of the script. The rest is counted from the trace above: what the event loop or Python"
    " calls by itself is not in it."
)
"""What the table of counts does not say."""


def _heading(run: Run, width: int) -> Iterator[Row]:
    yield Row(0, _cut(f"{run.shell}: {run.title}", width), "1")
    yield Row(0, _cut(f"$ {run.command}", width), CLIENT)
    left, _ = _columns(width)
    yield Row(0, f"{'ms':>{CLOCK - 2}}  {'the kernel reported':<{left}} the shell did, and why", "4")


def _rows(run: Run, width: int) -> Iterator[Row]:
    shown = run.events
    if len(shown) > LONGEST:
        shown = [*shown[: LONGEST // 2], *shown[-LONGEST // 2 :]]
    for index, event in enumerate(shown):
        if index == LONGEST // 2 and len(run.events) > LONGEST:
            yield Row(event.t_us, f"{'':{CLOCK}}... {len(run.events) - LONGEST} events more (--json has them)", CLIENT)
        yield from _lines(run, event, width)


def _lines(run: Run, event: Event, width: int) -> Iterator[Row]:
    lane = run.lanes[event.lane]
    clock = f"{event.t_us / 1000:{CLOCK - 2}.3f}  "
    if lane.role == "client":
        for line in _wrapped(f"{clock}* {lane.name}: ", _printable(" ".join(_words(event))), width):
            yield Row(event.t_us, line, CLIENT)
        return
    left_width, right_width = _columns(width)
    left, right = map(_printable, _told(run, event))
    if lane.name != "server":
        right = f"[{lane.name.removeprefix('server ')}] {right}"
    lefts = textwrap.wrap(left, left_width) if left else []
    rights = textwrap.wrap(right, right_width, subsequent_indent="  ") if right else []
    for number, (one, two) in enumerate(zip_longest(lefts, rights, fillvalue="")):
        text = f"{clock if number == 0 else '':{CLOCK}}{one:<{left_width}} {two}".rstrip()
        yield Row(event.t_us, text, COLOURS.get(event.sign, ""))


def _told(run: Run, event: Event) -> tuple[str, str]:
    """What the kernel reported by an event, and what was done upon it: one of them may be empty."""
    if event.call == "accept" and event.connection != NONE:
        return f"accept fd={event.fd}", run.lanes[event.connection].name
    if not event.sign:
        return "", f"{event.call}: {event.duration_us / 1000:.1f} ms long"
    if event.call in CALLBACKS and event.sign in "<%":
        return " ".join(_words(event, why=False)), event.why
    if event.sign == "<" and event.flags:
        if event.call in ("epoll_wait", "poll"):
            return " ".join(_words(event, why=False)), event.why
        return f"{event.flags} fd={event.fd}", " ".join(_words(event, flags=False))
    if event.sign == "-" or "EAGAIN" in event.call:
        return " ".join(_words(event, why=False)), event.why
    return "", " ".join(_words(event))


def _words(event: Event, *, flags: bool = True, why: bool = True) -> list[str]:
    words = [event.call]
    if event.fd != NONE and flags:
        words.append(f"fd={event.fd}")
    if event.flags and flags:
        words.append(event.flags)
    if event.size != NONE:
        words.append(f"{event.size:,} B")
    words += [f"{name}={value}" for name, value in event.args.items()]
    if event.why and why:
        words.append(f"- {event.why}")
    return words


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _columns(width: int) -> tuple[int, int]:
    left = (width - CLOCK) * 2 // 5
    return left, width - CLOCK - left - 1


def _wrapped(label: str, text: str, width: int) -> list[str]:
    indent = " " * min(len(label), width // 2)
    return textwrap.wrap(f"{label}{text}", width, subsequent_indent=indent, drop_whitespace=True) or [label.rstrip()]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _beside(left: Row, right: Row, width: int) -> Row:
    right = Row(right.t_us, f" | {right.text}", right.colour)
    return Row(max(left.t_us, right.t_us), f"{left.text:<{width}}", left.colour, right)
