"""Counts of connections by several processes: never too few, and back at nothing when all have gone."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.sansio.crowd import Crowd
from aiolsp.sansio.tally import LocalTally, SharedTally, Tally, memory_size

ROWS = 3
HOSTS = ["", "192.0.2.1", "192.0.2.2", "2001:db8::1", "::1"]

STEPS = st.lists(st.tuples(st.integers(0, ROWS - 1), st.sampled_from(HOSTS), st.booleans()), max_size=60)


def tallies(rows: int = ROWS) -> list[SharedTally]:
    """The tally of each worker, in one new memory."""
    memory = memoryview(bytearray(memory_size(rows)))
    return [SharedTally(memory, rows, row) for row in range(rows)]


@settings(max_examples=100, deadline=None)
@given(STEPS, st.integers(0, ROWS - 1))
def test_all_workers_count_all_connections_and_none_of_the_dead(
    steps: list[tuple[int, str, bool]], killed: int
) -> None:
    workers = tallies()
    there: Counter[tuple[int, str]] = Counter()
    local = LocalTally()
    for row, host, comes in steps:
        if comes:
            there[row, host] += 1
            workers[row].add(host)
            local.add(host)
        elif there[row, host]:
            there[row, host] -= 1
            workers[row].remove(host)
            local.remove(host)
    assert local.in_all == there.total()
    for tally in workers:
        assert tally.in_all == there.total()
        for host in HOSTS[1:]:
            assert tally.of(host) >= sum(there[row, host] for row in range(ROWS))
        assert tally.of("") == 0
    every: list[Tally] = [workers[0], local]
    for kept in every:
        for host in HOSTS[1:]:
            assert kept.add(host) > sum(there[row, host] for row in range(ROWS))
            kept.remove(host)
        assert kept.add("") == 0
        kept.remove("")
    assert local.add("::1") == sum(there[row, "::1"] for row in range(ROWS)) + 1
    workers[0].vacate(killed)
    assert workers[1].in_all == sum(count for (row, _), count in there.items() if row != killed)
    for (row, host), count in there.items():
        for _ in range(count if row != killed else 0):
            workers[row].remove(host)
    assert workers[2].in_all == 0 and not any(workers[2].of(host) for host in HOSTS)


def test_of_many_addresses_few_are_taken_for_more_than_they_are() -> None:
    one, other = tallies(2)
    for number in range(2000):
        (one if number % 2 else other).add(f"10.0.{number // 256}.{number % 256}")
    wrong = sum(one.of(f"10.0.{number // 256}.{number % 256}") != 1 for number in range(2000))
    assert wrong < 100, "about 2000 * (2000 / COLUMNS)**2 = 30 are expected"


class Hashed(str):
    """An address with the *bits* of its hash."""

    bits = 0

    def __hash__(self) -> int:
        return self.bits


@pytest.mark.parametrize("row", range(ROWS))
@pytest.mark.parametrize("bits", [0, -2, 1 << 32])
def test_each_place_of_a_row_is_the_rows_own(row: int, bits: int) -> None:
    workers, host = tallies(), Hashed("192.0.2.1")
    host.bits = bits
    assert workers[row].add(host) == 1
    assert workers[row].in_all == 1 and workers[row].of("192.0.2.2") == 0
    workers[0].vacate(row)
    assert workers[row].in_all == workers[row].of(host) == 0


def test_a_limit_in_all_holds_across_workers() -> None:
    workers = [Crowd(10, 4, tally) for tally in tallies(2)]
    admitted = [crowd.join("192.0.2.1") for crowd, _ in zip(itertools.cycle(workers), range(8), strict=False)]
    assert admitted == [True] * 4 + [False] * 4
    assert [workers[0].join(f"192.0.2.{2 + number}") for number in range(4)] == [True, True, False, False]


def test_too_little_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="3 rows need"):
        SharedTally(memoryview(bytearray(memory_size(3) - 1)), 3, 0)
