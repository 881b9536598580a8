"""A web server by two processes: what it tells of its workers, and clients that keep it busy."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faults import wait_until
from harness import DEADLINE, Server, Shell
from webclient import Reply, ask, exchange

SMALL = b"small" * 100


def case(value: object) -> str:
    """How a case is called in the name of a test."""
    return value.name if isinstance(value, Shell) else str(value)


@contextmanager
def workers(shell: Shell, site: Path, *options: object, **settings: Any) -> Iterator[Server]:
    """A running server of two workers, both of which have answered, with a status page; it must stop quietly."""
    told = ("--workers", 2, "--status", "/status", *options)
    with shell.server("websrv", site, *told, role="", **settings) as server:
        wait_until(lambda: both_answer(server), "two workers")
        yield server


def status(server: Server) -> dict[str, Any]:
    """The status of all and of each, by a connection of its own."""
    told: dict[str, Any] = json.loads(ask(server, "/status?format=json").body)
    return told


def both_answer(server: Server) -> bool:
    """Whether two workers have answered: so both get connections."""
    answered = [worker for worker in status(server)["workers"].values() if worker["requests_total"]]
    return len(answered) == 2


def serving(server: Server) -> set[int]:
    """The process ids of the workers that serve."""
    return {worker["pid"] for worker in status(server)["workers"].values() if worker["pid"] and not worker["draining"]}


def wait_for_others(server: Server, old: set[int]) -> None:
    """Wait until two workers serve, none of them among *old*."""
    wait_until(lambda: len(new := serving(server)) == 2 and not new & old, "two new workers")


class Load:
    """Clients that ask without a pause, one on a connection for each request, one on a connection that it keeps."""

    def __init__(self, server: Server) -> None:
        self.answers: Counter[str] = Counter()
        self.faults: list[str] = []
        self._server = server
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(ask_,)) for ask_ in (self._ask_once, self._ask_on)]
        self._kept: socket.socket | None = None

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(DEADLINE)
        if self._kept is not None:
            self._kept.close()

    def _run(self, ask_: Any) -> None:
        while not self._ended.is_set() and not self.faults:
            try:
                reply: Reply = ask_()
                if (reply.status, reply.body) != (200, SMALL):
                    self.faults.append(repr(reply))
                self.answers[ask_.__name__] += 1
            except (OSError, AssertionError) as error:
                self.faults.append(repr(error))

    def _ask_once(self) -> Reply:
        return ask(self._server, "/small.txt", "Connection: close")

    def _ask_on(self) -> Reply:
        if self._kept is None:
            self._kept = self._server.connect()
            return self._ask_kept(self._kept)
        try:
            return self._ask_kept(self._kept)
        except (OSError, AssertionError):
            # A server may close an idle connection just when a request comes: a client asks again (RFC 9112 9.3.1).
            self._kept.close()
            self._kept = self._server.connect()
            return self._ask_kept(self._kept)

    def _ask_kept(self, kept: socket.socket) -> Reply:
        reply = exchange(kept, "/small.txt")
        if reply.fields.get("connection") == "close":
            kept.close()
            self._kept = None
        return reply
