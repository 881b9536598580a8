"""Half-sync/half-reactor: blocking calls in a bounded pool of threads; their results come as futures of the loop.

Book p. 301, listing 15-3 (threadpool.h: a queue under a lock, a semaphore that counts it).

Facts (both loops)
    - Any call that may wait for a disk (stat, open, read) stops every connection of the loop while it waits.
    - ``ThreadPoolExecutor`` queues without bound: overload turns into memory and latency instead of into a refusal.
    - A running job cannot be cancelled: its awaiter gets CancelledError and the thread goes on. A semaphore held by the
      awaiting coroutine then counts a busy thread as free.
    - A job cancelled in the queue of ThreadPoolExecutor stays there until a thread passes it: with stuck threads
      and impatient clients that queue grows too.
    - At interpreter exit Python joins the threads of ThreadPoolExecutor, however stuck.
    - ``run_in_executor`` makes two futures a job, and wakes the loop (a write to its own descriptor) for each result.
      ``threading.Semaphore`` is Python code over a condition, which makes a lock each time a thread goes to sleep.
    - ``Thread.start`` returns when the thread runs: after 0.1 ms, or milliseconds where others want the processor.
    - Threads that have something to do at the same time take the interpreter from each other, and from the loop, at
      each of their system calls. Look-ups of 2,500 names a second, each 0.1 ms of work, kept the loop's other clients
      waiting for 34 ms (p99) with eight threads awake, and for 5 ms with one, as without them.
Consequence
    The bound must be counted where jobs truly are: in the queue, and on the threads. And results that come while the
    loop is busy can share one wake-up.
Decision
    The book's pool: an ordered queue and a count of busy threads under one lock; instead of its semaphore, each thread
    has a lock of its own to sleep on, so that they are woken in turn, and none that has work left. A thread puts its
    result to the others and wakes the loop only if there was none; the loop takes all there are. As long as one thread
    keeps up, no other is roused: the next one is when a job has waited for LONG, as behind one that waits for a disk.
    There is one thread at first, so that what cannot have any fails at its start; another is started when none sleeps
    that could be roused, until there are as many as were asked for. A job that is cancelled leaves the queue at once.
    `HalfSyncPool.submit` refuses with `QueueFull` when threads and queue are full. `resume` admits a further job of a
    request that was admitted before: to refuse it would throw away work already done. It is bounded by the requests in
    flight, since a request has one job at a time.
Price
    A hand-over and back takes 0.02 ms a job in bulk, 0.1 ms one by one (two thread switches, a wake-up of the loop):
    what is known not to block, such as a cache in memory, is answered on the loop. Beside a job that waits for a disk,
    others wait for LONG.

The C++ original hands its threads a pointer to the pool before its constructor has ended, lets the queue hold one more
than its limit, and never joins.

Calling sequence: ``new -> (submit -> resume*)* -> close``, on the loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar

from aiolsp.tracing import trace

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 8
"""Threads of a pool: a disk serves some requests at once, and the interpreter lets one thread run Python at a time."""

MAX_QUEUE = 1000
"""Jobs that may wait; at 1 ms each on 8 threads the last waits an eighth of a second."""

LONG = 0.002
"""Seconds that a job may wait before one more thread is roused: a disk takes longer, what is in memory far less."""


class QueueFull(Exception):
    """All threads are busy and the queue is full: refuse the request now (HTTP: 503 with Retry-After)."""


class HalfSyncPool:
    """Runs blocking calls on *threads* threads, with at most *max_queue* waiting; the loop is the running one.

    Raises ValueError for less than one thread or a queue of less than nothing, and RuntimeError if the system has not a
    single thread to give.
    """

    def __init__(self, threads: int = THREADS, max_queue: int = MAX_QUEUE, *, name: str = "aiolsp-disk") -> None:
        if threads < 1 or max_queue < 0:
            raise ValueError(f"{threads} threads with a queue of {max_queue} cannot be")
        self._loop = asyncio.get_running_loop()
        self._limit = threads + max_queue
        self._futures: set[asyncio.Future[Any]] = set()
        self._ended = asyncio.Event()
        self._threads = _Threads(threads, name, self._wake)
        self._lookout: asyncio.TimerHandle | None = None

    @property
    def queued(self) -> int:
        """Jobs that wait for a thread."""
        return len(self._threads.queue)

    @property
    def busy(self) -> int:
        """Threads that run a job."""
        return self._threads.busy

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Run ``fn(*args, **kwargs)`` on a thread; the future has its result or exception. Never waits.

        To act on it without a task: ``pool.submit(fn).add_done_callback(callback)``. Raises QueueFull at once when
        threads and queue are full, RuntimeError once closed.
        """
        if self.busy + self.queued >= self._limit:
            if trace.on:
                trace.event("!", "submit", busy=self.busy, queued=self.queued, why="the queue is full: refused")
            raise QueueFull(f"{self.busy} jobs run and {self.queued} wait")
        return self.resume(fn, *args, **kwargs)

    def resume(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """As `submit`, for the next job of a request that `submit` admitted: it is never refused for a full queue.

        Raises RuntimeError once closed.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._threads.put(future, partial(fn, *args, **kwargs))
        self._futures.add(future)
        future.add_done_callback(self._forget)
        if self._lookout is None:
            self._look_out()
        return future

    async def close(self, grace: float = 10.0) -> bool:
        """Cancel what waits, give what runs *grace* seconds, without blocking the loop; True if all threads ended.

        After that the awaiters of what still runs are cancelled and its threads left to themselves: they do not keep
        the process from exiting. May be called again.
        """
        for future in self._threads.end():
            future.cancel()
        if self._lookout is not None:
            self._lookout.cancel()
        try:
            async with asyncio.timeout(grace):
                await self._ended.wait()
        except TimeoutError:
            if trace.on:
                trace.event("-", "close", busy=self.busy, why=f"jobs still run after {grace} s")
        for future in list(self._futures):
            future.cancel()
        return self._ended.is_set()

    def _look_out(self) -> None:
        """If jobs wait, see in a while whether they still do: then the threads that are awake do not keep up."""
        last = self._threads.last_waiting
        self._lookout = None if last is None else self._loop.call_later(LONG, self._look, last)

    def _look(self, last: int) -> None:
        if self._threads.taken < last:
            self._threads.rouse()
        self._look_out()

    def _forget(self, future: asyncio.Future[Any]) -> None:
        self._futures.discard(future)
        if future.cancelled():
            self._threads.drop(future)

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._collect)
        except RuntimeError:
            pass  # the loop has closed: nobody waits

    def _collect(self) -> None:
        for future, result, error in self._threads.take():
            if future.done():  # cancelled while its job ran
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        if not self._threads.living:
            self._ended.set()


async def in_thread(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """What *fn* returns on a thread of its own, which needs no executor of the loop: its owner may have shut that down.

    Unlike ``asyncio.to_thread``, it takes no context variables along, and when cancelled it gives *fn* 10 seconds to
    end, so that no thread is left behind.
    """
    pool = HalfSyncPool(1, 0)
    try:
        return await pool.submit(fn, *args, **kwargs)
    finally:
        await pool.close()


_Outcome = tuple[asyncio.Future[Any], Any, BaseException | None]


class _Threads:
    """The book's thread pool: up to *count* threads named *name*-N. They touch no future, but *wake* whoever does.

    *wake* is called on a thread when there are outcomes to `take` and there were none, and by the last thread to end.
    """

    def __init__(self, count: int, name: str, wake: Callable[[], None]) -> None:
        self.queue: OrderedDict[asyncio.Future[Any], Callable[[], Any]] = OrderedDict()
        self.busy = 0
        self.living = 0
        self.taken = 0
        self._count = count
        self._name = name
        self._outcomes: list[_Outcome] = []
        self._lock = threading.Lock()
        # What each thread without a job sleeps on, the one that has slept longest first.
        self._asleep: deque[threading.Lock] = deque()
        self._closing = False
        self._wake = wake
        self._start_one()

    @property
    def last_waiting(self) -> int | None:
        """How many jobs will have been taken with those that wait; None without any, or a thread to be roused."""
        with self._lock:
            return self.taken + len(self.queue) if self.queue and self._spare else None

    @property
    def _spare(self) -> bool:
        return bool(self._asleep) or self.living < self._count

    def put(self, future: asyncio.Future[Any], job: Callable[[], Any]) -> None:
        """Queue *job*, without bound, for a thread that is awake if there is one. Raises RuntimeError after `end`."""
        with self._lock:
            if self._closing:
                raise RuntimeError("the thread pool is closed")
            self.queue[future] = job
            awake = len(self._asleep) < self.living
        if not awake:
            self.rouse()

    def rouse(self) -> None:
        """Have one more thread look for a job."""
        with self._lock:
            if self._asleep:
                self._asleep.popleft().release()
                return
        if self.living < self._count:
            # Without another one, those that there are will come to it.
            with contextlib.suppress(RuntimeError):
                self._start_one()

    def drop(self, future: asyncio.Future[Any]) -> None:
        """Take the job of *future* out of the queue, if it is still there."""
        with self._lock:
            self.queue.pop(future, None)

    def take(self) -> list[_Outcome]:
        """What the jobs that have ended since the last time returned or raised."""
        with self._lock:
            outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def end(self) -> list[asyncio.Future[Any]]:
        """Let each thread end after its job, and give up the jobs that wait: their futures."""
        with self._lock:
            if self._closing:
                return []
            self._closing = True
            while self._asleep:
                self._asleep.popleft().release()
            waiting = list(self.queue)
            self.queue.clear()
            return waiting

    def _start_one(self) -> None:
        """Start one more thread. Raises RuntimeError if the system has none to give."""
        threading.Thread(target=self._run, name=f"{self._name}-{self.living}", daemon=True).start()
        self.living += 1

    def _run(self) -> None:
        alarm = threading.Lock()
        alarm.acquire()
        while True:
            with self._lock:
                idle = not self.queue
                if not idle:
                    future, job = self.queue.popitem(last=False)
                    self.busy += 1
                    self.taken += 1
                elif self._closing:
                    break
                else:
                    self._asleep.append(alarm)
            if idle:
                alarm.acquire()  # until it is released by who wakes this thread
                continue
            result, error = _outcome(job)
            # The place and the result at once: whoever has the result may count on the place.
            with self._lock:
                self.busy -= 1
                first = not self._outcomes
                self._outcomes.append((future, result, error))
            del future, job, result, error
            if first:
                self._wake()
        with self._lock:
            self.living -= 1
            last = self.living == 0
        if last:
            self._wake()


def _outcome(job: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """What *job* returns or raises; no future in this frame, which the exception's traceback refers to."""
    try:
        return job(), None
    except StopIteration as error:
        return None, RuntimeError(f"a job raised {error!r}, which no future can hold")
    except BaseException as error:
        return None, error
