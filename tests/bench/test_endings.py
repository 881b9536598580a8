"""How a run ends: behind its plan, early, with answers still to come; the figures and the headline say which."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import stress
from harness import DEADLINE, Process
from load.dispatch import Dispatcher
from load.find_max import find_max, verdict
from load.generator import LocalGenerator
from load.measurement import Measurement
from load.plan import Plan, Target, parse_url
from load.record import Record
from load.run import Observer
from load.schedule import ConstantRate
from load.stop import StopRule
from load.summary import summarize
from load.thresholds import parse_goal
from load.units import SECOND

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

MS = 1_000_000

Serve = Callable[..., Any]


def slow(seconds: float) -> Callable[[Any, int], bool]:
    """Answers after so long."""

    def behave(connection: Any, _: int) -> bool:
        threading.Event().wait(seconds)
        connection.sendall(GOOD)
        return True

    return behave


def run(url: str, capsys: pytest.CaptureFixture[str], *options: object) -> dict[str, Any]:
    """The JSON of a run of the program in this process, with its exit status."""
    status = stress.main([url, "-q", "--json", "-", "-c", "4", "--client", "wire", *map(str, options)])
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    return data | {"exit": status}


def test_a_number_of_requests_that_went_out_late_did_not_reach_the_rate(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them are sent in the end, so that none is left to show for it."""
    result = run(serve(slow(0.02)).url, capsys, "-n", 100, "--rate", 1000)
    assert result["good"] == 100 and result["unsent"] == 0
    assert not result["clean"] and "the rate was not reached" in result["cautions"][0]


def test_no_rate_is_found_that_was_not_reached(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    """Four connections with answers of 5 ms make 800 per second, and no request fails however many are planned."""
    result = run(serve(slow(0.005)).url, capsys, "-n", 60, "--find-max", "errors<1%", "--rate", 400)
    assert result["best"] is None or result["best"] <= 860, result["verdict"]


def test_answers_that_all_come_after_the_end_are_not_a_clean_rate_of_nothing(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(serve(slow(0.3)).url, capsys, "-d", "100ms")
    assert (result["good"], result["late"], result["rate"]) == (4, 4, 0)
    assert result["cautions"] == ["all 4 good answers came after the end: give it longer"]


async def test_counting_what_was_never_sent_keeps_no_answer_waiting(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count of a plan far beyond the server takes seconds, and the loop that does it reads no answers meanwhile."""
    counted: list[int] = []
    records: list[Record] = []
    answer = Record.answer

    def count(_: Dispatcher, now: int) -> int:
        counted.append(records[0].good)
        return 0

    def noted(record: Record, *values: int) -> None:
        records.append(record)
        answer(record, *values)

    monkeypatch.setattr(Dispatcher, "unsent", count)
    monkeypatch.setattr(Record, "answer", noted)
    target, _ = parse_url(serve(slow(0.2)).url)
    plan = Plan(target, schedule=ConstantRate(1000), stop=StopRule(duration=300 * MS), client="wire", connections=2)
    async with LocalGenerator(plan) as generator:
        measured = await generator.run(plan)
    assert counted == [measured.record.good] and measured.record.good > measured.good_in_time


def test_ctrl_c_while_last_answers_are_waited_for_is_said(serve: Serve, program: list[str], tmp_path: Path) -> None:
    """Whoever does not wait for the answers that never come must not get a clean result for it."""

    def every_tenth_never(connection: Any, number: int) -> bool:
        if number % 10 != 9:
            connection.sendall(GOOD)
        return True

    told = tmp_path / "told.json"
    command = [*program, serve(every_tenth_never).url, "-d", "1s", "--timeout", "60s", "-c", "4", "--client", "wire"]
    process = Process([*command, "--json", str(told)])
    try:
        process.stderr.wait_for("1.0 s .* good")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
    result = json.loads(told.read_text())
    assert result["cut"] == 4 and result["good"] > 0 and result["interrupted"]
    assert result["cautions"] == ["ended before 4 answers had come or timed out"]


def test_ctrl_c_in_the_warm_up_blames_nobody(serve: Serve, program: list[str], tmp_path: Path) -> None:
    asked = threading.Event()

    def good(connection: Any, number: int) -> bool:
        connection.sendall(GOOD)
        if number == 20:
            asked.set()
        return True

    told = tmp_path / "told.json"
    command = [*program, serve(good).url, "--warmup", "60s", "-c", "2", "--client", "wire", "--json", str(told)]
    process = Process(command)
    try:
        assert asked.wait(DEADLINE)
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 1
    finally:
        process.kill()
    result = json.loads(told.read_text())
    assert result["cautions"] == ["no good answer came at all", "ended early, within the warm-up"]
    assert result["generator_processor_share"] == 0


class Interrupted:
    """A generator whose runs all end early."""

    async def run(self, plan: Plan, observe: Observer | None = None) -> Measurement:
        return Measurement(Record(open_loop=True), SECOND, 0, 0, 0, 0.1, None, interrupted=True)


def test_a_search_that_was_ended_early_does_not_say_that_nothing_held() -> None:
    plan, goal = Plan(Target("http", "127.0.0.1", 80), schedule=ConstantRate(100)), parse_goal("p99<1s")
    steps = asyncio.run(find_max(Interrupted(), plan, goal, lambda _: None))
    assert verdict(steps, goal) == "NOT FOUND: the search ended early, before p99<1s held at any rate"


def test_a_lag_of_a_hundredth_of_the_plan_is_none() -> None:
    plan = replace(Plan(Target("http", "127.0.0.1", 80)), schedule=ConstantRate(100), stop=StopRule(requests=100))
    record = Record(open_loop=True)
    for number in range(100):
        record.answer(number, number, number + MS, 200, 1)
    behind = Measurement(record, SECOND, 100, 100, 100, 0.1, None, lag=50 * MS)
    (caution,) = summarize(plan, behind).cautions
    assert caution.startswith("the rate was not reached: 95.2/s of 100/s were sent; the end was 50.0 ms")
    assert not summarize(plan, replace(behind, lag=10 * MS)).cautions
