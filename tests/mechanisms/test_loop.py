"""Which loop runs a program, and that nothing of it is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import sys

import pytest
import uvloop

from aiolsp.mechanisms.loop import LOOPS, LoopUnavailable, loop_factory, run


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


@pytest.mark.parametrize("name", LOOPS)
def test_a_factory_makes_a_new_loop_each_time(name: str) -> None:
    first, second = loop_factory(name)(), loop_factory(name)()
    try:
        assert first is not second
    finally:
        first.close()
        second.close()
