"""Whatever signal ends a program of bench/, and whenever it comes: nothing that was started is left."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from aiolsp.mechanisms.loop import run
from faults import wait_until
from harness import DEADLINE, Process
from load.generator import LocalGenerator
from load.interrupts import interruptible
from load.plan import Plan, parse_url
from load.run import signals

BENCH = Path(__file__).parents[2] / "bench"

Ours = Callable[[str], list[str]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_signal_to_stop_interrupts(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(number)
        pytest.fail("not interrupted")
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_at_one_moment_that_meet_a_callback_are_no_error_of_it(
    first: signal.Signals, loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        ours, peers = socket.socketpair()
        with peers:
            await asyncio.get_running_loop().connect_accepted_socket(Hit, ours)
            peers.send(b"x")
            await asyncio.sleep(DEADLINE)

    class Hit(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            signal.raise_signal(first)
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt), interruptible():
        run(main(), loop=loop)
    assert not caplog.records


def test_what_nohup_has_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_after_the_work_of_a_program_of_ours_leaves_its_status() -> None:
    lines = (
        "import signal",
        "from aiolsp.linux import lifetime",
        "from load.interrupts import interruptible",
        "lifetime.begin()",
        "with interruptible(): pass",
        "signal.raise_signal(signal.SIGTERM); signal.raise_signal(signal.SIGINT)",
    )
    paths = os.pathsep.join(map(str, (BENCH.parent, BENCH)))
    done = Process([sys.executable, "-c", "\n".join(lines)], env={"PYTHONPATH": paths})
    assert done.wait(DEADLINE) == 0, done.stderr.whole()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_signal_between_two_runs_still_interrupts(loop: str) -> None:
    """A run has handlers of its own, and the loop puts the system's in the place of what was there before."""

    async def two_runs() -> None:
        for _ in range(2):
            with signals(lambda: None):
                await asyncio.sleep(0)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(DEADLINE)

    handled: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: handled.append(number))
    try:
        with interruptible(), pytest.raises(KeyboardInterrupt):
            run(two_runs(), loop=loop)
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL and not handled
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("client", ["aiohttp", "wire"])
def test_ctrl_c_is_not_lost_on_a_run_that_leaves_it_to_others(serve: Callable[..., Any], client: str) -> None:
    """A comparison took the run that it had cut short for a whole one, and went on."""

    def answer(connection: socket.socket, number: int) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        if number == 20:
            os.kill(os.getpid(), signal.SIGINT)
        return True

    plan = Plan(parse_url(serve(answer).url)[0], client=client, connections=2)

    async def load() -> None:
        async with LocalGenerator(plan, lambda _: nullcontext()) as generator:
            await generator.run(plan)

    with interruptible(), pytest.raises(KeyboardInterrupt):
        asyncio.run(load())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "words",
    [["stress.py", "-d", "60s", "--warmup", "60s", "-c", "2"], ["soak.py", "--duration", "60s"]],
    ids=lambda it: it[0],
)
def test_no_server_and_no_directory_are_left(ours: Ours, tmp_path: Path, words: list[str], number: int) -> None:
    process = Process(
        [sys.executable, str(BENCH / words[0]), *words[1:]],
        env={"TMPDIR": str(tmp_path), "PYTHONPATH": str(BENCH.parent)},
    )
    try:
        wait_until(lambda: bool(ours(str(tmp_path))), "the server is there")
        process.send_signal(number)
        process.wait(DEADLINE)
    finally:
        process.kill()
    assert not list(tmp_path.iterdir()) and not ours(str(tmp_path))


TWICE = """
import signal, sys
from load.interrupts import interruptible
from load.server_process import ServerProcess
from aiolsp.linux import lifetime
lifetime.begin()
with interruptible(), ServerProcess([sys.executable, "-c", "import time; time.sleep(60)"], "a server") as server:
    print(server.pid, flush=True)
    numbers = signal.SIGINT, signal.SIGTERM
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in numbers:
        signal.raise_signal(number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
"""


def test_two_signals_at_one_moment_leave_no_server() -> None:
    """The second comes as what takes it away begins."""
    process = Process([sys.executable, "-c", TWICE], env={"PYTHONPATH": f"{BENCH.parent}:{BENCH}"})
    process.wait(DEADLINE)
    server = int(process.stdout.whole())
    try:
        assert not psutil.pid_exists(server)
    finally:
        with suppress(ProcessLookupError):
            os.kill(server, signal.SIGKILL)


def test_no_server_of_the_accept_modes_is_left() -> None:
    process = Process([sys.executable, str(BENCH / "accept_modes.py"), "--connections", "100000", "--children", "2"])
    try:
        wait_until(lambda: bool(psutil.Process(process.pid).children()), "a server is there")
        servers = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 130
    finally:
        process.kill()
    assert not psutil.wait_procs(servers, DEADLINE)[1]
