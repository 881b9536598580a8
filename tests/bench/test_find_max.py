"""The search for the highest rate that keeps a goal: as a pure search, and against a server with a known limit."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stress
from load.find_max import (
    HIGHEST,
    LOWEST,
    PRECISION,
    RateSearch,
    Step,
    at_rate,
    best,
    find_max,
    knee,
    search_json,
    search_report,
    verdict,
)
from load.measurement import Measurement
from load.plan import Plan, Target
from load.record import Record
from load.run import Observer
from load.schedule import ConstantRate, PoissonRate
from load.thresholds import parse_goal
from load.units import SECOND

MS = 1_000_000
PLAN = Plan(Target("http", "127.0.0.1", 8080), schedule=ConstantRate(100))
GOAL = parse_goal("p99<10ms")


@settings(max_examples=200, deadline=None)
@given(st.floats(LOWEST, HIGHEST), st.floats(LOWEST, HIGHEST / 4))
def test_the_search_ends_close_to_the_limit(first: float, limit: float) -> None:
    search = RateSearch(first)
    for _ in range(60):
        rate = search.next_rate()
        if rate is None:
            break
        search.settle(rate, holds=rate <= limit)
    assert search.next_rate() is None
    assert search.failing is not None and search.failing > limit
    if search.holding is None:
        assert search.failing / 2 < LOWEST
    else:
        assert search.holding <= limit and search.failing <= search.holding * (1 + PRECISION)


def test_the_search_has_an_end_when_nothing_fails_or_nothing_holds() -> None:
    for holds in (True, False):
        search, steps = RateSearch(250), 0
        while (rate := search.next_rate()) is not None:
            search.settle(rate, holds=holds)
            steps += 1
        assert steps < 20


class FakeGenerator:
    """Answers in 1 ms up to a rate, in 50 ms above it; some runs are out of line."""

    def __init__(self, limit: float, *, odd: tuple[int, ...] = (), busy: float = 0.1) -> None:
        self.limit, self.odd, self.busy = limit, odd, busy
        self.runs: list[float] = []

    async def run(self, plan: Plan, observe: Observer | None = None) -> Measurement:
        rate = plan.schedule.rate or 0
        fast = (rate <= self.limit) != (len(self.runs) in self.odd)
        self.runs.append(rate)
        record = Record(open_loop=True)
        for number in range(100):
            record.answer(number, number, number + (MS if fast else 50 * MS), 200, 1)
        generator = 0.95 if rate > self.limit and self.busy > 0.9 else 0.1
        return Measurement(record, SECOND, 100, 100, 100, generator, None)


async def search_with(generator: FakeGenerator, first: float = 100) -> list[Step]:
    return await find_max(generator, at_rate(PLAN, first), GOAL, lambda _: None)


async def test_each_step_is_confirmed_and_the_knee_found() -> None:
    generator = FakeGenerator(1000)
    steps = await search_with(generator)
    found, limit = best(steps), knee(steps)
    assert found is not None and limit is not None
    assert 950 <= found.rate <= 1000 < limit.rate <= 1050 and all(step.runs == 2 for step in steps)
    assert len(generator.runs) == 2 * len(steps)
    text = "\n".join(search_report(steps, GOAL))
    assert "requests per second keep p99<10ms; the knee: " in text and "do not (p99<10ms: 50.0 ms)" in text
    assert "holds" in text and "no: p99<10ms" in text


async def test_one_run_out_of_line_is_outvoted() -> None:
    generator = FakeGenerator(1000, odd=(2,))
    steps = await search_with(generator)
    assert [step.runs for step in steps[:3]] == [2, 3, 2] and steps[1].holds
    found = best(steps)
    assert found is not None and found.rate >= 950


async def test_a_search_that_starts_too_high_goes_down() -> None:
    found = best(await search_with(FakeGenerator(30), first=1000))
    assert found is not None and 28 <= found.rate <= 30


async def test_a_goal_that_never_holds_is_said() -> None:
    steps = await search_with(FakeGenerator(0))
    assert verdict(steps, GOAL).startswith("NOT FOUND: p99<10ms held at no rate") and best(steps) is None
    assert search_json(steps, GOAL)["best"] is None


async def test_a_limit_of_the_generator_is_not_the_servers() -> None:
    steps = await search_with(FakeGenerator(1000, busy=0.95))
    assert "the generator gave out, not the server" in verdict(steps, GOAL)
    assert search_json(steps, GOAL)["clean"] is False


def test_a_step_keeps_the_kind_of_arrivals() -> None:
    assert at_rate(PLAN, 7).schedule == ConstantRate(7)
    assert at_rate(replace(PLAN, schedule=PoissonRate(1)), 7).schedule == PoissonRate(7)


@pytest.mark.parametrize("text", ["p99>10ms", "rate<5", "p98<1ms", "fast"])
def test_what_is_not_a_goal_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        stress.main(["http://127.0.0.1:1/", "--find-max", text])
    assert refused.value.code == 2 and "is not a" in capsys.readouterr().err


@pytest.mark.parametrize("client", ["aiohttp", "wire"])
def test_the_limit_of_a_real_server_is_found_over_kept_connections(
    serve: Callable[..., Any], capsys: pytest.CaptureFixture[str], client: str
) -> None:
    one_at_a_time = threading.Lock()

    def takes_5_ms(connection: Any, _: int) -> bool:
        with one_at_a_time:
            threading.Event().wait(0.005)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        return True

    server = serve(takes_5_ms)
    options = ["--find-max", "p50<50ms", "--rate", "40", "-d", "300ms", "-c", "4", "--client", client]
    assert stress.main([server.url, *options, "--json", "-", "-q"]) == 0
    data = json.loads(capsys.readouterr().out)
    # 200/s at most; how far below that depends on the machine that runs the test.
    assert data["schema"] == "aiolsp.stress.find-max/1" and 20 <= data["best"] <= 300 and data["knee"] > data["best"]
    # The probe, and the four connections of all steps; aiohttp opens one when it needs one.
    assert server.accepted <= 5
