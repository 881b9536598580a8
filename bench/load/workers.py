"""Several generator processes with one result: for servers that are faster than one processor can ask.

Facts. One event loop fills one processor, so a generator in one process measures itself against any server with more.
Percentiles of parts cannot be averaged; histograms can be added. CLOCK_MONOTONIC is one clock for all processes of a
machine (clock_gettime(2)). Decision: each worker gets its share of connections and of the plan - every N-th request,
so that together they send what one would - all begin at the same instant, and whole records come back to be merged.
Workers are spawned, not forked, for the parent has threads and a loop. They block what stops programs: who is asked to
stop is the parent, which tells them by the pipe, and a parent that is gone reads as an end of file. Price: about half
a second until all of them are there.

    parent                         worker
        <------- READY -----------  its connections are open
        -------- (plan, start) --->
        <------- Sample* ---------
        -------- STOP? ----------->
        <------- Measurement -----  and so on; the end of the pipe ends the worker
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from time import monotonic_ns
from typing import Any, Self

from aiolsp.mechanisms.loop import run
from load.generator import LocalGenerator
from load.interrupts import blocked_signals
from load.measurement import Measurement, Sample, merge_workers
from load.plan import Plan, share
from load.run import Observer, signals

READY = "ready"

STOP = None

HEAD_START = 50_000_000
"""Nanoseconds from the order to the begin of a run: enough for a pickled plan to reach every worker."""

PATIENCE = 5.0
"""Seconds that a worker may take to end before it is killed."""


class WorkerTrouble(Exception):
    """A worker ended before its work did; the message is one line for a person."""


class WorkerPool:
    """A generator of several processes; see ``generator.Generator``."""

    def __init__(self, plan: Plan, workers: int, loop: str) -> None:
        self._plan = plan
        self._count = workers
        self._loop = loop
        self._processes: list[BaseProcess] = []
        self._pipes: list[Connection] = []

    async def __aenter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        for index in range(self._count):
            ours, theirs = context.Pipe()
            part = share(self._plan, index, self._count)
            process = context.Process(target=serve_runs, args=(theirs, part, self._loop), daemon=True)
            with blocked_signals():
                process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)
        try:
            for pipe in self._pipes:
                await _receive(pipe)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()

    async def run(self, plan: Plan, observe: Observer | None = None) -> Measurement:
        """See ``Generator``. Raises WorkerTrouble."""
        start = monotonic_ns() + HEAD_START
        for index, pipe in enumerate(self._pipes):
            pipe.send((share(plan, index, self._count), start))
        board = _Board(self._count, observe)
        try:
            with signals(self._stop):
                async with asyncio.TaskGroup() as tasks:
                    parts = [tasks.create_task(_collect(pipe, index, board)) for index, pipe in enumerate(self._pipes)]
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        return merge_workers([part.result() for part in parts])

    def _stop(self) -> None:
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.send(STOP)


class _Board:
    """Adds up the samples of all workers for the one who looks on."""

    def __init__(self, workers: int, observe: Observer | None) -> None:
        self._samples: list[list[Sample]] = [[] for _ in range(workers)]
        self._observe = observe

    def add(self, worker: int, sample: Sample) -> None:
        """Take one sample; shown when every worker has sent as many."""
        self._samples[worker].append(sample)
        if self._observe is not None and all(self._samples):
            self._observe(Sample.sum([samples.pop(0) for samples in self._samples]))


async def _collect(pipe: Connection, index: int, board: _Board) -> Measurement:
    while not isinstance(message := await _receive(pipe), Measurement):
        board.add(index, message)
    return message


async def _receive(pipe: Connection) -> Any:
    """The next message of a worker. Raises what the worker raised, or WorkerTrouble when it is gone."""
    try:
        message = await _next_message(pipe)
    except (EOFError, ConnectionError):
        raise WorkerTrouble("a worker process ended before the run did") from None
    if isinstance(message, Exception):
        raise message
    return message


async def _next_message(pipe: Connection) -> Any:
    readable = asyncio.Event()
    _add_reader(pipe, readable.set)
    try:
        await readable.wait()
    finally:
        asyncio.get_running_loop().remove_reader(pipe.fileno())
    # Blocks until the message is whole; its writer is at work on nothing else.
    return pipe.recv()


def _add_reader(pipe: Connection, callback: Callable[[], None]) -> None:
    asyncio.get_running_loop().add_reader(pipe.fileno(), callback)
    # uvloop makes what it watches non-blocking, and a Connection cannot send or receive half a message.
    os.set_blocking(pipe.fileno(), True)


def serve_runs(pipe: Connection, plan: Plan, loop: str) -> None:
    """The worker's main function: run what comes by the pipe until that ends."""
    try:
        run(_serve(pipe, plan), loop=loop)
    except (EOFError, ConnectionError):
        return
    except Exception as error:
        with suppress(OSError):
            _send(pipe, error)


async def _serve(pipe: Connection, plan: Plan) -> None:
    async with LocalGenerator(plan, lambda interrupt: _told_to_stop(pipe, interrupt)) as generator:
        _send(pipe, READY)
        while True:
            order = await _next_message(pipe)
            # A STOP that crossed the end of the run on its way has nothing left to stop.
            if order is not STOP:
                part, start = order
                _send(pipe, await generator.run(part, partial(_send, pipe), start))


def _send(pipe: Connection, message: object) -> None:
    # Connection.send lends its buffer out: when the parent is gone, Python 3.13 complains of that at exit.
    pipe.send_bytes(pickle.dumps(message))


@contextmanager
def _told_to_stop(pipe: Connection, interrupt: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def readable() -> None:
        loop.remove_reader(pipe.fileno())
        # Nothing but STOP comes during a run; the end of the pipe means that the parent is gone.
        with suppress(EOFError, ConnectionError):
            pipe.recv()
        interrupt()

    _add_reader(pipe, readable)
    try:
        yield
    finally:
        loop.remove_reader(pipe.fileno())
