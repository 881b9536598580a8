"""The web server of a test module: a process for each loop, over the directory that the module's ``site`` makes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Server, Shell


@pytest.fixture(scope="module", params=("asyncio", "uvloop"))
def server(request: pytest.FixtureRequest, site: Path) -> Iterator[Server]:
    """A running server with no options, on each loop; no test changes what it serves."""
    with Shell(request.param).server("websrv", site, role="") as running:
        yield running
