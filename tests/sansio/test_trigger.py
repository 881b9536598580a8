"""The counts and the table of the trigger program."""

from __future__ import annotations

from aiolsp.sansio.trigger import HEADINGS, SCENARIOS, Counts, Outcome, table


def test_counts_are_added_up_but_not_the_waits_that_served_many() -> None:
    total = Counts(waits=7)
    total.add(Counts(wakeups=6, waits=6, reads=6, received=54))
    total.add(Counts(wakeups=1, accepts=1, reads=7, again=1, received=54))
    assert total == Counts(wakeups=7, waits=7, accepts=1, reads=13, again=1, received=108)


def test_a_summary_leaves_out_what_the_shell_could_not_see() -> None:
    assert str(Counts(1, None, 0, 7, 1, 54)) == "54 bytes in 1 wake-ups: 7 recv, 1 EAGAIN"
    assert str(Counts(1, 2, 0, 7, 1, 54)) == "54 bytes in 1 wake-ups: 7 recv, 1 EAGAIN, 2 epoll_wait"


def test_the_scenarios_are_both_modes_on_both_and_what_edge_triggering_breaks() -> None:
    kinds = [(scenario.watched, scenario.mode, scenario.broken) for scenario in SCENARIOS]
    assert kinds == [
        (watched, mode, broken)
        for watched in ("listener", "connection")
        for mode, broken in (("lt", False), ("et", False), ("et", True))
    ]


def test_the_table_has_a_row_and_a_sentence_for_each_outcome_in_straight_columns() -> None:
    outcomes = [Outcome(scenario, Counts(wakeups=number * 50), 20, 0) for number, scenario in enumerate(SCENARIOS)]
    title, empty, head, *lines = table("the matrix", outcomes).splitlines()
    assert (title, empty, head.split()) == ("the matrix", "", list(HEADINGS))
    assert [line.strip() for line in lines[1::2]] == [scenario.why for scenario in SCENARIOS]
    assert {len(line) for line in lines[::2]} == {len(head)}
    assert lines[4].split() == ["listener", "ET", "broken", "100", "-", "0", "0", "0", "20", "0"]
