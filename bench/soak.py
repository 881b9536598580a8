"""Leaves the web server under mixed load for a long time, breaks it now and then, and checks every answer.

``python -m aiolsp.websrv --workers 2`` serves small and large files that change, a program, and what is not there, to
clients of every kind (`soaking.clients`). Once in every period a worker is killed -9 and another time SIGHUP replaces
them all. At the end: no answer wrong; no request failed but on connections that the killed workers had; descriptors
and memory flat; exit status 0, and nothing left.

    python bench/soak.py                              30 minutes, a worker killed and all replaced every minute
    python bench/soak.py --duration 60s --every 20s   a look
"""

from __future__ import annotations

from aiolsp.linux import lifetime

if __name__ == "__main__":
    lifetime.begin()

import argparse
import json
import os
import re
import signal
import sys
import threading
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import Any

from aiolsp.cli import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, Parser, UsageError
from aiolsp.linux.scratch import scratch
from load.interrupts import interruptible
from load.machine import machine_record
from load.options import check_installed, check_writable, positive_count, positive_duration
from load.server_process import ServerProcess, ServerTrouble
from load.units import SECOND, format_size, three_digits
from soaking.clients import PATIENCE, SCRIPT, Client, Failed, Site, Tally
from soaking.files import ChangingFile, content
from soaking.watch import Course, Sample, course, course_json, sample

HOT, LARGE, COLD = 20, 4, 2000
"""How many files of each kind."""

HOT_SIZE, LARGE_SIZE, COLD_SIZE = 1 << 10, 1 << 20, 4 << 10

CHANGE = 0.5
"""Seconds between two changes of a file."""

DYING = 3.0
"""Seconds after a kill in which its connections' clients find out."""

LOOK = 0.05
"""Seconds between two looks at the status page while workers are replaced."""

USUAL = re.compile(r" serves .*; Ctrl-C|worker with pid \d+ (exited 0|was killed by SIGKILL)$")
"""What a server has to say of itself in a soak."""


@dataclass
class Event:
    """A worker killed, or all replaced."""

    kind: str
    at: float
    connections: int = 0
    """Those of the killed worker."""
    took: float | None = None
    """Seconds until all workers serve again, or all are new; None: never."""


@dataclass
class Outcome:
    """What a soak has seen."""

    seconds: float = 0.0
    tally: Tally = field(default_factory=Tally)
    events: list[Event] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    status: int | None = None
    complaints: str = ""
    """What the server has said on stderr, if that is more than usual."""

    @property
    def course(self) -> Course | None:
        """How its descriptors and memory went."""
        return course(self.samples)

    def faults(self) -> list[str]:
        """What should not have been, one line each; nothing if all is well."""
        faults = [f"wrong: {what}" for what in self.tally.wrong]
        faults += [f"failed: {failure.what}" for failure in unexplained(self.tally.failed, self.events)]
        faults += [f"{event.kind}: not over after {PATIENCE:g} s" for event in self.events if event.took is None]
        faults += [] if self.course is None else self.course.faults
        if self.status != EXIT_OK:
            faults.append(f"exit status {self.status}")
        if self.complaints:
            faults.append(f"stderr: {self.complaints.splitlines()[-1]}")
        return faults


def unexplained(failed: Sequence[Failed], events: Sequence[Event]) -> list[Failed]:
    """The failures that no kill explains: each takes its worker's connections along, and no others."""
    left = list(failed)
    for kill in (event for event in events if event.kind == "kill"):
        own = [failure for failure in left if failure.opened <= kill.at + LOOK and 0 <= failure.at - kill.at <= DYING]
        for failure in own[: kill.connections]:
            left.remove(failure)
    return left


class Soak:
    """One server, its clients, and what is done to it."""

    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        self._options = options
        self._site = make_site(directory)
        self._outcome = Outcome()
        self._ended = threading.Event()
        self._random = Random(0)
        words = [directory, "--port", 0, "--workers", options.workers, "--status", "/status"]
        words += ["--cgi-dir", directory.with_name("programs"), "--loop", options.loop, "--log", "off"]
        self._server = ServerProcess([sys.executable, "-m", "aiolsp.websrv", *map(str, words)], "aiolsp.websrv")

    def run(self, progress: Callable[[str], None]) -> Outcome:
        """For as long as the options say, or until Ctrl-C. Raises ServerTrouble."""
        with self._server as server:
            self._address = server.until_ready()
            clients = [self._client(number) for number in range(self._options.clients)]
            changing = threading.Thread(target=self._change_files, daemon=True)
            begun = monotonic()
            for thread in (*clients, changing):
                thread.start()
            try:
                with suppress(KeyboardInterrupt):
                    self._supervise(begun, progress)
                self._ended.set()
                for client in clients:
                    client.join(2 * PATIENCE)
            finally:  # whatever came meanwhile: it must not write to a directory that is being removed
                self._ended.set()
                changing.join(2 * PATIENCE)
            self._outcome.seconds = monotonic() - begun
            for client in clients:
                self._outcome.tally.add(client.tally)
            self._outcome.status = server.stop()
            self._outcome.complaints = complaints(server.errors())
        return self._outcome

    def _client(self, number: int) -> Client:
        pause = self._options.clients / self._options.rate
        return Client(self._address, self._site, self._ended, pause, number)

    def _supervise(self, begun: float, progress: Callable[[str], None]) -> None:
        every, end = self._options.every / SECOND, begun + self._options.duration / SECOND
        due = {self._kill: begun + every / 3, self._replace: begun + 2 * every / 3, self._sample: begun}
        step = {self._kill: every, self._replace: every, self._sample: max(1.0, (end - begun) / 1000)}
        while (now := monotonic()) < end:
            for work in due:
                if due[work] <= now:
                    due[work] += step[work]
                    work(begun)
            if self._outcome.events and self._outcome.samples:
                last = self._outcome.samples[-1]
                progress(f"{last.at:.0f} s, {len(self._outcome.events)} events, {format_size(last.memory)}")
            sleep(max(0.0, min(*due.values(), end) - monotonic()))

    def _sample(self, begun: float) -> None:
        taken = sample(self._server.pid, monotonic() - begun)
        if taken is not None:
            self._outcome.samples.append(taken)

    def _kill(self, _: float) -> None:
        serving = self._workers()
        victim = self._random.choice(sorted(serving))
        event = Event("kill", monotonic(), serving[victim])
        os.kill(victim, signal.SIGKILL)
        self._until(event, lambda new: len(new) == self._options.workers and victim not in new)

    def _replace(self, _: float) -> None:
        old = set(self._workers())
        event = Event("replace", monotonic())
        os.kill(self._server.pid, signal.SIGHUP)
        self._until(event, lambda new: len(new) == self._options.workers and not old & new)

    def _until(self, event: Event, over: Callable[[set[int]], bool]) -> None:
        self._outcome.events.append(event)
        while (elapsed := monotonic() - event.at) < PATIENCE:
            with suppress(OSError):  # of the killed worker's own
                if over(set(self._workers())):
                    event.took = elapsed
                    return
            sleep(LOOK)

    def _workers(self) -> dict[int, int]:
        """How many connections each serving worker has, by its process id."""
        host, port = self._address
        with urllib.request.urlopen(f"http://{host}:{port}/status?format=json", timeout=PATIENCE) as answer:
            told: dict[str, Any] = json.load(answer)
        workers = told["workers"].values()
        return {worker["pid"]: worker["connections"] for worker in workers if worker["pid"] and not worker["draining"]}

    def _change_files(self) -> None:
        while not self._ended.wait(CHANGE):
            self._random.choice([*self._site.hot, *self._site.large]).replace()


def make_site(directory: Path) -> Site:
    """The files of *directory*, and the programs beside it."""
    (directory / "cold").mkdir(parents=True)
    cold = [f"/cold/{number}.bin" for number in range(COLD)]
    for path in cold:
        (directory / path[1:]).write_bytes(content(path, 0, COLD_SIZE))
    programs = directory.with_name("programs")
    programs.mkdir()
    (programs / "echo").write_text(SCRIPT)
    (programs / "echo").chmod(0o755)
    return Site(
        hot=[ChangingFile(directory, f"hot-{number}.txt", HOT_SIZE) for number in range(HOT)],
        large=[ChangingFile(directory, f"large-{number}.bin", LARGE_SIZE) for number in range(LARGE)],
        cold=cold,
        cold_size=COLD_SIZE,
    )


def complaints(errors: str) -> str:
    """The lines of stderr but those that say what is served, and how workers ended that were to end so."""
    return "\n".join(line for line in errors.splitlines() if not USUAL.search(line))


def report(outcome: Outcome) -> list[str]:
    """The figures, a line each."""
    tally, total = outcome.tally, outcome.tally.answers.total()
    lines = [
        f"{total:,} answers checked in {outcome.seconds:,.0f} s, {format_size(tally.octets)}: "
        + ", ".join(f"{count:,} {kind}" for kind, count in tally.answers.most_common()),
        f"wrong {len(tally.wrong)}, failed {len(tally.failed)}, asked again {tally.again}",
    ]
    for kind in ("kill", "replace"):
        events = [event for event in outcome.events if event.kind == kind]
        times = [event.took for event in events if event.took is not None]
        had = f"; {sum(event.connections for event in events)} connections with them" if kind == "kill" else ""
        if times:
            lines.append(f"{kind}: {len(events)} times, at most {three_digits(max(times))} s until all serve{had}")
    if found := outcome.course:
        for name, seen in (("second quarter", found.early), ("last quarter", found.late), ("most", found.most)):
            lines.append(
                f"{name}: {seen.descriptors} descriptors, {seen.threads} threads, {format_size(seen.memory)} in "
                f"{seen.processes} processes"
            )
    return lines


def soak_parser() -> Parser:
    """The command line."""
    parser = Parser(prog="soak.py", description="Leave the web server under load for long, and check every answer.")
    add = parser.add_argument
    add("--duration", type=positive_duration, default=1800 * SECOND, metavar="TIME", help="of the run (default 30m)")
    add("--every", type=positive_duration, default=60 * SECOND, metavar="TIME", help="a kill and a SIGHUP (default 1m)")
    add("--rate", type=positive_count, default=200, metavar="N", help="requests a second, about (default %(default)s)")
    add("--clients", type=positive_count, default=12, metavar="N", help="clients (default %(default)s)")
    add("--workers", type=positive_count, default=2, metavar="N", help="of the server (default %(default)s)")
    add("--loop", default="uvloop", choices=("uvloop", "asyncio"), help="of the server (default %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv* and return the exit status: 0 if nothing was wrong, 1 if something was."""
    options = soak_parser().parse_args(argv)

    def progress(line: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{line}", end="", file=sys.stderr, flush=True)

    try:
        check_installed("psutil")
        if options.json is not None:
            check_writable(str(options.json))
        with interruptible(), scratch("soak-") as home:
            outcome = Soak(options, home / "site").run(progress)
    except UsageError as error:
        print(f"soak.py: {error}", file=sys.stderr)
        return EXIT_USAGE
    except (ServerTrouble, OSError) as error:
        print(f"soak.py: {error}", file=sys.stderr)
        return EXIT_FAILURE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    faults = outcome.faults()
    print(*report(outcome), *faults, sep="\n")
    if options.json is not None:
        options.json.write_text(json.dumps(to_json(outcome, faults), indent=1))
    return EXIT_FAILURE if faults else EXIT_OK


def to_json(outcome: Outcome, faults: Sequence[str]) -> dict[str, object]:
    """All of it, with the machine record."""
    return {
        "machine": machine_record(),
        "seconds": outcome.seconds,
        "answers": dict(outcome.tally.answers),
        "again": outcome.tally.again,
        "failed": [failure.what for failure in outcome.tally.failed],
        "events": [vars(event) for event in outcome.events],
        "course": course_json(outcome.course),
        "faults": list(faults),
    }


if __name__ == "__main__":
    sys.exit(main())
