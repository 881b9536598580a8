"""``stress.py`` without a URL: it brings its own server, and takes it away again."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import stress
from harness import DEADLINE, Process
from load.local_server import local_server
from load.server_process import ServerTrouble

Ours = Callable[[str], list[str]]


def test_without_an_argument_websrv_is_started_loaded_and_stopped(
    program: list[str], ours: Ours, tmp_path: Path
) -> None:
    command = [*program, "-d", "500ms", "-c", "8"]
    process = Process(command, env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)})
    try:
        assert process.wait(DEADLINE) == 0, process.stderr.whole()
        text = process.stdout.whole()
        assert "good answers per second" in text and "errors       none" in text
        assert "statuses     200: " in text and "p99.9" in text and "closed loop, 8 connections, keep-alive" in text
        # Its own processor time shows: the server was found by its port.
        assert "of it for each answer" in text
    finally:
        process.kill()
    assert not list(tmp_path.iterdir()) and not ours(str(tmp_path))


def test_ctrl_c_stops_the_server_too(program: list[str], ours: Ours, tmp_path: Path) -> None:
    process = Process([*program, "-d", "60s", "-c", "2"], env={"TMPDIR": str(tmp_path)})
    try:
        process.stderr.wait_for("1.0 s .* good")
        assert ours(str(tmp_path))
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 0
        assert "ended early, after" in process.stdout.whole()
    finally:
        process.kill()
    assert not list(tmp_path.iterdir()) and not ours(str(tmp_path))


def test_a_server_that_does_not_start_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (sys.executable, "-c", "import sys; sys.exit('no room at the inn')")
    with pytest.raises(ServerTrouble, match="aiolsp.websrv did not start: no room at the inn"), local_server(command):
        pass
    monkeypatch.setattr(stress, "local_server", lambda: local_server(command))
    assert stress.main([]) == 1
    assert capsys.readouterr().err == "stress.py: aiolsp.websrv did not start: no room at the inn\n"
