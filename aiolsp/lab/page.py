"""Runs as one page of HTML that needs nothing else: no network, no library.

Decision
    The page is a template and three files beside it, put into one. What happened goes in as JSON, which the script
    draws; whatever a program or its client said stays text there, and `_embedded` keeps it from ending its element.
    A policy in the page (CSP) names the one script by its hash: no other runs, whatever the data holds.
Price
    The lines of source around each event are part of the page, some 20 KiB for a lab.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any, TypeAlias

from aiolsp.lab.model import Event, Run, document
from aiolsp.lab.timeline import COUNTED

FILES = Path(__file__).parent / "assets"
PROJECT = Path(__file__).parent.parent.parent
"""What the names of source files are relative to."""

AROUND = 9
"""Lines of source before and after the one that wrote an event."""

Sources: TypeAlias = "dict[str, dict[int, str]]"
"""Lines by their number, for each file."""


def page(runs: Iterable[Run], *, title: str = "", lead: str = "") -> str:
    """A page that shows *runs* one below the other on one axis of time.

    *title* and *lead*, a line under it, are of the first run unless they are given.
    """
    shown = list(runs)
    if shown:
        title = title or f"lab {shown[0].lab}"
        lead = lead or f"Book p. {shown[0].book}. What the kernel reported, what each shell did, and why."
    sources: Sources = {}
    for run in shown:
        add_sources(sources, run.events)
    data = {**document(shown), "title": title, "lead": lead, "sources": sources}
    return assembled(data, ("lanes.js", "controls.js"))


def assembled(data: Mapping[str, Any], scripts: Iterable[str], *, connect: str = "'none'") -> str:
    """The page of *data* with *scripts*, which may *connect* to what that source expression of CSP names."""
    script = "\n".join(_file(name) for name in scripts)
    style = _file("page.css")
    policy = f"default-src 'none'; img-src data:; script-src {_hash(script)}; style-src {_hash(style)}"
    return Template(_file("page.html")).substitute(
        title=escape(data["title"]),
        policy=f"{policy}; connect-src {connect}",
        style=style,
        script=script,
        data=_embedded({**data, "counted": COUNTED}),
    )


def add_sources(sources: Sources, events: Iterable[Event]) -> Sources:
    """Add to *sources* the lines around each of *events* that are not there; what was added."""
    added: Sources = {}
    for place in {event.source for event in events if event.source}:
        name, _, number = place.rpartition(":")
        known = sources.setdefault(name, {})
        wanted = set(range(int(number) - AROUND, int(number) + AROUND + 1)) - known.keys()
        new = {at: text for at, text in enumerate(_lines(name), 1) if at in wanted} if wanted else {}
        known.update(new)
        if new:
            added.setdefault(name, {}).update(new)
    return added


def _lines(name: str) -> list[str]:
    """The lines of a file of the project; none for one that cannot be read."""
    try:
        return (PROJECT / name).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _file(name: str) -> str:
    return (FILES / name).read_text()


def _hash(text: str) -> str:
    """A source expression for an inline element (CSP level 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(data: Mapping[str, Any]) -> str:
    """JSON that may stand in a script element: no ``</script>``, no ``<!--`` (HTML section 4.12.1.3)."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
