"""The timer list driven by SIGALRM, and by the time-out of the wait."""

from __future__ import annotations

import io
import logging
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from unittest.mock import Mock

import pytest

from aiolsp.blocking.analyze import AnalyzeServer
from aiolsp.blocking.cgisrv import CgiServer
from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.blocking.mechanisms.timers import AlarmDriver, PollDriver, milliseconds_until, seconds_until
from aiolsp.sansio.timers import LATE, MOST, IdleTimer, SortedTimerList, Timer
from aiolsp.tracing import trace
from harness import DEADLINE


@pytest.fixture
def pipe() -> Iterator[SelfPipe]:
    """A self-pipe that takes SIGALRM."""
    with SelfPipe(signal.SIGALRM, signal.SIGUSR1) as signals:
        yield signals


def run_until(driver: AlarmDriver, pipe: SelfPipe, done: list[str], count: int) -> None:
    """The main loop of a program: wait, take signals, fire, until *done* holds *count* entries."""
    while len(done) < count:
        assert select.select([pipe], [], [], DEADLINE)[0], f"no alarm came; so far {done}"
        if signal.SIGALRM in pipe.receive():
            driver.fire()


def test_each_timer_fires_once_in_order_and_not_before_its_time(pipe: SelfPipe) -> None:
    fired: list[str] = []
    times: dict[str, float] = {}

    def fire(name: str) -> None:
        fired.append(name)
        times[name] = time.monotonic()

    delays = {"c": 0.03, "a": 0.01, "d": 0.04, "b": 0.02, "passed": -1.0}
    with AlarmDriver(pipe) as driver:
        start = driver.time()
        for name, delay in delays.items():
            driver.add(Timer(start + delay, lambda name=name: fire(name)))  # type: ignore[misc]
        run_until(driver, pipe, fired, 5)
    assert fired == ["passed", "a", "b", "c", "d"]
    assert all(times[name] >= start + delay for name, delay in delays.items())


def test_activity_postpones_without_touching_the_driver(pipe: SelfPipe) -> None:
    expired: list[str] = []
    with AlarmDriver(pipe) as driver:
        last_activity = driver.time()
        driver.add(IdleTimer(last_activity + 0.03, lambda: expired.append("idle"), lambda: last_activity + 0.03))
        last_activity += 0.02
        run_until(driver, pipe, expired, 1)
        assert driver.time() >= last_activity + 0.03


def test_only_an_earlier_head_moves_the_alarm(pipe: SelfPipe) -> None:
    def nothing() -> None: ...

    lines = io.StringIO()
    trace.open(lines)
    try:
        with AlarmDriver(pipe) as driver:
            start = driver.time()
            first = Timer(start + 100, nothing)
            driver.add(first)
            driver.add(Timer(start + 200, nothing))
            driver.add(Timer(start + 50, nothing))
            driver.adjust(first, start + 40)
            assert driver.cancel(first)
            driver.fire()
    finally:
        trace.close()
    words = [" ".join(line.split()[:2]) for line in lines.getvalue().splitlines()]
    assert words == ["% armed", "% moved", "% moved", "% fired", "% armed"]
    assert "expired=0 left=2  nothing is due: cancelled or postponed meanwhile" in lines.getvalue()


def test_a_callback_that_raises_is_logged_and_the_others_are_called(
    pipe: SelfPipe, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[str] = []
    with AlarmDriver(pipe) as driver, caplog.at_level(logging.ERROR, "aiolsp.timers"):
        driver.add(Timer(driver.time(), lambda: called[1]))
        driver.add(Timer(driver.time(), lambda: called.append("second")))
        run_until(driver, pipe, called, 1)
    assert [record.getMessage() for record in caplog.records] == ["a timer's callback raised"]


def test_a_callback_may_cancel_or_close_what_expired_with_it(pipe: SelfPipe) -> None:
    called: list[str] = []
    with AlarmDriver(pipe) as driver:
        cancelled = Timer(driver.time(), lambda: called.append("cancelled"))
        driver.add(Timer(cancelled.deadline, lambda: called.append("first") or driver.cancel(cancelled)))  # type: ignore[func-returns-value]
        driver.add(cancelled)
        driver.add(Timer(driver.time(), driver.close))
        driver.add(Timer(driver.time(), lambda: called.append("after close")))
        driver.fire()
    assert called == ["first"]
    with pytest.raises(RuntimeError, match="closed"):
        driver.add(cancelled)


def test_closing_gives_the_alarm_back(pipe: SelfPipe) -> None:
    signal.setitimer(signal.ITIMER_REAL, 1000, 7)
    try:
        with AlarmDriver(pipe) as driver:
            driver.add(Timer(driver.time() + 10, driver.close))
            assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 10
        remaining, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 900 < remaining <= 1000 and interval == 7
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def test_a_self_pipe_without_sigalrm_is_refused() -> None:
    with SelfPipe(signal.SIGUSR1) as pipe, pytest.raises(ValueError, match="SIGALRM"):
        AlarmDriver(pipe)


def test_the_wait_ends_at_the_first_deadline_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)
    assert seconds_until() is seconds_until(None, None) is milliseconds_until(None) is None
    assert seconds_until(None, 7.5, 9.0) == 2.5 and milliseconds_until(9.0, 7.5) == 2500
    assert milliseconds_until(5.000_1) == 1
    assert seconds_until(9.0, 4.0) == milliseconds_until(4.0) == 0


def test_a_wait_with_that_time_out_finds_the_timer_due() -> None:
    timers = SortedTimerList()
    timers.add(Timer(time.monotonic() + 0.0105, time.monotonic))
    with select.epoll() as epoll:
        epoll.poll(seconds_until(timers.next_deadline()))
    assert len(timers.tick(time.monotonic())) == 1
    timers.add(Timer(time.monotonic() + 0.0105, time.monotonic))
    select.poll().poll(milliseconds_until(timers.next_deadline()))
    assert len(timers.tick(time.monotonic())) == 1


@pytest.fixture
def bell() -> Iterator[int]:
    """An eventfd that ends the wait of a loop."""
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    yield fd
    os.close(fd)


def test_a_timer_of_another_thread_ends_the_wait_if_it_is_the_first(bell: int) -> None:
    fired = threading.Event()
    driver = PollDriver(lambda: os.eventfd_write(bell, 1))
    driver.add(Timer(driver.time() + 1000, lambda: None))
    timeout = driver.timeout()
    assert timeout is not None and 999 < timeout <= 1000
    thread = threading.Thread(target=lambda: driver.add(Timer(driver.time() + 0.01, fired.set)))
    thread.start()
    assert select.select([bell], [], [], DEADLINE)[0], "the wait was not ended"
    os.eventfd_read(bell)
    driver.fire()
    while not fired.is_set():
        timeout = driver.timeout()
        assert timeout is not None and timeout < 1
        select.select([], [], [], timeout)
        driver.fire()
    thread.join(DEADLINE)


def test_a_later_timer_or_one_of_the_loops_own_thread_ends_no_wait(bell: int) -> None:
    driver = PollDriver(lambda: os.eventfd_write(bell, 1))
    timer = Timer(driver.time() + 10, lambda: None)
    driver.add(timer)
    driver.timeout()
    driver.add(Timer(driver.time() + 20, lambda: None))
    driver.hasten(timer, driver.time() + 1000)
    assert not select.select([bell], [], [], 0)[0]
    driver.hasten(timer, driver.time() + 1)
    assert os.eventfd_read(bell) == 1
    driver.fire()
    driver.hasten(timer, driver.time() + 0.5)
    assert not select.select([bell], [], [], 0)[0], "before the next wait nothing needs to be ended"


def test_the_wait_is_as_long_as_the_first_deadline_or_its_bound_allows() -> None:
    driver = PollDriver(lambda: None)
    assert driver.timeout() is None
    assert 0 < (driver.timeout(driver.time() + 5) or 0) <= 5
    timer = Timer(driver.time() - 1, lambda: None)
    driver.add(timer)
    assert driver.timeout() == 0.0
    assert driver.cancel(timer) and not driver.cancel(timer)
    assert driver.timeout() is None


def test_a_callback_may_raise_cancel_another_or_add_itself_again(caplog: pytest.LogCaptureFixture) -> None:
    driver, calls = PollDriver(lambda: None), list[str]()
    now = driver.time()
    other = Timer(now - 1, lambda: calls.append("cancelled"))

    def first() -> None:
        calls.append("first")
        driver.cancel(other)
        again.deadline = driver.time() - 1
        driver.add(again)
        raise ZeroDivisionError

    again = Timer(now - 2, first)
    for timer in (again, other):
        driver.add(timer)
    driver.fire()
    assert calls == ["first"] and again.active and "a timer's callback raised" in caplog.text


def test_however_many_are_due_there_is_a_look_at_the_sockets_between_them() -> None:
    driver, calls = PollDriver(lambda: None), list[int]()
    now = driver.time()
    for number in range(2 * MOST + 1):
        driver.add(Timer(now, lambda number=number: calls.append(number)))  # type: ignore[misc]
    counts = []
    while driver.timeout() is not None:
        driver.fire()
        counts.append(len(calls))
    assert counts == [MOST, 2 * MOST, 2 * MOST + 1] and calls == sorted(calls)


def test_however_many_are_due_the_alarm_comes_again_for_each_few_of_them(pipe: SelfPipe) -> None:
    called: list[str] = []
    counts = []
    with AlarmDriver(pipe) as driver:
        now = driver.time()
        for number in range(2 * MOST + 1):
            driver.add(Timer(now, lambda number=number: called.append(str(number))))  # type: ignore[misc]
        while len(called) < 2 * MOST + 1:
            run_until(driver, pipe, called, len(called) + 1)
            counts.append(len(called))
    assert counts == [MOST, 2 * MOST, 2 * MOST + 1]


def test_a_program_without_a_driver_looks_at_its_sockets_too_between_many_that_are_due() -> None:
    intake = Mock(next_deadline=lambda: None)
    with AnalyzeServer(port=0) as analyze, CgiServer(Mock(), Mock()) as cgi:
        for timers, tick in ((analyze.timers, analyze._tick), (cgi.timers, partial(cgi._tick, intake))):
            called: list[str] = []
            for _ in range(MOST + 1):
                timers.add(Timer(0.0, partial(called.append, "")))
            tick()
            assert len(called) == MOST and seconds_until(timers.next_deadline()) == 0


def test_what_is_due_after_a_wait_that_was_late_fires_after_the_next_one() -> None:
    driver, calls = PollDriver(lambda: None), list[str]()
    driver.add(Timer(driver.time() - 2 * LATE, lambda: calls.append("fired")))
    assert driver.timeout() == 0.0
    driver.fire()
    assert calls == [] and driver.timeout() == 0.0
    driver.fire()
    assert calls == ["fired"]
