"""The second: what is done once in it and not once a request; the twin of websrv/clock.py.

The other shell's clock is aligned to the seconds of the day, since what it keeps ready is true for one of them. Nothing
is kept ready here, so a second may begin with whatever happens first in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from aiolsp.http1.dates import format_date


class SecondClock:
    """The Date field's value, and *on_tick* within a second after each `wake`; *ring* has the readiness loop look.

    ``next_deadline`` and ``tick`` are for the readiness loop, the rest for any thread.
    """

    def __init__(self, on_tick: Callable[[], None], ring: Callable[[], None]) -> None:
        self._on_tick = on_tick
        self._ring = ring
        self._deadline: float | None = None
        self._date = 0, b""

    def date(self) -> bytes:
        """The current time as a Date field has it, made once a second."""
        now = int(time.time())
        second, date = self._date
        if second != now:
            date = format_date(now)
            self._date = now, date
        return date

    def wake(self) -> None:
        """See to it that what has changed just now is followed by a tick."""
        if self._deadline is None:
            self._deadline = time.monotonic() + 1.0
            self._ring()

    def next_deadline(self) -> float | None:
        """When the loop must wake to `tick`, by ``time.monotonic``; None while nothing has changed."""
        return self._deadline

    def tick(self, now: float) -> None:
        """End a second whose time has come."""
        if self._deadline is not None and self._deadline <= now:
            self._deadline = None  # first: what changes from now on may be too late for this tick
            self._on_tick()
