"""The sorted timer list: against a model, and at its edges."""

from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aiolsp.sansio.timers import ASKED, SLOTS, IdleTimer, SortedTimerList, Timer

SECONDS = st.integers(0, 20).map(float) | st.floats(0, 2, width=16)


def nothing() -> None:
    """A callback that does nothing."""


def linked(timers: SortedTimerList) -> list[Timer]:
    """The list walked both ways, which must agree."""
    forward = list(timers)
    backward = []
    timer = timers._tail
    while timer is not None:
        backward.append(timer)
        timer = timer._previous
    assert backward[::-1] == forward
    assert timers._last_of == {int(timer.deadline * SLOTS): timer for timer in forward}
    assert timers._slots == sorted(timers._last_of)
    assert len(timers) == len(forward)
    return forward


class ListAgainstModel(RuleBasedStateMachine):
    """Every operation on the list and on a plain list kept in order by a stable sort."""

    def __init__(self) -> None:
        super().__init__()
        self.timers = SortedTimerList()
        self.model: list[Timer] = []
        self.activity: dict[Timer, float] = {}
        self.now = 0.0

    @rule(timeout=SECONDS)
    def add(self, timeout: float) -> None:
        """A plain timer."""
        timer = Timer(self.now + timeout, nothing)
        self.timers.add(timer)
        self.model.append(timer)

    @rule(timeout=SECONDS)
    def add_idle(self, timeout: float) -> None:
        """A timer whose owner may be active later."""
        timer = IdleTimer(self.now + timeout, nothing, lambda: self.activity[timer] + timeout)
        self.activity[timer] = self.now
        self.timers.add(timer)
        self.model.append(timer)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), deadline=SECONDS)
    def adjust(self, data: st.DataObject, deadline: float) -> None:
        """Earlier, later, or the same."""
        timer = data.draw(st.sampled_from(self.model))
        self.timers.adjust(timer, self.now + deadline)
        self.model.remove(timer)
        self.model.append(timer)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """From anywhere."""
        timer = data.draw(st.sampled_from(self.model))
        assert self.timers.cancel(timer)
        assert not self.timers.cancel(timer)
        self.model.remove(timer)

    @precondition(lambda self: self.activity)
    @rule(data=st.data())
    def be_active(self, data: st.DataObject) -> None:
        """Which costs the list nothing."""
        self.activity[data.draw(st.sampled_from(list(self.activity)))] = self.now

    @rule(later=SECONDS)
    def tick(self, later: float) -> None:
        """Time goes on."""
        self.now += later
        candidates = [timer for timer in self.model if timer.deadline <= self.now]
        expected = [timer for timer in candidates if timer.due() <= self.now]
        postponed = sorted((timer for timer in candidates if timer not in expected), key=lambda timer: timer.due())
        assert self.timers.tick(self.now) == expected
        self.model = [timer for timer in self.model if timer not in candidates] + postponed

    @invariant()
    def agree(self) -> None:
        """Same timers, same order, both ways."""
        self.model.sort(key=lambda timer: timer.deadline)
        assert linked(self.timers) == self.model
        assert self.timers.next_deadline() == (self.model[0].deadline if self.model else None)


TestListAgainstModel = ListAgainstModel.TestCase
TestListAgainstModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_equal_deadlines_expire_in_the_order_in_which_they_were_added() -> None:
    timers = SortedTimerList()
    same = [Timer(5.0, nothing) for _ in range(4)]
    for timer in same:
        timers.add(timer)
    assert timers.tick(5.0) == same


def test_a_timer_that_is_in_a_list_cannot_be_added_again() -> None:
    timers, timer = SortedTimerList(), Timer(1.0, nothing)
    timers.add(timer)
    for other in (timers, SortedTimerList()):
        with pytest.raises(ValueError, match="in a list already"):
            other.add(timer)
    assert linked(timers) == [timer]


def test_a_timer_can_be_added_again_after_it_expired_or_was_cancelled() -> None:
    timers, timer = SortedTimerList(), Timer(1.0, nothing)
    timers.add(timer)
    assert timers.tick(1.0) == [timer]
    timers.add(timer)
    timers.cancel(timer)
    timers.add(timer)
    assert (timer.active, timer.cancelled) == (True, False)


def test_an_expired_and_a_cancelled_timer_are_told_apart() -> None:
    timers, timer = SortedTimerList(), Timer(1.0, nothing)
    timers.add(timer)
    timers.tick(1.0)
    assert (timer.active, timer.cancelled) == (False, False)
    timers.cancel(timer)
    assert (timer.active, timer.cancelled) == (False, True)


def test_a_timer_that_is_in_no_list_cannot_be_adjusted_and_cancelling_it_says_so() -> None:
    timers, timer = SortedTimerList(), Timer(1.0, nothing)
    with pytest.raises(ValueError, match="not in this list"):
        timers.adjust(timer, 2.0)
    assert not timers.cancel(timer)


def test_a_timer_of_another_list_is_refused_and_stays_there() -> None:
    mine, other, timer = SortedTimerList(), SortedTimerList(), Timer(1.0, nothing)
    other.add(timer)
    with pytest.raises(ValueError, match="another list"):
        mine.cancel(timer)
    with pytest.raises(ValueError, match="not in this list"):
        mine.adjust(timer, 2.0)
    assert not timer.cancelled and linked(other) == [timer]


@pytest.mark.parametrize("deadline", [math.nan, math.inf, -math.inf])
def test_a_deadline_that_never_comes_is_refused(deadline: float) -> None:
    timers, timer = SortedTimerList(), Timer(1.0, nothing)
    with pytest.raises(ValueError, match="no deadline"):
        timers.add(Timer(deadline, nothing))
    timers.add(timer)
    with pytest.raises(ValueError, match="no deadline"):
        timers.adjust(timer, deadline)
    assert linked(timers) == [timer] and timer.deadline == 1.0


def test_of_those_that_are_due_no_more_than_most_are_taken_out() -> None:
    timers = SortedTimerList()
    due = [Timer(number / 10, nothing) for number in range(10)]
    for timer in due:
        timers.add(timer)
    assert timers.tick(0.75, 3) == due[:3] and timers.next_deadline() == 0.3
    assert timers.tick(0.75, 100) == due[3:8] and linked(timers) == due[8:]


def test_of_those_that_are_put_back_no_more_than_a_multiple_of_most_are_asked_at_once() -> None:
    timers = SortedTimerList()
    asked: list[int] = []

    def later(number: int) -> float:
        asked.append(number)
        return 10.0 - number / 100

    for number in range(5 * ASKED):
        timers.add(IdleTimer(number / 1000, nothing, lambda number=number: later(number)))  # type: ignore[misc]
    rounds = 0
    while (timers.next_deadline() or 0.0) <= 1.0:
        assert timers.tick(1.0, 2) == []
        rounds += 1
        assert len(asked) <= 2 * ASKED * rounds
    assert (rounds, asked) == (3, list(range(5 * ASKED)))
    assert len(linked(timers)) == 5 * ASKED


def test_a_timer_is_due_at_its_deadline_and_not_before() -> None:
    timers, timer = SortedTimerList(), Timer(1.0, nothing)
    timers.add(timer)
    assert timers.tick(0.999) == []
    assert timers.tick(1.0) == [timer]
    assert timers.tick(1.0) == []


class Compared(float):
    """A deadline that counts how often it was compared."""

    count = 0

    def __gt__(self, other: float) -> bool:
        Compared.count += 1
        return super().__gt__(other)


def test_a_constant_timeout_is_added_without_a_search() -> None:
    timers = SortedTimerList()
    Compared.count = 0
    for now in range(1000):
        timers.add(Timer(Compared(now + 75), nothing))
    assert Compared.count <= 1000


@pytest.mark.parametrize("latest_first", [True, False])
def test_many_deadlines_that_come_nearer_are_moved_without_a_search(latest_first: bool) -> None:
    """As many clients may have it that were idle and begin to send, in any order."""
    timers = SortedTimerList()
    idle = [Timer(Compared(number / 100 + 75), nothing) for number in range(3000)]
    for timer in idle:
        timers.add(timer)
    Compared.count = 0
    for number, timer in enumerate(reversed(idle) if latest_first else idle):
        timers.adjust(timer, Compared(number / 1000 + 40 + 15 * (number % 2)))  # a short one and a longer one in turn
    assert Compared.count < 10_000
    deadlines = [timer.deadline for timer in linked(timers)]
    assert deadlines == sorted(deadlines)


def test_deadlines_of_one_second_that_others_have_as_well_are_found_with_a_short_search() -> None:
    """As many clients may have them whose time-outs differ by the time that lies between them."""
    timers = SortedTimerList()
    for number in range(6400):
        timers.add(Timer(Compared(100 + number / 6400), nothing))
    Compared.count = 0
    for number in range(6400):
        timers.add(Timer(Compared(100 + number / 6400), nothing))
    assert Compared.count <= 6400 * (6400 / SLOTS + 1)
    deadlines = [timer.deadline for timer in linked(timers)]
    assert deadlines == sorted(deadlines)


def test_a_deadline_far_from_all_others_finds_its_place() -> None:
    timers = SortedTimerList()
    deadlines = [1.0, 1e9, 1e6, 5e8, 1e300, 2.0, -7.5, -0.5, 0.5, 1e6 + 1000]
    for deadline in deadlines:
        timers.add(Timer(deadline, nothing))
    assert [timer.deadline for timer in linked(timers)] == sorted(deadlines)
    assert len(timers.tick(math.inf)) == len(deadlines) and not linked(timers)


def test_activity_of_all_postpones_all_in_one_walk() -> None:
    timers = SortedTimerList()
    last_activity = {number: float((number * 7919) % 1000) / 1000 for number in range(1000)}
    for number in range(1000):
        timers.add(IdleTimer(10.0, nothing, lambda number=number: Compared(last_activity[number] + 10)))  # type: ignore[misc]
    Compared.count = 0
    assert len(timers.tick(10.0)) == 1, "only the one whose last activity was at 0"
    assert len(timers) == 999
    assert Compared.count < 5000
    deadlines = [timer.deadline for timer in linked(timers)]
    assert deadlines == sorted(deadlines)
