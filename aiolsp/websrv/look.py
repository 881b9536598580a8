"""A look at the disk that a thread has taken over, who waits for it, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiolsp.http1.messages import Request
    from aiolsp.websrv.cache import Entry
    from aiolsp.websrv.connection import HttpConnection

PATIENCE = 0.5
"""Seconds that a look at the disk may take before what was known of the file is sent instead."""

GIVE_UP = 10.0
"""Seconds that it may take before who waits for a file that is not known is told 503."""

Waiter = tuple["HttpConnection", "Request"]


class Look:
    """A look that is under way for *waiters*; *known* is what was seen the last time. Times are the loop's."""

    __slots__ = ("begun", "known", "overdue", "waiters")

    def __init__(self, begun: float, known: Entry | None, waiter: Waiter) -> None:
        self.begun = begun
        self.known = known
        self.waiters = [waiter]
        self.overdue = False

    def takes_too_long(self, now: float) -> bool:
        """Whether its waiters are to be answered without it."""
        return now - self.begun >= (PATIENCE if self.known else GIVE_UP)
