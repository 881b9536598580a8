"""A question that readers of the book ask, the experiment that answers it on this machine, and the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Figures: TypeAlias = "list[tuple[str, Sequence[str]]]"
"""Rows of a table: a label, and a figure for each column."""


@dataclass(frozen=True, slots=True)
class Question:
    """*measure* takes less than ten seconds; *answer* has three sentences, true whatever the figures are."""

    name: str
    text: str
    columns: Sequence[str]
    measure: Callable[[], Figures]
    answer: str


def table(columns: Sequence[str], figures: Figures) -> str:
    """*figures* in columns of equal width for people."""
    widths = [
        max(len(heading), *(len(row[place]) for _, row in figures), 8) + 2 for place, heading in enumerate(columns)
    ]
    label = max(len(label) for label, _ in figures)
    lines = [" " * label + "".join(f"{heading:>{width}}" for heading, width in zip(columns, widths, strict=True))]
    lines += [
        f"{name:<{label}}" + "".join(f"{figure:>{width}}" for figure, width in zip(row, widths, strict=True))
        for name, row in figures
    ]
    return "\n".join(lines)
