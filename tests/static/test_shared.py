"""What workers share, and that those who have nobody to share with have it for themselves."""

from __future__ import annotations

from aiolsp.sansio.metrics import Metrics
from aiolsp.static.commons import Commons
from aiolsp.static.shared import unshared


def test_who_is_alone_shares_nothing() -> None:
    one, other = unshared(), unshared()
    one.scoreboard.publish(one.row, Metrics(pid=1))
    one.tally.add("192.0.2.1")
    assert other.scoreboard.workers() == {} and other.tally.in_all == 0


def test_workers_see_each_others_numbers_and_a_row_that_is_vacated_counts_nobody() -> None:
    commons = Commons(2, 1)
    one, other = commons.of(0), commons.of(1)
    one.scoreboard.publish(one.row, Metrics(pid=1, connections=3))
    one.tally.add("192.0.2.1")
    assert [worker.connections for worker in other.scoreboard.workers().values()] == [3] and other.tally.in_all == 1
    commons.vacate(0)
    assert sum(worker.connections for worker in other.scoreboard.workers().values()) == other.tally.in_all == 0
    assert one.programs is other.programs is commons.programs
    commons.programs.close()
