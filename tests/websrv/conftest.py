"""The web server of a test module: a process for each shell, over the directory that the module's ``site`` makes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import SHELLS, Server


@pytest.fixture(scope="module", params=SHELLS, ids=lambda shell: shell.name)
def server(request: pytest.FixtureRequest, site: Path) -> Iterator[Server]:
    """A running server with no options, on each shell; no test changes what it serves."""
    with request.param.server("websrv", site, role="") as running:
        yield running
