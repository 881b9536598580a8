"""A server that gets a signal at each of many moments of its start, each time in a process of its own.

``python tests/interrupted.py MODULE MOMENTS WORDS...`` imports the program once and forks for each start: what is swept
is our part of it, not Python's imports. Moments are audit events (PEP 578) from `cli.execute` to the ready line:
files opened, sockets made and bound, processes forked. The first start counts them; for SIGTERM and for SIGINT,
*MOMENTS* others or more, spread over them, get it. One line of JSON tells of each: signal, moment, exit status, what it
wrote to stderr, and what it left in the current directory. A process that it leaves is waited for.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import orphans
from aiolsp import cli


class Start:
    """One start, which gets *number* at its event *moment*; without a moment it ends when it is ready."""

    def __init__(self, number: int, moment: int) -> None:
        self._number = number
        self._moment = moment
        self._process = os.getpid()
        self._events = 0

    def hear(self, event: str, arguments: tuple[object, ...]) -> None:
        """An audit hook."""
        if os.getpid() == self._process:
            self._events += 1
            if self._events == self._moment:
                os.kill(self._process, self._number)

    def ready(self, addresses: Iterable[object]) -> None:
        """In place of `cli.ready`."""
        if not self._moment:
            tell(self._events)
            os.kill(self._process, self._number)

    def run(self, module: str, words: list[str]) -> NoReturn:
        """What ``python -m`` does."""
        global started
        started = self
        sys.exit(importlib.import_module(module).main(words))


started: Start
execute = cli.execute


def heard(parser: argparse.ArgumentParser, argv: Sequence[str] | None, run: Callable[[Any], int | None]) -> int:
    """In place of `cli.execute`."""
    sys.addaudithook(started.hear)
    return execute(parser, argv, run)


# Before a program takes the names.


def tell(*what: object) -> None:
    """Print it, as JSON."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def start(module: str, number: int, moment: int, words: list[str]) -> tuple[int, str, str]:
    """How such a process ends, what it says, and what it complains of."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        pid = os.fork()
        if pid == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            Start(number, moment).run(module, words)
        _, status = os.waitpid(pid, 0)
        out.seek(0)
        err.seek(0)
        return os.waitstatus_to_exitcode(status), out.read(), err.read()


def main(module: str, moments: int, words: list[str]) -> None:
    """All starts."""
    importlib.import_module(module)
    importlib.import_module("uvloop")
    with orphans.adopting_orphans() as await_orphans:
        status, said, complaints = start(module, signal.SIGTERM, 0, words)
        assert status == 0 and not complaints, (status, complaints)
        (events,) = json.loads(said.splitlines()[0])
        for number in (signal.SIGTERM, signal.SIGINT):
            for moment in range(1, events + 1, max(1, events // moments)):
                status, _, complaints = start(module, number, moment, words)
                await_orphans()
                tell(number, moment, status, complaints, os.listdir())


if __name__ == "__main__":  # only here: who imports this module has other tests to run
    cli.execute = heard
    cli.ready = lambda addresses: started.ready(addresses)
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
