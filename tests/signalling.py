"""Signals as an event loop receives them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from aiolsp.mechanisms.signals import SignalReceiver
from harness import DEADLINE

Factory = Callable[[], asyncio.AbstractEventLoop]


async def receive(signals: SignalReceiver, count: int) -> list[signal.Signals]:
    """The next *count* signals."""
    async with asyncio.timeout(DEADLINE):
        return [await anext(signals) for _ in range(count)]
