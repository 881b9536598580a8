"""How a server says what it counts of itself: Prometheus text exposition format 0.0.4, and JSON.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from aiolsp.sansio.metrics import Metrics

PREFIX = "aiolsp_"

TEXT = b"text/plain; version=0.0.4; charset=utf-8"
"""The media type of `as_text`."""

JSON = b"application/json"
"""The media type of `as_json`."""


class _Metric(NamedTuple):
    """What is told of one number."""

    help: str
    family: str = ""
    """The metric that it is a sample of, if it is not one by itself; ``label`` is then the class."""
    label: str = ""
    personal: bool = False
    """Whether it means something for one worker only: no sum of it is told."""


_ANSWERS = "Answers sent, by class of status."

METRICS = {
    "connections_total": _Metric("Connections accepted, those that were turned away included."),
    "refused_total": _Metric("Connections turned away because there were too many."),
    "requests_total": _Metric("Requests understood."),
    "responses_2xx_total": _Metric(_ANSWERS, family="responses_total", label="2xx"),
    "responses_3xx_total": _Metric(_ANSWERS, family="responses_total", label="3xx"),
    "responses_4xx_total": _Metric(_ANSWERS, family="responses_total", label="4xx"),
    "responses_5xx_total": _Metric(_ANSWERS, family="responses_total", label="5xx"),
    "sent_bytes_total": _Metric("Bytes of answers, their heads included."),
    "ready_hits_total": _Metric("Requests answered again, byte for byte, within the same second."),
    "cache_hits_total": _Metric("Requests answered from the memory of small files."),
    "cache_misses_total": _Metric("Requests that waited for a look at the disk."),
    "connections": _Metric("Connections there are."),
    "threads_busy": _Metric("Threads that are at work on a disk."),
    "queue_length": _Metric("Requests that wait for a thread."),
    "timers": _Metric("Timers in the list."),
    "cache_entries": _Metric("Small files in memory."),
    "cache_bytes": _Metric("Memory that they take."),
    "programs": _Metric("Programs that run (CGI)."),
    "draining": _Metric("Whether it accepts no more and finishes what it has.", personal=True),
    "pid": _Metric("Process id.", personal=True),
    "start_time_seconds": _Metric("When it began to serve, in Unix time.", personal=True),
}
"""What is told of each field of `Metrics`, in their order."""

_FAMILIES: dict[str, list[str]] = {}
for _name, _one in METRICS.items():
    _FAMILIES.setdefault(_one.family or _name, []).append(_name)


def in_all(workers: Mapping[int, Metrics]) -> Metrics:
    """The sums over *workers* of what can be summed."""
    total = Metrics()
    for name, metric in METRICS.items():
        if not metric.personal:
            setattr(total, name, sum(getattr(worker, name) for worker in workers.values()))
    return total


def as_text(workers: Mapping[int, Metrics]) -> bytes:
    """The status of a server whose workers are these, as Prometheus scrapes it (media type TEXT)."""
    total = in_all(workers)
    lines: list[str] = []
    for family, names in _FAMILIES.items():
        if not METRICS[names[0]].personal:
            lines += _head(family, METRICS[names[0]])
            lines += [_sample(family, name, total) for name in names]
    for family, names in _FAMILIES.items():
        lines += _head("worker_" + family, METRICS[names[0]])
        lines += [
            _sample("worker_" + family, name, worker, worker=str(number))
            for number, worker in workers.items()
            for name in names
        ]
    return ("\n".join(lines) + "\n").encode()


def as_json(workers: Mapping[int, Metrics]) -> bytes:
    """The same as one JSON object (media type JSON): ``all`` by name, ``workers`` by number and name."""
    told = {str(number): _named(worker, personal=True) for number, worker in workers.items()}
    return json.dumps({"all": _named(in_all(workers), personal=False), "workers": told}, indent=1).encode() + b"\n"


def _named(metrics: Metrics, *, personal: bool) -> dict[str, int]:
    return {name: getattr(metrics, name) for name, metric in METRICS.items() if personal or not metric.personal}


def _head(family: str, metric: _Metric) -> list[str]:
    kind = "counter" if family.endswith("_total") else "gauge"
    return [f"# HELP {PREFIX}{family} {metric.help}", f"# TYPE {PREFIX}{family} {kind}"]


def _sample(family: str, name: str, metrics: Metrics, **labels: str) -> str:
    if METRICS[name].label:
        labels["class"] = METRICS[name].label
    told = ",".join(f'{label}="{text}"' for label, text in labels.items())
    value = getattr(metrics, name)
    return f"{PREFIX}{family}{{{told}}} {value}" if told else f"{PREFIX}{family} {value}"
