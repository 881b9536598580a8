"""Signals as events of both loops, with real signals and real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from aiolsp.mechanisms.signals import SignalReceiver, signals_held
from aiolsp.sansio.stopping import ECHO
from harness import DEADLINE
from signalling import Factory, receive

PRELUDE = """
import asyncio, os, signal, sys
from aiolsp.mechanisms.loop import loop_factory
from aiolsp.mechanisms.signals import SignalReceiver
def run(main):
    with asyncio.Runner(loop_factory=loop_factory(sys.argv[1])) as runner:
        return runner.run(main)
"""
"""Head of a script that runs on the loop it is told."""


def run_script(body: str, loop_name: str) -> subprocess.CompletedProcess[str]:
    """Run *body* in a process of its own, so that this one's signal state stays as it is."""
    command = [sys.executable, "-W", "error", "-c", PRELUDE + body, loop_name]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)


def test_a_burst_of_different_signals_comes_whole_and_equal_ones_once(loop_factory: Factory) -> None:
    async def main() -> None:
        kinds = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGWINCH]
        async with SignalReceiver(*kinds) as signals:
            for kind in kinds * 3:
                os.kill(os.getpid(), kind)
            assert sorted(await receive(signals, len(kinds))) == sorted(kinds)
            os.kill(os.getpid(), signal.SIGHUP)
            assert await receive(signals, 1) == [signal.SIGHUP]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def hold_the_loop() -> None:
    """For long enough."""
    time.sleep(2 * ECHO)


def test_a_signal_is_an_echo_by_when_it_came_and_not_by_when_it_was_heard(loop_factory: Factory) -> None:
    async def main() -> None:
        async with SignalReceiver(signal.SIGTERM, signal.SIGINT) as signals:
            os.kill(os.getpid(), signal.SIGTERM)
            await receive(signals, 1)
            again = asyncio.ensure_future(signals.again(signal.SIGINT))
            await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGINT)
            hold_the_loop()  # as a server that begins to close 10,000 connections does
            for _ in range(9):
                await asyncio.sleep(0)
            assert not again.done()
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.wait_for(again, DEADLINE)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_a_signal_that_comes_again_behind_its_echo_counts_though_the_echo_is_not_yet_heard(
    loop_factory: Factory,
) -> None:
    async def main() -> None:
        async with SignalReceiver(signal.SIGTERM, signal.SIGINT) as signals:
            os.kill(os.getpid(), signal.SIGTERM)
            await receive(signals, 1)
            again = asyncio.ensure_future(signals.again(signal.SIGTERM))
            await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGTERM)
            hold_the_loop()
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(again, DEADLINE)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_it_is_an_iterator_that_ends_with_its_block(loop_factory: Factory) -> None:
    async def main() -> None:
        seen: list[signal.Signals] = []
        first = asyncio.Event()

        async def consume(signals: SignalReceiver) -> None:
            async for number in signals:
                seen.append(number)
                first.set()

        with SignalReceiver(signal.SIGUSR1) as signals:
            task = asyncio.create_task(consume(signals))
            signal.raise_signal(signal.SIGUSR1)
            async with asyncio.timeout(DEADLINE):
                await first.wait()
        async with asyncio.timeout(DEADLINE):
            await task
        assert seen == [signal.SIGUSR1]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_a_signal_that_comes_while_handlers_change_is_not_lost(
    loop_factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = signal.signal

    def install_too_late(number: int, handler: Any) -> Any:
        if isinstance(getattr(handler, "__self__", None), SignalReceiver):
            signal.raise_signal(number)  # the loop's no-op is there, and ours is not yet
        return install(number, handler)

    async def main() -> None:
        monkeypatch.setattr(signal, "signal", install_too_late)
        async with SignalReceiver(signal.SIGUSR1, signal.SIGTERM) as signals:
            assert sorted(await receive(signals, 2)) == [signal.SIGUSR1, signal.SIGTERM]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_signals_that_are_held_come_to_a_receiver_or_at_the_end_of_the_block(loop_factory: Factory) -> None:
    came: list[int] = []

    async def main() -> None:
        async with SignalReceiver(signal.SIGUSR1, signal.SIGUSR2) as signals:
            assert await receive(signals, 1) == [signal.SIGUSR1]
        signal.raise_signal(signal.SIGUSR1)
        assert not came

    before = signal.signal(signal.SIGUSR1, lambda number, frame: came.append(number))
    try:
        with signals_held(signal.SIGUSR1):
            signal.raise_signal(signal.SIGUSR1)
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(main())
            assert not came
        assert came == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_signal_taken_by_another_thread_wakes_a_sleeping_loop(loop_factory: Factory) -> None:
    async def main() -> None:
        with SignalReceiver(signal.SIGUSR1) as signals:
            asleep = asyncio.create_task(receive(signals, 1))
            await asyncio.sleep(0)

            def kill_own_thread() -> None:
                signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

            thread = threading.Thread(target=kill_own_thread)
            asyncio.get_running_loop().call_later(0.01, thread.start)
            assert await asleep == [signal.SIGUSR1]
            thread.join(DEADLINE)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_handlers_are_restored_to_what_they_were(loop_factory: Factory) -> None:
    def own(number: int, frame: object) -> None:
        raise AssertionError("not while the receiver has it")

    async def main() -> None:
        runner_s = signal.getsignal(signal.SIGINT)
        with SignalReceiver(signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2) as signals:
            for kind in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
                signal.raise_signal(kind)
            await receive(signals, 3)
        assert signal.getsignal(signal.SIGINT) is runner_s
        assert signal.getsignal(signal.SIGUSR1) is own
        assert signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN

    before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)}
    try:
        signal.signal(signal.SIGUSR1, own)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())
        assert signal.getsignal(signal.SIGINT) is before[signal.SIGINT]
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def test_an_inner_receiver_gives_its_signals_back_to_the_outer_one(loop_factory: Factory) -> None:
    async def main() -> None:
        with SignalReceiver(signal.SIGUSR1, signal.SIGUSR2) as outer:
            with SignalReceiver(signal.SIGUSR1) as inner:
                signal.raise_signal(signal.SIGUSR1)
                assert await receive(inner, 1) == [signal.SIGUSR1]
            signal.raise_signal(signal.SIGUSR1)
            assert await receive(outer, 1) == [signal.SIGUSR1]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_a_handler_of_the_loop_hears_its_signal_as_well_and_is_still_there_afterwards(loop_factory: Factory) -> None:
    async def main() -> None:
        loop, heard = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, heard.set)
        for receivers in (1, 2):
            with SignalReceiver(signal.SIGUSR1, signal.SIGUSR2) as outer:
                if receivers == 2:
                    with SignalReceiver(signal.SIGUSR1) as inner:
                        signal.raise_signal(signal.SIGUSR1)
                        assert await receive(inner, 1) == [signal.SIGUSR1]
                signal.raise_signal(signal.SIGUSR1)
                assert await receive(outer, 1) == [signal.SIGUSR1]
            await asyncio.wait_for(heard.wait(), DEADLINE)
            heard.clear()
            signal.raise_signal(signal.SIGUSR1)
            await asyncio.wait_for(heard.wait(), DEADLINE)
            heard.clear()
        assert loop.remove_signal_handler(signal.SIGUSR1)
        assert not loop.remove_signal_handler(signal.SIGUSR2)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_a_termination_after_the_loop_has_closed_ends_the_process(loop_name: str) -> None:
    done = run_script(
        """
async def main():
    async with SignalReceiver(signal.SIGTERM) as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        print(await anext(signals), flush=True)
run(main())
os.kill(os.getpid(), signal.SIGTERM)
print("swallowed")
""",
        loop_name,
    )
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
    assert "swallowed" not in done.stdout


def test_a_stop_request_that_nobody_received_is_raised_again(loop_name: str) -> None:
    done = run_script(
        """
async def main():
    async with SignalReceiver(signal.SIGTERM, signal.SIGHUP) as signals:
        os.kill(os.getpid(), signal.SIGHUP)
        await anext(signals)
        os.kill(os.getpid(), signal.SIGTERM)
    print("swallowed")
run(main())
""",
        loop_name,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "", "")


def test_a_second_stop_request_while_the_first_is_obeyed_does_no_harm(loop_name: str) -> None:
    done = run_script(
        """
async def main():
    async with SignalReceiver(signal.SIGTERM, signal.SIGINT) as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        await anext(signals)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    print("stopped")
run(main())
""",
        loop_name,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")


def test_a_storm_prints_nothing_and_hides_no_other_signal(loop_name: str) -> None:
    # The loop does not run meanwhile, so that its socketpair fills: 278 bytes on this kernel.
    done = run_script(
        """
async def main():
    async with SignalReceiver(signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM) as signals:
        for _ in range(10_000):
            os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        async for number in signals:
            print(number.name)
            if number == signal.SIGTERM:
                break
run(main())
""",
        loop_name,
    )
    assert done.stderr == ""
    assert set(done.stdout.split()) == {"SIGHUP", "SIGUSR1", "SIGTERM"}
    assert done.returncode == 0


def test_a_storm_from_outside_on_a_sleeping_loop_hides_no_other_signal(loop_name: str) -> None:
    done = run_script(
        """
import subprocess
async def main():
    storm = f"import os\\nfor _ in range(10_000): os.kill({os.getpid()}, 1)\\nos.kill({os.getpid()}, 15)"
    async with SignalReceiver(signal.SIGHUP, signal.SIGTERM) as signals:
        sender = subprocess.Popen([sys.executable, "-c", storm])
        seen = []
        while not {signal.SIGHUP, signal.SIGTERM} <= set(seen):
            seen.append(await anext(signals))
        assert sender.wait() == 0
run(main())
""",
        loop_name,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, 0, 1000])
def test_what_cannot_be_caught_is_refused_before_the_loop_sees_it(loop_factory: Factory, number: int) -> None:
    async def main() -> None:
        with pytest.raises(ValueError):
            SignalReceiver(signal.SIGUSR1, number)
        with SignalReceiver(signal.SIGUSR1) as signals:
            signal.raise_signal(signal.SIGUSR1)
            assert await receive(signals, 1) == [signal.SIGUSR1]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_no_signal_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        SignalReceiver()


def test_a_receiver_may_be_entered_again_but_not_within_its_block(loop_factory: Factory) -> None:
    async def main() -> None:
        receiver = SignalReceiver(signal.SIGUSR1)
        for _ in range(2):
            with receiver:
                with pytest.raises(RuntimeError, match="entered already"), receiver:
                    pass
                signal.raise_signal(signal.SIGUSR1)
                assert await receive(receiver, 1) == [signal.SIGUSR1]
            assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_another_thread_than_the_main_one_is_refused(loop_factory: Factory) -> None:
    refused: list[BaseException] = []

    async def main() -> None:
        try:
            with SignalReceiver(signal.SIGUSR1):
                pass
        except RuntimeError as error:
            refused.append(error)

    def run_loop() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())

    thread = threading.Thread(target=run_loop)
    thread.start()
    thread.join(DEADLINE)
    assert len(refused) == 1
