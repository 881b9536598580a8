"""Sets greedy clients on the web server, and asks whether honest ones notice: ``python bench/greedy.py``.

Facts. 64 honest clients ask for a page, in all at a part of the rate that the server can do, and at instants that do
not wait for it: a latency counts from when the page was to be asked for. An attack takes time from them in two ways.
The server's part is what it does for the greedy instead; the machine's part is that attackers, honest clients and the
server share processors and a kernel, which in the world they do not.
Decision. The 99th percentile is measured three times: *quiet*, before; *beside*, while the same attack is on a decoy,
another server of the same kind that has the same processor when the first one leaves it free; and *under* the attack.
Under it may be RATIO times the longer of the other two. The server may grow by what the connections of the attack are
allowed, the kernel too for their sockets, and both by ALLOCATOR; every honest answer must be right, also those of
afterwards, when all of the attackers have gone at once. A figure of one run is at the mercy of the machine, so an
attack under which a bound breaks is tried again on a new server, and the table says how often.
Price. One processor for the servers, the other for all the clients, of which the greedy ones come last; the pace says
whether they came at all.

    python bench/greedy.py                    every attack on every shell: 8 minutes, and more if any breaks a bound
    python bench/greedy.py heads idle         these two
    python bench/greedy.py --shell blocking   on the twin
"""

from __future__ import annotations

from aiolsp.linux import lifetime

if __name__ == "__main__":
    lifetime.begin()

import json
import multiprocessing
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

from aiolsp.cli import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, Parser, UsageError
from aiolsp.linux.scratch import scratch
from load.attacks import ATTACKS, SECONDS, Address, Attack, run, yield_to_others
from load.interrupts import blocked_signals, interruptible
from load.machine import machine_record
from load.options import check_installed, make_directory, positive_count
from load.plan import Plan, Target
from load.schedule import PoissonRate
from load.server_process import ServerTrouble, confined_to
from load.units import format_duration, format_rate
from versus.group_loads import raise_descriptor_limit
from versus.programs import SHELLS, command
from versus.servers import Server
from versus.web_loads import PlanLoad

SCHEMA = "aiolsp.greedy/1"

RESULTS = Path(__file__).parent / "results"

HONEST = 64
"""Honest clients."""

LOAD = 0.25
"""Of the rate that they reach when each asks as soon as it has its answer."""

QUIET = SECONDS / 2
"""Seconds of honest clients alone, before, and again after."""

RATIO = 2.0
"""By which the 99th percentile may be longer."""

MIB = 1 << 20

ALLOCATOR = 8 * MIB
"""Bytes by which any server grows at its first burst: what allocators keep."""

PAGE, PICTURE, LARGE = 4 << 10, 200_000, 8 * MIB

SOCKET_MEMORY = re.compile(r"[(,][rwf](\d+)")
"""What ss(8) says of a socket: received and not read, to be sent, and taken for either."""


@dataclass(frozen=True)
class Outcome:
    """What one try of an attack showed; 99th percentiles in nanoseconds, memory in bytes, answers per second."""

    attack: Attack
    shell: str
    rate: float
    quiet: int
    beside: int
    under: int
    answers: int
    failed: int
    grown: int
    kernel: int
    pace: float
    """Of the planned steps, how many the attackers took."""

    @property
    def slowed(self) -> float:
        """How much longer the 99th percentile is than it would be if the attack were another server's."""
        return self.under / max(self.quiet, self.beside)

    @property
    def broken(self) -> list[str]:
        """The bounds that do not hold."""
        attack = self.attack
        bounds = {
            "time": self.slowed <= RATIO,
            "memory": self.grown <= ALLOCATOR + attack.count * attack.allowance,
            "kernel": self.kernel <= ALLOCATOR + attack.connections * attack.unread,
            "answers": not self.failed,
        }
        return [name for name, holds in bounds.items() if not holds]

    def to_json(self) -> dict[str, object]:
        """The same for a program."""
        figures = {name: value for name, value in vars(self).items() if name != "attack"}
        return {"attack": self.attack.name, "count": self.attack.count, **figures, "broken": self.broken}


@contextmanager
def under(attack: Attack, address: Address, pace: list[float]) -> Iterator[None]:
    """The block runs under *attack*; afterwards *pace* has how far the attackers kept to theirs."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=run, args=(attack, address, theirs), daemon=True)
    with blocked_signals():
        process.start()
    theirs.close()
    try:
        _receive(ours)
        yield
        ours.send("enough")
        pace.append(float(str(_receive(ours))))
    finally:
        ours.close()
        process.kill()
        process.join()


def _receive(attackers: Connection) -> object:
    try:
        return attackers.recv()
    except EOFError:
        raise ServerTrouble("the attackers have ended: is the server gone?") from None


def socket_memory(address: Address) -> int:
    """Bytes that the kernel keeps for the connections of the server at *address*. Raises ServerTrouble without ss."""
    try:
        told = subprocess.run(["ss", "-tmnH", f"sport = :{address[1]}"], capture_output=True, text=True, check=True)
    except OSError:
        raise ServerTrouble("ss is not installed: apt-get install iproute2") from None
    return sum(int(size) for size in SOCKET_MEMORY.findall(told.stdout))


def try_attack(attack: Attack, shell: str, site: Path) -> Outcome:
    """One try, on a server of its own. Raises ServerTrouble."""
    first, *others = sorted(os.sched_getaffinity(0))
    words, processors = command("websrv", shell, str(site)), frozenset({first})
    pace: list[float] = []
    with (
        Server(words, f"websrv on {shell}", processors=processors) as server,
        Server(words, f"a decoy on {shell}", processors=processors) as decoy,
        confined_to(frozenset(others) or None),
    ):
        yield_to_others(decoy.pid, session=True)
        plan = Plan(Target("http", *server.address), ("/page.html",), client="wire", connections=HONEST)
        rate = LOAD * capacity(server, plan)
        with PlanLoad(server, replace(plan, schedule=PoissonRate(rate))) as honest:
            honest.run(QUIET / 4)
            quiet = honest.run(QUIET)
            with under(attack, decoy.address, pace):
                beside = honest.run(SECONDS)
            memory = server.memory()
            with under(attack, server.address, pace):
                attacked = honest.run(SECONDS)
                grown, kernel = server.memory() - memory, socket_memory(server.address)
            after = honest.run(QUIET)
    quiet_p99, beside_p99, under_p99 = (run.latency.percentile(99) for run in (quiet, beside, attacked))
    failed = quiet.failed + beside.failed + attacked.failed + after.failed
    answers = attacked.latency.count
    return Outcome(attack, shell, rate, quiet_p99, beside_p99, under_p99, answers, failed, grown, kernel, min(pace))


def capacity(server: Server, plan: Plan) -> float:
    """Answers per second when each client asks as soon as it has its answer. Raises ServerTrouble if none has any."""
    with PlanLoad(server, plan) as closed:
        closed.run(QUIET / 4)
        # A machine that is busy with something else may keep all answers for longer than the time of a run.
        for seconds in (QUIET / 4, QUIET, QUIET * 4):
            if rate := closed.run(seconds).figures().get("rate"):
                return rate
    raise ServerTrouble("no honest client had an answer, and there was no attack yet")


def row(outcome: Outcome, tries: int) -> str:
    """The figures of *outcome* in a line of the table."""
    attack = outcome.attack
    times = (format_duration(time) for time in (outcome.quiet, outcome.beside, outcome.under))
    verdict = f"BROKEN: {', '.join(outcome.broken)}" if outcome.broken else "holds"
    again = "" if tries == 1 else f", try {tries}"
    return (
        f"{outcome.shell:<9}{attack.count:>7,} {attack.words:<31}{format_rate(outcome.rate):>9}"
        + "".join(f"{time:>9}" for time in times)
        + f"{outcome.slowed:>6.2f}{outcome.grown / MIB:>+7.1f}{outcome.kernel / MIB:>8.1f}{outcome.pace:>6.0%}"
        f"  {verdict}{again}"
    )


TITLE = (
    f"{'on':<9}{'attack':<39}{'rate':>9}{'quiet':>9}{'beside':>9}{'under':>9}{'ratio':>6}"
    f"{'MiB':>7}{'kernel':>8}{'pace':>6}  bounds"
)


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
    add("--shell", action="append", choices=SHELLS, help="the server's loop, or its twin (repeatable; default: all)")
    add("--tries", type=positive_count, default=3, metavar="N", help="of an attack that breaks a bound (default 3)")
    add("--output", type=Path, default=RESULTS, metavar="DIR", help="for the JSON (default bench/results)")
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
    shells = [shell for shell in SHELLS if shell in (options.shell or SHELLS)]
    outcomes: list[Outcome] = []
    try:
        check_installed("psutil")
        make_directory(options.output)
        with interruptible(), scratch("greedy-") as site:
            for file, size in (("page.html", PAGE), ("picture.bin", PICTURE), ("large.bin", LARGE)):
                (site / file).write_bytes(os.urandom(size))
            outcomes.extend(attack_all(chosen, shells, site, options.tries))
        write(outcomes, options.output, whole=len(outcomes) == len(ATTACKS) * len(SHELLS))
    except UsageError as trouble:
        print(f"greedy.py: {trouble}", file=sys.stderr)
        return EXIT_USAGE
    except (ServerTrouble, OSError) as trouble:
        print(f"greedy.py: {trouble}", file=sys.stderr)
        return EXIT_FAILURE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return EXIT_FAILURE if any(outcome.broken for outcome in outcomes) else EXIT_OK


def attack_all(attacks: Sequence[Attack], shells: Sequence[str], site: Path, tries: int) -> Iterator[Outcome]:
    """Print the table, and yield the last try of each. Raises ServerTrouble."""
    print(f"{HONEST} honest clients of websrv, 99th percentiles; an attack lasts {SECONDS:g} s\n\n{TITLE}", flush=True)
    for attack in attacks:
        for shell in shells:
            number, outcome = 1, try_attack(attack, shell, site)
            while outcome.broken and number < tries:
                number, outcome = number + 1, try_attack(attack, shell, site)
            print(row(outcome, number), flush=True)
            yield outcome


def write(outcomes: Sequence[Outcome], directory: Path, *, whole: bool) -> None:
    """Write *outcomes* with the machine record; those of a part are named so. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{'' if whole else 'part-'}greedy.json"
    told = {
        "schema": SCHEMA,
        "honest": HONEST,
        "load": LOAD,
        "seconds": SECONDS,
        "ratio": RATIO,
        "machine": machine_record(),
        "outcomes": [outcome.to_json() for outcome in outcomes],
    }
    path.write_text(json.dumps(told, indent=1, allow_nan=False) + "\n")
    print(f"\nwrote {os.path.relpath(path)}")


if __name__ == "__main__":
    sys.exit(main())
