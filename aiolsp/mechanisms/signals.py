"""Signals and the ends of children as events of the loop, on stock asyncio and on uvloop.

Book p. 184, listing 10-1: the unified event source.

Facts (CPython 3.11 to 3.13, uvloop 0.23, this kernel)
    - ``loop.add_signal_handler`` is the book's self-pipe: the C handler writes the signal's number into a socketpair
      that the loop watches. Both loops own that wake-up descriptor; a second one would make the loop deaf.
    - The stock loop prints "Exception ignored when trying to write to the signal wakeup fd" for each signal that finds
      the socketpair full; and what finds it full is lost, a different signal as well: the loop's Python handler is a
      no-op.
    - A handler left in place when uvloop closes stays as a no-op: SIGTERM is swallowed from then on.
    - A failed registration of SIGKILL or SIGSTOP switches all signals of uvloop off for the rest of the run.
    - uvloop refuses SIGCHLD (libuv keeps it for its subprocesses), and replacing that handler by ``signal.signal``
      makes ``Process.wait()`` hang. A child's pidfd is readable when it ends, beside any SIGCHLD handler.
    - The kernel keeps one pending bit for a signal: equal signals coalesce before anybody sees them.
    - A signal that comes between the loop's registration and ours, or between the loop's removal and the handler that
      was there before, meets the no-op or the default. One that is blocked meanwhile is pending, and comes afterwards.
Consequence
    The loop's table is right for waking up and wrong as the only record; it must be left as it was found, and never
    asked for what it cannot give. Ends of children are to be taken from pidfds.
Decision
    `SignalReceiver` registers with the loop, then puts a recording Python handler in the place of the no-op, and sets
    the same wake-up descriptor again with ``warn_on_full_buffer=False``. The byte wakes; the handler records. A full
    socketpair is readable, so the loop runs, and so does the handler: nothing that differs is lost, nothing is printed.
    A handler that the program has given to the loop stays in the loop's table, which tells nobody whose it is, and is
    called as well.
    The signals are blocked while handlers change. Within the block they are not, whoever had blocked them before: what
    was pending comes as an event, so that a program may make something first that a signal must not leave behind.
    `wait_child` and `ChildWatcher` reap one child each by its pidfd. Where the loop refuses SIGCHLD, `watch_child`
    names the children whose end shall count as one.
Price
    A signal means "at least once", never a count. SIGCHLD on uvloop: only for children named, only for their end (not
    for stop and continue), and not one sent by kill(1).

Calling sequence: ``enter -> anext* -> exit``, on the main thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from types import FrameType
from typing import Any

from aiolsp.linux.lifetime import handler_after
from aiolsp.linux.pidfd import PidFd
from aiolsp.linux.signals import STOP, checked
from aiolsp.sansio.stopping import ECHO
from aiolsp.tracing import trace


@contextlib.contextmanager
def signals_held(*numbers: int) -> Iterator[set[int]]:
    """The signals *numbers* wait till the end of the block, or for a `SignalReceiver` within it; the mask before.

    It is for what must be made before there is a loop, and be removed whatever comes meanwhile.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield mask
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class SignalReceiver(AsyncIterator[signal.Signals]):
    """The signals *numbers* as an async iterator, while the ``with`` or ``async with`` block runs.

    Raises ValueError for no signal, one that cannot be caught, or an unknown number; entered on another thread than the
    main one, or within its block, RuntimeError. On exit every handler is again what it was; one of the program's own in
    the loop (``add_signal_handler``) is called within the block too, and must not be removed there. A request to stop
    (SIGINT, SIGTERM) that came too late to be received is raised again, if none was received before.
    """

    def __init__(self, *numbers: int) -> None:
        self.numbers = checked(numbers)
        self._arrived: deque[signal.Signals] = deque()
        self._times: dict[signal.Signals, float] = {}
        self._heard = 0.0
        self._received: set[signal.Signals] = set()
        self._previous: dict[signal.Signals, Any] = {}
        self._shared: set[signal.Signals] = set()
        self._children: ChildWatcher | None = None
        self._open = False

    def __enter__(self) -> SignalReceiver:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("signals come to the main thread only")
        if self._open:
            raise RuntimeError("this receiver is entered already")
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._open = True
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self.numbers)
        try:
            for number in self.numbers:
                previous = signal.getsignal(number)
                if self._register(number, previous):
                    self._previous[number] = previous
            _allow_full_wakeup_fd()
        except BaseException:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            raise
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self.numbers)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._open = False
        self._wake.set()
        if self._children is not None:
            self._children.close()
        signal.pthread_sigmask(signal.SIG_BLOCK, self.numbers)
        for number, handler in self._previous.items():
            self._restore(number, handler)
        self._previous.clear()
        self._shared.clear()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        if self._received.isdisjoint(STOP):
            for number in set(self._arrived).intersection(STOP):
                signal.raise_signal(number)

    async def __aenter__(self) -> SignalReceiver:
        return self.__enter__()

    async def __aexit__(self, *exc_info: object) -> None:
        self.__exit__(*exc_info)

    async def __anext__(self) -> signal.Signals:
        while not self._arrived:
            if not self._open:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        number = self._arrived.popleft()
        self._heard = self._times[number]
        self._received.add(number)
        if trace.on:
            trace.event("<", "signal", flags=number.name, why="as an event of the loop")
        return number

    async def again(self, *numbers: int) -> None:
        """Wait for one of *numbers* that is more than an echo of the last one received (sansio/stopping.py)."""
        first = self._heard
        async for number in self:
            if number in numbers and self._heard - first > ECHO:
                return

    def watch_child(self, pid: int) -> None:
        """Let the end of our child *pid* count as SIGCHLD where the loop takes no handler for it; else does nothing.

        The child is not reaped: use `wait_child`, or ``waitid`` for that very child. Raises ValueError if SIGCHLD is
        not among *numbers*.
        """
        if signal.SIGCHLD not in self.numbers:
            raise ValueError("SIGCHLD is not among the signals of this receiver")
        if self._children is not None:
            try:
                self._children.watch_end(pid, self._child_ended)
            except ProcessLookupError:  # it ended so early that its owner has reaped it already
                self._child_ended()

    def _register(self, number: signal.Signals, previous: Any) -> bool:
        if self._loop_has(number, previous):
            self._shared.add(number)
        else:
            try:
                self._loop.add_signal_handler(number, self._wake.set)
            except RuntimeError:
                if number is not signal.SIGCHLD:
                    raise
                self._children = ChildWatcher()
                return False
        self._put(number, self._caught)
        return True

    def _loop_has(self, number: signal.Signals, previous: Any) -> bool:
        """Whether the loop has a handler for it: of an outer receiver, or of the program, not to be had back."""
        owner = getattr(previous, "__self__", None)
        if isinstance(owner, SignalReceiver):
            owner = owner._loop
        return owner is self._loop or number in getattr(self._loop, "_signal_handlers", ())  # uvloop; the stock loop

    def _put(self, number: signal.Signals, handler: Any) -> None:
        signal.signal(number, handler)
        signal.siginterrupt(number, False)  # as the loops do: signal.signal turned it on

    def _restore(self, number: signal.Signals, handler: Any) -> None:
        if number in self._shared:
            self._put(number, handler)
            return
        self._loop.remove_signal_handler(number)
        if handler is not None:  # None: it was not installed from Python and cannot be put back
            signal.signal(number, handler_after(number, handler))

    def _caught(self, number: int, frame: FrameType | None) -> None:
        # Runs between any two bytecodes of the main thread: no trace here, its write may be what was interrupted.
        self._add(signal.Signals(number))

    def _child_ended(self) -> None:
        self._add(signal.SIGCHLD)

    def _add(self, number: signal.Signals) -> None:
        self._times[number] = time.monotonic()  # of the last of equal ones: it is no echo if the first is
        if number not in self._arrived:
            self._arrived.append(number)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to wake
                self._loop.call_soon_threadsafe(self._wake.set)


def _allow_full_wakeup_fd() -> None:
    """Keep the loop's wake-up descriptor, but make it no error if it is full."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    wakeup_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.set_wakeup_fd(wakeup_fd, warn_on_full_buffer=False)
    os.close(writer)
    with open(reader, "rb", buffering=0) as pipe:
        meanwhile = pipe.read()
    if meanwhile and wakeup_fd >= 0:
        with contextlib.suppress(BlockingIOError):
            os.write(wakeup_fd, meanwhile)


class ChildWatcher:
    """Tells when children end, by their pidfds, beside the loop's own subprocesses: ``watch* -> close``.

    On the loop's thread. It touches no signal and no child but those named to it.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watched: set[PidFd] = set()

    def __enter__(self) -> ChildWatcher:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, pid: int, callback: Callable[[int, int], object]) -> None:
        """Reap our child *pid* when it ends, and call ``callback(pid, status)``; -N is an end by signal N.

        A child that somebody else reaped first gives no status: ChildProcessError goes to the loop's exception handler.
        Raises ProcessLookupError if there is no such process, and ChildProcessError if it is not a child of ours.
        """
        self._add(_child(pid), lambda child: callback(pid, _reap(child)))

    def watch_end(self, pid: int, callback: Callable[[], object]) -> None:
        """Call *callback* when the process *pid* ends, ours or not, and leave the reaping to its parent.

        Raises ProcessLookupError if there is no such process.
        """
        self._add(PidFd(pid), lambda child: callback())

    def close(self) -> None:
        """Forget the children that still run; they are neither signalled nor reaped. May be called again."""
        for child in list(self._watched):
            self._forget(child)

    def _add(self, child: PidFd, ended: Callable[[PidFd], object]) -> None:
        self._watched.add(child)
        self._loop.add_reader(child.fileno(), self._ended, child, ended)
        if trace.on:
            trace.event("=", "pidfd_open", fd=child.fileno(), pid=child.pid, why="readable when this child ends")

    def _ended(self, child: PidFd, ended: Callable[[PidFd], object]) -> None:
        self._loop.remove_reader(child.fileno())
        try:
            ended(child)
        finally:
            self._forget(child)

    def _forget(self, child: PidFd) -> None:
        if child in self._watched:
            self._watched.discard(child)
            self._loop.remove_reader(child.fileno())
            child.close()


async def wait_child(pid: int) -> int:
    """Wait for the end of our child *pid* and reap it: its exit status, or -N if signal N ended it.

    Cancelled, it leaves the child alone. Raises ProcessLookupError if there is no such process, and ChildProcessError
    if it is not a child of ours or somebody else reaped it.
    """
    ended = asyncio.Event()
    with ChildWatcher() as watcher, _child(pid) as child:
        watcher.watch_end(pid, ended.set)
        await ended.wait()
        return _reap(child)


def _child(pid: int) -> PidFd:
    child = PidFd(pid)
    try:
        child.check_ours()  # else it would only tell when it has ended, which may be never
    except ChildProcessError:
        child.close()
        raise
    return child


def _reap(child: PidFd) -> int:
    status = child.wait()
    assert status is not None, "a blocking wait returns a status"
    if trace.on:
        trace.event("<", "waitid", fd=child.fileno(), pid=child.pid, status=status, why="the child has ended")
    return status
