"""The watch over the tests themselves: what a test leaves behind is seen, and so is what a loop complains of."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

import leaks
from leaks import footprint, left_since, quiet_loops


@contextmanager
def descriptor() -> Iterator[None]:
    fd = os.open(os.devnull, os.O_RDONLY)
    yield
    os.close(fd)


@contextmanager
def child() -> Iterator[None]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE):
        yield


@contextmanager
def zombie() -> Iterator[None]:
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        yield


@contextmanager
def thread() -> Iterator[None]:
    end = threading.Event()
    running = threading.Thread(target=end.wait)
    running.start()
    yield
    end.set()
    running.join()


@contextmanager
def handler() -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGUSR1, before)


@contextmanager
def mask() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.parametrize("leak", [descriptor, child, zombie, thread, handler, mask], ids=lambda leak: leak.__name__)
def test_what_is_left_is_seen_and_what_is_gone_is_not(
    leak: Callable[[], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaks, "PATIENCE", 0.0)
    before = footprint()
    with leak():
        assert left_since(before)
    assert not left_since(before)


def test_what_ends_a_moment_later_is_not_left() -> None:
    before = footprint()
    release = threading.Lock()
    release.acquire()
    thread = threading.Thread(target=release.acquire)
    thread.start()
    assert before.grown_to(footprint())
    release.release()
    assert not left_since(before)


def test_an_exception_in_a_callback_of_a_loop_is_seen(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("asyncio"), "handlers", [])  # not for the watch over this test

    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    with pytest.raises(AssertionError, match="ZeroDivisionError"), quiet_loops():
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())
