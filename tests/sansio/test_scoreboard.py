"""Rows in shared memory: totals never go back whoever is killed, and the dead have no present."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.linux.shm import SharedMemory
from aiolsp.sansio.exposition import in_all
from aiolsp.sansio.metrics import COUNTERS, NAMES, Metrics
from aiolsp.sansio.scoreboard import Scoreboard, memory_size

ROWS = 3

STEPS = st.lists(st.tuples(st.sampled_from(("count", "publish", "end")), st.integers(0, ROWS - 1)), max_size=60)


def board(rows: int = ROWS) -> Scoreboard:
    """A new scoreboard in memory of this process."""
    return Scoreboard(memoryview(bytearray(memory_size(rows))), rows)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_totals_never_go_back_and_the_dead_have_no_present(steps: list[tuple[str, int]]) -> None:
    scoreboard = board()
    alive: dict[int, Metrics] = {}
    before = [0] * COUNTERS
    for step, row in steps:
        if row not in alive:
            alive[row] = scoreboard.resume(row)
            alive[row].pid = row + 1
        if step == "count":
            alive[row].requests_total += 1
            alive[row].connections += 1
        elif step == "publish":
            scoreboard.publish(row, alive[row])
        else:
            del alive[row]
            scoreboard.vacate(row)
        told = scoreboard.workers()
        total = in_all(told).values()[:COUNTERS]
        assert all(now >= then for now, then in zip(total, before, strict=True))
        before = total
        for number, metrics in told.items():
            if number not in alive:
                assert metrics.values()[COUNTERS:] == [0] * (len(NAMES) - COUNTERS)


def test_a_row_tells_what_its_worker_published_and_no_other() -> None:
    scoreboard = board()
    told = Metrics(*range(1, len(NAMES) + 1))
    scoreboard.publish(1, told)
    assert {row: metrics.values() for row, metrics in scoreboard.workers().items()} == {1: told.values()}
    assert scoreboard.resume(1).values() == [*range(1, COUNTERS + 1)] + [0] * (len(NAMES) - COUNTERS)
    assert scoreboard.resume(0).values() == scoreboard.resume(2).values() == [0] * len(NAMES)


def test_who_ends_leaves_what_it_has_counted_and_nothing_of_anybody_else_changes() -> None:
    scoreboard = board()
    full = Metrics(*range(1, len(NAMES) + 1)).values()
    for row in range(ROWS):
        scoreboard.publish(row, Metrics(*full))
    scoreboard.vacate(1)
    left = full[:COUNTERS] + [0] * (len(NAMES) - COUNTERS)
    assert {row: metrics.values() for row, metrics in scoreboard.workers().items()} == {0: full, 1: left, 2: full}


def test_processes_see_each_others_rows() -> None:
    with SharedMemory("memfd", memory_size(2)) as memory:
        scoreboard = Scoreboard(memory.buffer, 2)
        pid = os.fork()
        if pid == 0:
            scoreboard.publish(1, Metrics(requests_total=7, pid=1))
            os._exit(0)
        os.waitpid(pid, 0)
        assert scoreboard.workers()[1].requests_total == 7
        scoreboard.detach()


def test_too_little_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="2 rows need"):
        Scoreboard(memoryview(bytearray(memory_size(2) - 1)), 2)
