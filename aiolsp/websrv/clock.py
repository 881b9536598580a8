"""The second: what is made once in it and not once a request.

Facts: a Date field has a resolution of one second (RFC 9110 5.6.7), and a small answer differs from the last one to the
same request in nothing else. Making it anew costs ten times what sending it costs.
Consequence: what was answered may be answered again, byte for byte, until the second is over.
Decision: one timer, aligned to the wall clock's seconds, makes the Date and forgets the ready answers. It runs only
while requests come: an idle server is not woken.
Price: none of it can be pinned to a request; and whoever keeps an answer must know that it is true until the next tick.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiolsp.http1.dates import format_date


class SecondClock:
    """The Date field's value, and a tick each second while it is asked for; *on_tick* is called at each."""

    def __init__(self, on_tick: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_tick = on_tick
        self._handle: asyncio.TimerHandle | None = None
        self._used = False
        self._date = b""
        self.stopped = True
        """Whether this second ends without a tick, unless `wake` is called."""
        self.next_tick = 0.0
        """When the current second ends, on the loop's clock."""

    def date(self) -> bytes:
        """The current time as a Date field has it, at most one tick old."""
        self.wake()
        return self._date

    def wake(self) -> None:
        """See to it that this second ends with a tick, though nobody asked for its date."""
        self._used = True
        if self._handle is None:
            self._tick()

    def close(self) -> None:
        """No more ticks."""
        self.stopped = True
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tick(self) -> None:
        self.stopped = False
        self._on_tick()
        now = time.time()
        self._date = format_date(now)
        self.next_tick = self._loop.time() + 1.0 - now % 1.0
        self._handle = self._loop.call_at(self.next_tick, self._end_of_second)

    def _end_of_second(self) -> None:
        self._handle = None
        if self._used:
            self._used = False
            self._tick()
        else:
            self.stopped = True
            self._on_tick()
