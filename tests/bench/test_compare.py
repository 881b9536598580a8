"""The comparison: rounds in turn, figures, ratios, tables and charts as functions; then two programs for real."""

from __future__ import annotations

import json
import re
import signal
import sys
import xml.etree.ElementTree
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

import compare
from harness import DEADLINE, Process
from load.bootstrap import Ratio
from load.plan import Plan, Target
from load.server_process import ServerTrouble
from load.units import SECOND
from load.wrk import parse_wrk
from versus.charts import THEMES, Bar, Chart, Scale, draw, peer_charts, twin_charts
from versus.files import Report
from versus.outcome import Figures, Outcome
from versus.peers import Setup, nginx_configuration
from versus.results import About, CaseResult, Contender, Goal
from versus.rounds import INTERRUPTED, Case, Entrant, Load, Pace, orders, run_case
from versus.tables import aligned, case_table, goal_table, ratio_table

PACE = Pace(rounds=2, seconds=1)


def outcome(units: float, *, cpu: float = 0.5, generator: float = 0.1) -> Outcome:
    """A second's work, each unit of it in a millisecond."""
    made = Outcome(units, units, SECOND, cpu, generator)
    made.latency.record(1_000_000)
    return made


class FakeLoad:
    """A server of a given rate, on a machine that gets slower from run to run."""

    runs: list[str] = []

    def __init__(self, name: str, rate: float, *, fail_at: int = 0, error: BaseException | None = None) -> None:
        self.name, self.rate, self.fail_at, self.error = name, rate, fail_at, error

    def once(self) -> Figures:
        return {"memory": 2048}

    def run(self, seconds: float) -> Outcome:
        self.runs.append(self.name)
        if self.error is not None and len(self.runs) >= self.fail_at:
            raise self.error
        return outcome(self.rate * (1 - 0.01 * len(self.runs)))


@pytest.fixture
def entrant() -> Iterator[Entrant]:
    """Makes contenders of given rates."""
    FakeLoad.runs = []

    def make(name: str, rate: float, **settings: object) -> Entrant:
        @contextmanager
        def opened() -> Iterator[Load]:
            yield FakeLoad(name, rate, **settings)  # type: ignore[arg-type]

        return Entrant(name, opened)

    yield make  # type: ignore[misc]


def case_of(*entrants: Entrant, goals: tuple[Goal, ...] = (), once: bool = False) -> Case:
    """A case whose reference is B."""
    about = About("twins", "chat", "chat", "people talk", "a line", "from said to heard", "B", goals)
    return Case(about, entrants, once=once)


def run(case: Case) -> CaseResult:
    """The case, measured without a word."""
    return run_case(case, PACE, lambda _: None)


def test_each_round_runs_everyone_twice_and_the_second_half_in_reverse() -> None:
    drawn = list(orders(3, 20))
    assert all(sorted(order) == [0, 0, 1, 1, 2, 2] and order == order[::-1] for order in drawn)
    assert len({tuple(order) for order in drawn}) == 6  # every order comes
    assert drawn == list(orders(3, 20))


def test_a_drift_of_the_machine_cancels_and_a_faster_server_shows(entrant) -> None:  # type: ignore[no-untyped-def]
    result = run(case_of(entrant("A", 1200), entrant("B", 1000)))
    assert FakeLoad.runs[:2] == ["A", "B"] and len(FakeLoad.runs) == 2 + 2 * 4
    ratio = result.ratio("rate", "A", "B")
    assert ratio is not None and ratio.value == pytest.approx(1.2, rel=0.001)
    memory = result.ratio("memory", "A", "B")
    assert memory == Ratio(1.0)


def test_who_cannot_start_is_skipped_with_a_line_and_the_others_go_on(entrant) -> None:  # type: ignore[no-untyped-def]
    def refuse() -> AbstractContextManager[Load]:
        raise ServerTrouble("not installed: pip install it")

    result = run(case_of(entrant("A", 1000), Entrant("C", refuse), entrant("B", 1000)))
    assert [each.name for each in result.measured()] == ["A", "B"]
    assert "  C is skipped: not installed: pip install it" in case_table(result)


@pytest.mark.parametrize(
    ("error", "told"), [(KeyboardInterrupt(), INTERRUPTED), (ServerTrouble("it fell over"), "it fell over")]
)
def test_what_ends_a_case_early_leaves_the_rounds_that_are_whole(entrant, error, told) -> None:  # type: ignore[no-untyped-def]
    result = run(case_of(entrant("A", 1000, fail_at=8, error=error), entrant("B", 1000, fail_at=8, error=error)))
    assert told in result.ended and [len(each.rounds) for each in result.contenders] == [1, 1]
    assert "the figures are of 1 rounds" in case_table(result)[-1]


def test_a_case_of_figures_taken_once_has_no_rounds(entrant) -> None:  # type: ignore[no-untyped-def]
    result = run(case_of(entrant("A", 1000), goals=(Goal("memory", "A", 4096, least=False),), once=True))
    assert not FakeLoad.runs and result.judgements()[0].met is True


def test_outcomes_add_up_and_give_figures_for_which_there_is_a_basis() -> None:
    both = outcome(100)
    both.counts = Counter({"wake-ups": 50})
    both.add(outcome(300, cpu=1.5))
    assert both.figures() == {
        "rate": 200,
        "p50": pytest.approx(1e6, rel=0.001),
        "p99": pytest.approx(1e6, rel=0.001),
        "cpu": 2 / 400 * SECOND,
        "wake-ups each": 50 / 400,
        "server busy": 1.0,
        "generator busy": 0.1,
    }
    assert Outcome().figures() == {}
    both.fail("first")
    once, twice = Outcome(), Outcome()
    once.fail("other")
    for each in (both, once):
        twice.add(each)
    assert (twice.failed, twice.example) == (2, "first")


def contender(name: str, rate: float, *, generator: float = 0.2, server: float = 1.0, cpu: float = 1000) -> Contender:
    """One with two rounds."""
    figures = {"rate": rate, "p50": 1e6, "p99": 2e6, "cpu": cpu, "server busy": server, "generator busy": generator}
    return Contender(name, [figures, {**figures, "rate": rate * 1.01}], {"memory": 3000.0})


def result_of(*contenders: Contender, goals: tuple[Goal, ...] = (), name: str = "hot") -> CaseResult:
    """A result whose reference is nginx."""
    about = About("peers", "websrv", name, "1 KiB hot file", "an answer", "from sent to answered", "nginx", goals)
    return CaseResult(about, list(contenders))


def test_goals_are_judged_and_one_that_cannot_be_is_told_why() -> None:
    goals = (
        Goal("rate", "websrv", 1.2, "nginx"),
        Goal("rate", "websrv", 1.6, "nginx"),
        Goal("cpu", "websrv", 1.3, "nginx", least=False),
        Goal("memory", "websrv", 2048, least=False),
        Goal("rate", "websrv", 20, "granian"),
    )
    absent = Contender("granian", skipped="not installed")
    result = result_of(contender("websrv", 1500), contender("nginx", 1000), absent, goals=goals)
    judged = result.judgements()
    assert [each.met for each in judged] == [True, False, True, False, None]
    assert judged[4].note == "granian did not take part"
    text = "\n".join(goal_table([result]))
    assert "at least 1.2" in text and "at most 2.00 KiB" in text and "2.93 KiB" in text and "NO" in text


def test_a_rate_that_the_generator_set_is_marked_and_its_processor_time_given() -> None:
    goals = (Goal("rate", "websrv", 1.2, "nginx"),)
    slow = contender("websrv", 1000, generator=0.99, server=0.7, cpu=500)
    result = result_of(slow, contender("nginx", 1000), goals=goals)
    text = "\n".join(case_table(result))
    assert "websrv*" in text and "the generator, not this server, set the pace" in text and "nginx*" not in text
    assert result.judgements()[0].note == "the generator set the pace of websrv: CPU each 2.00 times less"
    result.about = replace(result.about, open_loop=True)
    assert "websrv*" not in "\n".join(case_table(result))  # a rate that was given is nobody's


@pytest.mark.parametrize(("generator", "server", "marked"), [(0.95, 0.7, True), (0.95, 1.0, False), (0.5, 0.3, False)])
def test_a_generator_sets_the_pace_where_it_is_busy_all_the_time_and_busier_than_the_server(
    generator: float, server: float, marked: bool
) -> None:
    one = contender("websrv", 1000, generator=generator, server=server)
    assert result_of(one).limited(one) is marked


def test_an_interval_needs_rounds_enough_to_hold_what_it_says() -> None:
    few, enough = contender("websrv", 1500), contender("websrv", 1500)
    reference = contender("nginx", 1000)
    for each in (enough, reference):
        each.rounds = each.rounds * 3
    short, full = (result_of(each, reference).ratio("rate", "websrv", "nginx") for each in (few, enough))
    assert short is not None and short.low is None and full is not None and full.low is not None


def test_a_busy_machine_is_told_of() -> None:
    assert compare.caution_of(0.9, 2) == ""
    assert compare.caution_of(3.2, 2) == "NOT CLEAN: the machine was busy when this began (load average 3.2)"


def test_ratios_stand_with_their_intervals_in_one_table() -> None:
    lines = ratio_table([result_of(contender("websrv", 1500), contender("nginx", 1000))])
    assert lines[2].split() == ["case", "to", "rate", "p99", "CPU", "each", "memory"]
    assert lines[3].split()[:4] == ["hot", "websrv", "nginx", "1.500"] and lines[3].split()[-1] == "1.000"
    assert ratio_table([]) == [] and goal_table([]) == []


def test_what_wrk_prints_is_read_with_its_whole_distribution() -> None:
    found = parse_wrk("Running 1s test\n\nTOTAL 300 81000 1000000 2 1\nLATENCY 150 298\nLATENCY 9000 2\n")
    assert (found.answers, found.octets, found.elapsed, found.bad_statuses, found.errors) == (300, 81_000, SECOND, 2, 1)
    assert found.latency.count == 300 and found.latency.total == (150 * 298 + 9000 * 2) * 1000
    assert found.latency.percentiles((50, 99.9)) == [pytest.approx(150_000, rel=0.001), 9_000_000]
    for text, told in (
        ("", "said nothing"),
        ("unable to connect\n", "unable to connect"),
        ("TOTAL 0 0 1 0 0", "no answer"),
    ):
        with pytest.raises(ServerTrouble, match=told):
            parse_wrk(text)


def test_a_numbered_plan_makes_no_two_requests_alike() -> None:
    plan = Plan(Target("http", "h", 80), paths=("/a?{n}", "/b"), fields=(("Cookie", "s={n}%"),), numbered=True)
    first = list(islice(plan.requests(), 4))
    assert b"GET /a?0 " in first[0] and b"Cookie: s=1%\r\n" in first[1] and b"GET /a?2 " in first[2]
    assert len(set(first)) == 4
    assert len(set(islice(replace(plan, numbered=False).requests(), 4))) == 2


@pytest.mark.parametrize(
    ("variant", "cached", "logged"),
    [("hot", True, False), ("cold", False, False), ("unknown", False, False), ("log", True, True)],
)
def test_nginx_is_set_up_as_its_case_says(tmp_path: Path, variant: str, cached: bool, logged: bool) -> None:
    text = nginx_configuration(Setup(tmp_path / "site", tmp_path, variant, 8080))
    assert "worker_processes 1;" in text and "sendfile on;" in text and text.count("{") == text.count("}")
    assert ("open_file_cache max" in text) is cached and ("access_log off" not in text) is logged


def test_columns_are_aligned() -> None:
    assert aligned([("a", "1"), ("bb", "200")]) == ["a     1", "bb  200"]


def test_a_result_goes_into_json_with_the_machine_and_without_what_json_has_not() -> None:
    result = result_of(
        contender("websrv", 1500), contender("nginx", 1000), goals=(Goal("rate", "websrv", 1.2, "nginx"),)
    )
    report = Report("twins", [result], PACE, "wire", True, "busy")
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert (
        data["schema"] == "aiolsp.compare/1"
        and data["machine"]["python"]
        and data["rounds"] == 2
        and data["caution"] == "busy"
    )
    found = data["cases"][0]
    assert found["goals"][0]["met"] is True and found["contenders"][0]["figures"]["memory"] == 3000
    assert {ratio["figure"] for ratio in found["ratios"]} == {"rate", "p50", "p99", "cpu", "memory"}


@pytest.mark.parametrize("theme", THEMES)
def test_charts_are_whole_svg_that_needs_nothing_else(theme: str) -> None:
    results = [
        result_of(
            contender("websrv", 1500),
            contender("nginx", 1000),
            contender("<b>", 9),
            goals=(Goal("rate", "websrv", 1.2, "nginx"),),
        ),
        result_of(contender("websrv", 300), contender("nginx", 1000), name="fields"),
    ]
    charts = {**twin_charts(results), **peer_charts(results, "nginx", "websrv")}
    assert set(charts) == {"twins-rate", "twins-cpu", "peers-cases", "peers-hot"}
    for chart in charts.values():
        svg = draw(chart, THEMES[theme])
        root = xml.etree.ElementTree.fromstring(svg)
        assert root.get("width") == "400" and "href" not in svg and THEMES[theme].ground in svg
        assert all(0 <= float(each.get("x", 0)) <= 400 for each in root.iter())
    assert draw(Chart("nothing", "", []), THEMES[theme]) == ""


def test_better_is_to_the_right_whichever_way_the_figure_counts() -> None:
    bars = [Bar("a", Ratio(0.5, 0.4, 0.6), asked=2.0)]
    more, less = Scale.over(bars, True), Scale.over(bars, False)
    assert more.x(0.5) < more.x(1) < more.x(2) and less.x(0.5) > less.x(1) > less.x(2)
    assert 1.0 in more.ticks() and len(Scale(-7, 20, True).ticks()) <= 10


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["oob"], "there is nothing to compare for 'oob'"),
        (["chat", "--peers"], "--peers is about websrv"),
        (["chat", "--case", "nothing"], "there is no case 'nothing'"),
        (["--rounds", "0"], "must be more than nothing"),
    ],
)
def test_bad_use_is_one_clear_line(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = compare.main(words)
    except SystemExit as error:
        status = error.code  # type: ignore[assignment]
    error_text = capsys.readouterr().err
    assert status == 2 and told in error_text and error_text.count("\n") == 1


def test_two_programs_are_compared_with_their_twins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pace = ["--quick", "--rounds", "1", "--seconds", "50ms", "--generator", "wire", "-q"]
    cases = ["--case", "trigger et", "--case", "hot"]
    assert compare.main(["trigger", "websrv", *cases, *pace, "--output", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "trigger: 1 MiB" in text and "websrv: 1 KiB hot file" in text and "ratios, with their" in text
    trigger, web = json.loads((tmp_path / "part-quick-twins.json").read_text())["cases"]
    assert [each["name"] for each in trigger["contenders"]] == ["uvloop", "asyncio", "blocking"]
    for each in (*trigger["contenders"], *web["contenders"][:2]):
        assert each["figures"]["rate"] > 0 and each["figures"]["cpu"] > 0 and not each["failed"] and not each["skipped"]
    assert (tmp_path / "part-quick-twins-rate-dark.svg").exists()


def test_ctrl_c_ends_with_the_rounds_that_there_are_and_leaves_nothing(
    ours: Callable[[str], list[str]], tmp_path: Path
) -> None:
    program = Path(compare.__file__)
    words = [
        "trigger",
        "--case",
        "trigger et",
        "--rounds",
        "1000",
        "--seconds",
        "20ms",
        "--output",
        str(tmp_path / "out"),
    ]
    process = Process([sys.executable, str(program), *words], env={"TMPDIR": str(tmp_path)})
    try:
        process.stderr.wait_for("round 1 of 1000")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 0
        assert re.search(r"interrupted: the figures are of [1-9]\d* rounds", process.stdout.whole())
    finally:
        process.kill()
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and not ours(str(tmp_path))
