"""How a server says what it counts of itself: Prometheus text exposition format 0.0.4, and JSON.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import Field, fields
from typing import Any

from aiolsp.sansio.metrics import Metrics

PREFIX = "aiolsp_"

TEXT = b"text/plain; version=0.0.4; charset=utf-8"
"""The media type of `as_text`."""

JSON = b"application/json"
"""The media type of `as_json`."""

_FAMILIES: dict[str, list[Field[Any]]] = {}
for _one in fields(Metrics):
    _FAMILIES.setdefault(_one.metadata["family"] or _one.name, []).append(_one)


def in_all(workers: Mapping[int, Metrics]) -> Metrics:
    """The sums over *workers* of what can be summed."""
    total = Metrics()
    for metric in fields(Metrics):
        if not metric.metadata["personal"]:
            setattr(total, metric.name, sum(getattr(worker, metric.name) for worker in workers.values()))
    return total


def as_text(workers: Mapping[int, Metrics]) -> bytes:
    """The status of a server whose workers are these, as Prometheus scrapes it (media type TEXT)."""
    total = in_all(workers)
    lines: list[str] = []
    for family, metrics in _FAMILIES.items():
        if not metrics[0].metadata["personal"]:
            lines += _head(family, metrics[0])
            lines += [_sample(family, metric, getattr(total, metric.name)) for metric in metrics]
    for family, metrics in _FAMILIES.items():
        lines += _head("worker_" + family, metrics[0])
        lines += [
            _sample("worker_" + family, metric, getattr(worker, metric.name), worker=str(number))
            for number, worker in workers.items()
            for metric in metrics
        ]
    return ("\n".join(lines) + "\n").encode()


def as_json(workers: Mapping[int, Metrics]) -> bytes:
    """The same as one JSON object (media type JSON): ``all`` by name, ``workers`` by number and name."""
    told = {str(number): _named(worker, personal=True) for number, worker in workers.items()}
    return json.dumps({"all": _named(in_all(workers), personal=False), "workers": told}, indent=1).encode() + b"\n"


def _named(metrics: Metrics, *, personal: bool) -> dict[str, int]:
    return {
        metric.name: getattr(metrics, metric.name)
        for metric in fields(Metrics)
        if personal or not metric.metadata["personal"]
    }


def _head(family: str, metric: Field[Any]) -> list[str]:
    kind = "counter" if family.endswith("_total") else "gauge"
    return [f"# HELP {PREFIX}{family} {metric.metadata['help']}", f"# TYPE {PREFIX}{family} {kind}"]


def _sample(family: str, metric: Field[Any], value: int, **labels: str) -> str:
    if metric.metadata["label"]:
        labels["class"] = metric.metadata["label"]
    told = ",".join(f'{name}="{text}"' for name, text in labels.items())
    return f"{PREFIX}{family}{{{told}}} {value}" if told else f"{PREFIX}{family} {value}"
