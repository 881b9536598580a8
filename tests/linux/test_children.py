"""Children are started, reaped once and by their owner only, and none is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from aiolsp.linux.children import Children, TooManyChildren


@pytest.fixture
def children() -> Iterator[Children]:
    """At most four, none left."""
    children = Children(4)
    yield children
    children.close()


def await_end(pid: int) -> None:
    """Wait until our child *pid* has ended, and leave it to be reaped."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_a_child_is_reaped_with_its_status(children: Children) -> None:
    pid = children.spawn(7)
    await_end(pid)
    assert children.reap() == [(pid, 7)]
    assert children.reap() == []
    assert len(children) == 0
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def test_several_are_reaped_together(children: Children) -> None:
    pids = [children.spawn(status) for status in range(3)]
    for pid in pids:
        await_end(pid)
    assert children.reap() == list(zip(pids, range(3), strict=True))


def test_a_running_child_is_left_running(children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = start_sleeper(children, monkeypatch)
    assert children.reap() == []
    os.kill(pid, signal.SIGTERM)
    await_end(pid)
    assert children.reap() == [(pid, -signal.SIGTERM)]


def test_the_child_of_somebody_else_is_left_to_them(children: Children) -> None:
    other = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 5"], os.environ)
    await_end(other)
    assert children.reap() == []
    assert os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) == 5


def test_one_too_many_is_refused_until_one_is_reaped(children: Children) -> None:
    pids = [children.spawn(0) for _ in range(4)]
    with pytest.raises(TooManyChildren, match="4 children are running"):
        children.spawn(0)
    await_end(pids[0])
    assert (pids[0], 0) in children.reap()
    children.spawn(0)


def test_closing_ends_what_still_runs(children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    pid = start_sleeper(children, monkeypatch)
    children.close()
    assert len(children) == 0
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def start_sleeper(children: Children, monkeypatch: pytest.MonkeyPatch) -> int:
    """A child that does not end by itself."""
    spawn = os.posix_spawn

    def spawn_sleeper(path: str, argv: list[str], *rest: Any, **settings: Any) -> int:
        return spawn("/bin/sleep", ["sleep", "60"], *rest, **settings)

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_spawn", spawn_sleeper)
        pid = children.spawn(0)
    return pid
