"""The ends of children as events of both loops, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from aiolsp.mechanisms.signals import ChildWatcher, SignalReceiver, wait_child
from harness import DEADLINE
from signalling import Factory, receive


def start(code: str) -> int:
    """A child of ours that the loop does not know."""
    return os.posix_spawn(sys.executable, [sys.executable, "-I", "-S", "-c", code], os.environ)


def test_the_end_of_a_child_comes_as_sigchld_beside_the_loop_s_own_subprocesses(loop_factory: Factory) -> None:
    async def main() -> None:
        async with SignalReceiver(signal.SIGCHLD, signal.SIGUSR1) as signals:
            subprocess_of_loop = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(3)")
            signals.watch_child(subprocess_of_loop.pid)
            assert await receive(signals, 1) == [signal.SIGCHLD]
            assert await subprocess_of_loop.wait() == 3
            pid = start("raise SystemExit(7)")
            signals.watch_child(pid)
            assert await receive(signals, 1) == [signal.SIGCHLD]
            assert await wait_child(pid) == 7
            signal.raise_signal(signal.SIGUSR1)
            assert signal.SIGUSR1 in await receive(signals, 1)
        assert await (await asyncio.create_subprocess_exec("true")).wait() == 0

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_a_child_that_was_reaped_already_still_counts(loop_factory: Factory) -> None:
    async def main() -> None:
        with SignalReceiver(signal.SIGCHLD) as signals:
            pid = start("pass")
            await wait_child(pid)
            signals.watch_child(pid)
            assert await receive(signals, 1) == [signal.SIGCHLD]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_a_child_can_only_be_watched_by_who_receives_sigchld(loop_factory: Factory) -> None:
    async def main() -> None:
        with SignalReceiver(signal.SIGUSR1) as signals, pytest.raises(ValueError, match="SIGCHLD"):
            signals.watch_child(os.getpid())

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_each_child_is_reaped_with_its_own_status(loop_factory: Factory) -> None:
    async def main() -> None:
        children = [start(f"raise SystemExit({status})") for status in range(5)]
        killed = start("import signal; signal.pause()")
        waiting = asyncio.gather(*map(wait_child, [*children, killed]))
        await asyncio.sleep(0)
        os.kill(killed, signal.SIGKILL)
        async with asyncio.timeout(DEADLINE):
            assert await waiting == [0, 1, 2, 3, 4, -signal.SIGKILL]
        with pytest.raises(ProcessLookupError):
            await wait_child(killed)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_waiting_for_a_child_can_be_cancelled_and_taken_up_again(loop_factory: Factory) -> None:
    async def main() -> None:
        descriptors = set(os.listdir("/proc/self/fd"))
        child = start("import signal; signal.pause()")
        task = asyncio.create_task(wait_child(child))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert set(os.listdir("/proc/self/fd")) == descriptors
        os.kill(child, signal.SIGTERM)
        assert await wait_child(child) == -signal.SIGTERM

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_a_watcher_calls_back_with_the_status_and_forgets_what_it_is_closed_on(loop_factory: Factory) -> None:
    async def main() -> None:
        ended = asyncio.get_running_loop().create_future()
        with ChildWatcher() as watcher:
            child = start("raise SystemExit(7)")
            watcher.watch(child, lambda pid, status: ended.set_result((pid, status)))
            async with asyncio.timeout(DEADLINE):
                assert await ended == (child, 7)
            assert len(watcher) == 0
            running = start("import signal; signal.pause()")
            watcher.watch(running, lambda pid, status: pytest.fail("closed"))
            assert len(watcher) == 1
        assert len(watcher) == 0
        os.kill(running, signal.SIGKILL)
        assert await wait_child(running) == -signal.SIGKILL

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_who_is_not_our_child_is_refused_at_once(loop_factory: Factory) -> None:
    async def main() -> None:
        with ChildWatcher() as watcher:
            with pytest.raises(ChildProcessError):
                watcher.watch(os.getppid(), print)
            with pytest.raises(ChildProcessError):
                await asyncio.wait_for(wait_child(os.getppid()), DEADLINE)
            assert len(watcher) == 0

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
