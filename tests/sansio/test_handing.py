"""Each connection goes to one process, in turn; none is lost or doubled, whoever refuses, ends or is slow to answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.sansio.handing import AGAIN, Handing
from aiolsp.sansio.pool import Decision, Fork, PoolPlan, Worker


class Pool:
    """A plan whose workers are all ready, what each has been sent and has not answered, and what they have taken."""

    def __init__(self, processes: int, unanswered: int = 2) -> None:
        self.plan = PoolPlan(processes, 16, 10.0)
        self.sent: dict[Worker, deque[int]] = {}
        self.deaf: set[Worker] = set()
        self.taken: list[int] = []
        self.handing: Handing[int] = Handing(self.plan, self.send, unanswered)
        self.start(self.plan.start(0.0))

    def start(self, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Fork):
                self.sent[decision.worker] = deque()
                self.plan.ready(decision.worker, 0.0)

    def send(self, worker: Worker, connection: int) -> bool:
        if worker not in self.deaf:
            self.sent[worker].append(connection)
        return worker not in self.deaf

    def take(self, worker: Worker) -> None:
        """*worker* takes the first that it was sent."""
        connection = self.handing.taken(worker)
        assert connection == self.sent[worker].popleft()
        self.taken.append(connection)

    def refuse(self, worker: Worker, now: float) -> None:
        self.sent[worker].popleft()
        self.handing.refused(worker, now)

    def end(self, worker: Worker, now: float) -> int:
        left = self.handing.gone(worker)
        assert left == len(self.sent.pop(worker))
        self.start(self.plan.gone(worker, now))
        return left


def test_connections_go_to_the_workers_in_turn_until_none_may_be_sent_more() -> None:
    pool = Pool(3)
    assert [pool.handing.hand_out(number, 0.0) for number in range(8)] == [True] * 6 + [False] * 2
    assert [list(sent) for sent in pool.sent.values()] == [[0, 3], [1, 4], [2, 5]]
    assert list(pool.handing.waiting) == [6, 7]


def test_what_waits_goes_to_who_has_answered_and_a_newcomer_waits_behind_it() -> None:
    pool = Pool(1)
    for number in range(4):
        pool.handing.hand_out(number, 0.0)
    (worker,) = pool.sent
    pool.take(worker)
    assert not pool.handing.hand_out(4, 0.0)
    pool.handing.hand_out_waiting(0.0)
    assert list(pool.sent[worker]) == [1, 2] and list(pool.handing.waiting) == [3, 4]


def test_who_cannot_be_told_is_passed_over() -> None:
    pool = Pool(2)
    first, second = pool.sent
    pool.deaf.add(first)
    assert pool.handing.hand_out(0, 0.0) and list(pool.sent[second]) == [0]
    pool.deaf.add(second)
    assert not pool.handing.hand_out(1, 0.0)


def test_who_had_no_descriptor_rests_and_what_it_refused_goes_to_another() -> None:
    pool = Pool(2)
    first, second = pool.sent
    pool.handing.hand_out(0, 0.0)
    pool.refuse(first, 1.0)
    pool.handing.hand_out_waiting(1.0)
    assert list(pool.sent[second]) == [0]
    assert pool.handing.hand_out(1, 1.0 + AGAIN / 2) and list(pool.sent[second]) == [0, 1]
    assert not pool.handing.hand_out(2, 1.0 + AGAIN / 2)
    pool.handing.hand_out_waiting(1.0 + AGAIN)
    assert list(pool.sent[first]) == [2]


def test_what_a_dead_worker_had_not_taken_goes_first_of_all() -> None:
    pool = Pool(1, unanswered=3)
    for number in range(4):
        pool.handing.hand_out(number, 0.0)
    (worker,) = pool.sent
    pool.take(worker)
    assert pool.end(worker, 5.0) == 2 and list(pool.handing.waiting) == [1, 2, 3]
    pool.handing.hand_out_waiting(5.0)
    (successor,) = pool.sent
    assert list(pool.sent[successor]) == [1, 2, 3] and pool.end(successor, 9.0) == 3


STEPS = st.lists(st.tuples(st.sampled_from(["come", "take", "refuse", "end", "wait"]), st.integers(0, 2)), max_size=60)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_no_connection_is_lost_or_doubled_whatever_happens(steps: list[tuple[str, int]]) -> None:
    pool, come, now = Pool(3), 0, 0.0
    for what, index in steps:
        now += 1.0
        worker = list(pool.sent)[index]
        if what == "come":
            pool.handing.hand_out(come, now)
            come += 1
        elif what == "take" and pool.sent[worker]:
            pool.take(worker)
        elif what == "refuse" and pool.sent[worker]:
            pool.refuse(worker, now)
        elif what == "end":
            pool.end(worker, now)
        pool.handing.hand_out_waiting(now)
        there = [*pool.taken, *pool.handing.waiting, *(number for sent in pool.sent.values() for number in sent)]
        assert sorted(there) == list(range(come))
        assert all(len(sent) <= 2 for sent in pool.sent.values())
