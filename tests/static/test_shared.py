"""What workers share, and that those who have nobody to share with have it for themselves."""

from __future__ import annotations

from aiolsp.sansio.metrics import Metrics
from aiolsp.static.shared import unshared


def test_who_is_alone_shares_nothing() -> None:
    one, other = unshared(), unshared()
    one.scoreboard.publish(one.row, Metrics(pid=1))
    one.tally.add("192.0.2.1")
    assert other.scoreboard.workers() == {} and other.tally.in_all == 0
