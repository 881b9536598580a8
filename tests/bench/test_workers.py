"""Several generator processes: together they send what one would, and their records make one result."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stress
from harness import DEADLINE, Process
from load.measurement import Measurement, Sample, merge_workers
from load.plan import Plan, Target, share
from load.record import Record
from load.schedule import ConstantRate, PoissonRate, Schedule
from load.stop import StopRule

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
TARGET = Target("http", "127.0.0.1", 8080)
Serve = Callable[..., Any]


def good(connection: Any, _: int) -> bool:
    connection.sendall(GOOD)
    return True


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 7), st.integers(1, 100), st.integers(7, 100), st.sampled_from([ConstantRate, PoissonRate]))
def test_the_shares_of_all_workers_are_the_plan(
    workers: int, requests: int, connections: int, kind: Callable[[float], Schedule]
) -> None:
    paths = tuple(f"/{number}" for number in range(5))
    plan = Plan(TARGET, paths, schedule=kind(100.0), stop=StopRule(requests=requests), connections=connections)
    parts = [share(plan, index, workers) for index in range(workers)]
    assert sum(part.connections for part in parts) == connections
    assert sum(part.stop.requests or 0 for part in parts) == requests
    assert sum(part.schedule.rate or 0 for part in parts) == pytest.approx(100)
    sent = sorted(at for part in parts for at in islice(part.schedule.offsets() or (), part.stop.requests))
    assert sent == list(islice(plan.schedule.offsets() or (), requests))
    # The URLs too come in the order of the plan: worker 0 asks for the first, worker 1 for the second ...
    first = [parts[number % workers].paths[number // workers % 5] for number in range(20)]
    assert first == [paths[number % 5] for number in range(20)]


def test_measurements_of_workers_become_one() -> None:
    def part(answers: int, server: float | None) -> Measurement:
        record = Record()
        for number in range(answers):
            record.answer(number, number, number + 1000, 200, 10)
        samples = [Sample(500, answers, 1, 2, 3)] * answers
        return Measurement(record, 1000 + answers, answers, answers, 10, 0.5, server, loop="uvloop", samples=samples)

    whole = merge_workers([part(1, 2.0), part(2, 2.1)])
    assert (whole.record.good, whole.elapsed, whole.good_in_time, whole.octets_in_time) == (3, 1002, 3, 20)
    assert (whole.generator_seconds, whole.server_seconds, whole.processes) == (1.0, 2.1, 2)
    assert whole.samples == [Sample(500, 3, 2, 4, 6)]
    assert merge_workers([part(1, 2.0), part(2, None)]).server_seconds is None


@pytest.mark.parametrize("client", ["aiohttp", "wire"])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_workers_share_requests_and_connections(
    serve: Serve, capsys: pytest.CaptureFixture[str], client: str, loop: str
) -> None:
    server = serve(good)
    options = ["-n", "101", "-c", "5", "--workers", "2", "--client", client, "--loop", loop, "-q", "--json", "-"]
    assert stress.main([server.url, *options]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["good"], data["failed"], data["connections"], data["plan"]["workers"]) == (101, 0, 5, 2)
    assert len(server.requests) == 102 and server.accepted == 6  # and the probe


def test_the_rate_is_that_of_all_workers_together(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--rate", "200", "-d", "500ms", "-c", "4", "--workers", "2", "--client", "wire", "-q", "--json", "-"]
    assert stress.main([serve(good).url, *options]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["good"] + data["unsent"] + data["cut"] == 100 and data["plan"]["rate"] == 200


def test_more_workers_than_connections_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert stress.main(["http://127.0.0.1:1/", "-c", "2", "--workers", "3"]) == 2
    assert capsys.readouterr().err == "stress.py: 3 workers cannot share 2 connections: give more -c\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_workers_with_the_figures_so_far(
    program: list[str], serve: Serve, tmp_path: Path, number: int
) -> None:
    marker = tmp_path / "result.json"
    command = [*program, serve(good).url, "-d", "60s", "-c", "2", "--workers", "2"]
    process = Process([*command, "--json", str(marker)])
    try:
        process.stderr.wait_for("1.0 s .* good")
        workers = psutil.Process(process.pid).children()
        assert len(workers) >= 2
        # As Ctrl-C on a terminal, which reaches them all.
        for worker in workers:
            worker.send_signal(number)
        process.send_signal(number)
        assert process.wait(DEADLINE) == 0, process.stderr.whole()
        assert "ended early, after" in process.stdout.whole() and "Traceback" not in process.stderr.whole()
        assert json.loads(marker.read_text())["plan"]["workers"] == 2
    finally:
        process.kill()
    assert not psutil.wait_procs(workers, DEADLINE)[1]


def test_workers_do_not_outlive_a_parent_that_was_killed(program: list[str], serve: Serve) -> None:
    process = Process([*program, serve(good).url, "-d", "60s", "-c", "2", "--workers", "2"])
    try:
        process.stderr.wait_for("1.0 s .* good")
        workers = psutil.Process(process.pid).children()
    finally:
        process.kill()
    assert not psutil.wait_procs(workers, DEADLINE)[1]
