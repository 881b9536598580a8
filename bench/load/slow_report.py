"""Prints what became of slow clients, and of the others meanwhile. Pure."""

from __future__ import annotations

from collections import Counter
from statistics import median

from load.plan import Plan
from load.report import figures
from load.slow import PACE, Ending, SlowResult, count_endings
from load.summary import Summary
from load.units import SECOND, format_duration

SCHEMA = "aiolsp.stress.slow/1"

_DOING = {
    "head": "send a head, a byte",
    "body": "send a body, a byte",
    "read": "read the answer, a small buffer",
}


def slow_headline(result: SlowResult, others: Summary) -> str:
    """Whether the server got rid of them, and whether anybody else noticed."""
    held = len(count_endings(result.slow)[Ending.HELD])
    total = len(result.slow)
    text = f"{total - held:,} of {total:,} slow connections were ended by the server"
    if others.cautions:
        return f"NOT CLEAN: {text}, but of the requests meanwhile: {'; '.join(others.cautions)}"
    return f"{text}; all {others.good:,} requests meanwhile were answered"


def slow_report(plan: Plan, result: SlowResult, others: Summary) -> list[str]:
    """The whole report, a line each."""
    pace = format_duration(PACE * SECOND)
    lines = [
        f"{plan.target}: {plan.connections:,} connections that {_DOING[result.kind]} each {pace}, "
        f"for {plan.stop.describe()}",
        "",
        slow_headline(result, others),
        "",
    ]
    statuses = Counter(slow.status for slow in result.slow if slow.ending is Ending.ANSWERED)
    for ending, times in count_endings(result.slow).items():
        after = ""
        if times and ending is not Ending.HELD:
            least, middle, most = map(format_duration, (times[0], median(times), times[-1]))
            after = f"   after {least}, {middle}, {most} (least, median, most)"
        if ending is Ending.ANSWERED and statuses:
            after += "   " + ", ".join(f"{status}: {count:,}" for status, count in sorted(statuses.items()))
        lines.append(f"  {ending.value:<26}{len(times):>7,}{after}")
    response = others.response
    times_shown = ", ".join(
        f"{name} {format_duration(value)}"
        for name, value in (
            ("p50", response.percentiles[50]),
            ("p99", response.percentiles[99]),
            ("max", response.maximum),
        )
    )
    return [*lines, "", f"  others meanwhile: {others.good:,} good of {others.finished:,}, response time {times_shown}"]


def slow_json(result: SlowResult, others: Summary) -> dict[str, object]:
    """The same for a program; times in ns."""
    return {
        "schema": SCHEMA,
        "kind": result.kind,
        "clean": not others.cautions,
        "slow": [
            {"ending": slow.ending.name.lower(), "held": slow.held, "status": slow.status} for slow in result.slow
        ],
        "others": figures(others),
    }
