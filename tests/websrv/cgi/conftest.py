"""Servers with a directory of programs: one for each shell and module, and one that is hasty for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cgiprograms import SCRIPTS, children
from faults import open_descriptors, wait_until
from harness import SHELLS, Server
from webclient import ask


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cgi")
    (root / "cgi-bin").mkdir()
    for name, text in SCRIPTS.items():
        (root / "cgi-bin" / name).write_text(text + "\n")
        (root / "cgi-bin" / name).chmod(0o755)
    (root / "cgi-bin/data.txt").write_text("not a program")
    (root / "cgi-bin/sub").mkdir()
    (root / "cgi-bin/link").symlink_to("env.sh")
    (root / "file.txt").write_text("a file")
    return root


@pytest.fixture(scope="module", params=SHELLS, ids=lambda shell: shell.name)
def server(request: pytest.FixtureRequest, site: Path) -> Iterator[Server]:
    """A server with the default limits; it must be as it was after each test."""
    with request.param.server("websrv", site, "--cgi", role="") as running:
        ask(running, "/cgi-bin/env.sh")
        before = open_descriptors(running)
        yield running
        wait_until(lambda: open_descriptors(running) <= before, "no descriptor was left open")
        assert children(running) == [], "no program was left"


@pytest.fixture(params=SHELLS, ids=lambda shell: shell.name)
def hasty(request: pytest.FixtureRequest, site: Path) -> Iterator[Server]:
    """A server that gives programs half a second, and runs two at a time."""
    options = ("--cgi", "--cgi-timeout", 0.5, "--max-children", 2)
    with request.param.server("websrv", site, *options, role="") as running:
        yield running
