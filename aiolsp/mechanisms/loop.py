"""Run a coroutine on uvloop where it is installed, else on the stock loop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Any, TypeVar

from aiolsp.mechanisms.signals import signals_held

T = TypeVar("T")

LOOPS = ("auto", "uvloop", "asyncio")
"""Names that ``--loop`` takes; ``auto`` is uvloop where it is installed."""


class LoopUnavailable(Exception):
    """The loop that was asked for is not installed."""


def loop_factory(name: str = "auto") -> Callable[[], asyncio.AbstractEventLoop]:
    """The constructor of the loop called *name*. Raises LoopUnavailable for uvloop where it is not installed."""
    if name == "asyncio":
        return asyncio.SelectorEventLoop
    try:
        import uvloop
    except ImportError:
        if name == "uvloop":
            raise LoopUnavailable("uvloop is not installed: use --loop asyncio, or pip install uvloop") from None
        return asyncio.SelectorEventLoop
    return uvloop.new_event_loop


def run(main: Coroutine[Any, Any, T], *, loop: str = "auto") -> T:
    """Run *main* to its end on a new loop and return its result.

    No event-loop policy is touched (they are deprecated since 3.14), so that embedding programs keep theirs. Ctrl-C
    waits until *main* runs as a task: half of a loop, and a coroutine that has not begun, complain of themselves.
    """
    with signals_held(signal.SIGINT) as mask:

        async def begin() -> T:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            await asyncio.sleep(0)  # what came meanwhile has cancelled this task: not one step of main is to be undone
            return await main

        with closing(main), closing(begin()) as begun, asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
            return runner.run(begun)
