"""Compares two results that ``--json`` wrote: ``stress.py compare A.json B.json``.

Weaker than ``--against``: the runs were not interleaved, so whatever changed on the machine between them is in the
ratio, and the half-second samples that the intervals come from are not independent. The report says so, and names
every difference between the two machines and plans.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from aiolsp.cli import UsageError
from load.bootstrap import Ratio, unpaired_ratio
from load.comparison import FIGURES, Compared, Comparison
from load.report import SCHEMA

FEWEST = 3
"""Samples of each run below which there is no interval: runs of 2 s have four."""

SHORTEST = 250_000_000
"""Nanoseconds: the sample at the end of a run may come right after another, and says nothing then."""

_MACHINE = ("processor", "usable_processors", "kernel", "python", "packages")

_PLAN_MAY_DIFFER = {"url", "unix"}


def read_result(name: str) -> dict[str, Any]:
    """The result of one run from the file *name*. Raises UsageError for anything else."""
    try:
        data = json.loads(Path(name).read_text())
        if data["schema"] != SCHEMA:
            raise UsageError(f"{name} is of the form {data['schema']}, not {SCHEMA}")
    except OSError as error:
        raise UsageError(f"cannot read {name}: {(error.strerror or '').lower()}") from None
    except (ValueError, LookupError, TypeError):
        raise UsageError(f"{name} is not a result that stress.py --json wrote") from None
    assert isinstance(data, dict)
    return data


def compare_results(first: dict[str, Any], second: dict[str, Any], names: tuple[str, str]) -> Comparison:
    """The comparison of two results. Raises UsageError when one is not whole."""
    try:
        compared = [_compare(name, first, second) for name in FIGURES]
        return Comparison(
            names=(f"A  {names[0]}: {_describe(first)}", f"B  {names[1]}: {_describe(second)}"),
            compared=tuple(filter(None, compared)),
            leading="rate" if first["plan"]["rate"] is None else "mean",
            basis="half-second samples of runs that were not interleaved: --against is surer",
            cautions=tuple(_cautions(first, second)),
        )
    except (LookupError, TypeError, ArithmeticError, AttributeError) as error:
        raise UsageError(f"a result is not whole ({type(error).__name__}: {error})") from None


def _describe(data: dict[str, Any]) -> str:
    plan, machine = data["plan"], data["machine"]
    return f"{plan['method']} {plan['url']} at {machine['time']}, commit {machine['commit']}"


def _compare(name: str, first: dict[str, Any], second: dict[str, Any]) -> Compared | None:
    a, b = _figure(name, first), _figure(name, second)
    if not a or not b:
        return None
    ones, others = _series(name, first["samples"]), _series(name, second["samples"])
    enough = min(len(ones), len(others)) >= FEWEST
    spread = unpaired_ratio(ones, others) if enough else Ratio(1.0)
    if spread.low is None or spread.high is None:
        return Compared(name, a, b, Ratio(a / b))
    # The value is that of the whole runs; the samples only say how far it may be off.
    off = a / b / spread.value
    return Compared(name, a, b, Ratio(a / b, spread.low * off, spread.high * off))


def _figure(name: str, data: dict[str, Any]) -> float | None:
    if name == "rate":
        return float(data["rate"])
    if name == "mean":
        return float(data["response_time"]["mean"])
    if name == "cpu":
        seconds = data["server_processor_seconds_per_answer"]
        return None if seconds is None else seconds * 1e9
    return float(data["response_time"]["percentiles"][name.removeprefix("p")])


def _series(name: str, samples: list[dict[str, int]]) -> list[float]:
    """The figure in each half second; empty for those that are not known so finely."""
    zero = {"at": 0, "good": 0, "total_response": 0}
    steps = [
        (now["at"] - last["at"], now["good"] - last["good"], now["total_response"] - last["total_response"])
        for last, now in pairwise([zero, *samples])
        if now["at"] - last["at"] >= SHORTEST and now["good"] > last["good"]
    ]
    if name == "rate":
        return [good / time for time, good, _ in steps]
    return [response / good for _, good, response in steps if response] if name == "mean" else []


def _cautions(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    cautions = [f"{name}: {text}" for name, data in (("A", first), ("B", second)) for text in data["cautions"]]
    machine = [key for key in _MACHINE if first["machine"][key] != second["machine"][key]]
    common = first["plan"].keys() & second["plan"].keys() - _PLAN_MAY_DIFFER
    plan = [key for key in first["plan"] if key in common and first["plan"][key] != second["plan"][key]]
    if machine:
        cautions.append(f"the machines differ in {', '.join(machine)}")
    if plan:
        cautions.append(f"the plans differ in {', '.join(plan)}")
    return cautions
