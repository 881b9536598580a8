"""A strict reader of the Prometheus text exposition format 0.0.4, for the tests of the status page."""

from __future__ import annotations

import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf"(?P<name>{NAME})(?:\{{(?P<labels>[^{{}}]*)\}})? (?P<value>[0-9]+)")
LABEL = re.compile(r'(?P<name>[a-zA-Z_][a-zA-Z0-9_]*)="(?P<value>[^"\\\n]*)"')

Labels = frozenset[tuple[str, str]]


def read_exposition(text: str) -> dict[tuple[str, Labels], int]:
    """The samples by name and labels. Fails unless each metric has its HELP and TYPE before it, once, in one block."""
    assert text.endswith("\n") and "\n\n" not in text
    samples: dict[tuple[str, Labels], int] = {}
    families: list[str] = []
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("# HELP "):
            family, _, help = line.removeprefix("# HELP ").partition(" ")
            assert re.fullmatch(NAME, family) and family not in families and help
            kind = next(lines)
            expected = "counter" if family.endswith("_total") else "gauge"
            assert kind == f"# TYPE {family} {expected}"
            families.append(family)
            continue
        found = SAMPLE.fullmatch(line)
        assert found and found["name"] == families[-1], line
        pairs = [label for label in (found["labels"] or "").split(",") if label]
        labels = [LABEL.fullmatch(pair) for pair in pairs]
        assert all(labels), line
        key = found["name"], frozenset((label["name"], label["value"]) for label in labels if label)
        assert key not in samples and int(found["value"]) < 1 << 64, line
        samples[key] = int(found["value"])
    return samples
