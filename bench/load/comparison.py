"""The result of a comparison: figures of two servers, their ratios, the verdict; as text and as data. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from load.bootstrap import CONFIDENCE, Ratio, Verdict
from load.units import format_duration, format_rate

SCHEMA = "aiolsp.stress.comparison/1"

FIGURES = {
    "rate": "good answers",
    "mean": "mean response time",
    "p50": "p50 response time",
    "p99": "p99 response time",
    "cpu": "server CPU per answer",
}
"""Everything that is compared, in the order of the report; of all but the rate, less is better. Times in ns."""


@dataclass(frozen=True)
class Compared:
    """One figure of both."""

    name: str
    first: float
    second: float
    ratio: Ratio

    @property
    def verdict(self) -> Verdict:
        """What this figure says of the first."""
        return self.ratio.verdict(more_is_better=self.name == "rate")


@dataclass(frozen=True)
class Comparison:
    """Two servers side by side."""

    names: tuple[str, str]
    compared: tuple[Compared, ...]
    leading: str
    """The figure that decides: the rate of a closed loop, the mean response time at a given rate."""
    basis: str
    """Where the intervals come from."""
    cautions: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """What can be said of the first."""
        found = self._leading()
        return Verdict.SAME if found is None else found.verdict

    def _leading(self) -> Compared | None:
        return next((compared for compared in self.compared if compared.name == self.leading), None)

    def headline(self) -> str:
        """The verdict as a sentence."""
        found = self._leading()
        if found is None:
            text = f"A and B cannot be compared by {FIGURES[self.leading]}"
        else:
            same = self.verdict is Verdict.SAME
            text = f"A and B are {self.verdict.value}" if same else f"A is {self.verdict.value} than B"
            text += f": {FIGURES[self.leading]} A/B {found.ratio}"
        return f"NOT CLEAN: {text}, but {'; '.join(self.cautions)}" if self.cautions else text

    def report(self) -> list[str]:
        """The whole report, a line each."""
        head = f"  {'':<24}{'A':>12}{'B':>12}     A/B ({CONFIDENCE:.0%} interval)"
        return [*self.names, "", self.headline(), "", head, *map(_row, self.compared), f"  intervals from {self.basis}"]

    def to_json(self) -> dict[str, object]:
        """The same for a program; rates per second, times in ns."""
        return {
            "schema": SCHEMA,
            "names": list(self.names),
            "verdict": self.verdict.value,
            "clean": not self.cautions,
            "cautions": list(self.cautions),
            "basis": self.basis,
            "leading": self.leading,
            "figures": {
                compared.name: {
                    "a": compared.first,
                    "b": compared.second,
                    "ratio": asdict(compared.ratio),
                    "verdict": compared.verdict.value,
                }
                for compared in self.compared
            },
        }


def _row(compared: Compared) -> str:
    form = format_rate if compared.name == "rate" else format_duration
    values = f"{form(compared.first):>12}{form(compared.second):>12}"
    return f"  {FIGURES[compared.name]:<24}{values}     {compared.ratio}"
