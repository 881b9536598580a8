"""Fixtures of the whole suite."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker

import pytest
from hypothesis import HealthCheck, settings

from aiolsp.mechanisms.loop import loop_factory as factory_of
from harness import SHELLS, Shell
from leaks import footprint, left_since, quiet_loops

# How long a machine needs to draw an example says nothing of the code under test.
settings.register_profile("suite", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def begun() -> Iterator[None]:
    """Has what a process opens once and keeps be there before the first test, and no signal blocked.

    A mask of signals outlives exec (sigprocmask(2)): who started pytest may have blocked some.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with asyncio.Runner(loop_factory=factory_of("uvloop")) as runner:
        runner.run(asyncio.sleep(0))  # libuv's pipe for signals
    resource_tracker.ensure_running()
    yield
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fails a test that leaves a descriptor, a child, a thread or a changed signal, or has a loop complain."""
    before = footprint()
    with quiet_loops():
        yield
        left = left_since(before)
    assert not left, "left behind: " + "; ".join(left)


@pytest.fixture(params=SHELLS, ids=lambda shell: shell.name)
def shell(request: pytest.FixtureRequest) -> Shell:
    """Each way to run a program: stock asyncio, uvloop, the blocking twin."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=("asyncio", "uvloop"))
def loop_name(request: pytest.FixtureRequest) -> str:
    """The name of each event loop."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def loop_factory(loop_name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """The constructor of each event loop, for ``asyncio.Runner(loop_factory=...)``."""
    return factory_of(loop_name)
