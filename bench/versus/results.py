"""What a comparison found, as data: contenders with the figures of each round, ratios, and what was asked for. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from statistics import median

from load.bootstrap import Ratio, paired_ratio
from versus.figures import COMPARED, KINDS
from versus.outcome import Figures

SCHEMA = "aiolsp.compare/1"

BUSY = 0.9
"""Share of a processor from which the generator, and not the server, may have set the pace."""

FEWEST = 5
"""Rounds for an interval: of 400 made-up ones at 95 %, 92 % held the truth with five rounds, 86 % with four, 52 % with
two."""


@dataclass
class Contender:
    """One of the servers of a case."""

    name: str
    rounds: list[Figures] = field(default_factory=list)
    once: Figures = field(default_factory=dict)
    """Figures that were taken once, not in each round."""
    skipped: str = ""
    """Why it did not take part, in a line for a person."""
    failed: int = 0
    example: str = ""
    """The first of the failures."""

    def figure(self, name: str) -> float | None:
        """The median of the rounds, or what was taken once; None if there is no such figure."""
        values = [figures[name] for figures in self.rounds if name in figures]
        return median(values) if values else self.once.get(name)


@dataclass(frozen=True)
class Goal:
    """A figure that was asked for: of one contender, or its ratio to that of another."""

    figure: str
    of: str
    bound: float
    against: str = ""
    least: bool = True
    """Whether *bound* is the least that will do, or the most."""

    @property
    def asked(self) -> str:
        """The bound for a person."""
        value = f"{self.bound:g}" if self.against else KINDS[self.figure].show(self.bound)
        return f"at {'least' if self.least else 'most'} {value}"

    @property
    def what(self) -> str:
        """The figure for a person."""
        return f"{KINDS[self.figure].title}, {self.of}" + (f" / {self.against}" if self.against else "")


@dataclass(frozen=True)
class Judgement:
    """What came of a goal; *value* is None when it could not be measured."""

    goal: Goal
    value: Ratio | None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met."""
        if self.value is None:
            return None
        return self.value.value >= self.goal.bound if self.goal.least else self.value.value <= self.goal.bound

    @property
    def measured(self) -> str:
        """The value for a person."""
        if self.value is None:
            return "-"
        return str(self.value) if self.goal.against else KINDS[self.goal.figure].show(self.value.value)


@dataclass(frozen=True)
class About:
    """What a case is about: one load, on several servers."""

    kind: str
    """``twins``, ``peers`` or ``generators``: cases of one kind stand in one table."""
    program: str
    name: str
    title: str
    unit: str
    latency: str
    """From when to when p50 and p99 are."""
    reference: str
    """The contender that the ratios are to."""
    goals: tuple[Goal, ...] = ()
    open_loop: bool = False
    """Whether the rate is given."""

    @property
    def label(self) -> str:
        """The name, with the program's if it does not say that."""
        return self.name if self.program in self.name else f"{self.program} {self.name}"


@dataclass
class CaseResult:
    """What was found of a case."""

    about: About
    contenders: list[Contender]
    ended: str = ""
    """Why the rounds ended before the last, if they did."""

    def contender(self, name: str) -> Contender | None:
        """The contender called *name*, if it took part."""
        return next((each for each in self.measured() if each.name == name), None)

    def measured(self) -> list[Contender]:
        """Those that have figures."""
        return [each for each in self.contenders if each.rounds or each.once]

    def limited(self, contender: Contender) -> bool:
        """Whether the generator was busier than the server: the rate is the generator's."""
        generator, server = contender.figure("generator busy") or 0, contender.figure("server busy") or 0
        return not self.about.open_loop and generator > BUSY and generator > server

    def ratio(self, figure: str, of: str, against: str) -> Ratio | None:
        """The ratio of a figure of two contenders, with its interval where both have it in each round."""
        first, second = self.contender(of), self.contender(against)
        if first is None or second is None:
            return None
        pairs = [
            (ours[figure], theirs[figure])
            for ours, theirs in zip(first.rounds, second.rounds, strict=False)
            if figure in ours and figure in theirs
        ]
        if pairs:
            ratio = paired_ratio(pairs)
            return ratio if len(pairs) >= FEWEST else Ratio(ratio.value)
        ours, theirs = first.figure(figure), second.figure(figure)
        return Ratio(ours / theirs) if ours and theirs else None

    def ratios(self) -> Iterator[tuple[str, str, Ratio]]:
        """(contender, figure, its ratio to the reference), of all but the reference."""
        for contender in self.measured():
            for figure in COMPARED if contender.name != self.about.reference else ():
                ratio = self.ratio(figure, contender.name, self.about.reference)
                if ratio is not None:
                    yield contender.name, figure, ratio

    def judgements(self) -> list[Judgement]:
        """What came of each goal."""
        return [Judgement(goal, self._value(goal), self._note(goal)) for goal in self.about.goals]

    def _value(self, goal: Goal) -> Ratio | None:
        if goal.against:
            return self.ratio(goal.figure, goal.of, goal.against)
        contender = self.contender(goal.of)
        value = None if contender is None else contender.figure(goal.figure)
        return None if value is None else Ratio(value)

    def _note(self, goal: Goal) -> str:
        names = [name for name in (goal.of, goal.against) if name]
        skipped = [each.name for each in self.contenders if each.name in names and each.skipped]
        if skipped:
            return f"{' and '.join(skipped)} did not take part"
        limited = [each.name for each in self.measured() if each.name in names and self.limited(each)]
        cpu = self.ratio("cpu", goal.of, goal.against) if goal.against else None
        if goal.figure == "rate" and limited and cpu is not None:
            return f"the generator set the pace of {' and '.join(limited)}: CPU each {1 / cpu.value:.2f} times less"
        return ""

    def to_json(self) -> dict[str, object]:
        """The same for a program: rates per second, times in ns, sizes in bytes."""
        return {
            **{name: value for name, value in asdict(self.about).items() if name != "goals"},
            "ended": self.ended,
            "contenders": [asdict(contender) | _medians(contender) for contender in self.contenders],
            "ratios": [{"of": name, "figure": figure, "ratio": asdict(ratio)} for name, figure, ratio in self.ratios()],
            "goals": [_goal_json(judgement) for judgement in self.judgements()],
        }


def _medians(contender: Contender) -> dict[str, object]:
    return {"figures": {name: value for name in KINDS if (value := contender.figure(name)) is not None}}


def _goal_json(judgement: Judgement) -> dict[str, object]:
    ratio = None if judgement.value is None else asdict(judgement.value)
    return {**asdict(judgement.goal), "measured": ratio, "met": judgement.met, "note": judgement.note}
