"""Stopped at any moment: every program, on every shell, while it starts, and while clients connect, talk and leave.

Moments of a start are what it does (tests/interrupted.py). Moments of a talk are delays after the ready line, swept
because no event tells the one that hurts; nothing waits for luck: what is asserted holds at each of them. websrv has a
sweep of its own for these, since it owes more: tests/websrv/test_stopped_anywhere.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

import faults
import interrupted
from aiolsp.cli import EXIT_INTERRUPTED
from harness import DEADLINE, Server, Shell, receive_to_end
from orphans import adopting_orphans

DELAYS = (0.0, 0.002, 0.02)
"""Seconds from the ready line and the first clients to SIGTERM."""

HELD = 3
"""Clients that are in the middle of something and read to the end."""


@dataclass(frozen=True)
class Talk:
    """What clients of a program send, and what they may have received when it stops."""

    opening: bytes
    whole: Callable[[bytes], bool]
    options: tuple[object, ...] = ()


def lines(received: bytes) -> bool:
    """Lines, the last of them whole."""
    return not received or received.endswith(b"\n")


def nothing(received: bytes) -> bool:
    """A server that only listens."""
    return not received


TALKS = {
    "oob": Talk(b"123abc", nothing),
    "chat": Talk(b"hello\n" * 20, lines, ("--max-users", 64)),
    "echo": Talk(b"echo" * 5000, lambda received: (b"echo" * 5000).startswith(received)),
    "trigger": Talk(b"x" * 35, nothing),
    "oneshot": Talk(b"hello", nothing),
    "analyze": Talk(
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", lambda received: received in (b"", b"I get a correct result\n")
    ),
    "events": Talk(b"a line\n", nothing),
    "idle": Talk(b"still here\n", nothing),
    "shmchat": Talk(b"hello\n" * 20, lines, ("--max-users", 16)),
    "cgisrv": Talk(b"slow\r\n", lambda received: received in (b"", b"begin\nend\n"), ("--processes", 2)),
}


class Crowd:
    """Clients in threads of their own: some connect, send and stay to the end, one comes and goes until refused."""

    def __init__(self, server: Server, opening: bytes) -> None:
        self._server = server
        self._opening = opening
        self.received: list[bytes] = []
        self.present = threading.Semaphore(0)
        jobs = [self._stay] * HELD + [self._come_and_go]
        self._threads = [threading.Thread(target=job) for job in jobs]
        for thread in self._threads:
            thread.start()

    def _stay(self) -> None:
        with suppress(OSError), self._server.connect() as peer:
            peer.sendall(self._opening)
            self.present.release()
            self.received.append(receive_to_end(peer))
        self.present.release()

    def _come_and_go(self) -> None:
        end = time.monotonic() + DEADLINE
        with suppress(OSError):
            while time.monotonic() < end:
                with self._server.connect() as peer:
                    peer.sendall(self._opening[:4])

    def join(self) -> None:
        """Wait until all have been sent away."""
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive(), "a client waits for the end of its connection"


@pytest.fixture(scope="module")
def cgi_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    (folder / "slow").write_text("#!/bin/sh\necho begin; sleep 0.05; echo end\n")
    (folder / "slow").chmod(0o755)
    return folder


@pytest.fixture
def orphans() -> Iterator[Callable[[], None]]:
    """Fails if a process of a program that has ended does not end as well."""
    with adopting_orphans() as await_ends:
        yield await_ends


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("name", TALKS)
def test_a_program_that_is_told_to_stop_leaves_nothing_and_cuts_nothing(
    shell: Shell, name: str, delay: float, cgi_dir: Path, orphans: Callable[[], None]
) -> None:
    talk = TALKS[name]
    options = (*talk.options, "--cgi-dir", cgi_dir) if name == "cgisrv" else talk.options
    before = faults.shared_memory()
    with shell.server(name, *options) as server:
        crowd = Crowd(server, talk.opening)
        if delay:
            for _ in range(HELD):
                assert crowd.present.acquire(timeout=DEADLINE)
            time.sleep(delay)
        server.stop()
        crowd.join()
    assert [received for received in crowd.received if not talk.whole(received)] == []
    orphans()
    faults.wait_until(lambda: faults.shared_memory() <= before, "shared memory gone")


# While it starts

STARTS = {name: (2, (*TALKS[name].options, "--port", 0)) for name in TALKS} | {
    "websrv": (4, ("--unix", "socket")),
    "websrv by workers": (6, ("--unix", "socket", "--workers", 2)),
}
"""How many moments, and which options."""


@pytest.mark.parametrize("name", STARTS)
def test_a_program_that_is_told_to_stop_before_it_is_ready_leaves_nothing_and_says_nothing(
    shell: Shell, name: str, cgi_dir: Path, tmp_path: Path
) -> None:
    moments, options = STARTS[name]
    program, *_ = name.split()
    if name == "cgisrv":
        options = (*options, "--cgi-dir", cgi_dir)
    _, _, module, *words = shell.command(program, "" if program == "websrv" else "server", *options)
    if program == "websrv":
        module += ".__main__"
    before = faults.shared_memory()
    command = [sys.executable, interrupted.__file__, module, str(moments), *words]
    paths = os.pathsep.join((os.getcwd(), *sys.path))
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, timeout=DEADLINE
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(told) >= 4, done.stderr.decode()
    # Before its handlers are there, SIGTERM kills and Ctrl-C interrupts; with them, it is a server that was stopped.
    ends = {signal.SIGTERM: (0, -signal.SIGTERM), signal.SIGINT: (0, EXIT_INTERRUPTED)}
    assert [each for each in told if each[2] not in ends[each[0]] or each[3:] != ["", []]] == []
    faults.wait_until(lambda: faults.shared_memory() <= before, "shared memory gone")
