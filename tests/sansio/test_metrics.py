"""The numbers of a server: text and JSON say the same, sums are sums, and every status has a class."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.sansio.exposition import METRICS, PREFIX, as_json, as_text, in_all
from aiolsp.sansio.metrics import COUNTERS, NAMES, Metrics
from prometheus import read_exposition

NUMBERS = st.tuples(*[st.integers(0, 1 << 50) for _ in NAMES]).map(lambda values: Metrics(*values))
WORKERS = st.dictionaries(st.integers(0, 30), NUMBERS, max_size=4)


def family_and_class(name: str) -> tuple[str, dict[str, str]]:
    """The metric's name in the text, and its labels."""
    head, _, rest = name.partition("_")
    return ("responses_total", {"class": rest.removesuffix("_total")}) if head == "responses" else (name, {})


@settings(max_examples=50, deadline=None)
@given(WORKERS)
def test_text_and_json_say_the_same(workers: dict[int, Metrics]) -> None:
    told = json.loads(as_json(workers))
    expected: dict[object, int] = {}
    for name, value in told["all"].items():
        family, labels = family_and_class(name)
        expected[PREFIX + family, frozenset(labels.items())] = value
    for number, worker in told["workers"].items():
        for name, value in worker.items():
            family, labels = family_and_class(name)
            expected[f"{PREFIX}worker_{family}", frozenset({**labels, "worker": number}.items())] = value
    assert read_exposition(as_text(workers).decode()) == expected


@settings(max_examples=50, deadline=None)
@given(WORKERS)
def test_in_all_is_the_sum_of_what_can_be_summed(workers: dict[int, Metrics]) -> None:
    total = in_all(workers)
    for name, metric in METRICS.items():
        assert getattr(total, name) == (0 if metric.personal else sum(getattr(one, name) for one in workers.values()))
    assert (total.pid, total.draining, total.start_time_seconds) == (0, 0, 0)


def test_every_number_is_told_in_its_place() -> None:
    assert tuple(METRICS) == NAMES
    assert all(metric.help for metric in METRICS.values())


def test_numbers_are_given_in_order_or_by_name_or_are_none() -> None:
    assert Metrics(1, 2, pid=3).values() == [{0: 1, 1: 2, NAMES.index("pid"): 3}.get(n, 0) for n in range(len(NAMES))]
    with pytest.raises(ValueError):
        Metrics(*range(len(NAMES) + 1))
    with pytest.raises(AttributeError):
        Metrics(nothing=1)


def test_counters_come_first() -> None:
    assert all(name.endswith("_total") == (number < COUNTERS) for number, name in enumerate(NAMES))


@pytest.mark.parametrize("status", [200, 299, 300, 399, 400, 499, 500, 599])
def test_an_answer_counts_in_its_class_only(status: int) -> None:
    metrics = Metrics()
    metrics.responded(status)
    metrics.responded(status, 2)
    assert metrics.values() == Metrics(**{f"responses_{status // 100}xx_total": 3}).values()
