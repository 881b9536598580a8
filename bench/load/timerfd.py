"""A timer as a descriptor of the event loop, exact to microseconds (timerfd_create(2)).

Facts: uvloop's clock and timers are whole milliseconds, and ``epoll_wait`` of the stock loop takes milliseconds too. A
plan of 10,000 requests per second has a request every 100 µs. Consequence: with ``loop.call_at`` requests leave in
bursts, up to 1 ms late, and the response time shows the generator, not the server. Decision: the kernel's own timer,
watched as any descriptor. Price: ctypes, since Python has ``os.timerfd_create`` only from 3.13.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from typing import Self

CLOCK_MONOTONIC = 1
"""Linux's number of the clock that ``time.monotonic_ns`` reads (clock_gettime(2))."""

TFD_TIMER_ABSTIME = 1

_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class TimerDescriptor:
    """Calls *expired* on the running loop at an instant of ``time.monotonic_ns``; one instant at a time.

    enter -> [arm -> expired()]* -> exit
    """

    def __init__(self, expired: Callable[[], None]) -> None:
        self._expired = expired
        self._armed = 0

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._fd = _checked(_libc.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))
        self._loop.add_reader(self._fd, self._ready)
        return self

    def __exit__(self, *_: object) -> None:
        # In this order: a descriptor closed while it is watched aborts uvloop.
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def arm(self, instant: int) -> None:
        """Expire at *instant*; at once when it has passed. Arming the same instant again costs nothing."""
        if instant == self._armed:
            return
        self._armed = instant
        # A value of zero would disarm the timer (timerfd_settime(2)).
        value = _Timespec(*divmod(max(instant, 1), 1_000_000_000))
        setting = _Itimerspec(_Timespec(0, 0), value)
        _checked(_libc.timerfd_settime(self._fd, TFD_TIMER_ABSTIME, ctypes.byref(setting), None))

    def _ready(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        self._armed = 0
        self._expired()


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
