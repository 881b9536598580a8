"""Connections that have just come, and need no timer yet.

Facts
    - A connection for one request is gone within milliseconds. Its timer, made, added and cancelled, was 8 % of the
      instructions that it cost.
    - The least time-out that makes sense is some seconds, and is not kept to a tenth of one (see service.py).
Decision
    Who comes is noted in a set. A tenth of a second later, those that are still there get their timers, which count
    from when they came; AT_ONCE of them in a turn of the loop.
Price
    Who is silent from the start is timed out up to that much later, if the time-out is shorter than that.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiolsp.websrv.answering import Answering

SOON = 0.1
"""Seconds without a timer, at the most."""

AT_ONCE = 256
"""Newcomers that get their timers in a turn: 2 ms."""


class Newcomers:
    """``add`` when one comes, ``discard`` when it has gone without being told to ``watch``; ``close`` at the end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._present: set[Answering] = set()
        self._handle: asyncio.Handle | None = None
        self.discard = self._present.discard

    def __len__(self) -> int:
        return len(self._present)

    def add(self, newcomer: Answering) -> None:
        """Have *newcomer* watched soon."""
        self._present.add(newcomer)
        if self._handle is None:
            self._handle = self._loop.call_later(SOON, self._settle)

    def close(self) -> None:
        """Take back the loop's timer: nobody is left, and nobody comes."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _settle(self) -> None:
        count = len(self._present)
        self._handle = self._loop.call_soon(self._settle) if count > AT_ONCE else None
        for _ in range(min(count, AT_ONCE)):
            if self._present:  # to be watched may make another leave
                self._present.pop().watch()
