"""What a server counts of itself, and how it says so: Prometheus text exposition format 0.0.4, and JSON.

https://prometheus.io/docs/instrumenting/exposition_formats/

Every number stands in one table, the fields of `Metrics`: memory, text, JSON and tests read it from there. What holds
for the server in all and what holds for one worker are metrics of different names, so that a sum over a metric counts
nothing twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

PREFIX = "aiolsp_"

TEXT = b"text/plain; version=0.0.4; charset=utf-8"
"""The media type of `as_text`."""

JSON = b"application/json"
"""The media type of `as_json`."""


def _metric(help: str, *, family: str = "", label: str = "", personal: bool = False) -> Any:
    return field(default=0, metadata={"help": help, "family": family, "label": label, "personal": personal})


def _responses(kind: str) -> Any:
    return _metric("Answers sent, by class of status.", family="responses_total", label=kind)


@dataclass(slots=True)
class Metrics:
    """The numbers of one worker, whole ones of at least 0. What ends in ``_total`` only ever grows; the rest is now."""

    connections_total: int = _metric("Connections accepted, those that were turned away included.")
    refused_total: int = _metric("Connections turned away because there were too many.")
    requests_total: int = _metric("Requests understood.")
    responses_2xx_total: int = _responses("2xx")
    responses_3xx_total: int = _responses("3xx")
    responses_4xx_total: int = _responses("4xx")
    responses_5xx_total: int = _responses("5xx")
    sent_bytes_total: int = _metric("Bytes of answers, their heads included.")
    ready_hits_total: int = _metric("Requests answered again, byte for byte, within the same second.")
    cache_hits_total: int = _metric("Requests answered from the memory of small files.")
    cache_misses_total: int = _metric("Requests that waited for a look at the disk.")
    connections: int = _metric("Connections there are.")
    threads_busy: int = _metric("Threads that are at work on a disk.")
    queue_length: int = _metric("Requests that wait for a thread.")
    timers: int = _metric("Timers in the list.")
    cache_entries: int = _metric("Small files in memory.")
    cache_bytes: int = _metric("Memory that they take.")
    programs: int = _metric("Programs that run (CGI).")
    draining: int = _metric("Whether it accepts no more and finishes what it has.", personal=True)
    pid: int = _metric("Process id.", personal=True)
    start_time_seconds: int = _metric("When it began to serve, in Unix time.", personal=True)

    def responded(self, status: int, times: int = 1) -> None:
        """Count *times* answers of *status*, which is 200 or more."""
        # Spelt out, for it is done for each answer: by name it takes one and a half to two times as long.
        if status < 300:
            self.responses_2xx_total += times
        elif status < 400:
            self.responses_3xx_total += times
        elif status < 500:
            self.responses_4xx_total += times
        else:
            self.responses_5xx_total += times

    def values(self) -> list[int]:
        """All numbers in the order of the fields."""
        return [getattr(self, name) for name in NAMES]


NAMES = tuple(metric.name for metric in fields(Metrics))

COUNTERS = sum(name.endswith("_total") for name in NAMES)
"""How many of the fields, which come first, are counters."""

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
