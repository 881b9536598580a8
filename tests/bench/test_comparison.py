"""Comparisons: intervals that keep their promise, rounds in turn, and results from files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stress
from load.against import Side, compare_rounds, run_rounds
from load.bootstrap import Ratio, Verdict, paired_ratio, unpaired_ratio
from load.measurement import Measurement
from load.plan import Plan, Target
from load.record import Record
from load.run import Observer
from load.units import SECOND

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
MS = 1_000_000
FIGURE = st.floats(0.1, 1e6)
Serve = Callable[..., Any]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(FIGURE, FIGURE), min_size=2, max_size=12))
def test_the_ratio_lies_in_its_interval_and_turns_round_with_the_sides(pairs: list[tuple[float, float]]) -> None:
    ratio, turned = paired_ratio(pairs), paired_ratio([(second, first) for first, second in pairs])
    assert ratio.low is not None and ratio.high is not None and ratio.low <= ratio.value <= ratio.high
    assert turned.value == pytest.approx(1 / ratio.value, rel=1e-6)
    assert paired_ratio(pairs) == ratio  # the same figures, the same interval


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    random, truth, held = Random(1), 1.1, 0
    for _ in range(60):
        pairs = [(truth * random.lognormvariate(0, 0.05), random.lognormvariate(0, 0.05)) for _ in range(8)]
        ratio = paired_ratio(pairs)
        assert ratio.low is not None and ratio.high is not None
        held += ratio.low <= truth <= ratio.high
    # 57 of 60 are expected; the plain percentile interval holds about 52.
    assert held >= 53


def test_two_series_that_were_measured_apart_have_a_wider_interval() -> None:
    random = Random(2)
    drift = [random.uniform(50, 150) for _ in range(10)]
    pairs = [(1.2 * level, level) for level in drift]
    paired, apart = paired_ratio(pairs), unpaired_ratio([a for a, _ in pairs], drift)
    assert paired.verdict(more_is_better=True) is Verdict.FASTER
    assert apart.verdict(more_is_better=True) is Verdict.SAME
    assert apart.value == pytest.approx(fmean(a for a, _ in pairs) / fmean(drift))


@pytest.mark.parametrize(
    ("ratio", "more_is_better", "verdict"),
    [
        (Ratio(1.2, 1.1, 1.3), True, Verdict.FASTER),
        (Ratio(1.2, 1.1, 1.3), False, Verdict.SLOWER),
        (Ratio(0.8, 0.7, 0.9), True, Verdict.SLOWER),
        (Ratio(0.8, 0.7, 0.9), False, Verdict.FASTER),
        (Ratio(1.2, 0.9, 1.5), True, Verdict.SAME),
        (Ratio(5.0), True, Verdict.SAME),
    ],
)
def test_a_verdict_needs_the_whole_interval(ratio: Ratio, more_is_better: bool, verdict: Verdict) -> None:
    assert ratio.verdict(more_is_better=more_is_better) is verdict


class FakeGenerator:
    """A server of a given rate, on a machine that gets slower from run to run."""

    calls: list[str] = []

    def __init__(self, name: str, rate: float, *, interrupt_at: int = 1000) -> None:
        self.name, self.rate, self.interrupt_at = name, rate, interrupt_at

    async def run(self, plan: Plan, observe: Observer | None = None) -> Measurement:
        self.calls.append(self.name)
        good = round(self.rate * (1 - 0.01 * len(self.calls)))
        record = Record()
        for number in range(good):
            record.answer(number, number, number + MS, 200, 1)
        return Measurement(record, SECOND, good, good, good, 0.1, 0.2, interrupted=len(self.calls) >= self.interrupt_at)


@pytest.fixture
def sides() -> Callable[..., tuple[Side, Side]]:
    """Two sides with made-up servers."""
    FakeGenerator.calls = []

    def build(first: float, second: float, **settings: Any) -> tuple[Side, Side]:
        plan = Plan(Target("http", "127.0.0.1", 1))
        one, two = FakeGenerator("A", first, **settings), FakeGenerator("B", second, **settings)
        return Side("A", plan, one), Side("B", plan, two)

    return build


async def test_rounds_go_a_b_b_a_or_b_a_a_b_and_a_drift_cancels(sides: Callable[..., tuple[Side, Side]]) -> None:
    first, second = sides(1000, 1000)
    assert await run_rounds(first, second, 4, lambda _: None)
    calls = "".join(FakeGenerator.calls)
    assert calls[:2] == "AB"  # to warm both
    assert sorted(calls[start : start + 4] for start in (2, 6, 10, 14)) == ["ABBA", "ABBA", "BAAB", "BAAB"]
    comparison = compare_rounds(first, second, whole=True)
    assert comparison.verdict is Verdict.SAME and comparison.headline().startswith("A and B are not distinguishable: ")
    assert comparison.compared[0].ratio.value == pytest.approx(1, abs=0.005)


async def test_a_faster_server_is_called_so(sides: Callable[..., tuple[Side, Side]]) -> None:
    first, second = sides(1200, 1000)
    await run_rounds(first, second, 4, lambda _: None)
    comparison = compare_rounds(first, second, whole=True)
    assert comparison.headline().startswith("A is faster than B: good answers A/B 1.200 (")
    text = "\n".join(comparison.report())
    assert "4 rounds of A B B A or B A A B" in text and "server CPU per answer" in text and "p99 response time" in text
    data = json.loads(json.dumps(comparison.to_json()))
    assert data["verdict"] == "faster" and data["figures"]["rate"]["a"] > data["figures"]["rate"]["b"]


async def test_an_interrupted_round_is_left_out(sides: Callable[..., tuple[Side, Side]]) -> None:
    first, second = sides(100, 100, interrupt_at=9)
    assert not await run_rounds(first, second, 3, lambda _: None)
    assert len(first.rounds) == len(second.rounds) == 1
    assert "ended early, rounds finished: 1" in compare_rounds(first, second, whole=False).headline()


async def test_rounds_without_an_answer_are_not_left_out_in_silence(sides: Callable[..., tuple[Side, Side]]) -> None:
    first, second = sides(1000, 0)
    await run_rounds(first, second, 4, lambda _: None)
    headline = compare_rounds(first, second, whole=True).headline()
    assert headline.startswith("NOT CLEAN: A and B cannot be compared by good answers, but ")
    assert headline.endswith("B: no good answer came in time in 4 of 4 rounds")


def answer_after(seconds: float) -> Callable[[Any, int], bool]:
    """A server that thinks for a while."""
    from threading import Event

    def behave(connection: Any, _: int) -> bool:
        Event().wait(seconds)
        connection.sendall(GOOD)
        return True

    return behave


def test_two_servers_are_compared_over_kept_connections(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    quick, slow = serve(answer_after(0.001)), serve(answer_after(0.02))
    options = ["--against", slow.url, "--rounds", "3", "-d", "100ms", "-c", "2", "--client", "wire", "--json", "-"]
    assert stress.main([quick.url, *options]) == 0
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    assert data["verdict"] == "faster" and data["figures"]["rate"]["ratio"]["low"] > 1
    assert "round 3 of 3: A " in captured.err
    assert quick.accepted == slow.accepted == 3  # the probe and two connections


def test_a_comparison_by_files(serve: Serve, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("quick.json", "slow.json")]
    for name, seconds in zip(names, (0.001, 0.02), strict=True):
        server = serve(answer_after(seconds))
        assert stress.main([server.url, "-d", "1700ms", "-c", "2", "--client", "wire", "-q", "--json", name]) == 0
    capsys.readouterr()
    assert stress.main(["compare", *names]) == 0
    text = capsys.readouterr().out
    assert "A is faster than B: good answers A/B" in text and "not interleaved" in text and "quick.json" in text
    assert stress.main(["compare", *reversed(names), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "slower"


def test_results_of_different_plans_are_not_compared_without_saying_so(
    serve: Serve, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    url = serve(answer_after(0)).url
    for name, connections in (("a", "1"), ("b", "2")):
        stress.main([url, "-n", "20", "-c", connections, "--client", "wire", "-q", "--json", str(tmp_path / name)])
    capsys.readouterr()
    assert stress.main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    text = capsys.readouterr().out
    assert "NOT CLEAN: A and B are not distinguishable" in text and "the plans differ in connections" in text


@pytest.mark.parametrize("content", [None, "{", "[]", '{"schema": "other/1"}', '{"schema": "aiolsp.stress/1"}'])
def test_what_is_not_a_result_is_one_clear_line(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.json"
    if content is not None:
        file.write_text(content)
    assert stress.main(["compare", str(file), str(file)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("stress.py: ") and error.count("\n") == 1


@pytest.mark.parametrize(
    "options", [["--rounds", "3"], ["--against", "ftp://x/"], ["--against", "http://y/", "--find-max", "p99<1ms"]]
)
def test_bad_use_of_comparisons_is_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = stress.main(["http://127.0.0.1:1/", *options])
    except SystemExit as error:
        status = error.code  # type: ignore[assignment]
    assert status == 2 and capsys.readouterr().err.count("\n") == 1


def test_a_server_too_slow_for_the_rounds_is_not_called_the_same(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its answers are all good, and all come after the end of the run."""
    quick, slow = serve(answer_after(0.001)), serve(answer_after(0.3))
    options = ["--against", slow.url, "--rounds", "2", "-d", "50ms", "-c", "2", "--client", "wire", "-q"]
    assert stress.main([quick.url, *options]) == 0
    text = capsys.readouterr().out
    assert "NOT CLEAN: A and B cannot be compared by good answers" in text
    assert "B: no good answer came in time in 2 of 2 rounds" in text


def test_a_second_server_without_a_good_answer_is_a_failure(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    def dies(connection: Any, number: int) -> bool:
        return number == 0 and answer_after(0)(connection, number)

    options = ["--against", serve(dies).url, "--rounds", "2", "-d", "50ms", "-c", "2", "--client", "wire", "-q"]
    assert stress.main([serve(answer_after(0)).url, *options]) == 1
    assert "B: no good answer came at all" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--header", "X-Key: secret"], ["--body", "x"]])
def test_results_of_different_requests_are_not_compared_without_saying_so(
    serve: Serve, capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str]
) -> None:
    url = serve(answer_after(0)).url
    for name, extra in (("a", []), ("b", options)):
        common = ["--method", "POST", "-n", "20", "-c", "2", "--client", "wire", "-q", "--json", str(tmp_path / name)]
        stress.main([url, *common, *extra])
    assert "secret" not in json.dumps(json.loads((tmp_path / "b").read_text())["plan"])
    capsys.readouterr()
    assert stress.main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "the plans differ in request" in capsys.readouterr().out
