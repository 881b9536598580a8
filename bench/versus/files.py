"""Writes a comparison down: the figures of every round as JSON with the machine record, and the charts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from load.machine import machine_record
from versus.charts import THEMES, draw, peer_charts, twin_charts
from versus.peers import NGINX, OURS
from versus.results import SCHEMA, CaseResult
from versus.rounds import Pace

PACKAGES = ("starlette", "uvicorn", "httptools", "granian")


@dataclass(frozen=True)
class Report:
    """A finished comparison of one kind."""

    kind: str
    results: Sequence[CaseResult]
    pace: Pace
    generator: str
    """Of the load on web servers."""
    pinned: bool
    """Whether servers and generator had a processor each."""
    caution: str = ""
    """Why the figures are not to be trusted, if they are not."""

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "rounds": self.pace.rounds,
            "seconds": self.pace.seconds,
            "quick": self.pace.quick,
            "generator": self.generator,
            "pinned": self.pinned,
            "caution": self.caution,
            "machine": machine_record(),
            "versions": versions(),
            "cases": [result.to_json() for result in self.results],
        }

    def charts(self) -> dict[str, str]:
        """SVG by the names of files, light and dark."""
        charts = {
            "twins": lambda: twin_charts(self.results),
            "peers": lambda: peer_charts(self.results, NGINX, OURS),
        }.get(self.kind, dict)()
        drawn = {
            f"{name}-{theme}.svg": draw(chart, colours)
            for name, chart in charts.items()
            for theme, colours in THEMES.items()
        }
        return {name: svg for name, svg in drawn.items() if svg}


def write_report(report: Report, directory: Path, *, whole: bool) -> list[Path]:
    """Write the files and return their paths; those of a quick look or of a part are named so. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    prefix = ("" if whole else "part-") + ("quick-" if report.pace.quick else "")
    texts = {f"{report.kind}.json": json.dumps(report.to_json(), indent=1, allow_nan=False) + "\n", **report.charts()}
    paths = []
    for name, text in texts.items():
        path = directory / f"{prefix}{name}"
        path.write_text(text)
        paths.append(path)
    return paths


def versions() -> dict[str, str]:
    """The versions of the peers that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    for command in (("nginx", "-v"), ("wrk", "-v")):
        try:
            told = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
        except OSError:
            continue
        found[command[0]] = (told.stdout + told.stderr).strip().partition("\n")[0]
    return found
