"""What a run records: the one record type that every client fills, and that workers merge.

Two clocks for each good answer. **Service time** is from the moment the request was really sent. **Response time** is
from the moment it was *due*, hence what a user of the server would feel. In a closed loop a request is due when its
connection is free, so both are the same histogram.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum

from load.histogram import Histogram

GOOD_STATUSES = frozenset({*range(200, 300), 304})
"""2xx, and 304 for those who send conditional requests; a redirect or an error page is not what was asked for."""


class Failure(Enum):
    """Why an answer is not a good one. The order is the order of the report."""

    CONNECT = "connect"
    RESET = "reset"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    LENGTH = "length"
    STATUS = "status"
    CONTENT = "content"

    @property
    def meaning(self) -> str:
        """A few words for the report."""
        return _MEANINGS[self]


_MEANINGS = {
    Failure.CONNECT: "no connection",
    Failure.RESET: "closed or reset before the answer was whole",
    Failure.TIMEOUT: "no whole answer in time",
    Failure.PROTOCOL: "not an HTTP/1 answer",
    Failure.LENGTH: "the content was not as long as announced",
    Failure.STATUS: "a status that is not good",
    Failure.CONTENT: "not the expected bytes",
}


class Record:
    """Counts and histograms of one run; constant memory however long it is."""

    def __init__(self, *, open_loop: bool = False, good_statuses: frozenset[int] = GOOD_STATUSES) -> None:
        self.open_loop = open_loop
        self.good_statuses = good_statuses
        self.begin = 0
        """Requests due before this instant are warm-up and left out."""
        self.service = Histogram()
        self.response = Histogram() if open_loop else self.service
        self.octets = 0
        self.statuses: Counter[int] = Counter()
        self.failures: Counter[Failure] = Counter()
        self.examples: dict[Failure, str] = {}
        self.connections = 0
        self.repeated = 0
        """Requests sent again because the server closed a kept connection just then (RFC 9112 section 9.3.1)."""
        self.cut = 0
        """Requests that the end of the run left unanswered: neither good nor the server's failure."""
        self.unsent = 0
        """Requests of the plan (open loop) not sent when the run ended: the load was less than was asked for."""

    @property
    def good(self) -> int:
        """Good answers so far."""
        return self.service.count

    @property
    def failed(self) -> int:
        """Requests that had no good answer."""
        return self.failures.total()

    def answer(self, intended: int, started: int, ended: int, status: int, octets: int) -> None:
        """Count a whole answer: good if its status is, else a failure of the kind STATUS."""
        if intended < self.begin:
            return
        self.statuses[status] += 1
        if status not in self.good_statuses:
            self.fail(intended, Failure.STATUS, f"status {status}")
            return
        self.octets += octets
        self.service.record(ended - started)
        if self.open_loop:
            self.response.record(ended - intended)

    def fail(self, intended: int, kind: Failure, example: str) -> None:
        """Count a request without a good answer; the first *example* of each kind is kept for the report."""
        if intended < self.begin:
            return
        self.failures[kind] += 1
        self.examples.setdefault(kind, example)

    def leave(self, intended: int) -> None:
        """Count a request that the end of the run left without an answer."""
        if intended >= self.begin:
            self.cut += 1

    def merge(self, other: Record) -> None:
        """Add what another worker of the same run recorded."""
        self.service.merge(other.service)
        if self.open_loop:
            self.response.merge(other.response)
        self.octets += other.octets
        self.statuses += other.statuses
        self.failures += other.failures
        self.examples = other.examples | self.examples
        self.connections += other.connections
        self.repeated += other.repeated
        self.cut += other.cut
        self.unsent += other.unsent
