"""``python -m aiolsp lab`` lists the labs; ``python -m aiolsp lab NAME`` runs one and explains what happened;
``python -m aiolsp lab web`` does so on a page.

A lab starts the server of a program, lets scripted clients act on it, on loopback, and ends by itself in a few seconds:
first the asyncio shell, then its blocking twin, with the same script.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NoReturn

from aiolsp.catalog import seconds
from aiolsp.cli import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK, Parser, UsageError, execute, say
from aiolsp.http1.states import diagram
from aiolsp.lab import web
from aiolsp.lab.actors import Failed
from aiolsp.lab.model import Run, document
from aiolsp.lab.page import page
from aiolsp.lab.questions import ask
from aiolsp.lab.runner import SHELLS, performances
from aiolsp.lab.scenario import Lab
from aiolsp.lab.scenarios import LABS
from aiolsp.lab.timeline import COUNTED, Row, paragraph, summary, timeline

AFTER = (
    "python -m aiolsp lab NAME [--broken]    runs one; --help has the other options",
    "python -m aiolsp lab ask [QUESTION]     answers a question of the book's readers by an experiment",
    "python -m aiolsp lab web                runs them on a page in a browser",
)

DIAGRAMS = {"analyze": diagram}
"""Labs of a machine that is a table, and what prints it."""

COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {"ask": ask.main, "web": web.main}
"""What is not the name of a lab, and has options of its own."""


def lab_parser() -> Parser:
    """The command line of the lab."""
    parser = Parser(
        prog="python -m aiolsp lab",
        description="Run a program and its blocking twin before scripted clients, and explain what happened.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="which lab (default: list them)")
    parser.add_argument("--broken", action="store_true", help="the chapter's classic mistake, its symptom and its mend")
    parser.add_argument(
        "--shell", choices=("both", *SHELLS), default="both", help="which version to run (default %(default)s)"
    )
    parser.add_argument(
        "--speed", type=seconds, metavar="X", help="play the timeline at X times its real speed (default: at once)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the runs as JSON too, all events of them")
    parser.add_argument("--html", metavar="FILE", help="write a page of lanes too, which needs no network")
    parser.add_argument("--diagram", action="store_true", help="print the state machine's table as Mermaid instead")
    parser.set_defaults(verbose=False, trace=None)
    return parser


def run(options: argparse.Namespace) -> int:
    """Do what the command line asks; the exit status."""
    if options.name is None:
        say(listing())
        return EXIT_OK
    lab = lab_named(options.name)
    if options.diagram:
        if lab.name not in DIAGRAMS:
            raise UsageError(f"{lab.name} has no state machine in a table; {', '.join(DIAGRAMS)} has")
        say(DIAGRAMS[lab.name]().rstrip())
        return EXIT_OK
    if options.broken and not lab.broken:
        raise UsageError(f"{lab.name} has no --broken")
    try:
        runs = show(lab, options)
    except Failed as failure:
        sys.stderr.write(f"python -m aiolsp lab {lab.name}: {failure}\n")
        return EXIT_FAILURE
    if options.json:
        write(options.json, json.dumps(document(runs)))
    if options.html:
        write(options.html, page(runs))
    return EXIT_OK


def lab_named(name: str) -> Lab:
    """The lab called *name*. Raises UsageError if there is none."""
    if name not in LABS:
        raise UsageError(f"there is no lab {name!r} (python -m aiolsp lab lists them)")
    return LABS[name]


def listing() -> str:
    """The labs, one a line, and what to see in each."""
    lines = ["lab       book page  what to see", ""]
    for lab in LABS.values():
        lines.append(f"{lab.name:<8}  {lab.pages:<9}  {lab.mechanism}")
        lines += [f"{'':21}- {scenario.title}" for scenario in lab.shown]
        lines += [f"{'':21}- --broken: {scenario.title}" for scenario in lab.broken if scenario.variant == "broken"]
    return "\n".join([*lines, "", *AFTER])


def show(lab: Lab, options: argparse.Namespace) -> list[Run]:
    """Run *lab* and print each scenario when it has been run in all shells; the runs. Raises Failed."""
    shells = SHELLS if options.shell == "both" else (options.shell,)
    width = shutil.get_terminal_size().columns
    colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    say(f"{lab.name}: {lab.mechanism}, book p. {lab.pages}")
    shown: list[Run] = []
    for _, group in groupby(performances(lab, shells, broken=options.broken), lambda run: run.title):
        runs = list(group)
        say(f"\n=== {runs[0].title} ===\n{paragraph('Watch: ', runs[0].look_for, width)}\n")
        play(timeline(runs, width), options.speed, colours=colours)
        say(summary(runs, width))
        shown += runs
    say("\n" + paragraph("", COUNTED, width))
    return shown


def play(rows: Sequence[Row], speed: float | None, *, colours: bool) -> None:
    """Print *rows*, at once or as they followed on each other, *speed* times as fast."""
    previous = 0.0
    for row in rows:
        if speed is not None and row.t_us > previous:
            time.sleep((row.t_us - previous) / 1e6 / speed)
        previous = row.t_us
        say(row.painted() if colours else row.plain())


def write(path: str, text: str) -> None:
    """Write a whole file. Raises UsageError if it cannot be."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {(error.strerror or '').lower()}") from None


def _terminated(number: int, frame: object) -> NoReturn:
    if number == signal.SIGHUP:  # a terminal that is closed sends it again, while everything ends
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt  # what ends a lab ends its server too: SIGTERM must pass every ``finally``, as Ctrl-C does


def main(argv: Sequence[str] | None = None) -> int:
    """Run the lab that the command line names; the exit status."""
    words = sys.argv[1:] if argv is None else argv
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # by nohup(1)
                signal.signal(number, _terminated)
        if words and words[0] in COMMANDS:
            return COMMANDS[words[0]](words[1:])
        return execute(lab_parser(), words, run)
    except KeyboardInterrupt:  # before there was anything to end
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
