"""Drive a sorted timer list by one timer of the event loop.

Book p. 196, listing 11-2 (tick) and p. 200, listing 11-3 (alarm, timer_handler).

Facts (both loops, this kernel)
    - ``call_at`` with ``cancel`` costs 0.7-1.6 us and puts an object into the loop's heap; ten thousand connections
      would keep ten thousand there.
    - uvloop's clock and timers count whole milliseconds: a callback comes up to 0.5 ms before its time, and a call
      less than 0.5 ms ahead is made at once. "Not due yet, so arm the same instant again" spins until the next
      millisecond: up to 700 calls were counted.
    - The stock loop is never early, and 0.1-1.2 ms late.
    - Timers that were started at one time come due at one time: those of 7,500 clients that had begun a request and
      did not go on were 0.4 s of answers, in one call.
    - A process that was stopped (SIGSTOP), frozen or starved finds its timers due and its sockets readable at once.
      uvloop calls timers before it looks at sockets; a wait of the stock loop that ends late reports none (PEP 475).
Consequence
    Only the first deadline matters to the loop, and "due" needs a tolerance above the loop's grain. Who is timed out
    for silence may have spoken long ago. And one call may not do for all that is due.
Decision
    `TimerDriver` keeps one ``call_at``, for the head of the list. It moves it only when the head gets earlier; a head
    that got later (cancelled, postponed) lets it fire in vain once. A timer is due within SLACK of the clock, so what
    is left after a tick is more than SLACK ahead: no instant is armed twice. A wake-up that is LATE lets the loop look
    at its sockets first, and so does each MOST of timers that are due.
    *resolution* rounds the wake-ups up to a grid, so that many deadlines share one: for time-outs of seconds that
    nobody measures, 0.1 s means at most ten wake-ups a second however many connections there are.
Price
    A timer fires up to 1 ms early, and late by up to *resolution*.

Calling sequence: ``new -> (add | adjust | cancel)* -> close``, on the loop's thread.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from aiolsp.sansio.timers import LATE, MOST, SortedTimerList, Timer
from aiolsp.tracing import trace

SLACK = 0.001
"""Seconds before its deadline at which a timer counts as due: uvloop's clock has whole milliseconds."""


class TimerDriver:
    """Calls the callback of each timer in *timers* when its deadline, in the time of ``loop.time()``, has passed.

    A callback that raises is reported to the loop's exception handler, and the others are still called. *resolution* in
    seconds; 0 wakes up for each deadline.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        timers: SortedTimerList | None = None,
        *,
        resolution: float = 0.0,
    ) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self.time: Callable[[], float] = self._loop.time
        self.timers = SortedTimerList() if timers is None else timers
        self._resolution = resolution
        self._handle: asyncio.Handle | None = None
        self._wake_up = math.inf
        self._closed = False
        self._arm()

    def __enter__(self) -> TimerDriver:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def add(self, timer: Timer) -> None:
        """Add *timer* to the list. Raises RuntimeError once closed, and ValueError as `SortedTimerList.add` does."""
        if self._closed:
            raise RuntimeError("the timer driver is closed")
        self.timers.add(timer)
        if self._handle is None or timer.deadline < self._wake_up:
            self._arm()

    def adjust(self, timer: Timer, deadline: float) -> None:
        """Give *timer* another deadline. Raises ValueError if it is not in the list."""
        self.timers.adjust(timer, deadline)
        self._arm()

    def cancel(self, timer: Timer) -> bool:
        """See to it that *timer* does not fire; False if it was not in the list."""
        return self.timers.cancel(timer)

    def close(self) -> None:
        """Take back the loop's timer; nothing fires any more, whatever the list holds. May be called again."""
        self._closed = True
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self) -> None:
        deadline = self.timers.next_deadline()
        if deadline is None or self._closed:
            return
        if self._resolution:
            deadline = math.ceil(deadline / self._resolution) * self._resolution
        if self._handle is not None:
            if self._wake_up <= deadline:
                return
            self._handle.cancel()
        if trace.on:
            word, why = (
                ("armed", "for the first deadline") if self._handle is None else ("moved", "an earlier deadline")
            )
            trace.event("%", word, why=why, due_in=f"{deadline - self._loop.time():.3f}s", timers=len(self.timers))
        self._wake_up = deadline
        self._handle = self._loop.call_at(deadline, self._wake)

    def _wake(self) -> None:
        late = self._loop.time() - self._wake_up
        if late < LATE:
            self._fire()
            return
        if trace.on:
            trace.event("%", "late", why="the process was held up: read first what came meanwhile", late=f"{late:.3f}s")
        # The loop looks at its sockets between the one call and the other.
        self._handle = self._loop.call_soon(self._read_first)

    def _read_first(self) -> None:
        self._handle = self._loop.call_soon(self._fire)

    def _fire(self) -> None:
        self._handle = None
        now = self._loop.time()
        expired = self.timers.tick(now + SLACK, MOST)
        if trace.on:
            late = f"{(now - self._wake_up) * 1000:+.2f}ms"
            trace.event("%", "fired", why=_outcome(expired), late=late, expired=len(expired), left=len(self.timers))
        for timer in expired:
            # A callback before it may have cancelled it, closed the driver, or added it again.
            if timer.cancelled or timer.active or self._closed:
                continue
            try:
                timer.callback()
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # as the loop does: the CancelledError of some future is nobody's end
                context = {"message": "a timer's callback raised", "exception": error}
                self._loop.call_exception_handler(context)
        if len(expired) < MOST or self._closed:
            self._arm()
            return
        if self._handle is not None:
            self._handle.cancel()
        self._wake_up = now
        self._handle = self._loop.call_soon(self._fire)


def _outcome(expired: list[Timer]) -> str:
    return "call what expired" if expired else "nothing is due: cancelled or postponed meanwhile"
