"""Hands out the requests of a run, each with its intended start: where schedule, stop rule and clients meet.

A client's lane (one connection) asks ``take``. If nothing may start now, it parks a callback, which is called with the
next intended start when that is due, or with None when the run is over. So neither kind of client needs to know the
schedule.

Calling sequence: enter -> start -> [take | park]* -> finish -> exit. One thread, the loop's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic_ns
from typing import Self

from load.plan import Plan
from load.timerfd import TimerDescriptor

Wake = Callable[[int | None], None]


class Dispatcher:
    """The run's one source of requests."""

    def __init__(self, plan: Plan) -> None:
        self._stop = plan.stop
        self._warmup = plan.warmup
        self._schedule = plan.schedule
        self._offsets = plan.schedule.offsets()
        self._parked: deque[Wake] = deque()
        self._timer = TimerDescriptor(self._pace)
        self.begin = 0
        """When the measured part begins."""
        self.started = 0
        """Requests handed out since then."""
        self.lag = 0
        """Nanoseconds by which the last of them was behind the plan."""
        self.over = False
        self.on_finish: Callable[[], None] | None = None
        """Called once, at the moment from which no request starts."""

    def __enter__(self) -> Self:
        self._timer.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.__exit__()

    def start(self, now: int) -> None:
        """Begin: the first requests are due at *now*, or as the schedule says."""
        self._start = now
        self.begin = now + self._warmup
        self._deadline = self._stop.deadline(self.begin)
        self._most = self._stop.most
        if self._offsets is not None:
            self._next = now + next(self._offsets)

    def take(self, now: int) -> int | None:
        """The intended start of a request that may be sent at *now*; None: park, or stop if ``over``."""
        offsets = self._offsets
        intended = now if offsets is None else self._next
        if intended > now or self.over:
            return None
        if now >= self._deadline or self.started >= self._most:
            self.finish()
            return None
        if offsets is not None:
            self._next = self._start + next(offsets)
            self.lag = now - intended
        if intended >= self.begin:
            self.started += 1
        return intended

    def park(self, wake: Wake) -> None:
        """Call *wake* once: with the intended start of the next request when due, or with None when the run is over."""
        if self.over:
            wake(None)
            return
        self._parked.append(wake)
        if self._offsets is not None:
            self._timer.arm(self._next)

    async def next_start(self) -> int | None:
        """The same for coroutines: wait for the next intended start; None when the run is over."""
        intended = self.take(monotonic_ns())
        if intended is None:
            due: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
            # Ctrl-C cancels who waits here before it finishes the run.
            self.park(lambda intended: None if due.done() else due.set_result(intended))
            intended = await due
        return intended

    def finish(self) -> None:
        """No request starts any more."""
        if not self.over and self.on_finish is not None:
            self.on_finish()
        self.over = True
        while self._parked:
            self._parked.popleft()(None)

    def unsent(self, now: int) -> int:
        """How many requests of the plan were due by *now* and not handed out."""
        due = self._due(min(now, self._deadline)) - self._due(self.begin) - self.started
        return max(0, min(due, self._most - self.started))

    def _due(self, instant: int) -> int:
        """How many were planned before *instant*, the warm-up's too."""
        return self._schedule.due(instant - self._start)

    def _pace(self) -> None:
        while self._parked and not self.over:
            intended = self.take(monotonic_ns())
            if intended is None:
                break
            self._parked.popleft()(intended)
        if self._parked and self._offsets is not None:
            self._timer.arm(self._next)
