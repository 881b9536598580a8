"""The timer driver on both loops: what fires, when it is armed, what it says."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import Callable

import pytest

from aiolsp.mechanisms.timers import SLACK, TimerDriver
from aiolsp.sansio.timers import ASKED, MOST, IdleTimer, SortedTimerList, Timer
from aiolsp.tracing import trace
from harness import DEADLINE

Factory = Callable[[], asyncio.AbstractEventLoop]


class CountingLoop:
    """The loop's clock and ``call_at`` by hand: records every instant that is armed."""

    def __init__(self) -> None:
        self.now = 100.0
        self.armed: list[float] = []
        self.errors: list[BaseException] = []
        self.pending: tuple[float, Callable[[], None]] | None = None

    def time(self) -> float:
        """The clock."""
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> CountingLoop:
        """Arm; the handle is the loop itself."""
        assert self.pending is None, "one call_at at a time"
        self.armed.append(when)
        self.pending = (when, callback)
        return self

    def cancel(self) -> None:
        """Of the handle."""
        self.pending = None

    def call_exception_handler(self, context: dict[str, BaseException]) -> None:
        """Record what a callback raised."""
        self.errors.append(context["exception"])

    def run_until(self, now: float, early: float = 0.0) -> None:
        """Fire what is armed until *now*, each *early* seconds before its time as uvloop does."""
        while self.pending is not None and self.pending[0] <= now:
            when, callback = self.pending
            self.pending = None
            self.now = max(self.now, when - early)
            callback()
        self.now = now


@pytest.fixture
def by_hand() -> CountingLoop:
    """A loop moved by hand."""
    return CountingLoop()


def driver_on(loop: CountingLoop, **settings: float) -> TimerDriver:
    """A driver on a loop moved by hand."""
    return TimerDriver(loop, **settings)  # type: ignore[arg-type]


def test_each_timer_fires_once_in_order_and_not_before_its_time(loop_factory: Factory) -> None:
    async def main() -> None:
        fired: list[tuple[str, float]] = []
        done = asyncio.Event()
        with TimerDriver() as driver:
            start = driver.time()
            delays = {"c": 0.03, "a": 0.01, "d": 0.04, "b": 0.02, "at once": 0.0}
            for name, delay in delays.items():
                driver.add(Timer(start + delay, lambda name=name: fired.append((name, driver.time()))))  # type: ignore[misc]
            driver.add(Timer(start + 0.05, done.set))
            await done.wait()
        assert [name for name, _ in fired] == ["at once", "a", "b", "c", "d"]
        for name, when in fired:
            assert when >= start + delays[name] - SLACK

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_activity_postpones_without_touching_the_driver(loop_factory: Factory) -> None:
    async def main() -> None:
        expired = asyncio.Event()
        with TimerDriver() as driver:
            last_activity = driver.time()
            ended = 0.0

            def expire() -> None:
                nonlocal ended
                ended = driver.time()
                expired.set()

            driver.add(IdleTimer(last_activity + 0.03, expire, lambda: last_activity + 0.03))
            last_activity += 0.02
            await expired.wait()
            assert ended >= last_activity + 0.03 - SLACK

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


@pytest.mark.parametrize("early", [0.0, 0.0005])
def test_no_instant_is_armed_twice_even_if_the_loop_fires_early(by_hand: CountingLoop, early: float) -> None:
    fired: list[float] = []
    with driver_on(by_hand) as driver:
        for number in range(200):
            deadline = 100.0 + number * 0.0004
            driver.add(Timer(deadline, lambda deadline=deadline: fired.append(deadline)))  # type: ignore[misc]
        by_hand.run_until(101.0, early)
    assert len(fired) == 200 and fired == sorted(fired)
    assert len(set(by_hand.armed)) == len(by_hand.armed)


def test_only_an_earlier_head_moves_the_loop_s_timer(by_hand: CountingLoop) -> None:
    with driver_on(by_hand) as driver:
        first = Timer(110.0, by_hand.cancel)
        driver.add(first)
        for deadline in (111.0, 112.0, 110.0):
            driver.add(Timer(deadline, by_hand.time))
        assert by_hand.armed == [110.0]
        driver.add(Timer(105.0, by_hand.time))
        assert by_hand.armed == [110.0, 105.0]
        driver.adjust(first, 103.0)
        assert by_hand.armed == [110.0, 105.0, 103.0]
        driver.cancel(first)
        assert by_hand.armed == [110.0, 105.0, 103.0]
        by_hand.run_until(104.0)
        assert by_hand.armed == [110.0, 105.0, 103.0, 105.0]


def test_a_resolution_makes_deadlines_share_a_wake_up_and_none_is_early(by_hand: CountingLoop) -> None:
    fired: list[tuple[float, float]] = []
    with driver_on(by_hand, resolution=0.5) as driver:
        for number in range(40):
            deadline = 100.0 + number / 40
            driver.add(Timer(deadline, lambda deadline=deadline: fired.append((deadline, by_hand.now))))  # type: ignore[misc]
        by_hand.run_until(102.0)
    assert by_hand.armed == [100.0, 100.5, 101.0]
    assert len(fired) == 40
    assert all(deadline - SLACK <= when <= deadline + 0.5 for deadline, when in fired)


@pytest.mark.parametrize("what", [ZeroDivisionError, asyncio.CancelledError])
def test_a_callback_that_raises_is_reported_and_the_others_are_called(
    by_hand: CountingLoop, what: type[BaseException]
) -> None:
    called: list[str] = []

    def fail() -> None:
        raise what

    with driver_on(by_hand) as driver:
        driver.add(Timer(101.0, fail))
        driver.add(Timer(101.0, lambda: called.append("second")))
        driver.add(Timer(102.0, lambda: called.append("later")))
        by_hand.run_until(103.0)
    assert called == ["second", "later"]
    assert [type(error) for error in by_hand.errors] == [what]


def test_a_callback_may_cancel_add_again_or_close_what_expired_with_it(by_hand: CountingLoop) -> None:
    called: list[str] = []
    with driver_on(by_hand) as driver:
        cancelled = Timer(101.0, lambda: called.append("cancelled"))
        again = Timer(101.0, lambda: called.append("again"))

        def first() -> None:
            driver.cancel(cancelled)
            again.deadline = 102.0
            driver.add(again)

        for timer in (Timer(101.0, first), cancelled, again):
            driver.add(timer)
        by_hand.run_until(101.5)
        assert called == []
        by_hand.run_until(102.0)
        assert called == ["again"]
        driver.add(Timer(103.0, driver.close))
        driver.add(Timer(103.0, lambda: called.append("after close")))
        by_hand.run_until(104.0)
    assert called == ["again"]


def test_a_closed_driver_leaves_nothing_armed_and_takes_nothing_more(by_hand: CountingLoop) -> None:
    timers = SortedTimerList()
    timers.add(Timer(101.0, by_hand.time))
    driver = TimerDriver(by_hand, timers)  # type: ignore[arg-type]
    assert by_hand.armed == [101.0]
    driver.close()
    driver.close()
    assert by_hand.pending is None
    with pytest.raises(RuntimeError, match="closed"):
        driver.add(Timer(102.0, by_hand.time))


def test_a_wake_up_that_is_late_comes_after_what_could_be_read_meanwhile(
    loop_factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiolsp.mechanisms.timers.LATE", -1.0)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        seen: list[str] = []
        fired = asyncio.Event()
        reader, writer = socket.socketpair()
        with reader, writer, TimerDriver() as driver:
            loop.add_reader(reader, lambda: seen.append(reader.recv(4).decode()))
            driver.add(Timer(driver.time() + 0.01, lambda: seen.append("fired")))
            driver.add(Timer(driver.time() + 0.01, fired.set))
            while driver.time() < driver.timers.next_deadline():  # type: ignore[operator]
                pass  # the loop is held up
            writer.send(b"read")
            await fired.wait()
            loop.remove_reader(reader)
        assert seen == ["read", "fired"]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_however_many_are_due_the_loop_looks_at_its_sockets_between_them(loop_factory: Factory) -> None:
    count = 10 * MOST
    fired: list[int] = []
    seen: list[int] = []
    ours, theirs = socket.socketpair()

    def readable() -> None:
        seen.append(len(fired))
        ours.recv(1)
        theirs.send(b"x")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        with TimerDriver() as driver:
            now = driver.time()
            for number in range(count):
                driver.add(Timer(now + 0.01, lambda number=number: fired.append(number)))  # type: ignore[misc]
            driver.add(Timer(now + 0.01, lambda: done.set_result(None)))
            loop.add_reader(ours, readable)
            theirs.send(b"x")
            try:
                async with asyncio.timeout(DEADLINE):
                    await done
            finally:
                loop.remove_reader(ours)

    with ours, theirs, asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    assert fired == list(range(count))
    seen = [number for number in seen if number] + [count]
    assert all(later - earlier <= 2 * MOST for earlier, later in zip([0, *seen], seen, strict=False))


@pytest.mark.parametrize("resolution", [0.0, 0.02])
def test_however_many_are_put_back_all_are_and_the_loop_looks_at_its_sockets_between_them(
    loop_factory: Factory, resolution: float
) -> None:
    count = 3 * ASKED * MOST
    asked: list[int] = []
    turns: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def turn() -> None:
            turns.append(len(asked))
            if not done.done():
                loop.call_soon(turn)

        with TimerDriver(resolution=resolution) as driver:
            now = driver.time()

            def later(number: int) -> float:
                asked.append(number)
                return now + 100

            for number in range(count):
                driver.add(IdleTimer(now + 0.01, lambda: None, lambda number=number: later(number)))  # type: ignore[misc]
            driver.add(Timer(now + 0.01, lambda: done.set_result(None)))
            loop.call_soon(turn)
            async with asyncio.timeout(DEADLINE):
                await done

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    assert asked == list(range(count))
    assert all(later - earlier <= ASKED * MOST for earlier, later in zip(turns, turns[1:], strict=False))


def test_the_trace_says_armed_moved_fired_and_how_late(by_hand: CountingLoop) -> None:
    lines = io.StringIO()
    trace.open(lines)
    try:
        with driver_on(by_hand) as driver:
            head = Timer(110.0, by_hand.time)
            driver.add(head)
            driver.add(Timer(105.0, by_hand.time))
            by_hand.run_until(105.0)
            driver.cancel(head)
            by_hand.run_until(110.0)
    finally:
        trace.close()
    assert lines.getvalue().splitlines() == [
        "% armed due_in=10.000s timers=1  for the first deadline",
        "% moved due_in=5.000s timers=2  an earlier deadline",
        "% fired late=+0.00ms expired=1 left=1  call what expired",
        "% armed due_in=5.000s timers=1  for the first deadline",
        "% fired late=+0.00ms expired=0 left=0  nothing is due: cancelled or postponed meanwhile",
    ]
