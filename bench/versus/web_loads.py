"""Loads on web servers: plans by the wire client or by wrk, idle connections, starts, and growth over many requests."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from time import monotonic_ns
from typing import Self

from aiolsp.mechanisms.loop import loop_factory
from load.generator import LocalGenerator
from load.plan import Plan
from load.probe import probe
from load.server_process import ServerTrouble
from load.stop import StopRule
from load.units import SECOND
from load.wrk import parse_wrk, run_wrk, wrk_script
from versus.outcome import Figures, Outcome
from versus.servers import Server, measured


class PlanLoad:
    """A plan, by a client on an event loop of its own; connections stay open from one run to the next."""

    def __init__(self, server: Server, plan: Plan) -> None:
        self._server = server
        self._plan = plan
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._runner = stack.enter_context(asyncio.Runner(loop_factory=loop_factory()))
            check(self._runner, self._plan)
            # Ctrl-C is the runner's: it ends the comparison, not only a run.
            self._generator = LocalGenerator(self._plan, lambda _: nullcontext())
            self._runner.run(self._generator.__aenter__())
            stack.callback(lambda: self._runner.run(self._generator.__aexit__()))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def once(self) -> Figures:
        """None."""
        return {}

    def run(self, seconds: float) -> Outcome:
        """For so long."""
        return self._run(StopRule(duration=round(seconds * SECOND)))

    def _run(self, stop: StopRule) -> Outcome:
        with measured(self._server) as outcome:
            found = self._runner.run(self._generator.run(replace(self._plan, stop=stop)))
        record = found.record
        outcome.units, outcome.done = found.good_in_time, record.good + record.failed
        outcome.elapsed, outcome.generator_seconds = found.elapsed, found.generator_seconds
        outcome.latency = record.response
        outcome.failed = record.failed
        outcome.example = next(iter(record.examples.values()), "")
        return outcome


class WrkLoad:
    """A plan, by wrk; each run opens its own connections.

    *in_parts*: an answer that is under way at the end counts by what came of it. Where a run holds twenty, the four
    that its end cuts off are else a fifth of the processor time, put down to the others.
    """

    def __init__(self, server: Server, plan: Plan, *, in_parts: bool = False) -> None:
        self._server = server
        self._plan = plan
        self._in_parts = in_parts
        self._size = 0
        self._script = wrk_script(plan)

    def __enter__(self) -> Self:
        with asyncio.Runner() as runner:
            self._size = check(runner, self._plan)
        self._path = self._script.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._script.__exit__(None, None, None)

    def once(self) -> Figures:
        """None."""
        return {}

    def run(self, seconds: float) -> Outcome:
        """For so long."""
        with measured(self._server) as outcome:
            text = run_wrk(self._plan, self._path, seconds)
        found = parse_wrk(text)
        bad_wanted = any(status >= 400 for status in self._plan.good_statuses)
        outcome.failed = found.errors + (found.answers - found.bad_statuses if bad_wanted else found.bad_statuses)
        outcome.example = "an error or a wrong status, says wrk" if outcome.failed else ""
        outcome.done = found.octets / self._size if self._in_parts else found.answers
        outcome.units = max(outcome.done - outcome.failed, 0)
        outcome.elapsed = found.elapsed
        outcome.latency = found.latency
        return outcome


class IdleBeside(PlanLoad):
    """A plan, with connections beside it that were asked something once and are silent since."""

    def __init__(self, server: Server, plan: Plan, idle: int) -> None:
        super().__init__(server, plan)
        self._idle = idle
        self._leave = ExitStack()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._leave.close()

    def once(self) -> Figures:
        """Memory for each of the idle connections, which stay."""
        if not self._idle:
            return {}
        self.run(0.3)  # what the server needs for its work is not theirs
        before = self._server.memory()
        peers = self._leave.enter_context(self._server.connections(self._idle))
        request = replace(self._plan, method="HEAD").request_bytes(self._plan.paths[0])
        for peer in peers:
            peer.sendall(request)
            received = b""
            while not received.endswith(b"\r\n\r\n"):
                received += peer.recv(4096) or b"\r\n\r\n"
        return {"memory": max(self._server.memory() - before, 0) / self._idle}


class Growth(PlanLoad):
    """Requests of many kinds: the memory that more of them take once the first have been answered."""

    def __init__(self, server: Server, plan: Plan, first: int, more: int) -> None:
        super().__init__(server, plan)
        self._first = first
        self._more = more

    def once(self) -> Figures:
        """The growth."""
        self._run(StopRule(requests=self._first))
        before = self._server.memory()
        self._run(StopRule(requests=self._more))
        return {"growth": max(self._server.memory() - before, 0)}


class Start:
    """The server is started, asked once, and stopped again: the latency is from the start to the first answer."""

    def __init__(self, server: Server, path: str) -> None:
        self._server = server
        self._path = path

    def once(self) -> Figures:
        """None."""
        return {}

    def run(self, seconds: float) -> Outcome:
        """One start."""
        outcome = Outcome()
        begin = monotonic_ns()
        with self._server as server:
            with server.connect() as peer:
                peer.sendall(f"GET {self._path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                if b" 200 " not in peer.recv(4096).split(b"\r\n")[0]:
                    raise ServerTrouble("its first answer was not good")
            outcome.latency.record(monotonic_ns() - begin)
            outcome.server_seconds = server.cpu_seconds()
        outcome.done = 1
        return outcome


def check(runner: asyncio.Runner, plan: Plan) -> int:
    """Ask once; the bytes of the content. Raises ServerTrouble when the answer is not good."""
    found = runner.run(probe(plan))
    if found.trouble or found.answer is None:
        raise ServerTrouble(found.trouble)
    return found.answer.octets
