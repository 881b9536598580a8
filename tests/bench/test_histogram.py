"""The histogram, against sorted lists and, where installed, against HdrHistogram."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from load.histogram import BUCKETS, HIGHEST, Histogram, highest_equivalent

latencies = st.one_of(st.integers(0, 5000), st.integers(0, 10**7), st.integers(0, HIGHEST))
samples = st.lists(latencies, min_size=1, max_size=60)


def histogram_of(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


def exact_percentile(values: list[int], percent: float) -> int:
    return sorted(values)[max(1, ceil(round(percent / 100 * len(values), 6))) - 1]


@settings(max_examples=60, deadline=None)
@given(samples, st.sampled_from([0.0, 1.0, 50.0, 90.0, 99.0, 99.99, 100.0]))
def test_a_percentile_is_exact_to_three_digits_and_never_too_low(values: list[int], percent: float) -> None:
    exact = exact_percentile(values, percent)
    found = histogram_of(values).percentile(percent)
    assert exact <= found <= exact + exact // 1024


@settings(max_examples=60, deadline=None)
@given(samples)
def test_count_sum_minimum_and_maximum_are_exact(values: list[int]) -> None:
    histogram = histogram_of(values)
    assert histogram.count == len(values) == sum(count for _, count in histogram.buckets())
    assert (histogram.total, histogram.minimum, histogram.maximum) == (sum(values), min(values), max(values))
    assert histogram.mean == pytest.approx(sum(values) / len(values))


@settings(max_examples=30, deadline=None)
@given(samples, samples)
def test_merging_is_the_same_as_recording_all(first: list[int], second: list[int]) -> None:
    merged = histogram_of(first)
    merged.merge(histogram_of(second))
    assert merged.to_json() == histogram_of(first + second).to_json()


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(latencies, st.integers(0, 3), max_size=20))
def test_recording_many_is_the_same_as_recording_each(counts: dict[int, int]) -> None:
    together = Histogram()
    for value, count in counts.items():
        together.record_many(value, count)
    each = histogram_of([value for value, count in counts.items() for _ in range(count)])
    assert together.to_json() == each.to_json()


@settings(max_examples=30, deadline=None)
@given(samples)
def test_json_brings_the_same_histogram_back(values: list[int]) -> None:
    histogram = histogram_of(values)
    assert Histogram.from_json(histogram.to_json()).to_json() == histogram.to_json()


@settings(max_examples=60, deadline=None)
@given(samples)
def test_percentiles_ascend(values: list[int]) -> None:
    found = histogram_of(values).percentiles((50, 90, 99, 99.9, 100))
    assert found == sorted(found) and found[-1] == max(values)


def test_the_buckets_follow_each_other_without_gap_or_overlap() -> None:
    histogram = Histogram()
    for index in (0, 1, 2047, 2048, 3071, 3072, BUCKETS - 1):
        last = highest_equivalent(index)
        if index:
            histogram.record(highest_equivalent(index - 1) + 1)
        histogram.record(last)
    assert [highest for highest, _ in histogram.buckets()] == [
        highest_equivalent(index) for index in (0, 1, 2047, 2048, 3071, 3072, BUCKETS - 1)
    ]
    assert highest_equivalent(BUCKETS - 1) == HIGHEST


def test_values_out_of_range_are_counted_at_the_ends() -> None:
    histogram = histogram_of([-5, HIGHEST + 1, 1 << 60])
    assert histogram.count == 3 and histogram.minimum == 0 and histogram.maximum == 1 << 60
    assert sum(count for _, count in histogram.buckets()) == 3


def test_an_empty_histogram_says_zero() -> None:
    histogram = Histogram()
    assert histogram.percentiles((50, 99)) == [0, 0] and histogram.mean == 0
    assert Histogram.from_json(histogram.to_json()).to_json() == histogram.to_json()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 3_600_000_000), min_size=1, max_size=15))
def test_it_agrees_with_hdrhistogram(values: list[int]) -> None:
    oracle_of = pytest.importorskip("hdrh.histogram", reason="hdrhistogram is not installed").HdrHistogram
    oracle = oracle_of(1, 3_600_000_000, 3)
    # A thousand of each: HdrHistogram rounds a rank that is not whole to the nearest, ours always up.
    for value in values:
        oracle.record_value(value, 1000)
    ours = histogram_of(values * 1000)
    for percent in (50, 90, 99, 99.9, 100):
        assert ours.percentile(percent) == pytest.approx(oracle.get_value_at_percentile(percent), rel=0.002, abs=1)
