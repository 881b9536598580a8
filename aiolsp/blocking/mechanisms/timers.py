"""Drive a sorted timer list by SIGALRM, or by the time-out of the call that waits, for one thread or several.

Book p. 196, listing 11-2 (tick) and p. 200, listing 11-3 (alarm, timer_handler).

Facts (setitimer(2), tried on this kernel)
    - A process has one ITIMER_REAL; its expiry is a SIGALRM, which interrupts whatever the program is doing.
    - Setting it to 0 disarms it: a deadline that has passed needs a delay above 0.
    - SIGALRM written into a self-pipe becomes one more readable descriptor.
    - The wait itself has a time-out, rounded up to whole milliseconds by epoll_wait(2) and poll(2).
    - A process that was stopped (SIGSTOP) or starved finds its timers due and its sockets ready at once, and a wait
      that this made late reports no socket (PEP 475).
Consequence
    Only the first deadline matters. The alarm serves a program that waits in several places; a loop with a single wait
    can do without signals.
Decision
    `AlarmDriver` sets one alarm for the head of the list and moves it only when the head gets earlier; the program
    calls `fire` when SIGALRM came out of its `SelfPipe`. `seconds_until` is the other way; `PollDriver` is that with a
    list behind a lock, so that worker threads may move timers: one that comes due before the wait ends, ends the wait.
    If the wait was LATE, nothing fires before the next one, which ends at once: who is to be timed out may have spoken.
Price
    The one alarm is taken from everybody else in the process: `close` gives back what was left of theirs.

The C++ original ticks every TIMESLOT whether or not a timer is due, so a connection is closed up to one slot late.

Calling sequence: ``new -> (add | adjust | cancel | fire)* -> close``, on the main thread.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable

from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.sansio.timers import LATE, MOST, SortedTimerList, Timer
from aiolsp.tracing import trace

log = logging.getLogger("aiolsp.timers")

SHORTEST = 0.000_001
"""Seconds: the least that setitimer(2) counts; 0 would disarm the alarm."""


class AlarmDriver:
    """Calls the callback of each timer in *timers* when its deadline, in monotonic time, has passed.

    *signals* must take SIGALRM: raises ValueError if it does not. A callback that raises is logged, and the others are
    still called.
    """

    def __init__(self, signals: SelfPipe, timers: SortedTimerList | None = None) -> None:
        if signal.SIGALRM not in signals.numbers:
            raise ValueError("the self-pipe does not take SIGALRM, which would end the process")
        self.time: Callable[[], float] = time.monotonic
        self.timers = SortedTimerList() if timers is None else timers
        self._wake_up = math.inf
        self._closed = False
        self._previous = signal.setitimer(signal.ITIMER_REAL, 0)
        self._arm()

    def __enter__(self) -> AlarmDriver:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def add(self, timer: Timer) -> None:
        """Add *timer* to the list. Raises RuntimeError once closed, and ValueError as `SortedTimerList.add` does."""
        if self._closed:
            raise RuntimeError("the timer driver is closed")
        self.timers.add(timer)
        self._arm()

    def adjust(self, timer: Timer, deadline: float) -> None:
        """Give *timer* another deadline. Raises ValueError if it is not in the list."""
        self.timers.adjust(timer, deadline)
        self._arm()

    def cancel(self, timer: Timer) -> bool:
        """See to it that *timer* does not fire; False if it was not in the list."""
        return self.timers.cancel(timer)

    def close(self) -> None:
        """Give the alarm back as it was; nothing fires any more, whatever the list holds. May be called again."""
        if not self._closed:
            self._closed = True
            signal.setitimer(signal.ITIMER_REAL, *self._previous)

    def fire(self) -> None:
        """Call what is due, MOST at the most; the program calls this when it received SIGALRM.

        That comes again at once if it was not all. A spare call does no harm.
        """
        now = time.monotonic()
        expired = self.timers.tick(now, MOST)
        if trace.on:
            late = f"{(now - self._wake_up) * 1000:+.2f}ms"
            trace.event("%", "fired", why=_outcome(expired), late=late, expired=len(expired), left=len(self.timers))
        self._wake_up = math.inf
        for timer in expired:
            if not self._closed:  # a callback before it may have closed the driver
                _call(timer)
        self._arm()

    def _arm(self) -> None:
        deadline = self.timers.next_deadline()
        if deadline is None or self._closed or self._wake_up <= deadline:
            return
        delay = max(SHORTEST, deadline - time.monotonic())
        if trace.on:
            first = self._wake_up == math.inf
            word, why = ("armed", "for the first deadline") if first else ("moved", "an earlier deadline")
            trace.event("%", word, why=why, due_in=f"{delay:.3f}s", timers=len(self.timers))
        self._wake_up = deadline
        signal.setitimer(signal.ITIMER_REAL, delay)


class PollDriver:
    """Calls the callback of each timer when its deadline has passed; one thread calls `timeout`, waits, calls `fire`.

    Any thread may add, adjust and cancel. *wake* must end the wait that was given `timeout`, from any thread.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.time: Callable[[], float] = time.monotonic
        self.timers = SortedTimerList()
        self._wake = wake
        self._wake_up = -math.inf
        self._held_up = False
        self._lock = threading.Lock()

    def add(self, timer: Timer) -> None:
        """Add *timer*. Raises ValueError as `SortedTimerList.add` does."""
        with self._lock:
            self.timers.add(timer)
            self._arm()

    def hasten(self, timer: Timer, deadline: float) -> None:
        """Give *timer* that *deadline* if it is the earlier one; an `IdleTimer` finds a later one by itself.

        Raises ValueError if it is not in the list.
        """
        with self._lock:
            if deadline < timer.deadline:
                self.timers.adjust(timer, deadline)
                self._arm()

    def cancel(self, timer: Timer) -> bool:
        """See to it that *timer* does not fire; False if it was not in the list."""
        with self._lock:
            return self.timers.cancel(timer)

    def timeout(self, latest: float = math.inf) -> float | None:
        """Seconds to wait now, until the first timer is due or the time is *latest*; None waits for ever."""
        with self._lock:
            deadline = self.timers.next_deadline()
            self._wake_up = latest if deadline is None else min(deadline, latest)
            return None if self._wake_up == math.inf else max(0.0, self._wake_up - time.monotonic())

    def fire(self) -> None:
        """After the wait: call what is due, MOST at the most; the next wait does not last if that is not all."""
        with self._lock:
            now = time.monotonic()
            # A wake-up of -inf is of a caller that did not wait.
            self._held_up = not self._held_up and -math.inf < self._wake_up < now - LATE
            self._wake_up = -math.inf
            expired = [] if self._held_up else self.timers.tick(now, MOST)
        for timer in expired:
            _call(timer)

    def _arm(self) -> None:
        deadline = self.timers.next_deadline()
        if deadline is not None and deadline < self._wake_up:
            self._wake_up = deadline
            self._wake()


def _call(timer: Timer) -> None:
    # A callback before it may have cancelled it, or added it again.
    if timer.cancelled or timer.active:
        return
    try:
        timer.callback()
    except Exception:
        log.exception("a timer's callback raised")


def _outcome(expired: list[Timer]) -> str:
    return "call what expired" if expired else "nothing is due: cancelled or postponed meanwhile"


def seconds_until(*deadlines: float | None) -> float | None:
    """Seconds that ``epoll.poll`` or ``select`` may wait: until the first of *deadlines*, in monotonic time, that is.

    None waits for ever, as there is no deadline; 0 does not wait.
    """
    first = min((deadline for deadline in deadlines if deadline is not None), default=None)
    return None if first is None else max(0.0, first - time.monotonic())


def milliseconds_until(*deadlines: float | None) -> int | None:
    """The same for ``poll.poll``, which counts in milliseconds: rounded up, or it would wake before the deadline."""
    seconds = seconds_until(*deadlines)
    return None if seconds is None else math.ceil(seconds * 1000)
