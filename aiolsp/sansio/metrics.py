"""What a server counts of itself.

Every number is a field of `Metrics`, from which memory and tests have their order; what it means stands in
exposition.py, beside the text and the JSON, for which few servers are asked. What holds for the server in all and what
holds for one worker are metrics of different names, so that a sum over a metric counts nothing twice.
"""

from __future__ import annotations


class Metrics:
    """The numbers of one worker, whole ones of at least 0. What ends in ``_total`` only ever grows; the rest is now."""

    connections_total: int
    refused_total: int
    requests_total: int
    responses_2xx_total: int
    responses_3xx_total: int
    responses_4xx_total: int
    responses_5xx_total: int
    sent_bytes_total: int
    ready_hits_total: int
    cache_hits_total: int
    cache_misses_total: int
    connections: int
    threads_busy: int
    queue_length: int
    timers: int
    cache_entries: int
    cache_bytes: int
    programs: int
    draining: int
    pid: int
    start_time_seconds: int

    # The names above. Not a dataclass, which takes a hundredth of a server's start to define.
    __slots__ = tuple(__annotations__)

    def __init__(self, *numbers: int, **named: int) -> None:
        """*numbers* are the first, in the order of the fields; what is given neither so nor by name is 0."""
        zeros = [0] * (len(NAMES) - len(numbers))
        for name, number in (*zip(NAMES, (*numbers, *zeros), strict=True), *named.items()):
            setattr(self, name, number)

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


NAMES = Metrics.__slots__

COUNTERS = sum(name.endswith("_total") for name in NAMES)
"""How many of the fields, which come first, are counters."""
