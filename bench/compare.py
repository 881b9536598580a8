"""Compares every program with its blocking twin, and the web server with its peers, in one run on one machine.

Facts. A figure of one run on one machine says little: clocks, guests, kernels differ by more than servers do. The ratio
of two servers under the same load in the same minutes travels. Consequence: all contenders of a case are up at the same
time, each on the same processor, and are loaded in turn in rounds whose order is drawn by lot; each round gives one
ratio, and the spread of the ratios its interval. Processor time for each unit of work stands beside the rate: it holds
when the generator is the slower one, and a mark says when that was so. Price: contenders share caches and a kernel, and
two processors are all that is used, one for the servers and one for the generator.

    python bench/compare.py                     every program beside its twin
    python bench/compare.py chat echo           these two
    python bench/compare.py websrv --peers      the web server beside nginx and others, and what was asked for
    python bench/compare.py generators          the load generator itself, beside wrk
    python bench/compare.py --peers --quick     all of it in under three minutes: a look
"""

from __future__ import annotations

from aiolsp.linux import lifetime

if __name__ == "__main__":
    lifetime.begin()

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from aiolsp.cli import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, Parser, UsageError
from aiolsp.linux.scratch import scratch
from load import wrk
from load.client import explain
from load.interrupts import interruptible
from load.options import make_directory, positive_count, positive_duration
from load.server_process import ServerTrouble, confined_to
from load.units import SECOND
from versus.files import Report, write_report
from versus.generators import PROGRAM as GENERATORS
from versus.generators import generator_cases
from versus.group_loads import raise_descriptor_limit
from versus.programs import KIND as TWINS
from versus.programs import SPECS, program_cases
from versus.results import CaseResult
from versus.rounds import INTERRUPTED, Case, Pace, run_case
from versus.tables import case_table, goal_table, ratio_table
from versus.web import PEERS, WebCases

PROGRAMS = tuple(dict.fromkeys(spec.program for spec in SPECS))
WEBSRV = "websrv"

BUSY = 0.5
"""Load average for each processor from which the machine is not ours alone."""

KINDS = (TWINS, PEERS, GENERATORS)
"""Of comparisons; each has files of its own."""

FULL = Pace(rounds=6, seconds=1.0)

QUICK = Pace(rounds=2, seconds=0.1, quick=True)

RESULTS = Path(__file__).parent / "results"

WRK = {"auto": None, "wire": False, "wrk": True}


def compare_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="compare.py",
        description="Compare programs with their blocking twins, and the web server with its peers.",
        epilog=f"Programs: {', '.join(PROGRAMS)}, {WEBSRV}; and {GENERATORS}. "
        "Exit status: 0 for a comparison, 1 for none, 2 for bad use.",
    )
    add = parser.add_argument
    add("programs", nargs="*", metavar="PROGRAM", help="what to compare (default: all)")
    add("--peers", action="store_true", help="the web server beside nginx and other servers as well")
    add("--case", action="append", metavar="NAME", help="only this case (repeatable)")
    add("--quick", action="store_true", help="few short rounds: a look, not a measurement")
    add("--rounds", type=positive_count, metavar="N", help=f"rounds (default {FULL.rounds}, quick {QUICK.rounds})")
    add(
        "--seconds",
        type=positive_duration,
        metavar="TIME",
        help="of each run; two for each contender in a round (default 1s)",
    )
    add(
        "--generator", choices=tuple(WRK), default="auto", help="for web servers (auto: wrk if installed, not if quick)"
    )
    add("--output", type=Path, default=RESULTS, metavar="DIR", help="for JSON and charts (default bench/results)")
    add("-q", "--quiet", action="store_true", help="no progress on stderr")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv* and return the exit status."""
    options = compare_parser().parse_args(argv)
    try:
        with interruptible():
            return compare(options)
    except UsageError as error:
        return complain(str(error), EXIT_USAGE)
    except ImportError as error:
        return complain(f"{error.name} is not installed: pip install 'aiolsp[bench]'", EXIT_USAGE)
    except (ServerTrouble, OSError) as error:
        return complain(explain(error), EXIT_FAILURE)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def compare(options: argparse.Namespace) -> int:
    """Measure, print and write; the exit status."""
    raise_descriptor_limit()
    pace, use_wrk = pace_of(options), uses_wrk(options)
    servers, generator = processors()
    caution = caution_of(os.getloadavg()[0], os.cpu_count() or 1)
    results: list[CaseResult] = []
    whole = False
    # Wherever Ctrl-C comes, what is there is printed and written.
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        stack.enter_context(confined_to(generator))
        web = WebCases(stack.enter_context(scratch("compare-")), pace, wrk=use_wrk, processors=servers)
        cases = cases_of(options, web, processors=servers)
        make_directory(options.output)
        results.extend(measure(cases, pace, quiet=options.quiet))
        whole = len(results) == len(cases) and not options.case and not any(result.ended for result in results)
    print_tables(results)
    if caution:
        print(caution)
    written = 0
    for kind in KINDS:
        part = [result for result in results if result.about.kind == kind and result.measured()]
        report = Report(kind, part, pace, "wrk" if use_wrk else "wire", servers is not None, caution)
        named = {*options.programs} or {*PROGRAMS, WEBSRV}
        all_of_kind = whole and (kind != TWINS or named >= {*PROGRAMS, WEBSRV})
        for path in write_report(report, options.output, whole=all_of_kind) if part else ():
            print(f"wrote {os.path.relpath(path)}")
            written += 1
    return EXIT_OK if written else EXIT_FAILURE


def cases_of(options: argparse.Namespace, web: WebCases, *, processors: frozenset[int] | None) -> list[Case]:
    """The cases that are asked for. Raises UsageError for a name that is none."""
    names = options.programs or [*PROGRAMS, WEBSRV]
    unknown = [name for name in names if name not in (*PROGRAMS, WEBSRV, GENERATORS)]
    if unknown:
        raise UsageError(f"there is nothing to compare for {unknown[0]!r} (--help lists the programs)")
    if options.peers and WEBSRV not in names:
        raise UsageError("--peers is about websrv, which is not among the programs")
    cases = program_cases(names, quick=web.pace.quick, processors=processors)
    if WEBSRV in names and not (options.peers and options.programs):
        cases += web.beside_twin()
    if options.peers:
        cases += web.beside_peers()
    if GENERATORS in names:
        cases += generator_cases(web, processors=processors)
    for name in options.case or ():
        if name not in [case.about.name for case in cases]:
            raise UsageError(
                f"there is no case {name!r}; there is {', '.join(dict.fromkeys(case.about.name for case in cases))}"
            )
    return [case for case in cases if not options.case or case.about.name in options.case]


def measure(cases: Iterable[Case], pace: Pace, *, quiet: bool) -> Iterator[CaseResult]:
    """All cases, each printed as it is done; Ctrl-C leaves out what is still to come."""

    def show(line: str) -> None:
        if not quiet:
            print(line, file=sys.stderr, flush=True)

    for case in cases:
        result = run_case(case, pace, show)
        print(*case_table(result), "", sep="\n", flush=True)
        yield result
        if result.ended == INTERRUPTED:
            return


def print_tables(results: Sequence[CaseResult]) -> None:
    """What all cases together say."""
    for kind in KINDS:
        part = [result for result in results if result.about.kind == kind]
        for table in (ratio_table(part), goal_table(part)):
            if table:
                print(*table, "", sep="\n")


def caution_of(load: float, processors: int) -> str:
    """Why the figures are not to be trusted, when others were using the machine at the start; else nothing."""
    busy = load > BUSY * processors
    return f"NOT CLEAN: the machine was busy when this began (load average {load:.1f})" if busy else ""


def pace_of(options: argparse.Namespace) -> Pace:
    """The pace that the options ask for."""
    usual = QUICK if options.quick else FULL
    seconds = usual.seconds if options.seconds is None else options.seconds / SECOND
    return Pace(options.rounds or usual.rounds, seconds, usual.quick)


def uses_wrk(options: argparse.Namespace) -> bool:
    """Whether wrk is the generator for web servers. Raises UsageError if it is wanted and not installed."""
    wanted = WRK[options.generator]
    if wanted and not wrk.installed():
        raise UsageError("wrk is not installed: apt-get install wrk, or use --generator wire")
    return wrk.installed() and not options.quick if wanted is None else wanted


def processors() -> tuple[frozenset[int] | None, frozenset[int] | None]:
    """One processor for the servers and one for the generator; none for either when there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return (frozenset(usable[:1]), frozenset(usable[1:2])) if len(usable) > 1 else (None, None)


def complain(message: str, status: int) -> int:
    """One line on stderr; returns *status*."""
    print(f"compare.py: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
