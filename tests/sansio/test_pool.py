"""Who is forked, drained and killed, and that a pool never has too many processes, nor too few for long."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aiolsp.sansio.pool import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    LONGEST_START,
    STEADY,
    Decision,
    Drain,
    Fork,
    Kill,
    PoolPlan,
    State,
    Worker,
)


def forked(decisions: list[Decision]) -> list[Worker]:
    return [decision.worker for decision in decisions if isinstance(decision, Fork)]


def running(processes: int, max_processes: int = 16) -> PoolPlan:
    """A pool whose workers are all ready."""
    plan = PoolPlan(processes, max_processes, 10.0)
    for worker in forked(plan.start(0.0)):
        plan.ready(worker, 0.0)
    return plan


@pytest.mark.parametrize(("processes", "most"), [(0, 16), (-1, 16), (17, 16)])
def test_numbers_that_cannot_be_are_refused(processes: int, most: int) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        PoolPlan(processes, most, 10.0)


@pytest.mark.parametrize("grace", [-1.0, math.inf, math.nan])
def test_a_grace_that_no_clock_reaches_is_refused(grace: float) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        PoolPlan(1, 16, grace)


def test_connections_go_round() -> None:
    plan = running(3)
    picked = [plan.pick() for _ in range(7)]
    assert [worker and worker.index for worker in picked] == [0, 1, 2, 0, 1, 2, 0]


def test_only_ready_workers_get_connections() -> None:
    plan = PoolPlan(3, 16, 10.0)
    workers = forked(plan.start(0.0))
    assert plan.pick() is None
    plan.ready(workers[1], 0.0)
    assert plan.pick() is plan.pick() is workers[1]


def test_a_worker_that_ended_after_a_while_is_replaced_at_once() -> None:
    plan = running(2)
    (new,) = forked(plan.gone(plan.workers[0], STEADY))
    assert new.index == 0 and new.state is State.STARTING


def test_one_that_ends_at_once_is_replaced_after_a_pause_that_doubles_up_to_a_bound() -> None:
    plan = PoolPlan(1, 16, 10.0)
    (worker,) = forked(plan.start(0.0))
    now, pauses = 0.0, []
    for _ in range(10):
        assert plan.gone(worker, now) == []
        deadline = plan.next_deadline()
        assert deadline is not None
        pauses.append(deadline - now)
        assert plan.tick(deadline - 0.001) == []
        now = deadline
        (worker,) = forked(plan.tick(now))
    assert pauses == pytest.approx([min(FIRST_PAUSE * 2**n, LONGEST_PAUSE) for n in range(10)])
    plan.ready(worker, now)
    assert forked(plan.gone(worker, now + STEADY))  # it lived: forgiven


def test_a_reload_drains_the_old_one_when_the_new_one_is_ready_and_goes_on() -> None:
    plan = running(2)
    first, second = plan.workers
    (new,) = forked(plan.reload(5.0))
    assert new.index == 0 and new.generation == 1 and first.state is State.READY
    decisions = plan.ready(new, 6.0)
    assert decisions[0] == Drain(first) and forked(decisions)[0].index == 1
    assert plan.gone(first, 7.0) == []
    assert plan.ready(forked(decisions)[0], 7.0) == [Drain(second)]
    assert {worker.generation for worker in plan.workers if worker.state is State.READY} == {1}


def test_a_successor_that_cannot_start_leaves_the_old_one_serving() -> None:
    plan = running(1)
    old = plan.workers[0]
    (new,) = forked(plan.reload(5.0))
    assert plan.gone(new, 5.1) == [] and old.state is State.READY
    (again,) = forked(plan.tick(5.1 + FIRST_PAUSE))
    assert plan.ready(again, 6.0) == [Drain(old)]


def test_one_that_ends_while_its_successor_starts_has_no_other_forked() -> None:
    plan = running(1)
    old = plan.workers[0]
    (new,) = forked(plan.reload(5.0))
    assert plan.gone(old, 6.0) == [] and plan.workers == [new]
    assert plan.ready(new, 7.0) == [] and plan.pick() is new


def test_a_full_pool_is_reloaded_by_draining_first() -> None:
    plan = running(2, 2)
    first = plan.workers[0]
    assert plan.reload(5.0) == [Drain(first)]
    (new,) = forked(plan.gone(first, 6.0))
    assert new.generation == 1 and new.index == 0
    assert [type(decision) for decision in plan.ready(new, 7.0)] == [Drain]


def test_who_does_not_drain_in_time_is_killed_once() -> None:
    plan = running(1)
    worker = plan.workers[0]
    assert plan.close(5.0) == [Drain(worker)]
    assert plan.next_deadline() == 15.0
    assert plan.tick(14.9) == [] and plan.tick(15.0) == [Kill(worker)] and plan.tick(16.0) == []
    assert (
        plan.gone(worker, 16.0) == plan.gone(worker, 16.0) == [] and plan.workers == [] and plan.next_deadline() is None
    )


def test_who_does_not_get_ready_is_killed() -> None:
    plan = PoolPlan(1, 16, 10.0)
    (worker,) = forked(plan.start(0.0))
    assert plan.tick(LONGEST_START) == [Kill(worker)]


def test_one_that_leaves_by_itself_is_succeeded_before_it_is_gone() -> None:
    plan = running(2)
    worker = plan.workers[0]
    drain, fork = plan.leaving(worker, 5.0)
    assert drain == Drain(worker) and forked([fork])[0].index == 0
    assert plan.gone(worker, 6.0) == []


class Pool(RuleBasedStateMachine):
    """Workers start, fail, die and drain in any order while the pool is reloaded."""

    @initialize(processes=st.integers(1, 4), spare=st.integers(0, 4))
    def begin(self, processes: int, spare: int) -> None:
        self.now = 0.0
        self.processes, self.most = processes, processes + spare
        self.plan = PoolPlan(processes, self.most, 10.0)
        self.known: set[Worker] = set()
        self.follow(self.plan.start(self.now))

    def follow(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Fork):
                assert decision.worker not in self.known, "forked twice"
                self.known.add(decision.worker)
            elif isinstance(decision, Drain):
                assert decision.worker.state is State.DRAINING

    def choose(self, data: st.DataObject) -> Worker:
        return data.draw(st.sampled_from(self.plan.workers))

    @precondition(lambda self: self.plan.workers)
    @rule(data=st.data())
    def ready(self, data: st.DataObject) -> None:
        self.follow(self.plan.ready(self.choose(data), self.now))

    @precondition(lambda self: self.plan.workers)
    @rule(data=st.data())
    def gone(self, data: st.DataObject) -> None:
        self.follow(self.plan.gone(self.choose(data), self.now))

    @precondition(lambda self: self.plan.workers)
    @rule(data=st.data())
    def leaving(self, data: st.DataObject) -> None:
        self.follow(self.plan.leaving(self.choose(data), self.now))

    @rule()
    def reload(self) -> None:
        self.follow(self.plan.reload(self.now))

    @rule(seconds=st.sampled_from([0.05, 0.5, 2.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.follow(self.plan.tick(self.now))

    @invariant()
    def never_too_many(self) -> None:
        assert len(self.plan.workers) <= self.most

    @invariant()
    def no_two_have_one_place(self) -> None:
        places = [worker.place for worker in self.plan.workers]
        assert len(set(places)) == len(places) and all(0 <= place < self.most for place in places)

    @invariant()
    def whoever_is_picked_is_ready(self) -> None:
        worker = self.plan.pick()
        assert worker is None or worker.state is State.READY

    @invariant()
    def an_overdue_deadline_is_followed_by_one_that_is_not(self) -> None:
        self.follow(self.plan.tick(self.now))
        deadline = self.plan.next_deadline()
        assert deadline is None or deadline > self.now

    def teardown(self) -> None:
        """Left alone, with workers that get ready and drain, the pool is whole and of one generation."""
        for _ in range(200):
            self.now += 1.0
            self.follow(self.plan.tick(self.now))
            for worker in list(self.plan.workers):
                if worker.state is State.STARTING:
                    self.follow(self.plan.ready(worker, self.now))
                elif worker.state is State.DRAINING:
                    self.follow(self.plan.gone(worker, self.now))
        assert sorted(worker.index for worker in self.plan.workers) == list(range(self.processes))
        assert {worker.generation for worker in self.plan.workers} == {self.plan.generation}


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@settings(max_examples=50, deadline=None)
@given(processes=st.integers(1, 8), picks=st.integers(0, 50))
def test_the_turns_are_fair(processes: int, picks: int) -> None:
    plan = running(processes)
    counts = [0] * processes
    for _ in range(picks):
        worker = plan.pick()
        assert worker is not None
        counts[worker.index] += 1
    assert max(counts) - min(counts) <= 1
