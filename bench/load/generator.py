"""What sends the load: a client in this process or in several, open for as many runs as are wanted.

Connections stay open from one run to the next, so that the steps of a search and the rounds of a comparison differ in
nothing but what they are to tell apart.

Calling sequence: enter -> run* -> exit
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol, Self

from load.client import Client
from load.dispatch import Dispatcher
from load.measurement import Measurement
from load.plan import Plan
from load.run import Interrupts, Observer, Run, signals
from load.wire import WireClient


class Generator(Protocol):
    """Runs plans against one target, one at a time."""

    async def run(self, plan: Plan, observe: Observer | None = None) -> Measurement:
        """Run *plan* to its end, or until a signal to stop; *observe* sees the counts meanwhile.

        It may differ in schedule, stop rule and warm-up from the plan that the generator was opened with.
        """


class LocalGenerator:
    """A generator on this process's own loop."""

    def __init__(self, plan: Plan, interrupts: Interrupts = signals) -> None:
        self._client = make_client(plan)
        self._interrupts = interrupts

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.__aexit__()

    async def run(self, plan: Plan, observe: Observer | None = None, start: int = 0) -> Measurement:
        """See ``Generator``; the run begins at the instant *start* if that is still to come."""
        with Dispatcher(plan) as dispatcher:
            return await Run(plan, dispatcher, self._client, observe, self._interrupts).measure(start)


def make_client(plan: Plan) -> Client:
    """The client that the plan names. Raises ImportError if aiohttp is not installed."""
    if plan.client == "wire":
        return WireClient(plan)
    from load.aiohttp_client import AiohttpClient

    return AiohttpClient(plan)


def open_generator(plan: Plan, *, workers: int = 1, loop: str = "auto") -> AbstractAsyncContextManager[Generator]:
    """A generator of *workers* processes; the one process is this one."""
    if workers == 1:
        return LocalGenerator(plan)
    from load.workers import WorkerPool

    return WorkerPool(plan, workers, loop)
