"""What a lab is made of: a server, a script for its clients, and what the reader is to see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from aiolsp.catalog import Program
from aiolsp.lab.model import Run, Shell, Variant
from aiolsp.lab.stage import Stage


def _nothing(home: Path) -> None:
    """The server needs no files."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run: *script* plays before the server of *program*, once for each shell."""

    program: str
    title: str
    look_for: str
    """What to see on the timeline, in a sentence."""
    script: Callable[[Stage], None]
    finding: Callable[[Run], str]
    """A sentence with the run's own figures; empty if it does not show what it should."""
    options: tuple[str, ...] = ()
    """Of the server; ``{home}`` stands for a directory of the run's own."""
    role: str = "server"
    prepare: Callable[[Path], object] = _nothing
    """Puts there the files that the server needs."""
    variant: Variant = ""
    mend: str = ""

    def command(self, shell: Shell, home: Path) -> list[str]:
        """What follows ``python`` to start the server of *shell*."""
        options = [option.format(home=home) for option in self.options]
        if self.program.startswith("broken."):
            mended = ["--mended"] if self.variant == "mended" else []
            name = self.program.removeprefix("broken.")
            return ["-m", "aiolsp.lab.broken", name, "--shell", shell, *mended, *options]
        package = "aiolsp.blocking" if shell == "blocking" else "aiolsp"
        return ["-m", f"{package}.{self.program}", *filter(None, [self.role]), *options]


def mistake(broken: Scenario, mended: str, look_for: str, finding: Callable[[Run], str]) -> tuple[Scenario, Scenario]:
    """*broken*, and its script before a server that does not make the mistake: the title and so on are that one's."""
    repaired = replace(broken, title=mended, look_for=look_for, finding=finding, variant="mended", mend="")
    return replace(broken, variant="broken"), repaired


@dataclass(frozen=True, slots=True)
class Lab:
    """All that is to be seen of one program."""

    program: Program
    shown: tuple[Scenario, ...]
    broken: tuple[Scenario, ...] = ()
    """Each mistake, followed by the run without it."""

    @property
    def name(self) -> str:
        """The program's."""
        return self.program.name

    @property
    def pages(self) -> str:
        """Of the book."""
        return self.program.pages

    @property
    def mechanism(self) -> str:
        """What the chapter is about."""
        return self.program.mechanism

    def begun(self, scenario: Scenario, shell: Shell, command: str = "") -> Run:
        """A run of *scenario* of which nothing has been seen yet."""
        return Run(
            lab=self.name,
            shell=shell,
            variant=scenario.variant,
            title=scenario.title,
            book=self.pages,
            command=command,
            look_for=scenario.look_for,
            mend=scenario.mend,
        )
