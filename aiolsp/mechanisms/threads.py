"""Half-sync/half-reactor: blocking calls in a bounded pool of threads, behind the loop's ``run_in_executor``.

Book p. 301, listing 15-3 (threadpool.h: a queue under a lock, a semaphore that counts it).

Facts (both loops)
    - Any call that may wait for a disk (stat, open, read) stops every connection of the loop while it waits.
    - ``ThreadPoolExecutor`` queues without bound: overload turns into memory and latency instead of into a refusal.
    - A running job cannot be cancelled: its awaiter gets CancelledError and the thread goes on. A semaphore held by the
      awaiting coroutine then counts a busy thread as free.
    - A job cancelled in the queue of ThreadPoolExecutor stays there until a thread passes it: with stuck threads
      and impatient clients that queue grows too.
    - At interpreter exit Python joins the threads of ThreadPoolExecutor, however stuck.
Consequence
    The bound must be counted where jobs truly are: in the queue, and on the threads.
Decision
    The book's pool, as an Executor: an ordered queue and a count of busy threads under one lock, a semaphore to sleep
    on. A job that is cancelled leaves the queue at once. `HalfSyncPool.submit` refuses with `QueueFull` when threads
    and queue are full. `resume` admits a further job of a request that was admitted before: to refuse it would throw
    away work already done. It is bounded by the requests in flight, since a request has one job at a time.
Price
    A hand-over and back takes 0.05 ms a job in bulk, 0.2 ms one by one (two thread switches, a wake-up of the loop):
    what is known not to block, such as a cache in memory, is answered on the loop.

The C++ original hands its threads a pointer to the pool before its constructor has ended, lets the queue hold one more
than its limit, and never joins.

Calling sequence: ``new -> (submit -> resume*)* -> close``, on the loop's thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

from aiolsp.tracing import trace

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 8
"""Threads of a pool: a disk serves some requests at once, and the interpreter lets one thread run Python at a time."""

MAX_QUEUE = 1000
"""Jobs that may wait; at 1 ms each on 8 threads the last waits an eighth of a second."""


class QueueFull(Exception):
    """All threads are busy and the queue is full: refuse the request now (HTTP: 503 with Retry-After)."""


class HalfSyncPool:
    """Runs blocking calls on *threads* threads, with at most *max_queue* waiting; the loop is the running one."""

    def __init__(self, threads: int = THREADS, max_queue: int = MAX_QUEUE, *, name: str = "aiolsp-disk") -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = threads + max_queue
        self._futures: set[asyncio.Future[Any]] = set()
        self._ended = asyncio.Event()
        self._threads = _Threads(threads, name, self._all_ended)

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
        future = self._loop.run_in_executor(self._threads, partial(fn, *args, **kwargs))
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    async def close(self, grace: float = 10.0) -> bool:
        """Cancel what waits, give what runs *grace* seconds, without blocking the loop; True if all threads ended.

        After that the awaiters of what still runs are cancelled and its threads left to themselves: they do not keep
        the process from exiting. May be called again.
        """
        self._threads.shutdown(wait=False, cancel_futures=True)
        try:
            async with asyncio.timeout(grace):
                await self._ended.wait()
        except TimeoutError:
            if trace.on:
                trace.event("-", "close", busy=self.busy, why=f"jobs still run after {grace} s")
        for future in list(self._futures):
            future.cancel()
        return self._ended.is_set()

    def _all_ended(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._ended.set)
        except RuntimeError:
            pass  # the loop has closed: nobody waits


class _Threads(Executor):
    """The book's thread pool: *count* threads named *name*-N; *ended* is called by the last of them."""

    def __init__(self, count: int, name: str, ended: Callable[[], None]) -> None:
        self.queue: OrderedDict[Future[Any], Callable[[], Any]] = OrderedDict()
        self.busy = 0
        self._lock = threading.Lock()
        self._waiting = threading.Semaphore(0)
        self._closing = False
        self._ended = ended
        self._living = count
        for number in range(count):
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True).start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue a job, without bound. Raises RuntimeError after `shutdown`."""
        future: Future[T] = Future()
        with self._lock:
            if self._closing:
                raise RuntimeError("the thread pool is closed")
            self.queue[future] = partial(fn, *args, **kwargs)
        future.add_done_callback(self._leave_queue)
        self._waiting.release()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the threads end when the queue is empty; *wait* is not offered (the loop must not block)."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            waiting = list(self.queue) if cancel_futures else []
        for future in waiting:
            future.cancel()
        self._waiting.release(self._living)

    def _leave_queue(self, future: Future[Any]) -> None:
        if future.cancelled():
            with self._lock:
                self.queue.pop(future, None)

    def _run(self) -> None:
        while True:
            self._waiting.acquire()
            with self._lock:
                if not self.queue:
                    if self._closing:
                        break
                    continue  # the job that this count stood for was cancelled
                future, job = self.queue.popitem(last=False)
                self.busy += 1
            running = future.set_running_or_notify_cancel()
            result, error = _outcome(job) if running else (None, None)
            # First the place, then the result: whoever has the result may count on the place.
            with self._lock:
                self.busy -= 1
            if error is not None:
                future.set_exception(error)
            elif running:
                future.set_result(result)
            del future, job, result, error
        with self._lock:
            self._living -= 1
            last = self._living == 0
        if last:
            self._ended()


def _outcome(job: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """What *job* returns or raises; no future in this frame, which the exception's traceback refers to."""
    try:
        return job(), None
    except BaseException as error:
        return None, error
