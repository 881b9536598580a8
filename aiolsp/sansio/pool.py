"""A pool of processes, decided without I/O: who is forked, drained or killed, and who gets the next connection.

Book p. 289, listing 15-1: processpool<T>, whose parent gives connections to its children in turn.

A worker is STARTING until it says that it is ready, READY while it gets connections, DRAINING while it finishes those
it has. It belongs to a slot, one of *processes*. A slot whose worker has ended is filled again: at once, or, if it
ended within a second of its start, after a pause that doubles each time. `reload` replaces the workers slot by slot;
an old one drains only when its successor is ready, so that a successor that cannot start leaves the old one serving.
Time comes in as an argument, in seconds of any steady clock. Each method returns what is to be done now.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

ACCEPT = ("parent", "child", "reuseport")
"""Who accepts: the parent, whichever child is quickest on one listener, or each child on a listener of its own."""

STEADY = 1.0
"""Seconds after which a worker's end counts as an accident and not as a failure to start."""

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0
"""Seconds before a slot is filled again whose worker ended at once: the first time, and after many."""

LONGEST_START = 30.0
"""Seconds until a worker that does not get ready is killed: it would hold up a reload for ever."""


class State(enum.Enum):
    """What a worker does."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    GONE = "gone"


@dataclass(slots=True, eq=False)
class Worker:
    """One process of the pool; no other that lives has its *place*, a number below *max_processes*."""

    index: int
    generation: int
    place: int
    born: float
    state: State = State.STARTING
    kill_at: float | None = None


@dataclass(frozen=True, slots=True)
class Fork:
    """Fork this worker, then say `ready` or `gone`."""

    worker: Worker


@dataclass(frozen=True, slots=True)
class Drain:
    """Tell this worker to finish what it has and to end."""

    worker: Worker


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill this worker: its time to drain is over."""

    worker: Worker


Decision: TypeAlias = Fork | Drain | Kill


@dataclass(slots=True)
class _Slot:
    worker: Worker | None = None
    failures: int = 0
    retry_at: float | None = None
    successor: Worker | None = None


class PoolPlan:
    """Keeps *processes* workers, never more than *max_processes*, draining ones included; *grace* seconds to drain.

    Raises ValueError if these numbers cannot be.
    """

    def __init__(self, processes: int, max_processes: int, grace: float) -> None:
        if not 0 < processes <= max_processes:
            raise ValueError(f"{processes} processes of at most {max_processes} cannot be")
        if not 0 <= grace < math.inf:
            raise ValueError(f"a grace of {grace} s cannot be")
        self.processes = processes
        self.workers: list[Worker] = []
        self.generation = 0
        self.closing = False
        self.on_gone: Callable[[Worker], object] | None = None
        """Told of each worker whose process is no more, before its place is given to another."""
        self._max = max_processes
        self.grace = grace
        self._slots = [_Slot() for _ in range(processes)]
        self._turn = 0

    def start(self, now: float) -> list[Decision]:
        """Fill all slots."""
        return self.tick(now)

    def pick(self) -> Worker | None:
        """Who gets the next connection: the ready ones in turn; None if nobody is ready."""
        count = len(self._slots)
        for step in range(count):
            worker = self._slots[(self._turn + step) % count].worker
            if worker is not None and worker.state is State.READY:
                self._turn = (self._turn + step + 1) % count
                return worker
        return None

    def ready(self, worker: Worker, now: float) -> list[Decision]:
        """*worker* has started; whom it succeeds may drain now."""
        if worker.state is not State.STARTING:
            return []
        worker.state = State.READY
        worker.kill_at = None
        slot = self._slots[worker.index]
        decisions: list[Decision] = []
        if slot.successor is worker:
            old, slot.worker, slot.successor = slot.worker, worker, None
            if old is not None:
                decisions.append(self._drain(old, now))
        return decisions + self._replace(now)

    def leaving(self, worker: Worker, now: float) -> list[Decision]:
        """*worker* has been told by somebody else to end: let it drain, and fill its slot at once."""
        if worker.state is not State.READY:
            return []
        self._slots[worker.index].worker = None
        return [self._drain(worker, now), *self.tick(now)]

    def gone(self, worker: Worker, now: float) -> list[Decision]:
        """*worker* has ended, or could not be forked."""
        if worker.state is State.GONE:
            return []
        told = worker.state is State.DRAINING
        worker.state = State.GONE
        self.workers.remove(worker)
        if self.on_gone is not None:
            self.on_gone(worker)
        slot = self._slots[worker.index]
        if worker in (slot.worker, slot.successor):
            slot.failures = 0 if told or now - worker.born >= STEADY else slot.failures + 1
            pause = min(FIRST_PAUSE * 2 ** (slot.failures - 1), LONGEST_PAUSE) if slot.failures else 0.0
            slot.retry_at = now + pause
            if worker is slot.worker:
                slot.worker = None
            else:
                slot.successor = None
        return self.tick(now)

    def reload(self, now: float) -> list[Decision]:
        """Replace all workers, one after the other."""
        self.generation += 1
        return self._replace(now)

    def close(self, now: float) -> list[Decision]:
        """Let all drain, and fill no slot any more."""
        self.closing = True
        return [self._drain(worker, now) for worker in self.workers if worker.state is not State.DRAINING]

    def kill(self) -> list[Decision]:
        """End all at once."""
        return [Kill(worker) for worker in self.workers]

    def tick(self, now: float) -> list[Decision]:
        """What time asks for: pauses and graces that are over."""
        decisions: list[Decision] = []
        for worker in self.workers:
            if worker.kill_at is not None and worker.kill_at <= now:
                worker.kill_at = None
                decisions.append(Kill(worker))
        for index, slot in enumerate(self._slots):
            if slot.retry_at is not None and slot.retry_at <= now:
                slot.retry_at = None
            room = len(self.workers) < self._max and not self.closing
            if room and slot.worker is None and slot.successor is None and slot.retry_at is None:
                decisions.append(self._fork(index, now))
        return decisions + self._replace(now)

    def next_deadline(self) -> float | None:
        """When to `tick` at the latest."""
        deadlines = [worker.kill_at for worker in self.workers] + [slot.retry_at for slot in self._slots]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _fork(self, index: int, now: float) -> Decision:
        taken = {worker.place for worker in self.workers}
        place = next(place for place in range(self._max) if place not in taken)
        worker = Worker(index, self.generation, place, now, kill_at=now + LONGEST_START)
        self.workers.append(worker)
        slot = self._slots[index]
        if slot.worker is None:
            slot.worker = worker
        else:
            slot.successor = worker
        return Fork(worker)

    def _drain(self, worker: Worker, now: float) -> Decision:
        worker.state = State.DRAINING
        worker.kill_at = now + self.grace
        return Drain(worker)

    def _replace(self, now: float) -> list[Decision]:
        """The next step of a reload: one successor at a time, within the bound on processes."""
        if self.closing or any(slot.successor is not None for slot in self._slots):
            return []
        for index, slot in enumerate(self._slots):
            old = slot.worker
            if old is None or old.generation == self.generation or old.state is not State.READY:
                continue
            if slot.retry_at is not None:
                continue
            if len(self.workers) < self._max:
                return [self._fork(index, now)]
            if any(worker.state is not State.READY for worker in self.workers):
                return []  # one of these makes room, or adds to those that serve, soon
            return [self._drain(old, now)]
        return []
