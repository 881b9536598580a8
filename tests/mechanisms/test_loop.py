"""Which loop runs a program, and that nothing of it is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
import warnings
from collections.abc import Callable

import pytest
import uvloop

from aiolsp.mechanisms import loop as loop_module
from aiolsp.mechanisms.loop import LOOPS, LoopUnavailable, loop_factory, run
from harness import DEADLINE


async def running_loop() -> asyncio.AbstractEventLoop:
    """The loop that runs this."""
    return asyncio.get_running_loop()


@pytest.fixture
def no_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where uvloop is not installed."""
    monkeypatch.setitem(sys.modules, "uvloop", None)


def test_auto_is_uvloop_where_it_is_installed() -> None:
    assert isinstance(run(running_loop()), uvloop.Loop)


def test_uvloop_can_be_asked_for() -> None:
    assert isinstance(run(running_loop(), loop="uvloop"), uvloop.Loop)


def test_the_stock_loop_can_be_asked_for() -> None:
    assert isinstance(run(running_loop(), loop="asyncio"), asyncio.SelectorEventLoop)


@pytest.mark.usefixtures("no_uvloop")
def test_auto_is_the_stock_loop_where_uvloop_is_missing() -> None:
    assert isinstance(run(running_loop()), asyncio.SelectorEventLoop)


@pytest.mark.usefixtures("no_uvloop")
def test_uvloop_where_it_is_missing_is_refused_and_the_program_is_not_left_unawaited() -> None:
    main = running_loop()
    with pytest.raises(LoopUnavailable, match="pip install uvloop"):
        run(main, loop="uvloop")
    with pytest.raises(RuntimeError, match="cannot reuse"):
        main.send(None)


@pytest.mark.parametrize("name", LOOPS)
def test_the_loop_is_closed_at_the_end_and_no_policy_was_installed(name: str) -> None:
    loop = run(running_loop(), loop=name)
    assert loop.is_closed()
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()
    with contextlib.closing(asyncio.new_event_loop()) as embedder:
        assert not isinstance(embedder, uvloop.Loop)


@pytest.mark.parametrize("name", LOOPS)
def test_what_the_program_raises_is_raised(name: str) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(fail(), loop=name)


@pytest.mark.parametrize("name", ["asyncio", "uvloop"])
def test_ctrl_c_before_the_program_has_begun_ends_it_and_nothing_complains(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another signal at the same moment, which Python takes as the first `__exit__` begins."""
    signals = signal.SIGINT, signal.SIGUSR1
    factory = loop_factory(name)

    def interrupted(_: str) -> Callable[[], asyncio.AbstractEventLoop]:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        for number in signals:
            signal.raise_signal(number)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return factory

    monkeypatch.setattr(loop_module, "loop_factory", interrupted)
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    try:
        with warnings.catch_warnings(record=True) as complaints, pytest.raises(KeyboardInterrupt):
            warnings.simplefilter("always")
            run(asyncio.sleep(DEADLINE))
            gc.collect()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert [str(complaint.message) for complaint in complaints] == []


@pytest.mark.parametrize("name", LOOPS)
def test_ctrl_c_while_the_loop_is_made_lets_the_program_take_no_step(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[bool] = []

    async def main() -> None:
        begun.append(True)
        await asyncio.sleep(DEADLINE)

    factory = loop_factory(name)

    def interrupted() -> asyncio.AbstractEventLoop:
        signal.raise_signal(signal.SIGINT)
        return factory()

    monkeypatch.setattr(loop_module, "loop_factory", lambda _: interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(main())
    assert not begun


@pytest.mark.parametrize("name", LOOPS)
def test_a_factory_makes_a_new_loop_each_time(name: str) -> None:
    first, second = loop_factory(name)(), loop_factory(name)()
    try:
        assert first is not second
    finally:
        first.close()
        second.close()
