"""Whatever signal asks to stop, it waits for what is being made or removed, and what is started inherits nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from aiolsp.linux.signals import stop_signals, uninterrupted

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

SAY = """
import signal
print([signal.getsignal(number) is signal.SIG_IGN for number in (2, 15, 1)], signal.pthread_sigmask(0, ()))
"""
"""Whether each of ALL is ignored, and what is blocked."""


@pytest.fixture
def received() -> Iterator[list[int]]:
    """The signals that were acted on."""
    received: list[int] = []
    before = {number: signal.signal(number, lambda number, _: received.append(number)) for number in ALL}
    yield received
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_hang_up_asks_to_stop_unless_nohup_has_it_ignored(received: list[int]) -> None:
    assert stop_signals() == ALL
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert stop_signals() == (signal.SIGINT, signal.SIGTERM)


def test_a_signal_waits_until_the_block_is_left(received: list[int]) -> None:
    handlers = [signal.getsignal(number) for number in ALL]
    with uninterrupted():
        for number in (*ALL, signal.SIGINT):
            signal.raise_signal(number)
        assert received == []
    assert received == list(ALL), "each once, as they came"
    assert [signal.getsignal(number) for number in ALL] == handlers


def test_a_signal_that_interrupts_does_so_after_the_block(received: list[int]) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    known = False
    with pytest.raises(KeyboardInterrupt):
        with uninterrupted():
            signal.raise_signal(signal.SIGTERM)
            known = True
        pytest.fail("not interrupted")
    assert known


@pytest.mark.parametrize("ignored", ALL)
def test_what_is_started_meanwhile_ignores_what_was_ignored_and_blocks_nothing(
    received: list[int], ignored: signal.Signals
) -> None:
    signal.signal(ignored, signal.SIG_IGN)
    with uninterrupted():
        started = subprocess.run([sys.executable, "-c", SAY], capture_output=True, text=True, check=True, timeout=20)
    assert started.stdout == f"{[number is ignored for number in ALL]} set()\n"


def test_another_thread_is_left_alone(received: list[int]) -> None:
    handlers = [signal.getsignal(number) for number in ALL]
    seen: list[object] = []

    def look() -> None:
        with uninterrupted():
            seen.extend(signal.getsignal(number) for number in ALL)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == handlers
