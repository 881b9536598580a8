"""A private epoll inside the event loop: edge triggering, one-shot and urgent data on any loop.

Book p. 154, listing 9-3 (LT and ET) and p. 157, listing 9-4 (EPOLLONESHOT).

Facts (all but the last are tests in tests/mechanisms/test_epoll.py; stock and uvloop agree)
    - ``loop.add_reader`` is level-triggered and knows nothing of EPOLLET, EPOLLONESHOT, EPOLLPRI, EPOLLRDHUP.
    - An epoll descriptor is itself readable while it has events to give (epoll(7)), so a loop can watch it.
    - ``poll(0)`` on it takes an edge away; reading the socket is not needed for that, and the outer watch adds no
      second chance: an edge that was not drained comes again only with the next segment.
    - With fewer slots than ready descriptors the outer watch fires again at once: one ``poll(0, N)`` a wake-up is
      enough, a loop around it would only starve the others. Not to call ``poll`` at all spins.
    - ``modify`` reports again what is ready, edge or not, and does so from any thread, also while the loop sleeps.
    - EPOLLPRI and EPOLLRDHUP pass the nesting; level-triggered they fire until the urgent byte is read, the socket
      closed.
    - EPOLLIN|EPOLLOUT|EPOLLET reports OUT with every segment that comes in.
    - Closing a descriptor removes it from the epoll only if no duplicate is left; then the number is used again by the
      next socket while the table still holds the old callback.
    - Nested, EPOLLEXCLUSIVE loses its effect: 20 connections woke six processes 40 times, directly watched 20 times.
Consequence
    Edge triggering can be had on every loop at the price of one more system call; what must be right is the order of
    leaving (remove, then close) and what a batch does to descriptors that its own callbacks removed or replaced.
Decision
    One ``poll(0, BATCH)`` a wake-up. A watch is an object: an event whose descriptor meanwhile has another watch is
    dropped. `remove` after ``close`` and `add` of a number still in the table raise. `drain` reads to EAGAIN under a
    budget and goes on in the loop's next turn, so that a busy peer does not starve the others.
Price
    Two epoll_wait(2) a wake-up instead of one, and the flags are the caller's to get right: level-triggered
    EPOLLRDHUP, or an edge that is not drained, is not caught here.

Calling sequence: ``new -> (add -> (modify | rearm | drain)* -> remove)* -> close``. All on the loop's thread but
`rearm`, which a worker calls when it has done with a one-shot descriptor.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import TypeAlias

from aiolsp.linux.epoll_flags import flag_names
from aiolsp.tracing import trace

Callback: TypeAlias = "Callable[[int, int], object]"
"""Called with the descriptor and the mask of events."""

BATCH = 64
"""Events taken in one wake-up, before the loop's other callbacks get their turn."""

BUDGET = 16
"""Steps of `drain` in one turn of the loop; at 64 KiB a read, 1 MiB."""


class _Watch:
    __slots__ = ("callback", "draining")

    def __init__(self, callback: Callback) -> None:
        self.callback = callback
        self.draining = False


class EpollWatcher:
    """Watches descriptors with any flags of epoll_ctl(2) and calls back on the running loop.

    A callback that raises is reported to the loop's exception handler; the others of the batch are still called.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._watches: dict[int, _Watch] = {}
        self._loop.add_reader(self._epoll.fileno(), self._ready)

    def __enter__(self) -> EpollWatcher:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._watches)

    def add(self, fd: int, flags: int, callback: Callback) -> None:
        """Watch *fd* for *flags*, taken as they are: edge-triggered only with EPOLLET.

        Raises ValueError if *fd* is in the table (one that was closed without `remove` still is) and for
        EPOLLEXCLUSIVE, PermissionError for a regular file (EPERM), OSError otherwise as epoll_ctl(2) does.
        """
        if fd in self._watches:
            raise ValueError(f"fd {fd} is watched already; remove it before it is closed and its number used again")
        if flags & select.EPOLLEXCLUSIVE:
            raise ValueError("EPOLLEXCLUSIVE has no effect on a nested epoll")
        self._epoll.register(fd, flags)
        self._watches[fd] = _Watch(callback)
        if trace.on:
            trace.event("=", "epoll_ctl ADD", fd=fd, flags=flag_names(flags))

    def modify(self, fd: int, flags: int, callback: Callback | None = None) -> None:
        """Give *fd* other flags, and another callback if one is named; reports again at once if it is ready.

        Raises KeyError if *fd* is not watched.
        """
        watch = self._watches[fd]
        self._epoll.modify(fd, flags)
        watch.callback = callback or watch.callback
        if trace.on:
            trace.event("=", "epoll_ctl MOD", fd=fd, flags=flag_names(flags))

    def rearm(self, fd: int, flags: int) -> bool:
        """From any thread: watch a one-shot *fd* again; reports at once if it is ready meanwhile.

        False if *fd* was removed in the meantime. The caller must see to it that it is not closed either, for its
        number may then be another socket's.
        """
        if fd not in self._watches:
            return False
        if trace.on:
            trace.event("=", "epoll_ctl MOD", fd=fd, flags=flag_names(flags), why="armed again")
        try:
            self._epoll.modify(fd, flags)
        except (OSError, ValueError):  # removed between the two lines; ValueError: the epoll is closed
            return False
        return True

    def remove(self, fd: int) -> None:
        """Watch *fd* no longer; does nothing if it is not watched. Call it before *fd* is closed.

        Raises RuntimeError if *fd* was closed before: it may be another's by now, or a duplicate keep it reporting.
        """
        if self._watches.pop(fd, None) is None:
            return
        try:
            self._epoll.unregister(fd)
        except OSError:  # EBADF, or of another file with that number: ENOENT, EPERM
            raise RuntimeError(f"fd {fd} was closed before it was removed from the epoll") from None
        if trace.on:
            trace.event("=", "epoll_ctl DEL", fd=fd)

    def drain(self, fd: int, step: Callable[[], bool], budget: int = BUDGET) -> None:
        """Call *step* until it returns False ("read later": EAGAIN or the end), as an edge demands.

        After *budget* calls the rest waits for the loop's next turn. Stops when *fd* is removed; an edge that comes
        while the rest waits starts no second round.
        """
        watch = self._watches.get(fd)
        if watch is not None and not watch.draining:
            watch.draining = True
            self._drain(fd, watch, step, budget)

    def close(self) -> None:
        """Stop watching; descriptors that are still watched stay open. May be called again."""
        if not self._epoll.closed:
            self._watches.clear()
            self._loop.remove_reader(self._epoll.fileno())  # before close: uvloop aborts the process otherwise
            self._epoll.close()

    def _ready(self) -> None:
        batch = [(fd, events, self._watches.get(fd)) for fd, events in self._epoll.poll(0, BATCH)]
        for fd, events, watch in batch:
            # An earlier callback of this batch may have removed fd, and its number may be another's by now.
            if watch is None or self._watches.get(fd) is not watch:
                continue
            if trace.on:
                trace.event("<", "epoll_wait", fd=fd, flags=flag_names(events))
            try:
                watch.callback(fd, events)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # as the loop does: the CancelledError of some future is nobody's end
                message = f"the callback of fd {fd} raised on {flag_names(events)}"
                self._loop.call_exception_handler({"message": message, "exception": error})

    def _drain(self, fd: int, watch: _Watch, step: Callable[[], bool], budget: int) -> None:
        more = False
        try:
            for _ in range(budget):
                more = self._watches.get(fd) is watch and step()
                if not more:
                    return
        except BaseException:
            more = False
            raise
        finally:
            watch.draining = more
        if trace.on:
            trace.event("=", "drain", fd=fd, why=f"{budget} steps done, the rest after the others had their turn")
        self._loop.call_soon(self._drain, fd, watch, step, budget)
