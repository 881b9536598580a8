"""Runs the contenders of a case in turn: rounds of A B C C B A, in an order drawn by lot.

The facts are those of ``load.against``: a machine drifts, and what comes round regularly can fall on the same contender
each time. Each round runs every contender twice, the second time in the opposite order, so that a drift that is linear
within a round cancels; the order is drawn anew for each round, by a lot that is the same every time. All are warmed by
a run that does not count, and all are up, with their connections open, from the first round to the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from random import Random
from typing import Protocol

from load.bootstrap import SEED
from load.client import explain
from load.server_process import ServerTrouble
from versus.outcome import Figures, Outcome
from versus.results import About, CaseResult, Contender

INTERRUPTED = "interrupted"


class Load(Protocol):
    """Work for one server, done as often as is wanted."""

    def once(self) -> Figures:
        """Figures that are taken once, before the first run."""

    def run(self, seconds: float) -> Outcome:
        """Work for about so long. Raises ServerTrouble if the server does not do its part at all."""


@dataclass(frozen=True)
class Entrant:
    """A contender that is still to be started; *open* gives its load, and raises ServerTrouble if it cannot."""

    name: str
    open: Callable[[], AbstractContextManager[Load]]


@dataclass(frozen=True)
class Case:
    """One load on several servers that are still to be started."""

    about: About
    entrants: tuple[Entrant, ...]
    least_seconds: float = 0.0
    """Of a run, whatever the pace: a shorter one would not hold enough of its units."""
    once: bool = False
    """Whether all its figures are taken once: there are no rounds."""


@dataclass(frozen=True)
class Pace:
    """How long and how often."""

    rounds: int
    seconds: float
    """Of each of the two runs of a contender in a round."""
    quick: bool = False


def orders(contenders: int, rounds: int) -> Iterator[list[int]]:
    """For each round, who runs when: everyone twice, the second half being the first in reverse."""
    random = Random(SEED)
    for _ in range(rounds):
        order = random.sample(range(contenders), contenders)
        yield [*order, *reversed(order)]


def run_case(case: Case, pace: Pace, show: Callable[[str], None]) -> CaseResult:
    """Measure *case*; Ctrl-C, or a server that fails half-way, ends it with the rounds that are whole."""
    result = CaseResult(case.about, [Contender(entrant.name) for entrant in case.entrants])
    try:
        with ExitStack() as stack:
            _measure(case, pace, result, stack, show)
    except KeyboardInterrupt:
        result.ended = INTERRUPTED
    except (ServerTrouble, OSError) as error:
        result.ended = f"ended early ({explain(error)})"
    return result


def _measure(case: Case, pace: Pace, result: CaseResult, stack: ExitStack, show: Callable[[str], None]) -> None:
    seconds = max(pace.seconds, case.least_seconds)
    running: list[tuple[Contender, Load]] = []
    for entrant, contender in zip(case.entrants, result.contenders, strict=True):
        try:
            load = stack.enter_context(entrant.open())
            contender.once = load.once()
            if not case.once:
                load.run(seconds / 2)
        except (ServerTrouble, OSError) as error:
            contender.skipped = explain(error)
        else:
            running.append((contender, load))
    rounds = pace.rounds if running and not case.once else 0
    for number, order in enumerate(orders(len(running), rounds), 1):
        outcomes = [Outcome() for _ in running]
        for index in order:
            outcomes[index].add(running[index][1].run(seconds))
        for (contender, _), outcome in zip(running, outcomes, strict=True):
            contender.rounds.append(outcome.figures())
            contender.failed += outcome.failed
            contender.example = contender.example or outcome.example
        show(f"{case.about.label}: round {number} of {rounds}")
