"""One run of a plan by a client: starts the clock, ends in time, and takes the readings around it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from time import monotonic_ns

from aiolsp.linux.signals import stop_signals
from aiolsp.mechanisms.signals import signals_held
from load.client import Client
from load.dispatch import Dispatcher
from load.measurement import Measurement, Sample
from load.plan import Plan
from load.record import Record
from load.units import SECOND
from load.usage import Usage, UsageMeter

SAMPLING = 0.5
"""Seconds between two samples of the counts, for the live view and the rate over time."""

Observer = Callable[[Sample], None]

Interrupts = Callable[[Callable[[], None]], AbstractContextManager[None]]
"""Gives a context in which the callback is called when the run is to end early."""


class Run:
    """One run under way."""

    def __init__(
        self, plan: Plan, dispatcher: Dispatcher, client: Client, observe: Observer | None, interrupts: Interrupts
    ) -> None:
        self._plan = plan
        self._dispatcher = dispatcher
        self._client = client
        self._observe = observe
        self._interrupts = interrupts
        self._record = Record(open_loop=plan.schedule.rate is not None, good_statuses=plan.good_statuses)
        self._meter = UsageMeter(plan.target)
        self._first = self._meter.read()
        self._samples: list[Sample] = []
        self._end: Measurement | None = None
        self._interrupted = False
        dispatcher.on_finish = self._finished

    async def measure(self, start: int = 0) -> Measurement:
        """Start the clock, not before the instant *start*, and wait for the end."""
        # What lives now lives for the whole run: the collector need not look at it in the middle of a measurement.
        gc.collect()
        gc.freeze()
        await self._sleep_until(start)
        now = monotonic_ns()
        self._dispatcher.start(now)
        self._record.begin = self._dispatcher.begin
        working = asyncio.create_task(self._client.run(self._dispatcher, self._record))
        watching = asyncio.create_task(self._watch())
        try:
            with self._interrupts(lambda: self._interrupt(working)):
                await working
        except asyncio.CancelledError:
            # Who cancels the whole of it, as a runner does at Ctrl-C, is not given the figures but obeyed.
            if not self._interrupted:
                raise
        finally:
            watching.cancel()
            gc.unfreeze()
        end = self._take_reading()
        end.interrupted = self._interrupted
        end.record.unsent = self._dispatcher.unsent(self._dispatcher.begin + end.elapsed)
        return end

    async def _watch(self) -> None:
        await self._sleep_until(self._dispatcher.begin)
        self._first = self._meter.read()
        duration = self._plan.stop.duration
        deadline = None if duration is None else self._dispatcher.begin + duration
        tick = self._dispatcher.begin
        while not self._dispatcher.over:
            tick += round(SAMPLING * SECOND)
            await self._sleep_until(tick if deadline is None else min(tick, deadline))
            self._sample()
            if deadline is not None and monotonic_ns() >= deadline:
                self._dispatcher.finish()

    def _finished(self) -> None:
        # On a busy loop a lane may see the deadline long before the timer fires: the reading is due now.
        # A run that ends by its number of requests is read after the last answer instead.
        duration = self._plan.stop.duration
        if duration is not None and monotonic_ns() >= self._dispatcher.begin + duration:
            self._take_reading()

    async def _sleep_until(self, instant: int) -> None:
        await asyncio.sleep(max(0.0, (instant - monotonic_ns()) / SECOND))

    def _sample(self) -> None:
        sample = Sample.of(self._record, monotonic_ns() - self._dispatcher.begin)
        self._samples.append(sample)
        if self._observe is not None:
            self._observe(sample)

    def _interrupt(self, working: asyncio.Task[None]) -> None:
        self._interrupted = True
        self._dispatcher.finish()
        self._take_reading()
        working.cancel()

    def _take_reading(self) -> Measurement:
        """The readings at the end of the measured part, taken once."""
        if self._end is None:
            now = monotonic_ns()
            record = self._record
            usage = self._meter.read()
            if now < self._dispatcher.begin:
                # Ended within the warm-up, hence in no time at all.
                self._first = usage
            self._end = Measurement(
                record=record,
                elapsed=max(now - self._dispatcher.begin, 1),
                lag=self._dispatcher.lag,
                good_in_time=record.good,
                answers_in_time=record.statuses.total(),
                octets_in_time=record.octets,
                generator_seconds=usage.generator - self._first.generator,
                server_seconds=_difference(self._first, usage),
                loop=type(asyncio.get_running_loop()).__module__.partition(".")[0],
                samples=self._samples,
                usable_processors=len(os.sched_getaffinity(0)),
            )
        return self._end


def _difference(first: Usage, last: Usage) -> float | None:
    return last.server - first.server if first.server is not None and last.server is not None else None


@contextmanager
def signals(interrupt: Callable[[], None]) -> Iterator[None]:
    """The first SIGINT, SIGTERM or SIGHUP ends the run with its figures; afterwards all is as it was."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in stop_signals()}
    for number in before:
        loop.add_signal_handler(number, interrupt)
    try:
        yield
    finally:
        # The loop would leave SIGTERM to the system, which does not clean up.
        with signals_held(*before):
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)
