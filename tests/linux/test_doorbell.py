"""Doorbells: they wake across processes, sum up, and never make who rings wait."""

from __future__ import annotations

import os
import resource
import select

import pytest

from aiolsp.linux.doorbell import Doorbells


def rung(bells: Doorbells, count: int) -> list[int]:
    """The numbers of the doorbells that have been rung and not cleared."""
    poller = select.poll()
    numbers = {bells.fileno(number): number for number in range(count)}
    for fd in numbers:
        poller.register(fd, select.POLLIN)
    return sorted(numbers[fd] for fd, _ in poller.poll(0))


def test_a_child_rings_and_only_those_who_are_meant_wake() -> None:
    bells = Doorbells(3)
    child = os.fork()
    if child == 0:
        bells.ring([0, 2])
        os._exit(0)
    os.waitpid(child, 0)
    assert rung(bells, 3) == [0, 2]
    bells.clear(0)
    assert rung(bells, 3) == [2]
    bells.close()


def test_many_rings_are_one_and_clearing_none_does_not_wait() -> None:
    bells = Doorbells(1)
    bells.ring([0] * 10_000)
    bells.clear(0)
    bells.clear(0)
    assert rung(bells, 1) == []
    bells.close()
    bells.close()


def test_without_descriptors_none_is_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 20, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            Doorbells(100)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(os.listdir("/proc/self/fd")) == before
