"""Loads an HTTP server and says honestly how it did.

Book p. 329, listing 16-4 (stress test).

Facts. The book's client keeps N connections busy and counts nothing; its heirs count answers per second, and a server
that answers 404 at once is the fastest of all. A closed loop hides every stall, for it sends nothing while it waits. A
generator at 100 % of a processor measures itself. Consequence: only good answers count (probe first, status, length,
content); latency is shown twice, from the request sent and from the moment it was due; the generator's own processor
time stands beside the figure, and the headline says when it is not to be trusted. Price: a client in Python. ``--client
wire`` reaches most of what wrk does on one processor; the server's processor time per answer holds even when the
generator is the bottleneck.

    python bench/stress.py                     starts aiolsp.websrv and loads it for 5 s over 64 connections
    python bench/stress.py URL                 loads that URL
    python bench/stress.py URL --rate 2000     open loop: 2,000 requests per second, whatever the server does
    python bench/stress.py URL --find-max 'p99<10ms'   the highest rate at which that still holds
    python bench/stress.py URL --against URL2  both in turn: faster, slower, or not distinguishable
"""

from __future__ import annotations

from aiolsp.linux import lifetime

if __name__ == "__main__":
    lifetime.begin()

import argparse
import json
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

from aiolsp.cli import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, UsageError, fill_standard_streams
from aiolsp.mechanisms.loop import LoopUnavailable, run
from load.against import Side, compare_rounds, run_rounds
from load.client import explain
from load.comparison import Comparison
from load.find_max import best, find_max, search_json, search_report
from load.from_files import compare_results, read_result
from load.generator import Generator, open_generator
from load.interrupts import interruptible
from load.live import live_view
from load.local_server import local_server
from load.machine import machine_record
from load.measurement import Measurement
from load.options import ROUNDS, compare_parser, make_plan, stress_parser
from load.plan import Plan
from load.plot import write_plot
from load.probe import probe
from load.report import headline, json_report, text_report
from load.server_process import ServerTrouble
from load.slow import SlowResult, load_slowly
from load.slow_report import slow_json, slow_report
from load.summary import Summary, summarize
from load.thresholds import Condition
from load.workers import WorkerTrouble

T = TypeVar("T")

RED, GREEN, PLAIN = "\x1b[1;31m", "\x1b[1;32m", "\x1b[0m"


class RunTrouble(Exception):
    """No figures can be had; the message is one line for a person."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv* and return the exit status."""
    fill_standard_streams()
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        if arguments[:1] == ["compare"]:
            return compare(compare_parser().parse_args(arguments[1:]))
        options = stress_parser().parse_args(arguments)
        if options.url is None and (options.unix is not None or options.urls is not None):
            raise UsageError("--unix and --urls need a URL, for the Host field")
        server = local_server() if options.url is None else nullcontext(options.url)
        with interruptible(), server as url:
            return load(options, url)
    except (UsageError, LoopUnavailable, socket.gaierror) as error:
        return complain(explain(error), EXIT_USAGE)
    except ImportError as error:
        return complain(f"{error.name} is not installed: pip install 'aiolsp[bench]', or use --client wire", EXIT_USAGE)
    except (RunTrouble, ServerTrouble, WorkerTrouble, OSError) as error:
        return complain(explain(error), EXIT_FAILURE)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def load(options: argparse.Namespace, url: str) -> int:
    """Load *url* as the options say, print what was found, and return the exit status."""
    plan = make_plan(options, url)
    if options.find_max is not None:
        return search(options, plan)
    if options.against is not None:
        return against(options, plan)
    if options.slow is not None:
        return hold(options, plan)
    return load_once(options, plan)


def load_once(options: argparse.Namespace, plan: Plan) -> int:
    """One run, its report and its exit status."""

    async def one_run(generator: Generator) -> Measurement:
        with live_view(quiet=options.quiet) as observe:
            return await generator.run(plan, observe)

    measured = run(with_generator(plan, options, one_run), loop=options.loop)
    summary = summarize(plan, measured)
    if options.json != "-":
        print_report(plan, summary)
    if options.json is not None:
        write_json(options.json, json_report(plan, summary, measured, machine_record()))
    if options.plot is not None:
        write_plot(options.plot, plan, summary, measured)
    return judge(options, summary)


def search(options: argparse.Namespace, plan: Plan) -> int:
    """``--find-max``: the table of all steps, the rate that was found, and the exit status."""
    goal: Condition = options.find_max
    show = progress(options)
    steps = run(with_generator(plan, options, lambda it: find_max(it, plan, goal, show)), loop=options.loop)
    if options.json != "-":
        print(*search_report(steps, goal), sep="\n")
    if options.json is not None:
        write_json(options.json, {**search_json(steps, goal), "machine": machine_record()})
    found = best(steps)
    return EXIT_FAILURE if found is None else judge(options, found.summary)


def against(options: argparse.Namespace, plan: Plan) -> int:
    """``--against``: rounds in turn on both servers, the comparison, and the exit status."""
    other = make_plan(options, options.against)
    first, second, whole = run(take_turns(options, plan, other), loop=options.loop)
    if not first.rounds:
        raise RunTrouble("ended before one round was finished: nothing can be compared")
    show_comparison(options.json, compare_rounds(first, second, whole=whole))
    return EXIT_FAILURE if not second.summary().good else judge(options, first.summary())


async def take_turns(options: argparse.Namespace, plan: Plan, other: Plan) -> tuple[Side, Side, bool]:
    """Both sides with their rounds, and whether all were run. Raises RunTrouble."""
    await ask_once(plan, options)
    await ask_once(other, options)
    workers, loop = options.workers, options.loop
    async with open_generator(plan, workers=workers, loop=loop) as one:
        async with open_generator(other, workers=workers, loop=loop) as two:
            first, second = Side("A", plan, one), Side("B", other, two)
            whole = await run_rounds(first, second, options.rounds or ROUNDS, progress(options))
    return first, second, whole


def hold(options: argparse.Namespace, plan: Plan) -> int:
    """``--slow``: slow clients and others beside, the report, and the exit status of the others."""

    async def ask_and_hold() -> SlowResult:
        await ask_once(plan, options)
        return await load_slowly(plan, options.slow)

    result = run(ask_and_hold(), loop=options.loop)
    others = summarize(result.others_plan, result.others)
    if options.json != "-":
        print(*slow_report(plan, result, others), sep="\n")
    if options.json is not None:
        write_json(options.json, {**slow_json(result, others), "machine": machine_record()})
    return judge(options, others)


def compare(options: argparse.Namespace) -> int:
    """``stress.py compare``: the comparison of two files."""
    first, second = read_result(options.first), read_result(options.second)
    show_comparison(options.json, compare_results(first, second, (options.first, options.second)))
    return EXIT_OK


def show_comparison(json_name: str | None, comparison: Comparison) -> None:
    """Write and print a comparison."""
    if json_name != "-":
        print(*comparison.report(), sep="\n")
    if json_name is not None:
        write_json(json_name, {**comparison.to_json(), "machine": machine_record()})


def progress(options: argparse.Namespace) -> Callable[[str], None]:
    """Takes lines about what goes on; silent with ``--quiet``."""

    def show(line: str) -> None:
        if not options.quiet:
            print(line, file=sys.stderr, flush=True)

    return show


async def with_generator(plan: Plan, options: argparse.Namespace, work: Callable[[Generator], Awaitable[T]]) -> T:
    """Ask once, then do *work* with a generator. Raises RunTrouble when the one answer is not good."""
    await ask_once(plan, options)
    async with open_generator(plan, workers=options.workers, loop=options.loop) as generator:
        return await work(generator)


async def ask_once(plan: Plan, options: argparse.Namespace) -> None:
    """The probe. Raises RunTrouble, after showing the answer, when that is not good."""
    if options.no_probe:
        return
    found = await probe(plan)
    if found.trouble:
        if found.raw and not options.quiet:
            print(*(f"< {line}" for line in found.shown()), sep="\n", file=sys.stderr)
        raise RunTrouble(f"{found.trouble}; no load was sent")


def print_report(plan: Plan, summary: Summary) -> None:
    """The report on stdout, its headline coloured on a terminal."""
    colour = RED if summary.cautions else GREEN
    first = headline(summary)
    for line in text_report(plan, summary):
        print(f"{colour}{line}{PLAIN}" if line == first and sys.stdout.isatty() else line)


def write_json(name: str, data: dict[str, object]) -> None:
    """Write *data* to the file *name*, or to stdout for ``-``. Raises UsageError."""
    text = json.dumps(data, indent=1, allow_nan=False) + "\n"
    if name == "-":
        sys.stdout.write(text)
        return
    try:
        Path(name).write_text(text)
    except OSError as error:
        raise UsageError(f"cannot write {name}: {(error.strerror or '').lower()}") from None


def judge(options: argparse.Namespace, summary: Summary) -> int:
    """The exit status that the figures deserve, with a line for each condition that came true."""
    status = EXIT_OK if summary.good else EXIT_FAILURE
    for condition in options.fail_if:
        if condition.holds(summary):
            status = complain(f"failed: {condition.describe(summary)}", EXIT_FAILURE)
    return status


def complain(message: str, status: int) -> int:
    """One line on stderr; returns *status*."""
    print(f"stress.py: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
