"""A server on the stage: comes up or says why not, and leaves nothing."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from aiolsp.lab.actors import Failed
from aiolsp.lab.stage import Stage
from faults import wait_until


def command(*words: str) -> list[str]:
    """Of a module of this Python."""
    return [sys.executable, "-m", *words]


def test_a_server_that_does_not_come_up_fails_with_its_own_words_and_leaves_nothing(tmp_path: Path) -> None:
    before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    with (
        pytest.raises(Failed, match="invalid choice"),
        Stage(command("aiolsp.trigger", "server", "--mode", "x"), tmp_path),
    ):
        pytest.fail("it came up")
    wait_until(lambda: threading.active_count() == threads, "the threads have ended")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_client_acts_and_the_records_of_both_sides_are_kept(tmp_path: Path) -> None:
    told: list[str] = []
    stage = Stage(command("aiolsp.blocking.echo", "server"), tmp_path, lambda role, record: told.append(role))
    with stage:
        client = stage.client("alice")
        client.send(b"a line\n")
        assert client.receive_line() == b"a line\n"
        pid = stage.pid
    assert not os.path.exists(f"/proc/{pid}")
    roles = [role for role, _ in stage.records]
    assert {"server", "client"} == set(roles) and told == roles
    assert (stage.usage.threads, stage.usage.processes) == (1, 1)


def test_a_client_that_is_let_down_says_so_in_a_line(tmp_path: Path) -> None:
    with Stage(command("aiolsp.blocking.chat", "server", "--max-users", "1"), tmp_path) as stage:
        stage.client("alice")
        stage.wait_for("accept")
        bob = stage.client("bob")
        assert bob.receive_line() == b"too many users\n"
        with pytest.raises(Failed, match="^bob cannot receive a line: "):
            bob.receive_line()


def test_a_client_that_is_not_let_in_says_so(tmp_path: Path) -> None:
    with Stage(command("aiolsp.blocking.echo", "server"), tmp_path) as stage:
        pass
    with pytest.raises(Failed, match="alice cannot connect: connection refused"):
        stage.client("alice")
