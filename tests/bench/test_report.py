"""Units, conditions, summary and report: pure functions over recorded figures."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.cli import UsageError
from load.live import Progress, spark
from load.measurement import Measurement, Sample
from load.plan import Plan, Target, parse_paths, parse_url
from load.record import Failure, Record
from load.report import SCHEMA, headline, json_report, text_report
from load.schedule import ConstantRate
from load.summary import Summary, summarize
from load.thresholds import parse_condition
from load.units import SECOND, format_duration, format_rate, format_size, parse_count, parse_duration, parse_rate

TARGET = Target("http", "127.0.0.1", 8080)
MS = 1_000_000


def measured(*, good: int = 100, failed: int = 0, **settings: Any) -> Measurement:
    record = Record(open_loop=settings.pop("open_loop", False))
    for number in range(good):
        record.answer(number, number + MS, number + 3 * MS, 200, 10)
    for number in range(failed):
        record.answer(number, number, number + MS, 503, 10)
    record.unsent = settings.pop("unsent", 0)
    fields = {"elapsed": SECOND, "good_in_time": good, "answers_in_time": good + failed, "octets_in_time": 10 * good}
    return Measurement(record, **{**fields, "generator_seconds": 0.5, "server_seconds": 0.2, **settings})


def summary_of(**settings: Any) -> Summary:
    return summarize(Plan(TARGET), measured(**settings))


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("5", 5 * SECOND), ("5s", 5 * SECOND), ("200ms", 200 * MS), ("1.5m", 90 * SECOND), ("10us", 10_000), ("3 ns", 3)],
)
def test_durations_are_read(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "fast", "5x", "-1s", "1e9", "nan"])
def test_what_is_not_a_number_with_a_unit_is_refused(text: str) -> None:
    for parse in (parse_duration, parse_count, parse_rate):
        with pytest.raises(ValueError, match="is not a"):
            parse(text)


def test_counts_and_rates_are_read() -> None:
    assert (parse_count("10k"), parse_count("1.5M"), parse_rate("0.5"), parse_rate("2k/s")) == (
        10_000,
        1_500_000,
        0.5,
        2000,
    )
    with pytest.raises(ValueError, match="is not a count"):
        parse_count("1.5")


def test_figures_are_printed_with_three_digits() -> None:
    assert [format_duration(ns) for ns in (0, 999, 12_345, 4_560_000, 999_600, 1_234_567_890)] == [
        "0 ns", "999 ns", "12.3 µs", "4.56 ms", "1.00 ms", "1.23 s",
    ]  # fmt: skip
    assert (format_rate(12345.6), format_rate(9.876), format_size(1536)) == ("12,346/s", "9.88/s", "1.50 KiB")


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3_500 * SECOND))
def test_a_printed_duration_reads_back_to_three_digits(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds).replace(",", "")) == pytest.approx(nanoseconds, rel=0.006)


def test_a_run_without_trouble_has_a_clean_headline() -> None:
    summary = summary_of()
    assert headline(summary) == "100 good answers per second"
    assert summary.service.percentiles[50] == pytest.approx(2 * MS, rel=0.001)
    assert summary.server_seconds_per_request == pytest.approx(0.002)


def test_what_is_told_for_a_second_is_divided_by_the_length_of_the_run() -> None:
    run = {"elapsed": 4 * SECOND, "processes": 2, "usable_processors": 2}
    summary = summary_of(generator_seconds=2.0, server_seconds=1.0, **run)
    assert (summary.seconds, summary.rate, summary.octets_per_second) == (4, 25, 250)
    assert (summary.generator_share, summary.server_share) == (0.25, 0.25)


def test_of_few_answers_few_lie_above_a_percentile() -> None:
    latency = summary_of(good=1000).service
    assert [latency.beyond(percent) for percent in (50, 99, 99.9, 99.99)] == [500, 10, 1, 0]


def test_answers_that_came_too_late_or_not_at_all_are_told_apart() -> None:
    assert summary_of(good=5, good_in_time=0).cautions == ("all 5 good answers came after the end: give it longer",)
    assert summary_of(good=0, failed=3).cautions == ("no good answer came at all",)


def test_bad_answers_are_not_in_the_rate_and_the_headline_is_not_clean() -> None:
    summary = summary_of(good=100, failed=25)
    assert summary.rate == 100 and summary.failures == {Failure.STATUS: 25} and summary.statuses == {200: 100, 503: 25}
    assert headline(summary) == "NOT CLEAN: 100 good answers per second, but 25 of 125 requests failed (20.00%)"


def test_a_busy_generator_spoils_the_headline() -> None:
    assert "generator used 95% of a processor" in headline(summary_of(generator_seconds=0.95))
    assert summary_of(generator_seconds=0.95, processes=2, usable_processors=2).cautions == ()
    assert "the 4 generator processes left nothing" in headline(
        summary_of(generator_seconds=1.9, processes=4, usable_processors=2)
    )


def test_a_rate_that_was_not_reached_spoils_the_headline() -> None:
    plan = replace(Plan(TARGET), schedule=ConstantRate(200))
    assert "the rate was not reached: 100/s of 200/s were sent, 100 requests never" in headline(
        summarize(plan, measured(open_loop=True, unsent=100))
    )
    assert summarize(plan, measured(open_loop=True, unsent=1)).cautions == ()
    (half,) = summarize(plan, measured(good=200, elapsed=2 * SECOND, open_loop=True, unsent=200)).cautions
    assert half.endswith("100/s of 200/s were sent, 200 requests never; the end was 1.00 s behind the plan")
    (late,) = summarize(plan, measured(good=400, elapsed=8 * SECOND, open_loop=True, lag=2 * SECOND)).cautions
    assert late.endswith("100/s of 200/s were sent; the end was 2.00 s behind the plan")


def test_response_time_counts_from_the_moment_a_request_was_due() -> None:
    plan = replace(Plan(TARGET), schedule=ConstantRate(100))
    summary = summarize(plan, measured(open_loop=True))
    assert summary.service.maximum == 2 * MS and summary.response.maximum == 3 * MS


def test_requests_of_the_warm_up_are_left_out_of_everything() -> None:
    record = Record()
    record.begin = 1000
    record.answer(999, 999, 2000, 200, 1)
    record.fail(999, Failure.RESET, "")
    record.leave(999)
    record.answer(1000, 1000, 2000, 200, 1)
    assert (record.good, record.failed, record.cut, record.statuses.total()) == (1, 0, 0, 1)


def test_records_of_workers_merge() -> None:
    first, second = measured(good=3, failed=1).record, measured(good=4, failed=2).record
    first.merge(second)
    assert (first.good, first.failed, first.octets, dict(first.statuses)) == (7, 3, 70, {200: 7, 503: 3})


@pytest.mark.parametrize("settings", [{}, {"good": 0}, {"failed": 3}, {"interrupted": True}, {"server_seconds": None}])
def test_the_report_names_both_times_and_how_many_answers_there_were(settings: dict[str, Any]) -> None:
    text = "\n".join(text_report(Plan(TARGET), summary_of(loop="uvloop", **settings)))
    assert "service time" in text and "response time" in text and f"n = {settings.get('good', 100)}" in text
    assert "keep-alive" in text and "client aiohttp on uvloop" in text and "p99.99" in text


def test_the_json_form_holds_what_a_comparison_needs() -> None:
    measurement = measured(samples=[Sample(1, 2, 3, 4, 4)])
    data = json.loads(
        json.dumps(json_report(Plan(TARGET), summarize(Plan(TARGET), measurement), measurement, {"python": "x"}))
    )
    assert data["schema"] == SCHEMA and data["clean"] is True and data["machine"] == {"python": "x"}
    assert data["service_time"]["percentiles"]["99.9"] == data["response_time"]["percentiles"]["99.9"]
    assert sum(count for _, count in data["service_time"]["histogram"]["counts"]) == data["good"] == 100


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("p99>1ms", True), ("p99>10ms", False), ("service.max<=2ms", True), ("errors>0", True), ("errors>20%", False),
        ("errors>=20%", True), ("rate<100", False), ("rate <= 100", True), ("mean<1s", True),
    ],
)  # fmt: skip
def test_conditions_are_judged(text: str, holds: bool) -> None:
    condition = parse_condition(text)
    summary = summary_of(good=100, failed=25)
    assert condition.holds(summary) is holds and text in condition.describe(summary)


def test_a_latency_without_a_good_answer_is_above_every_bound() -> None:
    assert parse_condition("p50>1h").holds(summary_of(good=0, failed=1))


@pytest.mark.parametrize("text", ["", "p99", "p98>1ms", "p99>fast", "errors", "speed>1", "rate>10ms"])
def test_what_is_not_a_condition_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        parse_condition(text)


def test_urls_are_taken_apart() -> None:
    assert parse_url("127.0.0.1:80") == (Target("http", "127.0.0.1", 80), "/")
    target, path = parse_url("https://[::1]:8443/a?b=c#d")
    assert (target.authority, target.host, path) == ("[::1]:8443", "::1", "/a?b=c")


@pytest.mark.parametrize("text", ["", "ftp://x/", "http://", "http://x:99999/", "http://x/a b", "http://[::1/"])
def test_what_cannot_be_loaded_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_url(text)


def test_a_list_of_urls_is_of_one_server() -> None:
    assert parse_paths(["# all", "", "/a", "http://127.0.0.1:8080/b?c"], TARGET, "f") == ("/a", "/b?c")
    with pytest.raises(UsageError, match="f:2: .* another server"):
        parse_paths(["/a", "http://other/"], TARGET, "f")
    with pytest.raises(UsageError, match="holds no URL"):
        parse_paths(["#"], TARGET, "f")


def test_a_request_is_ready_to_be_sent() -> None:
    plan = Plan(TARGET, method="POST", body=b"xy", fields=(("X-A", "b"),), churn=True)
    assert plan.request_bytes("/p") == (
        b"POST /p HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nX-A: b\r\nContent-Length: 2\r\nConnection: close\r\n\r\nxy"
    )


def test_the_live_line_shows_the_rate_since_the_last_one() -> None:
    progress = Progress()
    progress.line(Sample(SECOND, 100, 0, 100 * MS, 100 * MS))
    line = progress.line(Sample(2 * SECOND, 300, 1, 500 * MS, 500 * MS), sparkline=True)
    assert "200/s" in line and "2.00 ms" in line and "errors 1" in line and line.endswith("▅█")
    assert spark(progress._rates.__class__([0.0])) == "▁"
