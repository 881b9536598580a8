"""Schedules, stop rules and the dispatcher that joins them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from random import Random
from time import monotonic_ns

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from load.dispatch import Dispatcher
from load.plan import Plan, Target
from load.schedule import PAGE, ClosedLoop, ConstantRate, PoissonRate, Schedule, Share
from load.stop import NEVER, StopRule
from load.units import SECOND

TARGET = Target("http", "127.0.0.1", 80)


def plan_of(schedule: Schedule, **settings: int) -> Plan:
    warmup = settings.pop("warmup", 0)
    return Plan(TARGET, schedule=schedule, stop=StopRule(**settings), warmup=warmup)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.1, 1e6), st.integers(0, 10**6))
def test_a_constant_rate_does_not_drift(rate: float, number: int) -> None:
    offsets = ConstantRate(rate).offsets()
    assert next(offsets) == 0
    assert next(islice(offsets, min(number, 1000), None)) == pytest.approx(
        (min(number, 1000) + 1) * SECOND / rate, abs=1
    )


def test_poisson_arrivals_have_the_rate_and_the_spread_of_a_poisson_process() -> None:
    arrivals = list(islice(PoissonRate(1000, seed=7).offsets(), 20001))
    gaps = [after - before for before, after in zip(arrivals, arrivals[1:], strict=False)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(SECOND / 1000, rel=0.03)
    assert spread == pytest.approx(mean, rel=0.05)


def test_the_same_seed_gives_the_same_arrivals() -> None:
    first, same, other = (list(islice(PoissonRate(10, seed).offsets(), 50)) for seed in (1, 1, 2))
    assert first == same != other
    assert first == sorted(first)


def test_a_closed_loop_has_no_plan() -> None:
    schedule: Schedule = ClosedLoop()
    assert schedule.offsets() is None and schedule.rate is None and schedule.due(SECOND) == 0


CONSTANT = st.builds(ConstantRate, st.floats(0.5, 3e9))
SCHEDULES = CONSTANT | st.builds(PoissonRate, st.floats(0.5, 1e7), st.integers(0, 9))


@settings(max_examples=100, deadline=None)
@given(SCHEDULES, st.integers(1, 3), st.data())
def test_what_is_due_is_what_counting_finds(schedule: Schedule, of: int, data: st.DataObject) -> None:
    if of > 1:
        schedule = Share(schedule, data.draw(st.integers(0, of - 1)), of)
    offsets = list(islice(schedule.offsets() or (), 600))
    near = data.draw(st.sampled_from(offsets)) + data.draw(st.integers(-2, 2))
    for before in (near, data.draw(st.integers(-1, offsets[-1]))):
        if before <= offsets[-1]:
            assert schedule.due(before) == sum(offset < before for offset in offsets)


@pytest.mark.parametrize("schedule", [ConstantRate(1e6), Share(ConstantRate(1e6), 1, 2), PoissonRate(1e6)])
def test_what_is_due_is_known_without_a_look_at_each(schedule: Schedule, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Schedule) -> Iterator[int]:
        raise AssertionError("each is looked at")

    draws = Counter[str]()

    class Drawing(Random):
        """Random numbers that are counted."""

        def gammavariate(self, alpha: float, beta: float) -> float:
            draws["pages"] += 1
            return super().gammavariate(alpha, beta)

    monkeypatch.setattr("load.schedule.Random", Drawing)
    for kind in (ConstantRate, PoissonRate, Share):
        monkeypatch.setattr(kind, "offsets", refuse)
    assert schedule.due(SECOND) == pytest.approx(500_000 if isinstance(schedule, Share) else 1_000_000, rel=0.01)
    assert draws["pages"] <= 1_000_000 / PAGE * 1.1


@settings(max_examples=60, deadline=None)
@given(SCHEDULES, st.integers(0, 50), st.integers(0, 40), st.integers(1, 60), st.booleans(), st.integers(0, 200))
async def test_what_nobody_sent_is_what_counting_finds(
    schedule: Schedule, taken: int, warm: int, most: int, ends: bool, late: int
) -> None:
    offsets = list(islice(schedule.offsets() or (), 400))
    begin = offsets[warm]
    rule = StopRule(duration=offsets[warm + 150] - begin + 1, requests=most if ends else None)
    with Dispatcher(Plan(TARGET, schedule=schedule, stop=rule, warmup=begin)) as dispatcher:
        dispatcher.start(0)
        handed = [dispatcher.take(offsets[taken]) for _ in range(taken + 1)]
        started = [intended for intended in handed if intended is not None and intended >= begin]
        now = offsets[late]
        left = offsets[len([intended for intended in handed if intended is not None]) :]
        due = [offset for offset in left if begin <= offset < min(now, rule.deadline(begin))]
        room = rule.most - len(started)
        assert dispatcher.unsent(now) == len(due[:room])


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([ConstantRate(100), PoissonRate(100, seed=3)]), st.integers(1, 5))
def test_all_shares_together_are_the_schedule(schedule: Schedule, of: int) -> None:
    shares = [Share(schedule, index, of) for index in range(of)]
    assert sum(share.rate or 0 for share in shares) == pytest.approx(100)
    each = [share.offsets() for share in shares]
    in_turn = [next(offsets) for _ in range(20) for offsets in each if offsets is not None]
    assert in_turn == list(islice(schedule.offsets() or (), 20 * of))
    names = [share.describe().rpartition(", ")[2] for share in shares]
    assert names == [f"share {number} of {of}" for number in range(1, of + 1)]


def test_a_share_of_a_closed_loop_is_one() -> None:
    share = Share(ClosedLoop(), 1, 2)
    assert share.offsets() is None and share.rate is None


def test_a_stop_rule_needs_an_end() -> None:
    with pytest.raises(ValueError, match="needs an end"):
        StopRule()


def test_a_stop_rule_knows_its_ends() -> None:
    assert StopRule(duration=5).deadline(100) == 105 and StopRule(duration=5).most == NEVER
    assert StopRule(requests=7).deadline(100) == NEVER and StopRule(requests=7).most == 7


async def test_a_closed_loop_is_due_at_once_until_the_duration_is_over() -> None:
    with Dispatcher(plan_of(ClosedLoop(), duration=100)) as dispatcher:
        dispatcher.start(1000)
        assert [dispatcher.take(now) for now in (1000, 1050, 1099, 1100, 1101)] == [1000, 1050, 1099, None, None]
        assert dispatcher.over and dispatcher.started == 3 and dispatcher.unsent(2000) == 0


async def test_no_more_than_the_number_of_requests_are_handed_out() -> None:
    with Dispatcher(plan_of(ClosedLoop(), requests=2)) as dispatcher:
        dispatcher.start(0)
        assert [dispatcher.take(now) for now in (1, 2, 3)] == [1, 2, None]
        assert dispatcher.over


async def test_requests_of_the_warm_up_are_not_counted() -> None:
    with Dispatcher(plan_of(ClosedLoop(), requests=1, warmup=100)) as dispatcher:
        dispatcher.start(0)
        assert dispatcher.begin == 100
        assert [dispatcher.take(now) for now in (1, 99, 100, 101)] == [1, 99, 100, None]


async def test_an_open_loop_gives_the_intended_start_however_late_it_is_asked() -> None:
    with Dispatcher(plan_of(ConstantRate(10), duration=SECOND)) as dispatcher:
        dispatcher.start(0)
        late = SECOND // 2
        assert [dispatcher.take(late) for _ in range(7)] == [tenth * SECOND // 10 for tenth in range(6)] + [None]
        assert not dispatcher.over


async def test_what_the_plan_asked_for_and_nobody_sent_is_counted() -> None:
    with Dispatcher(plan_of(ConstantRate(10), duration=SECOND)) as dispatcher:
        dispatcher.start(0)
        assert dispatcher.take(SECOND // 2) == 0
        assert dispatcher.unsent(3 * SECOND) == 9


async def test_finishing_wakes_who_is_parked_and_who_parks_later() -> None:
    woken: list[int | None] = []
    with Dispatcher(plan_of(ConstantRate(1), duration=SECOND)) as dispatcher:
        dispatcher.start(monotonic_ns() + 100 * SECOND)
        dispatcher.park(woken.append)
        assert woken == []
        dispatcher.finish()
        dispatcher.park(woken.append)
    assert woken == [None, None]


def test_parked_lanes_are_woken_in_turn_and_never_early(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def collect() -> None:
        with Dispatcher(plan_of(ConstantRate(1000), requests=20)) as dispatcher:
            dispatcher.start(monotonic_ns())
            seen: list[int] = []

            async def lane() -> None:
                while (intended := await dispatcher.next_start()) is not None:
                    assert monotonic_ns() >= intended
                    seen.append(intended)

            await asyncio.gather(*(lane() for _ in range(3)))
            assert len(seen) == 20 and sorted(seen) == [dispatcher.begin + tick * 1_000_000 for tick in range(20)]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(collect())
