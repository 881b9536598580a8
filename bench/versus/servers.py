"""A server under comparison: its address, its processor time, its memory, its descriptors; of all its processes.

psutil adds up a process and all below it. Processor time includes that of children which have ended and were waited
for, so a server that starts a process for each request is charged for them.
"""

from __future__ import annotations

import gc
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from time import monotonic_ns
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import psutil

from load.server_process import PATIENCE, ServerProcess, ServerTrouble
from load.usage import process_seconds
from versus.outcome import Outcome

SILENCE = 10.0
"""Seconds without any answer after which a server counts as one that hangs."""


PAUSE = 0.01
"""Seconds between two counts of descriptors: 10,000 take a while to count."""

UNCLOSED = (b"01", b"08")
"""ESTABLISHED and CLOSE_WAIT: a TCP connection whose end here has not been closed (proc_net_tcp.txt)."""


class Server:
    """``with Server(command, "echo on uvloop") as server: server.address``.

    With *port*, the server is up when that can be connected to; without, when it has printed its ready line.
    """

    def __init__(
        self, command: Sequence[str], name: str, *, port: int | None = None, processors: frozenset[int] | None = None
    ) -> None:
        self._process = ServerProcess(command, name, processors=processors)
        self._port = port

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._process)
            if self._port is None:
                self.address = self._process.until_ready()
            else:
                self._process.until_listening(self._port)
                self.address = ("127.0.0.1", self._port)
            self._leave = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.close()

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self._process.pid

    def output(self, start: int = 0) -> bytes:
        """What it has printed so far, from the byte *start*."""
        return self._process.output(start)

    def cpu_seconds(self) -> float:
        """Processor time used so far."""
        return sum((_seconds(process) for process in self._processes()), 0.0)

    def memory(self) -> int:
        """Resident bytes, shared pages counted by their share (PSS)."""
        return sum(process.memory_full_info().pss for process in self._processes())

    def connect(self) -> socket.socket:
        """A blocking socket connected to it, with a deadline on every call. Raises OSError."""
        return socket.create_connection(self.address, timeout=SILENCE)

    def memory_per_connection(self, count: int) -> float:
        """Bytes that each of *count* idle connections takes. Raises ServerTrouble if they are not all accepted."""
        with self.connections(1):
            pass  # what the first one needs once is not its own
        before = self.memory()
        with self.connections(count):
            return max(self.memory() - before, 0) / count

    @contextmanager
    def connections(self, count: int) -> Iterator[list[socket.socket]]:
        """So many connections that the server has accepted, and that it has closed again after the block."""
        before, unclosed = self._descriptors(), self._unclosed()
        with ExitStack() as stack:
            peers = [stack.enter_context(self.connect()) for _ in range(count)]
            self._wait_until(lambda: self._descriptors() >= before + count, f"did not accept {count} connections")
            yield peers
        # Not by its descriptors: it may have opened some for itself, as uvloop does at its first connection.
        self._wait_until(lambda: self._unclosed() <= unclosed, "did not close its connections")

    def _descriptors(self) -> int:
        return sum(process.num_fds() for process in self._processes())

    def _unclosed(self) -> int:
        """The server's ends of TCP connections, accepted or not, that it has not closed."""
        port, found = b":%04X" % self.address[1], 0
        for path in ("/proc/net/tcp", "/proc/net/tcp6"):
            with suppress(FileNotFoundError), open(path, "rb") as table:
                rows = [line.split() for line in table][1:]
                found += sum(row[1].endswith(port) and row[3] in UNCLOSED for row in rows)
        return found

    def _wait_until(self, holds: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > deadline:
                raise ServerTrouble(f"the server {complaint} within {PATIENCE} s")
            time.sleep(PAUSE)

    def _processes(self) -> Iterator[psutil.Process]:
        import psutil

        try:
            first = psutil.Process(self.pid)
            found = [first, *first.children(recursive=True)]
        except psutil.Error:
            raise ServerTrouble("the server has ended") from None
        for process in found:
            # A child may end between the look and the use: what it used is then its parent's.
            if process.is_running():
                yield process


@contextmanager
def measured(server: Server) -> Iterator[Outcome]:
    """An outcome to fill in the block; time and processor time are added at its end."""
    outcome = Outcome()
    # What lives now lives for the whole run: the collector need not look at it in the middle of a measurement.
    gc.collect()
    gc.freeze()
    try:
        seconds, own, begin = server.cpu_seconds(), own_seconds(), monotonic_ns()
        yield outcome
        outcome.elapsed += monotonic_ns() - begin
        outcome.generator_seconds += own_seconds() - own
        outcome.server_seconds += server.cpu_seconds() - seconds
    finally:
        gc.unfreeze()


def _seconds(process: psutil.Process) -> float:
    children: float = sum(process.cpu_times()[2:4])
    try:
        return process_seconds(process.pid) + children
    except OSError:
        return children  # ended a moment ago: its parent has it


def own_seconds() -> float:
    """Processor time of this process and of the children that it has waited for."""
    return time.process_time() + sum(os.times()[2:4])
