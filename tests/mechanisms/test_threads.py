"""The bounded pool on both loops: what is admitted, refused, cancelled, and left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from aiolsp.mechanisms import threads
from aiolsp.mechanisms.threads import HalfSyncPool, QueueFull, in_thread
from faults import wait_until
from harness import DEADLINE

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture
def run(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[Run]:
    """Runs a coroutine on each loop."""
    with asyncio.Runner(loop_factory=loop_factory, debug=False) as runner:
        yield runner.run


class Gate:
    """A job that blocks its thread until the test lets it go."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered = threading.Semaphore(0)
        self.passed = 0

    def job(self, result: object = None) -> object:
        """Wait, then return *result*."""
        self.entered.release()
        assert self.opened.wait(DEADLINE)
        self.passed += 1
        return result

    async def wait_entered(self, count: int) -> None:
        """Until *count* jobs run; the loop runs meanwhile, which has threads roused."""
        async with asyncio.timeout(DEADLINE):
            for _ in range(count):
                while not self.entered.acquire(blocking=False):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)


def test_results_exceptions_and_arguments_travel(run: Run) -> None:
    def fail(text: str) -> None:
        raise ZeroDivisionError(text)

    async def main() -> None:
        pool = HalfSyncPool(2, 10)
        assert await pool.submit(divmod, 7, 2) == (3, 1)
        assert await pool.submit(int, "ff", base=16) == 255
        with pytest.raises(ZeroDivisionError, match="of mine"):
            await pool.submit(fail, "of mine")
        with pytest.raises(SystemExit):
            await pool.submit(sys.exit, 3)
        assert await pool.submit(abs, -1) == 1, "the threads survive their jobs"
        assert await pool.close()

    run(main())


def test_a_thread_is_to_be_had_though_the_loops_executor_is_shut_down(run: Run) -> None:
    async def main() -> None:
        await asyncio.get_running_loop().shutdown_default_executor()
        with pytest.raises(RuntimeError):
            await asyncio.to_thread(abs, -1)
        assert await in_thread(int, "ff", base=16) == 255

    run(main())


def test_threads_have_names_that_tell_what_they_are(run: Run) -> None:
    async def main() -> None:
        pool = HalfSyncPool(2, 10)
        name = (await pool.submit(threading.current_thread)).name
        assert name in ("aiolsp-disk-0", "aiolsp-disk-1")
        assert await pool.close()

    run(main())


def threads_named(name: str) -> int:
    """How many threads of the pool called *name* there are."""
    return sum(thread.name.startswith(f"{name}-") for thread in threading.enumerate())


def test_threads_are_started_when_jobs_need_them(run: Run) -> None:
    async def main() -> None:
        pool, gate = HalfSyncPool(3, 10, name="needed"), Gate()
        assert threads_named("needed") == 1
        futures = [pool.submit(gate.job) for _ in range(5)]
        await gate.wait_entered(3)
        assert threads_named("needed") == 3 and pool.queued == 2
        gate.opened.set()
        await asyncio.gather(*futures)
        assert await pool.close()

    run(main())
    wait_until(lambda: threads_named("needed") == 0, "the threads gone")


def test_one_thread_does_it_all_as_long_as_nothing_waits_for_long(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(threads, "LONG", DEADLINE)
        pool = HalfSyncPool(3, 1000, name="quick")
        assert await asyncio.gather(*(pool.submit(abs, -number) for number in range(500))) == list(range(500))
        assert threads_named("quick") == 1 and await pool.close()

    run(main())


def test_behind_one_that_waits_another_thread_takes_what_comes(run: Run) -> None:
    async def main() -> None:
        pool, gate = HalfSyncPool(3, 10), Gate()
        stuck = pool.submit(gate.job)
        await gate.wait_entered(1)
        for number in range(20):
            assert await pool.submit(abs, -number) == number
        assert not stuck.done()
        gate.opened.set()
        await stuck
        assert await pool.close()

    run(main())


@pytest.mark.parametrize("threads, max_queue", [(0, 5), (-1, 5), (1, -1)])
def test_a_pool_that_could_run_nothing_is_refused(run: Run, threads: int, max_queue: int) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="cannot be"):
            HalfSyncPool(threads, max_queue)

    run(main())


def test_where_no_more_threads_are_to_be_had_those_there_are_do_it_all(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        pool = HalfSyncPool(3, 10, name="refused")
        monkeypatch.setattr(threading.Thread, "start", refuse)
        assert await asyncio.gather(*(pool.submit(abs, -number) for number in range(5))) == [0, 1, 2, 3, 4]
        assert threads_named("refused") == 1 and await pool.close()
        with pytest.raises(RuntimeError, match="start new thread"):
            HalfSyncPool(3, 10)

    run(main())


def test_a_full_queue_refuses_at_once_and_admits_again_when_a_job_ends(run: Run) -> None:
    async def main() -> None:
        pool, gate = HalfSyncPool(2, 3), Gate()
        futures = [pool.submit(gate.job, number) for number in range(5)]
        await gate.wait_entered(2)
        assert (pool.busy, pool.queued) == (2, 3)
        for _ in range(4):
            with pytest.raises(QueueFull, match="2 jobs run and 3 wait"):
                pool.submit(gate.job)
        gate.opened.set()
        assert await asyncio.gather(*futures) == [0, 1, 2, 3, 4]
        assert await pool.submit(abs, -1) == 1
        assert await pool.close()
        assert (pool.busy, pool.queued) == (0, 0)

    run(main())


def test_an_admitted_request_goes_on_although_the_queue_is_full(run: Run) -> None:
    async def main() -> None:
        pool, gate = HalfSyncPool(1, 1), Gate()
        futures = [pool.submit(gate.job), pool.submit(gate.job)]
        further = pool.resume(divmod, 7, 2)
        assert pool.busy + pool.queued == 3
        with pytest.raises(QueueFull):
            pool.submit(gate.job)
        gate.opened.set()
        assert await further == (3, 1)
        await asyncio.gather(*futures)
        assert await pool.close()

    run(main())


def test_a_job_cancelled_in_the_queue_never_runs_and_frees_its_place(run: Run) -> None:
    async def main() -> None:
        pool, gate, other = HalfSyncPool(1, 2), Gate(), Gate()
        running = pool.submit(gate.job)
        await gate.wait_entered(1)
        for _ in range(100):
            waiting = pool.submit(other.job)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.sleep(0)
            assert pool.queued == 0
        gate.opened.set()
        await running
        assert await pool.submit(abs, -1) == 1, "the thread passed over the places that were left"
        assert other.passed == 0 and not other.entered.acquire(blocking=False)
        assert await pool.close()

    run(main())


def test_a_cancelled_job_that_runs_keeps_its_thread_until_it_ends(run: Run) -> None:
    async def main() -> None:
        pool, gate = HalfSyncPool(1, 0), Gate()
        running = pool.submit(gate.job)
        await gate.wait_entered(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert pool.busy == 1
        with pytest.raises(QueueFull):
            pool.submit(abs, -1)
        gate.opened.set()
        assert await pool.close()
        assert gate.passed == 1

    run(main())


def test_a_callback_serves_without_a_task(run: Run) -> None:
    async def main() -> None:
        pool = HalfSyncPool(1, 1)
        answered = asyncio.get_running_loop().create_future()
        pool.submit(abs, -1).add_done_callback(lambda future: answered.set_result(future.result()))
        assert await answered == 1
        assert await pool.close()

    run(main())


def test_a_job_that_raises_what_no_future_holds_is_an_error_and_delays_no_other(run: Run) -> None:
    async def main() -> None:
        pool, gate = HalfSyncPool(1, 5), Gate()
        held = pool.submit(gate.job)
        stopped, after = pool.submit(next, iter(())), pool.submit(abs, -1)
        gate.opened.set()
        with pytest.raises(RuntimeError, match="StopIteration"):
            await stopped
        assert await after == 1
        await held
        assert await pool.close()

    run(main())


def test_results_that_come_while_the_loop_is_busy_share_one_wake_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        pool, passed = HalfSyncPool(4, 100), threading.Semaphore(0)
        wake_ups, collect = 0, pool._collect

        def count() -> None:
            nonlocal wake_ups
            wake_ups += 1
            collect()

        monkeypatch.setattr(pool, "_collect", count)
        futures = [pool.submit(passed.release) for _ in range(50)]
        for _ in range(50):
            assert passed.acquire(timeout=DEADLINE)  # the loop waits here, and collects nothing
        await asyncio.gather(*futures)
        assert 1 <= wake_ups <= 1 + 4, "one for all, but for those that had not come back yet"
        assert await pool.close()

    run(main())


def test_closing_cancels_what_waits_and_lets_what_runs_end(run: Run) -> None:
    async def main() -> None:
        pool, gate = HalfSyncPool(1, 5), Gate()
        running, waiting = pool.submit(gate.job, "whole"), pool.submit(gate.job)
        await gate.wait_entered(1)
        closing = asyncio.create_task(pool.close())
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(RuntimeError, match="closed"):
            pool.submit(abs, -1)
        assert not closing.done(), "and the loop is not blocked meanwhile"
        gate.opened.set()
        assert await running == "whole"
        assert await closing
        assert await pool.close()

    run(main())


def test_a_job_that_outlives_the_grace_is_abandoned_and_its_awaiter_told(run: Run) -> None:
    gate = Gate()

    async def main() -> None:
        pool = HalfSyncPool(1, 5)
        running = pool.submit(gate.job)
        await gate.wait_entered(1)
        assert not await pool.close(grace=0.01)
        with pytest.raises(asyncio.CancelledError):
            await running

    run(main())
    gate.opened.set()


def test_a_job_that_ends_after_its_loop_has_closed_says_nothing(loop_name: str) -> None:
    script = """
import asyncio, sys, threading
from aiolsp.mechanisms.loop import loop_factory
from aiolsp.mechanisms.threads import HalfSyncPool
entered, gate = threading.Event(), threading.Event()
def job():
    entered.set()
    gate.wait()
async def main():
    pool = HalfSyncPool(1, 1)
    pool.submit(job)
    entered.wait()
    assert not await pool.close(0.01)
with asyncio.Runner(loop_factory=loop_factory(sys.argv[1])) as runner:
    runner.run(main())
gate.set()
for thread in threading.enumerate():
    if thread.name == "aiolsp-disk-0":
        thread.join(20)
"""
    command = [sys.executable, "-c", script, loop_name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stuck_thread_does_not_keep_the_process_from_exiting(loop_name: str) -> None:
    script = """
import asyncio, sys, threading
from aiolsp.mechanisms.loop import loop_factory
from aiolsp.mechanisms.threads import HalfSyncPool
async def main():
    pool = HalfSyncPool(1, 1)
    entered = threading.Event()
    pool.submit(lambda: entered.set() or threading.Event().wait())
    entered.wait()
    print(await pool.close(0.01))
with asyncio.Runner(loop_factory=loop_factory(sys.argv[1])) as runner:
    runner.run(main())
"""
    command = [sys.executable, "-c", script, loop_name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")


def test_no_thread_descriptor_or_result_is_left_behind(run: Run) -> None:
    class Result:
        """Something that can be watched."""

    async def main() -> None:
        descriptors = set(os.listdir("/proc/self/fd"))
        pool = HalfSyncPool(4, 10)
        result = await pool.submit(Result)
        watched = weakref.ref(result)
        del result
        await pool.submit(abs, -1)
        gc.collect()
        assert watched() is None
        assert await pool.close()
        assert set(os.listdir("/proc/self/fd")) == descriptors

    run(main())
    for thread in threading.enumerate():
        if thread.name.startswith("aiolsp-disk"):
            thread.join(DEADLINE)
            assert not thread.is_alive()
