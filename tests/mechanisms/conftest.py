"""Coroutines run on each loop, and peers of an acceptor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from greeting import Greeter, LoopFactory
from watching import Run


@pytest.fixture
def run(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[Run]:
    """Runs a coroutine on each loop."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        yield runner.run


@pytest.fixture
def nobody_connected(loop_factory: LoopFactory) -> None:
    """Each test counts from the beginning, connections and descriptors."""
    Greeter.connected = set()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(asyncio.sleep(0))  # libuv opens a pipe for signals once, and keeps it


@pytest.fixture
def peers() -> Iterator[ExitStack]:
    """Closes what a test opened, should it fail."""
    with ExitStack() as peers:
        yield peers
