"""The book's thread pool: bounded, refusing, surviving its jobs."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable

import pytest

from aiolsp.blocking.mechanisms.threads import HalfSyncPool, QueueFull
from harness import DEADLINE


def test_every_job_runs_once_on_a_named_thread() -> None:
    pool = HalfSyncPool(3, 100)
    ran: list[tuple[int, str]] = []
    done = threading.Semaphore(0)

    def job(number: int) -> None:
        ran.append((number, threading.current_thread().name))
        done.release()

    for number in range(100):
        pool.submit(job, number)
    for _ in range(100):
        assert done.acquire(timeout=DEADLINE)
    assert sorted(number for number, _ in ran) == list(range(100))
    assert {name for _, name in ran} <= {"aiolsp-disk-0", "aiolsp-disk-1", "aiolsp-disk-2"}
    assert pool.close()
    assert (pool.busy, pool.queued) == (0, 0)


def test_a_full_queue_refuses_at_once() -> None:
    pool = HalfSyncPool(1, 2)
    entered, gate = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        gate.wait(DEADLINE)

    pool.submit(block)
    assert entered.wait(DEADLINE)
    for _ in range(2):
        pool.submit(block)
    with pytest.raises(QueueFull, match="1 jobs run and 2 wait"):
        pool.submit(block)
    gate.set()
    assert pool.close()


def test_more_of_what_was_admitted_is_never_refused_before_the_end() -> None:
    pool = HalfSyncPool(1, 1)
    entered, gate = threading.Event(), threading.Event()
    ran: list[int] = []

    def block() -> None:
        entered.set()
        gate.wait(DEADLINE)

    pool.submit(block)
    assert entered.wait(DEADLINE)
    pool.submit(ran.append, 0)
    for number in range(1, 10):
        pool.resume(ran.append, number)
    with pytest.raises(QueueFull):
        pool.submit(ran.append, -1)
    done = threading.Event()
    pool.resume(done.set)
    gate.set()
    assert done.wait(DEADLINE) and pool.close()
    assert ran == list(range(10))
    with pytest.raises(RuntimeError, match="closed"):
        pool.resume(ran.append, -1)


def test_closing_forgets_what_waits_and_waits_for_what_runs_only_so_long() -> None:
    pool = HalfSyncPool(1, 2)
    entered, gate = threading.Event(), threading.Event()
    ran: list[int] = []

    def block() -> None:
        entered.set()
        gate.wait(DEADLINE)

    pool.submit(block)
    pool.submit(ran.append, 1)
    assert entered.wait(DEADLINE)
    assert not pool.close(grace=0.01)
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(ran.append, 2)
    gate.set()
    assert pool.close()
    assert ran == []


@pytest.mark.parametrize("job", [lambda: divmod(1, 0), sys.exit])
def test_a_job_that_raises_is_logged_and_its_thread_goes_on(
    caplog: pytest.LogCaptureFixture, job: Callable[[], object]
) -> None:
    pool = HalfSyncPool(1, 2)
    ran = threading.Event()
    with caplog.at_level(logging.ERROR, "aiolsp.threads"):
        pool.submit(job)
        pool.submit(ran.set)
        assert ran.wait(DEADLINE)
    assert [record.getMessage() for record in caplog.records] == ["a job raised"]
    assert pool.close()


@pytest.mark.parametrize("given", [0, 2])
def test_threads_that_the_system_does_not_give_are_an_error_that_leaves_none(
    monkeypatch: pytest.MonkeyPatch, given: int
) -> None:
    start, before = threading.Thread.start, threading.active_count()

    def start_some(thread: threading.Thread) -> None:
        if threading.active_count() == before + given:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_some)
    with pytest.raises(OSError, match=f"the system gives no more than {given} of 8 threads"):
        HalfSyncPool(8, 100)
    assert threading.active_count() == before


@pytest.mark.parametrize("threads, max_queue", [(0, 5), (-1, 5), (1, -1)])
def test_a_pool_that_could_run_nothing_is_refused(threads: int, max_queue: int) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        HalfSyncPool(threads, max_queue)
