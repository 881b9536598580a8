"""Processes as descriptors, with real processes."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from aiolsp.linux.pidfd import PidFd
from harness import DEADLINE


def start(code: str) -> int:
    """A child of ours that runs *code*, known to nobody but us."""
    return os.posix_spawn(sys.executable, [sys.executable, "-I", "-S", "-c", code], os.environ)


@pytest.fixture
def waiting() -> Iterator[PidFd]:
    """A child that waits for a signal."""
    with PidFd(start("import signal; signal.pause()")) as child:
        yield child
        try:
            child.send(signal.SIGKILL)
            child.wait()
        except (ProcessLookupError, ChildProcessError):
            pass  # the test has reaped it


def test_a_child_for_which_there_is_no_descriptor_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(pid: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    pid = start("import signal; signal.pause()")
    with PidFd.of_child(pid) as child:
        with monkeypatch.context() as patched, pytest.raises(OSError, match="Too many open files"):
            patched.setattr(os, "pidfd_open", full)
            PidFd.of_child(pid)
        with pytest.raises(ChildProcessError):  # killed, and reaped
            child.wait()


def test_the_exit_status_is_returned_once() -> None:
    with PidFd(start("raise SystemExit(7)")) as child:
        assert child.wait() == 7
        with pytest.raises(ChildProcessError):
            child.wait()


def test_an_end_by_a_signal_is_its_negative_number(waiting: PidFd) -> None:
    waiting.send(signal.SIGTERM)
    assert waiting.wait() == -signal.SIGTERM


def test_a_running_child_has_no_status_yet(waiting: PidFd) -> None:
    assert waiting.wait(block=False) is None


def test_the_descriptor_is_readable_when_the_child_has_ended_and_stays_so_after_reaping(waiting: PidFd) -> None:
    assert select.select([waiting], [], [], 0)[0] == []
    waiting.send(signal.SIGKILL)
    assert select.select([waiting], [], [], DEADLINE)[0] == [waiting]
    assert waiting.wait() == -signal.SIGKILL
    assert select.select([waiting], [], [], 0)[0] == [waiting]
    with pytest.raises(ProcessLookupError):
        waiting.send(signal.SIGTERM)


def test_the_descriptor_is_not_inherited_and_closing_twice_is_harmless(waiting: PidFd) -> None:
    assert not os.get_inheritable(waiting.fileno())
    with PidFd(waiting.pid) as other:
        pass
    other.close()
    assert other.fileno() == -1


def test_a_process_that_is_not_our_child_can_be_watched_but_not_reaped() -> None:
    code = (
        "import subprocess, sys; child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True)\n"
        "sys.stdin.read(); child.kill()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        with PidFd(int(parent.stdout.readline())) as grandchild:
            parent.stdin.close()
            assert select.select([grandchild], [], [], DEADLINE)[0] == [grandchild]
            with pytest.raises(ChildProcessError):
                grandchild.wait()


def test_a_process_that_does_not_exist_cannot_be_opened() -> None:
    pid = start("pass")
    os.waitpid(pid, 0)
    with pytest.raises(ProcessLookupError):
        PidFd(pid)
