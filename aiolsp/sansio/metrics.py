"""What a server counts of itself.

Every number stands in one table, the fields of `Metrics`: memory, text, JSON (exposition.py) and tests read it from
there. What holds for the server in all and what holds for one worker are metrics of different names, so that a sum over
a metric counts nothing twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


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
