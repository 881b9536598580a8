"""Which process of a pool gets which connection, when its parent accepts: who was handed what, and what waits.

Book p. 289, listing 15-1, whose parent gives connections to its children in turn.

A connection that was sent is in nobody's hands until the child has answered, so the parent keeps its copy; a child
answers in order. Who has many to answer for, or had no descriptor for the last, is passed over. What nobody takes waits
in the order in which it came, and what a child had not taken when it ended goes before that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from aiolsp.sansio.pool import PoolPlan, Worker

C = TypeVar("C")

AGAIN = 0.5
"""Seconds without a connection for a worker that had no descriptor for the last one."""


class Handing(Generic[C]):
    """Hands connections to the ready workers of *plan* in turn: each to one, and again if that did not take it.

    *send* tells a worker; False if it cannot be told, since it is dying. No worker has more than *unanswered* to answer
    for. Times are seconds of any steady clock.
    """

    def __init__(self, plan: PoolPlan, send: Callable[[Worker, C], bool], unanswered: int) -> None:
        self.waiting: deque[C] = deque()
        """What nobody has taken, in order."""
        self._plan = plan
        self._send = send
        self._most = unanswered
        self._sent: dict[Worker, deque[C]] = {}
        self._rests_until: dict[Worker, float] = {}

    def hand_out(self, connection: C, now: float) -> bool:
        """Give *connection* to a worker; False if it has to wait."""
        if not self.waiting and self._give(connection, now):
            return True
        self.waiting.append(connection)
        return False

    def hand_out_waiting(self, now: float) -> None:
        """Give what waits, as far as somebody takes it."""
        while self.waiting and self._give(self.waiting[0], now):
            self.waiting.popleft()

    def taken(self, worker: Worker) -> C:
        """*worker* has taken the first that it was sent: that one, of which no copy is needed any more."""
        return self._sent[worker].popleft()

    def refused(self, worker: Worker, now: float) -> None:
        """*worker* had no descriptor for the first that it was sent: that one waits for another, and it rests."""
        self.waiting.append(self._sent[worker].popleft())
        self._rests_until[worker] = now + AGAIN

    def gone(self, worker: Worker) -> int:
        """*worker* has ended: what it had not taken waits for others; how many these are."""
        sent = self._sent.pop(worker, deque())
        self._rests_until.pop(worker, None)
        self.waiting.extendleft(reversed(sent))
        return len(sent)

    def _give(self, connection: C, now: float) -> bool:
        for _ in range(self._plan.processes):
            worker = self._plan.pick()
            if worker is None:
                break
            sent = self._sent.setdefault(worker, deque())
            if len(sent) >= self._most or self._rests_until.get(worker, now) > now:
                continue
            if self._send(worker, connection):
                sent.append(connection)
                return True
        return False
