"""Bad input and faults that every server must survive, on every shell of the web server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from faults import (
    Check,
    binary_garbage,
    connections_dropped_at_once,
    data_without_newline,
    descriptors_exhausted,
    resets_in_the_middle,
    stopped_server,
)
from harness import Server, Shell
from webclient import ask


def check(server: Server) -> None:
    assert ask(server, "/file.txt").body == b"file"


@pytest.mark.parametrize(
    "fault",
    [
        resets_in_the_middle,
        data_without_newline,
        binary_garbage,
        connections_dropped_at_once,
        descriptors_exhausted,
        stopped_server,
    ],
)
def test_it_survives(shell: Shell, tmp_path: Path, fault: Callable[[Server, Check], None]) -> None:
    (tmp_path / "file.txt").write_text("file")
    with shell.server("websrv", tmp_path, role="") as server:
        fault(server, check)
