"""One epoll for all that a loop waits for, with a callback for each descriptor: the twin of mechanisms/epoll.py.

Facts (epoll(7), tried on this kernel)
    - The number of a closed descriptor is given to the next one, while an event of the old may still stand in the list
      that epoll_wait(2) has returned.
    - A descriptor can be registered once: what is to be reported of it is changed by EPOLL_CTL_MOD.
Decision
    A table from descriptor to callback. An event is for the callback that its descriptor had when it was reported, and
    for no other. What accepts watches by itself, with the same ``poller``, and has its own events.

Calling sequence: ``new -> (watch | unwatch | turn)* -> close``.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Protocol, TypeAlias

Callback: TypeAlias = "Callable[[int], object]"
"""Called with the mask of events."""


class Accepting(Protocol):
    """What has descriptors of its own in the poller: an `Acceptor` or an `Intake`."""

    def __contains__(self, fd: int, /) -> bool:
        """Whether *fd* is one of those that `accept` is for."""

    def accept(self, fd: int, /) -> None:
        """Take what has come at the ready descriptor *fd*."""


class EpollWatcher:
    """Watches descriptors with any flags of epoll_ctl(2), and calls back in `turn`; for one thread."""

    def __init__(self) -> None:
        self.poller = select.epoll()
        self._callbacks: dict[int, Callback] = {}

    def __contains__(self, fd: int) -> bool:
        return fd in self._callbacks

    def watch(self, fd: int, flags: int, callback: Callback) -> None:
        """Have *callback* called with what epoll reports of *fd*, instead of what was asked for before."""
        if fd in self._callbacks:
            self.poller.modify(fd, flags)
        else:
            self.poller.register(fd, flags)
        self._callbacks[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Watch *fd* no longer, if it is watched. Call it before *fd* is closed."""
        if self._callbacks.pop(fd, None) is not None:
            self.poller.unregister(fd)

    def turn(self, timeout: float | None, acceptor: Accepting) -> None:
        """Wait *timeout* seconds at the most, None for as long as it takes, and call back for all that was reported."""
        found = self.poller.poll(timeout)
        for fd, events, callback in [(fd, events, self._callbacks.get(fd)) for fd, events in found]:
            if fd in acceptor:
                acceptor.accept(fd)
            elif callback is not None and self._callbacks.get(fd) == callback:  # else an earlier event has closed it
                callback(events)

    def close(self) -> None:
        """Stop watching; the descriptors stay open. May be called again."""
        self.poller.close()
