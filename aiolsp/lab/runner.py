"""Run a scenario before one shell, and give what happened as a `Run`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from aiolsp.lab.actors import Failed
from aiolsp.lab.model import Run, Shell, assemble
from aiolsp.lab.scenario import Lab, Scenario
from aiolsp.lab.stage import Stage, Take
from aiolsp.linux.scratch import scratch

SHELLS: tuple[Shell, ...] = ("asyncio", "blocking")


def perform(lab: Lab, scenario: Scenario, shell: Shell, take: Take | None = None) -> Run:
    """Run *scenario* once; *take* is told of each record as it comes. Raises Failed when it does not go as scripted."""
    with scratch("aiolsp-lab-") as home:
        command = scenario.command(shell, home)
        scenario.prepare(home)
        stage = Stage([sys.executable, *command], home, take)
        with stage:
            scenario.script(stage)
    assembly = assemble(stage.records, stage.zero_us)
    run = lab.begun(scenario, shell, " ".join(["python", *command]).replace(str(home), "$LAB"))
    run.lanes, run.events, run.counts = assembly.lanes, assembly.events, assembly.count(stage.usage)
    run.finding = scenario.finding(run)
    if not run.finding:
        raise Failed(f"{scenario.title} ({shell}): the run does not show it")
    return run


def performances(lab: Lab, shells: Sequence[Shell], *, broken: bool) -> Iterator[Run]:
    """Every scenario of *lab*, each before *shells* in turn. Raises Failed."""
    for scenario in lab.broken if broken else lab.shown:
        for shell in shells:
            yield perform(lab, scenario, shell)
