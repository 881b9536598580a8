"""The twin's second: who is told that something has changed, when, and how often."""

from __future__ import annotations

import re
import time

from aiolsp.blocking.websrv.clock import SecondClock


def test_what_changes_is_followed_by_one_tick_within_a_second() -> None:
    ticks: list[str] = []
    clock = SecondClock(lambda: ticks.append("tick"), lambda: ticks.append("ring"))
    assert clock.next_deadline() is None, "an idle server is not woken"
    begin = time.monotonic()
    clock.wake()
    clock.wake()
    deadline = clock.next_deadline()
    assert ticks == ["ring"] and deadline is not None and begin < deadline <= time.monotonic() + 1
    clock.tick(deadline - 0.1)
    assert ticks == ["ring"]
    clock.tick(deadline)
    clock.tick(deadline)
    assert ticks == ["ring", "tick"] and clock.next_deadline() is None


def test_what_changes_during_a_tick_is_followed_by_another() -> None:
    clock = SecondClock(lambda: clock.wake(), lambda: None)
    clock.wake()
    first = clock.next_deadline()
    assert first is not None
    clock.tick(first)
    assert clock.next_deadline() is not None


def test_the_date_is_that_of_the_second() -> None:
    clock = SecondClock(lambda: None, lambda: None)
    date = clock.date()
    assert re.fullmatch(rb"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", date)
    assert clock.date() is date or clock.date() != date
    assert clock.next_deadline() is None, "to ask for the date changes nothing"
