"""The counts and the table of the trigger program."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.sansio.trigger import (
    HEADINGS,
    MAX_BYTES,
    MAX_CONNECTIONS,
    SCENARIOS,
    Counts,
    Outcome,
    Scenario,
    Sizes,
    Trial,
    table,
)


def test_counts_are_added_up_but_not_the_waits_that_served_many() -> None:
    total = Counts(waits=7)
    total.add(Counts(wakeups=6, waits=6, reads=6, received=54))
    total.add(Counts(wakeups=1, accepts=1, reads=7, again=1, received=54))
    assert total == Counts(wakeups=7, waits=7, accepts=1, reads=13, again=1, received=108)


def test_a_summary_leaves_out_what_the_shell_could_not_see_and_what_is_not_the_connections() -> None:
    assert str(Counts(1, None, 0, 7, 1, 54)) == "54 bytes in 1 wake-ups: 7 recv, 1 EAGAIN"
    assert str(Counts(1, 2, 3, 7, 1, 54)) == "54 bytes in 1 wake-ups: 3 accept, 7 recv, 1 EAGAIN, 2 epoll_wait"


def test_a_scenario_with_more_than_can_wait_unread_is_refused() -> None:
    assert (
        str(Sizes(MAX_CONNECTIONS, MAX_BYTES, 1))
        == f"{MAX_CONNECTIONS} connections, {MAX_BYTES} bytes on each, 1 bytes a read"
    )
    with pytest.raises(ValueError, match="1001 connections"):
        Sizes(connections=MAX_CONNECTIONS + 1)
    with pytest.raises(ValueError, match="32769 bytes"):
        Sizes(bytes=MAX_BYTES + 1)


def test_a_listener_gives_connections_and_connections_give_bytes() -> None:
    sizes = Sizes(connections=3, bytes=7)
    assert (sizes.total("listener"), sizes.total("connection")) == (3, 21)


def test_the_scenarios_are_both_modes_on_both_and_what_edge_triggering_breaks() -> None:
    kinds = [(scenario.watched, scenario.mode, scenario.broken) for scenario in SCENARIOS]
    assert kinds == [
        (watched, mode, broken)
        for watched in ("listener", "connection")
        for mode, broken in (("lt", False), ("et", False), ("et", True))
    ]


def test_the_table_has_a_row_and_a_sentence_for_each_outcome_in_straight_columns() -> None:
    outcomes = [Outcome(scenario, Counts(wakeups=number * 50), 20, 15) for number, scenario in enumerate(SCENARIOS)]
    title, empty, head, *lines, gap, note = table("the matrix", outcomes).splitlines()
    assert (title, empty, head.split(), gap) == ("the matrix", "", list(HEADINGS), "")
    assert note.startswith("-  called by the event loop")
    assert [line.strip() for line in lines[1::2]] == [scenario.why for scenario in SCENARIOS]
    assert {len(line) for line in lines[::2]} == {len(head)}
    assert lines[4].split() == ["listener", "ET", "broken", "100", "-", "0", "0", "0", "15", "5"]


SIZES = Sizes(connections=2, bytes=54, buffer=10)


def play(scenario: Scenario, *wakeups: list[int]) -> Trial:
    """The scenario, with what can be taken at each wake-up before EAGAIN."""
    trial = Trial(scenario, SIZES, Counts())
    for there in wakeups:

        def take(there: list[int] = there) -> int:
            if not there:
                raise BlockingIOError
            return there.pop(0)

        trial.wake(take)
    return trial


def test_a_trial_takes_once_or_until_eagain_and_counts_what_it_asked_and_got() -> None:
    listener_lt, listener_et, listener_broken, level, edge, broken = SCENARIOS
    assert play(listener_lt, [1, 1], [1]).counts == Counts(wakeups=2, accepts=2)
    assert play(listener_et, [1, 1]).counts == Counts(wakeups=1, accepts=3, again=1)
    assert play(listener_broken, [1, 1]).counts == Counts(wakeups=1, accepts=1)
    assert play(level, [10, 4], [4], []).counts == Counts(wakeups=3, reads=3, again=1, received=14)
    assert play(edge, [10, 4], []).counts == Counts(wakeups=2, reads=4, again=2, received=14)
    assert play(broken, [10, 4]).counts == Counts(wakeups=1, reads=1, received=10)


def test_a_trial_is_complete_when_all_is_taken_and_says_what_it_gave() -> None:
    edge = SCENARIOS[4]
    trial = play(edge, [10] * 5 + [4], [10] * 5)
    assert (trial.complete, trial.done) == (False, 104)
    assert trial.outcome == Outcome(edge, Counts(wakeups=2, reads=13, again=2, received=104), 108, 104)
    assert play(edge, [10] * 5 + [4], [10] * 5 + [4]).complete
    assert play(SCENARIOS[1], [1, 1]).complete and not play(SCENARIOS[1], [1]).complete


def test_a_trial_passes_on_what_is_not_eagain() -> None:
    def take() -> int:
        raise OSError("too many open files")

    trial = Trial(SCENARIOS[1], SIZES, Counts())
    with pytest.raises(OSError, match="too many open files"):
        trial.wake(take)
    assert trial.counts == Counts(wakeups=1, accepts=1)


NUMBERS = st.integers(0, 1 << 40)
COUNTS = st.builds(Counts, NUMBERS, st.none() | NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS)


@settings(max_examples=50, deadline=None)
@given(st.lists(COUNTS, max_size=5))
def test_a_sum_is_the_same_in_any_order(counts: list[Counts]) -> None:
    there, back = Counts(), Counts()
    for each in counts:
        there.add(each)
    for each in reversed(counts):
        back.add(each)
    assert there == back
    assert there.received == sum(each.received for each in counts) and there.waits is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.builds(Outcome, st.sampled_from(SCENARIOS), COUNTS, NUMBERS, NUMBERS), max_size=5))
def test_the_columns_are_straight_whatever_was_counted(outcomes: list[Outcome]) -> None:
    head, *lines = table("the matrix", outcomes).splitlines()[2 : 3 + 2 * len(outcomes)]
    assert {len(line) for line in lines[::2]} <= {len(head)}
    assert [line.split()[-9:] for line in lines[::2]] == [" ".join(each.cells()).split()[-9:] for each in outcomes]


def test_a_table_in_which_everything_was_counted_has_no_note() -> None:
    assert table("", [Outcome(SCENARIOS[0], Counts(waits=1), 1, 1)]).splitlines()[-1] == f"    {SCENARIOS[0].why}"
