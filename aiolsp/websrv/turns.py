"""Whose turn it is: the loop's time, shared among connections that have much to do.

Facts
    - One packet may hold thousands of requests, and an answer by the long way takes some 0.02 ms. A hundred clients
      that pipeline are seconds of work, and the loop calls them all before it looks at any other socket again.
    - A client that asks one thing at a time needs one answer in a turn of the loop.
Consequence
    What counts is not how much one connection may do in a turn of the loop, but how much all of them do together.
Decision
    There is an allowance of events for each turn of the loop. Who finds it spent acts on LEAST, enough for a request of
    its own, and queues for the rest; the queue moves by one connection in a turn of the loop.
Price
    Pipelines of many clients at once are answered in smaller writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

TURN = 256
"""Events in a turn of the loop: a request from memory is two, so that is 128 of them, or 2 to 3 ms."""

LEAST = 4
"""Events that any connection may act on when the allowance is spent."""


class Turns:
    """The allowance, and who waits for the next: ``(left -> spend -> [queue])*``, on the loop's thread."""

    def __init__(self) -> None:
        self.left = TURN
        """Events that may be acted on in this turn of the loop."""
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Callable[[], None], None] = {}
        self._counting = False

    def spend(self, events: int) -> None:
        """So many have been acted on."""
        if events > LEAST:
            left = self.left - events
            self.left = left if left > LEAST else LEAST
            self._count()

    def queue(self, advance: Callable[[], None]) -> None:
        """Have *advance* called when it is its turn, once."""
        self._waiting[advance] = None
        self._count()

    def _count(self) -> None:
        if not self._counting:
            self._counting = True
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        """Another turn of the loop."""
        self._counting = False
        self.left = TURN
        if self._waiting:
            advance = next(iter(self._waiting))
            del self._waiting[advance]
            advance()
        if self._waiting:
            self._count()
