"""Sets greedy clients on the web server, and asks whether honest ones notice: ``python bench/greedy.py``.

Facts. 64 honest clients ask for a page again and again, each as soon as it has its answer, so that the server is never
idle and whatever an attack costs is taken from them. Their 99th percentile is measured before the attack, under it, and
after. Decision: under an attack it may be twice what it is without; the server may grow by what the connections of the
attack are allowed, and by ALLOCATOR; every honest answer must be right. A figure of one run is at the mercy of the
machine, so an attack under which a bound breaks is tried again on a new server, and the table says how often. Price:
one processor for the server, the other for all the clients, of which the greedy ones come last.

    python bench/greedy.py                    every attack on the server on uvloop
    python bench/greedy.py heads idle         these two
    python bench/greedy.py --shell blocking   the twin
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

from aiolsp.cli import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK, Parser
from load.attacks import ATTACKS, SECONDS, Address, Attack, run
from load.options import positive_count
from load.plan import Plan, Target
from load.server_process import ServerTrouble, confined_to
from load.units import format_duration
from versus.group_loads import raise_descriptor_limit
from versus.programs import command
from versus.servers import Server
from versus.web_loads import PlanLoad

SHELLS = ("uvloop", "asyncio", "blocking")

HONEST = 64
"""Honest clients."""

QUIET = SECONDS / 2
"""Seconds of honest clients alone, before and after."""

RATIO = 2.0
"""By which the 99th percentile may be longer."""

MIB = 1 << 20

ALLOCATOR = 8 * MIB
"""Bytes by which any server grows at its first burst: what allocators keep."""

PAGE, PICTURE, LARGE = 4 << 10, 200_000, 8 * MIB


@dataclass(frozen=True)
class Outcome:
    """What one try of an attack showed; latencies in nanoseconds, memory in bytes."""

    attack: Attack
    quiet: int
    attacked: int
    answers: int
    failed: int
    grown: int
    pace: float
    """Of the planned steps, how many the attackers took."""

    @property
    def slowed(self) -> float:
        """How much longer the 99th percentile is."""
        return self.attacked / self.quiet

    @property
    def broken(self) -> list[str]:
        """The bounds that do not hold."""
        bounds = {
            "time": self.slowed <= RATIO,
            "memory": self.grown <= ALLOCATOR + self.attack.count * self.attack.allowance,
            "answers": not self.failed,
        }
        return [name for name, holds in bounds.items() if not holds]


@contextmanager
def under(attack: Attack, address: Address, pace: list[float]) -> Iterator[None]:
    """The block runs under *attack*; afterwards *pace* has how far the attackers kept to theirs."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=run, args=(attack, address, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        _receive(ours)
        yield
        ours.send("enough")
        pace.append(float(str(_receive(ours))))
    finally:
        ours.close()
        process.terminate()
        process.join()


def _receive(attackers: Connection) -> object:
    try:
        return attackers.recv()
    except EOFError:
        raise ServerTrouble("the attackers have ended: is the server gone?") from None


def try_attack(attack: Attack, shell: str, site: Path) -> Outcome:
    """One try, on a server of its own. Raises ServerTrouble."""
    first, *others = sorted(os.sched_getaffinity(0))
    pace: list[float] = []
    with Server(command("websrv", shell, str(site)), f"websrv on {shell}", processors=frozenset({first})) as server:
        plan = Plan(Target("http", *server.address), ("/page.html",), client="wire", connections=HONEST)
        with confined_to(frozenset(others) or None), PlanLoad(server, plan) as honest:
            honest.run(QUIET / 4)
            before = honest.run(QUIET)
            memory = server.memory()
            with under(attack, server.address, pace):
                attacked = honest.run(SECONDS)
                grown = server.memory() - memory
            # The one after shows that the server is itself again.
            before.add(honest.run(QUIET))
    quiet, hard = (outcome.latency for outcome in (before, attacked))
    failed = before.failed + attacked.failed
    return Outcome(attack, quiet.percentile(99), hard.percentile(99), hard.count, failed, grown, pace[0])


def row(outcome: Outcome, tries: int) -> str:
    """The figures of *outcome* in a line of the table."""
    attack = outcome.attack
    quiet, attacked = format_duration(outcome.quiet), format_duration(outcome.attacked)
    verdict = f"BROKEN: {', '.join(outcome.broken)}" if outcome.broken else "holds"
    again = "" if tries == 1 else f", try {tries}"
    return (
        f"{attack.name:<11}{attack.count:>7,} {attack.words:<31}{quiet:>9}{attacked:>9}{outcome.slowed:>6.2f}"
        f"{outcome.grown / MIB:>+7.1f}{outcome.pace:>6.0%}{outcome.answers:>9,}  {verdict}{again}"
    )


TITLE = f"{'attack':<50}{'quiet p99':>9}{'under it':>9}{'ratio':>6}{'MiB':>7}{'pace':>6}{'answers':>9}  bounds"


def greedy_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="greedy.py",
        description="Set greedy clients on the web server, and see whether honest ones notice.",
        epilog="Exit status: 0 if all bounds hold, 1 if one does not, 2 for bad use.",
    )
    add = parser.add_argument
    names = [attack.name for attack in ATTACKS]
    add("attacks", nargs="*", metavar="ATTACK", help=f"which (default: all): {', '.join(names)}")
    add("--shell", choices=SHELLS, default=SHELLS[0], help="the server's loop, or its twin (default %(default)s)")
    add("--tries", type=positive_count, default=3, metavar="N", help="of an attack that breaks a bound (default 3)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Attack; the exit status."""
    parser = greedy_parser()
    options = parser.parse_args(argv)
    unknown = set(options.attacks) - {attack.name for attack in ATTACKS}
    if unknown:
        parser.error(f"no such attack: {', '.join(sorted(unknown))}")
    raise_descriptor_limit()
    chosen = [attack for attack in ATTACKS if attack.name in options.attacks or not options.attacks]
    try:
        with TemporaryDirectory(prefix="greedy-") as name:
            site = Path(name)
            for file, size in (("page.html", PAGE), ("picture.bin", PICTURE), ("large.bin", LARGE)):
                (site / file).write_bytes(os.urandom(size))
            broken = attack_all(chosen, options.shell, site, options.tries)
    except ServerTrouble as trouble:
        print(f"greedy.py: {trouble}", file=sys.stderr)
        return EXIT_FAILURE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return EXIT_FAILURE if broken else EXIT_OK


def attack_all(attacks: Sequence[Attack], shell: str, site: Path, tries: int) -> list[str]:
    """Print the table; the names of the attacks under which a bound did not hold. Raises ServerTrouble."""
    print(f"websrv on {shell}, {HONEST} honest clients; an attack lasts {SECONDS:g} s\n\n{TITLE}", flush=True)
    broken = []
    for attack in attacks:
        number, outcome = 1, try_attack(attack, shell, site)
        while outcome.broken and number < tries:
            number, outcome = number + 1, try_attack(attack, shell, site)
        print(row(outcome, number), flush=True)
        broken += [attack.name] * bool(outcome.broken)
    return broken


if __name__ == "__main__":
    sys.exit(main())
