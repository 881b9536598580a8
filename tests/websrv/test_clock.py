"""The second that all answers share, by a clock of the test's own and on both loops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from aiolsp.http1.dates import format_date
from aiolsp.websrv.clock import SecondClock


def test_the_date_is_made_once_a_second_and_the_tick_follows_the_wall_clock(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks: list[float] = []
    wall = 1000.75
    monkeypatch.setattr("aiolsp.websrv.clock.time.time", lambda: wall)

    async def main() -> None:
        nonlocal wall
        loop = asyncio.get_running_loop()
        ticked = asyncio.Event()

        def tick() -> None:
            ticks.append(loop.time())
            ticked.set()

        clock = SecondClock(tick)
        assert clock.date() == clock.date() == format_date(1000)
        assert len(ticks) == 1 and 0 < clock.next_tick - loop.time() <= 0.25
        ticked.clear()
        wall = 1001.0
        await ticked.wait()
        assert clock.date() == format_date(1001)
        assert len(ticks) == 2 and ticks[1] >= ticks[0] + 0.2
        clock.close()
        clock.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_an_idle_clock_stops_after_it_has_let_go_of_what_was_kept(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiolsp.websrv.clock.time.time", lambda: 1000.99)
    ticks = 0

    async def main() -> None:
        nonlocal ticks
        ticked = asyncio.Event()

        def tick() -> None:
            nonlocal ticks
            ticks += 1
            ticked.set()

        clock = SecondClock(tick)
        assert clock.stopped
        clock.date()
        while not clock.stopped:
            ticked.clear()
            await ticked.wait()
        before = ticks
        assert before >= 2
        # Asked again, it starts again.
        clock.date()
        assert ticks == before + 1 and not clock.stopped
        clock.close()
        assert clock.stopped and clock._handle is None

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


async def test_the_date_is_of_this_second() -> None:
    clock = SecondClock(lambda: None)
    before = time.time()
    date = clock.date()
    assert date in (format_date(before), format_date(time.time()))
    clock.close()
