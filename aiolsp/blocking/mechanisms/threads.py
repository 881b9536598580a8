"""The book's thread pool: a bounded queue under a lock, a semaphore that counts it.

Book p. 301, listing 15-3 (threadpool.h).

Facts
    - A thread for each connection costs memory and switches without bound; a pool bounds the threads, and so needs a
      queue.
    - A queue without bound turns overload into memory and latency instead of into a refusal.
    - A thread that ends by an exception is one less for ever.
Consequence
    The pool must refuse, and its threads must survive their jobs.
Decision
    `HalfSyncPool.submit` counts jobs where they are, in the queue and on the threads, and raises `QueueFull`. A job
    that raises is logged. `resume` admits more of what was admitted before: to refuse it would throw away work already
    done.
Price
    The caller gets no result: a job acts by itself, on the socket it was given, as the book's ``process()`` does.

The C++ original hands its threads a pointer to the pool before its constructor has ended, lets the queue hold one more
than its limit, and never joins.

Calling sequence: ``new -> (submit -> resume*)* -> close``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import ParamSpec

from aiolsp.tracing import trace

log = logging.getLogger("aiolsp.threads")

P = ParamSpec("P")

THREADS = 8
"""Threads of a pool: a disk serves some requests at once, and the interpreter lets one thread run Python at a time."""

MAX_QUEUE = 1000
"""Jobs that may wait; at 1 ms each on 8 threads the last waits an eighth of a second."""


class QueueFull(Exception):
    """All threads are busy and the queue is full: refuse the request now (HTTP: 503 with Retry-After)."""


class HalfSyncPool:
    """Runs jobs on *threads* threads, with at most *max_queue* waiting; any thread may submit.

    Raises ValueError for less than one thread or a queue of less than nothing, and OSError if the system has not so
    many threads to give.
    """

    def __init__(self, threads: int = THREADS, max_queue: int = MAX_QUEUE, *, name: str = "aiolsp-disk") -> None:
        if threads < 1 or max_queue < 0:
            raise ValueError(f"{threads} threads with a queue of {max_queue} cannot be")
        self.busy = 0
        self._limit = threads + max_queue
        self._queue: deque[Callable[[], object]] = deque()
        self._lock = threading.Lock()
        self._waiting = threading.Semaphore(0)
        self._closing = False
        self._threads: list[threading.Thread] = []
        for number in range(threads):
            thread = threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # EAGAIN of pthread_create(3)
                self.close()
                raise OSError(f"the system gives no more than {number} of {threads} threads") from None
            self._threads.append(thread)

    @property
    def queued(self) -> int:
        """Jobs that wait for a thread."""
        return len(self._queue)

    def submit(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Run ``fn(*args, **kwargs)`` on a thread; never waits.

        Raises QueueFull at once when threads and queue are full, RuntimeError once closed.
        """
        with self._lock:
            if self.busy + len(self._queue) >= self._limit:
                if trace.on:
                    trace.event("!", "submit", busy=self.busy, queued=self.queued, why="the queue is full: refused")
                raise QueueFull(f"{self.busy} jobs run and {self.queued} wait")
            self._enqueue(partial(fn, *args, **kwargs))

    def resume(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """As `submit`, for more of a job that `submit` admitted: it is never refused for a full queue.

        Raises RuntimeError once closed.
        """
        with self._lock:
            self._enqueue(partial(fn, *args, **kwargs))

    def close(self, grace: float = 10.0) -> bool:
        """Forget what waits, give what runs *grace* seconds in all; True if all threads ended. May be called again.

        Threads that still run do not keep the process from exiting.
        """
        with self._lock:
            self._closing = True
            self._queue.clear()
        for _ in self._threads:
            self._waiting.release()
        deadline = time.monotonic() + grace
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _enqueue(self, job: Callable[[], object]) -> None:
        if self._closing:
            raise RuntimeError("the thread pool is closed")
        self._queue.append(job)
        self._waiting.release()

    def _run(self) -> None:
        while True:
            self._waiting.acquire()
            with self._lock:
                if not self._queue:
                    if self._closing:
                        return
                    continue
                job = self._queue.popleft()
                self.busy += 1
            try:
                job()
            except BaseException:  # sys.exit() as well: it would end this thread, and nothing else
                log.exception("a job raised")
            finally:
                del job
                with self._lock:
                    self.busy -= 1
