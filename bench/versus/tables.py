"""Prints what a comparison found: a table for each case, one of all ratios, one of what was asked for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from load.bootstrap import CONFIDENCE
from versus.figures import KINDS
from versus.results import FEWEST, CaseResult, Contender, Judgement

Row = Sequence[str]


def case_table(case: CaseResult) -> list[str]:
    """One case: a row for each contender with its medians, then those that did not take part."""
    measured = case.measured()
    columns = [name for name in KINDS if any(each.figure(name) is not None for each in measured)]
    rows: list[Row] = [("", *(KINDS[name].title for name in columns))]
    rows += [(_marked(case, each), *(_cell(each, name) for name in columns)) for each in measured]
    lines = [
        f"{case.about.program}: {case.about.title}",
        f"  unit: {case.about.unit}; p50 and p99: {case.about.latency}",
    ]
    if measured:
        lines += ["", *(f"  {line}" for line in aligned(rows))]
    lines += [f"  {each.name}: {each.failed:,} failed ({each.example})" for each in measured if each.failed]
    if any(map(case.limited, measured)):
        lines.append("  *  the generator, not this server, set the pace: its CPU time each is the figure")
    lines += [f"  {each.name} is skipped: {each.skipped}" for each in case.contenders if each.skipped]
    if case.ended:
        rounds = min((len(each.rounds) for each in measured), default=0)
        lines.append(f"  {case.ended}: the figures are of {rounds} rounds")
    return lines


def ratio_table(cases: Iterable[CaseResult]) -> list[str]:
    """All ratios to each case's reference, with their intervals."""
    rows: list[Row] = [("case", "", "to", "rate", "p99", "CPU each", "memory")]
    for case in cases:
        for contender in case.measured():
            if contender.name != case.about.reference and case.contender(case.about.reference) is not None:
                cells = (
                    case.ratio(name, contender.name, case.about.reference) for name in ("rate", "p99", "cpu", "memory")
                )
                rows.append(
                    (
                        case.about.name,
                        _marked(case, contender),
                        case.about.reference,
                        *("-" if cell is None else str(cell) for cell in cells),
                    )
                )
    if len(rows) == 1:
        return []
    return [
        f"ratios, with their {CONFIDENCE:.0%} intervals if there are at least {FEWEST} rounds",
        "",
        *(f"  {line}" for line in aligned(rows, left=3)),
    ]


def goal_table(cases: Iterable[CaseResult]) -> list[str]:
    """Figure, asked, measured, met or not."""
    rows: list[Row] = [("case", "figure", "asked", "measured", "met", "")]
    for case in cases:
        rows += [
            (case.about.title, found.goal.what, found.goal.asked, found.measured, verdict(found), found.note)
            for found in case.judgements()
        ]
    if len(rows) == 1:
        return []
    return ["what is asked for", "", *(f"  {line}" for line in aligned(rows, left=6))]


def verdict(judgement: Judgement) -> str:
    """Met or not, in a word."""
    return {True: "yes", False: "NO", None: "-"}[judgement.met]


def aligned(rows: Sequence[Row], *, left: int = 1) -> list[str]:
    """Columns of one width each; the first *left* of them to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_padded(cell, widths[at], at < left) for at, cell in enumerate(row)).rstrip() for row in rows]


def _padded(cell: str, width: int, left: bool) -> str:
    return cell.ljust(width) if left else cell.rjust(width)


def _marked(case: CaseResult, contender: Contender) -> str:
    return contender.name + ("*" if case.limited(contender) else "")


def _cell(contender: Contender, name: str) -> str:
    value = contender.figure(name)
    return "-" if value is None else KINDS[name].show(value)
