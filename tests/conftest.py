"""Fixtures of the whole suite."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from aiolsp.mechanisms.loop import loop_factory as factory_of
from harness import SHELLS, Shell


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
