"""The greedy run: its attacks come as they say, its table says which bound breaks, and its status that one did."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

import greedy
from greedy import ALLOCATOR, Outcome
from load.attacks import ATTACKS

HEADS = ATTACKS[0]
FINE = Outcome(HEADS, quiet=1_000_000, attacked=1_900_000, answers=1234, failed=0, grown=1 << 20, pace=1.0)


@pytest.mark.parametrize(
    ("outcome", "broken"),
    [
        (FINE, []),
        (replace(FINE, attacked=2_100_000), ["time"]),
        (replace(FINE, grown=ALLOCATOR + HEADS.count * HEADS.allowance + 1), ["memory"]),
        (replace(FINE, failed=1, attacked=9_000_000), ["time", "answers"]),
    ],
)
def test_a_bound_that_does_not_hold_is_named(outcome: Outcome, broken: list[str]) -> None:
    assert outcome.broken == broken
    verdict = f"BROKEN: {', '.join(broken)}" if broken else "holds"
    assert greedy.row(outcome, 1).endswith(f"1,234  {verdict}")
    assert greedy.row(outcome, 2).endswith(f"{verdict}, try 2")


def test_what_breaks_is_tried_again_and_the_status_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = [replace(FINE, failed=1), FINE, *[replace(FINE, failed=2)] * 3]
    monkeypatch.setattr(greedy, "try_attack", lambda *_: outcomes.pop(0))
    assert greedy.main([HEADS.name]) == 0
    assert greedy.main([HEADS.name]) == 1
    out = capsys.readouterr().out
    assert "holds, try 2\n" in out and "BROKEN: answers, try 3\n" in out and not outcomes


def test_an_attack_that_nobody_knows_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        greedy.main(["kindness"])
    assert end.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_a_server_is_attacked_and_honest_clients_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(greedy, "SECONDS", 0.4)
    monkeypatch.setattr(greedy, "QUIET", 0.1)
    (tmp_path / "page.html").write_bytes(b"page")
    processors = os.sched_getaffinity(0)
    outcome = greedy.try_attack(HEADS, "asyncio", tmp_path)
    assert outcome.answers and not outcome.failed and outcome.pace > 0 and outcome.quiet > 0
    assert os.sched_getaffinity(0) == processors
