"""The self-pipe of the blocking programs, with real signals."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading

import pytest

from aiolsp.blocking.mechanisms.signals import SelfPipe
from harness import DEADLINE


def wait_readable(pipe: SelfPipe) -> bool:
    """Whether the pipe becomes readable before the test's deadline."""
    return select.select([pipe], [], [], DEADLINE)[0] == [pipe]


def receive(pipe: SelfPipe, count: int) -> list[signal.Signals]:
    """The next *count* signals, waiting on the descriptor as a program does."""
    arrived: list[signal.Signals] = []
    while len(arrived) < count:
        assert wait_readable(pipe)
        arrived += pipe.receive()
    return arrived


def run_script(body: str) -> subprocess.CompletedProcess[str]:
    """Run *body* in a process of its own, so that this one's signal state stays as it is."""
    prelude = "import os, select, signal, sys\nfrom aiolsp.blocking.mechanisms.signals import SelfPipe\n"
    command = [sys.executable, "-W", "error", "-c", prelude + body]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)


def test_a_burst_of_different_signals_comes_whole_and_equal_ones_once() -> None:
    kinds = [signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT]
    with SelfPipe(*kinds) as pipe:
        assert pipe.receive() == []
        for kind in kinds * 3:
            os.kill(os.getpid(), kind)
        assert sorted(receive(pipe, len(kinds))) == sorted(kinds)
        assert pipe.receive() == []


def test_signals_keep_the_order_in_which_they_came() -> None:
    with SelfPipe(signal.SIGUSR1, signal.SIGHUP) as pipe:
        for kinds in ([signal.SIGHUP, signal.SIGUSR1], [signal.SIGUSR1, signal.SIGHUP]):
            for kind in kinds:
                signal.raise_signal(kind)
            assert receive(pipe, 2) == kinds


def test_a_signal_taken_by_another_thread_ends_the_wait() -> None:
    with SelfPipe(signal.SIGUSR1) as pipe:
        thread = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1))
        thread.start()
        assert receive(pipe, 1) == [signal.SIGUSR1]
        thread.join(DEADLINE)


def test_the_descriptor_is_not_readable_without_a_signal() -> None:
    with SelfPipe(signal.SIGUSR1) as pipe:
        signal.raise_signal(signal.SIGUSR1)
        assert receive(pipe, 1) == [signal.SIGUSR1]
        assert select.select([pipe], [], [], 0)[0] == []


def test_handlers_and_wake_up_descriptor_are_restored() -> None:
    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(kind) for kind in kinds]
    reader, writer = os.pipe2(os.O_NONBLOCK)
    signal.set_wakeup_fd(writer)
    try:
        descriptors = set(os.listdir("/proc/self/fd"))
        with SelfPipe(*kinds):
            assert [signal.getsignal(kind) for kind in kinds] != before
        assert [signal.getsignal(kind) for kind in kinds] == before
        assert set(os.listdir("/proc/self/fd")) == descriptors
    finally:
        assert signal.set_wakeup_fd(-1) == writer
        os.close(reader)
        os.close(writer)


def test_a_storm_prints_nothing_and_hides_no_other_signal() -> None:
    done = run_script(
        """
with SelfPipe(signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM) as pipe:
    for _ in range(10_000):
        os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGTERM)
    seen = []
    while len(seen) < 3:
        select.select([pipe], [], [])
        seen += pipe.receive()
    print(*sorted(kind.name for kind in seen))
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "SIGHUP SIGTERM SIGUSR1\n", "")


def test_a_stop_request_that_nobody_received_is_raised_again() -> None:
    done = run_script(
        """
with SelfPipe(signal.SIGTERM, signal.SIGHUP) as pipe:
    os.kill(os.getpid(), signal.SIGHUP)
    pipe.receive()
    os.kill(os.getpid(), signal.SIGTERM)
print("swallowed")
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "", "")


def test_a_second_stop_request_while_the_first_is_obeyed_does_no_harm() -> None:
    done = run_script(
        """
with SelfPipe(signal.SIGTERM, signal.SIGINT) as pipe:
    os.kill(os.getpid(), signal.SIGTERM)
    pipe.receive()
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
print("stopped")
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, 0, 1000])
def test_what_cannot_be_caught_is_refused(number: int) -> None:
    with pytest.raises(ValueError):
        SelfPipe(signal.SIGUSR1, number)


def test_no_signal_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        SelfPipe()


def test_it_may_be_entered_again_but_not_within_its_block() -> None:
    pipe = SelfPipe(signal.SIGUSR1)
    for _ in range(2):
        with pipe:
            with pytest.raises(RuntimeError, match="entered already"), pipe:
                pass
            signal.raise_signal(signal.SIGUSR1)
            assert receive(pipe, 1) == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_another_thread_than_the_main_one_is_refused_and_leaves_nothing_open() -> None:
    refused: list[BaseException] = []

    def enter() -> None:
        try:
            with SelfPipe(signal.SIGUSR1):
                pass
        except ValueError as error:
            refused.append(error)

    descriptors = set(os.listdir("/proc/self/fd"))
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(DEADLINE)
    assert len(refused) == 1
    assert set(os.listdir("/proc/self/fd")) == descriptors
