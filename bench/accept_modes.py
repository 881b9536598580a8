"""Compares the ways in which a pool of processes gets its connections: ``python bench/accept_modes.py``.

Each connection is greeted with the number of the child that has it, and closed. First they come one by one, to a pool
that is idle: what wakes for each, and how long until the greeting. Then many at once: who gets how many, and at which
cost. A wake-up is a voluntary context switch (proc_pid_status(5)) of the parent or a child that ended its waiting.
"""

from __future__ import annotations

from aiolsp.linux import lifetime

if __name__ == "__main__":
    lifetime.begin()

import argparse
import asyncio
import os
import select
import signal
import socket
import sys
import time
from collections import Counter
from contextlib import ExitStack
from itertools import product
from statistics import median
from typing import cast

from aiolsp.blocking.mechanisms import intake as twin_intake
from aiolsp.blocking.mechanisms import processes as twin_processes
from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.cli import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK, Parser, ready
from aiolsp.linux.listener import Address, listen
from aiolsp.mechanisms.intake import Intake
from aiolsp.mechanisms.loop import run
from aiolsp.mechanisms.processes import ProcessPool
from aiolsp.mechanisms.signals import SignalReceiver
from aiolsp.sansio.pool import ACCEPT
from load.client import explain
from load.interrupts import interruptible
from load.options import positive_count
from load.server_process import ServerProcess, ServerTrouble

SHELLS = ("asyncio", "uvloop", "blocking")

TOGETHER = 32
"""Connections that are opened at once in the second part."""


class Greeting(asyncio.Protocol):
    """Says which child it is, and closes."""

    def __init__(self, index: int) -> None:
        self._words = b"%d" % index

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        stream = cast(asyncio.Transport, transport)
        stream.write(self._words)
        stream.close()


def serve_on_loop(listeners: list[socket.socket], accept: str, children: int, shell: str) -> None:
    """The pool on an event loop, until SIGTERM."""

    async def serve(intake: Intake) -> None:
        await intake.run(lambda *_: Greeting(intake.index))

    async def parent() -> None:
        async with SignalReceiver(signal.SIGTERM) as signals, pool:
            await pool.serving()
            ready(pool.addresses)
            await pool.run(signals)

    pool = ProcessPool(listeners, serve, processes=children, accept=accept, loop=shell)
    run(parent(), loop=shell)


def serve_blocking(listeners: list[socket.socket], accept: str, children: int) -> None:
    """The pool on readiness loops, until SIGTERM."""

    def serve(intake: twin_intake.Intake) -> None:
        def greet(connection: socket.socket, _: Address) -> None:
            with connection:
                connection.send(b"%d" % intake.index)

        with select.epoll() as poller:
            intake.start(poller, greet)
            while not intake.draining:
                for fd, _ in poller.poll():
                    intake.accept(fd)

    pool = twin_processes.ProcessPool(listeners, serve, processes=children, accept=accept)
    with SelfPipe(signal.SIGTERM) as signals, pool:
        pool.serving()
        ready(pool.addresses)
        pool.run(signals)


def wake_ups(pid: int) -> int:
    """How often this process and those below it have been woken."""
    with open(f"/proc/{pid}/status") as status:
        own = next(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt_switches"))
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return own + sum(map(wake_ups, map(int, children.read().split())))


def cpu_seconds(pid: int) -> float:
    """The processor time that this process and those below it have used."""
    with open(f"/proc/{pid}/schedstat") as schedstat:
        own = int(schedstat.read().split()[0]) / 1e9
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return own + sum(map(cpu_seconds, map(int, children.read().split())))


def one_by_one(address: tuple[str, int], count: int) -> list[float]:
    """Seconds from connect(2) to the greeting, of each of *count* connections."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        with socket.create_connection(address) as peer:
            peer.recv(16)
            times.append(time.perf_counter() - began)
            peer.recv(16)
    return times


def together(address: tuple[str, int], count: int) -> Counter[bytes]:
    """Who greeted how many of *count* connections, opened TOGETHER at a time."""
    shares: Counter[bytes] = Counter()
    for _ in range(count // TOGETHER):
        with ExitStack() as peers:
            opened = [peers.enter_context(socket.create_connection(address)) for _ in range(TOGETHER)]
            shares.update(peer.recv(16) for peer in opened)
    return shares


def measure(shell: str, accept: str, count: int, children: int) -> str:
    """A line of the table."""
    command = [sys.executable, os.path.abspath(__file__), "--serve", shell, accept, "--children", str(children)]
    with ServerProcess(command, f"{shell}, {accept}") as server:
        address = server.until_ready()
        one_by_one(address, count // 10)
        woken = wake_ups(server.pid)
        times = one_by_one(address, count)
        woken = wake_ups(server.pid) - woken
        before = cpu_seconds(server.pid)
        shares = together(address, count)
        total = shares.total()
        cpu = cpu_seconds(server.pid) - before
    least, most = (100 * bound(shares[b"%d" % index] for index in range(children)) / total for bound in (min, max))
    late = sorted(times)[int(0.99 * len(times))]
    return (
        f"{shell:9} {accept:10} {woken / count:7.2f} {1e6 * median(times):9.0f} {1e6 * late:9.0f}"
        f" {least:8.0f} % {most:4.0f} % {1e6 * cpu / total:9.0f}"
    )


def main() -> int:
    """Measure each way on each shell; or, with --serve, be the server that is measured."""
    parser = Parser(prog="python bench/accept_modes.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--connections", type=positive_count, default=2000, help="in each part (default %(default)s)")
    parser.add_argument("--children", type=positive_count, default=4, help="processes (default %(default)s)")
    parser.add_argument("--serve", nargs=2, metavar=("SHELL", "MODE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        shell, accept = options.serve
        listeners = listen("127.0.0.1", 0, reuse_port=accept == "reuseport")
        if shell == "blocking":
            serve_blocking(listeners, accept, options.children)
        else:
            serve_on_loop(listeners, accept, options.children, shell)
        return 0
    print(f"{options.connections} connections to {options.children} children, one by one and {TOGETHER} at once")
    print("shell     accept     wake-ups   p50 µs    p99 µs   least, most share    CPU µs")
    try:
        with interruptible():
            for shell, accept in product(SHELLS, ACCEPT):
                print(measure(shell, accept, options.connections, options.children), flush=True)
    except (ServerTrouble, OSError) as error:
        print(f"accept_modes.py: {explain(error)}", file=sys.stderr)
        return EXIT_FAILURE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
