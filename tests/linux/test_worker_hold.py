"""What a worker does with a socket that it holds: reads on, waits, lets go, and says who else holds it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from aiolsp.linux.worker_hold import WorkerHold
from harness import DEADLINE


class Server:
    """The server of one socket, whose workers are threads of the test."""

    def __init__(self, wait: float) -> None:
        self.wait = wait
        self.stop = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.stopping = False
        self.told: list[str] = []
        self.changed = threading.Condition()
        self.peer, self.ours = socket.socketpair()
        self.ours.setblocking(False)
        self.held = WorkerHold(self, self.ours, "peer")
        self.endings: list[str] = []
        self.workers: list[threading.Thread] = []

    def tell(self, line: str) -> None:
        with self.changed:
            self.told.append(line.removeprefix("peer "))
            self.changed.notify_all()

    def wait_for(self, line: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: line in self.told, DEADLINE), self.told

    def start(self, name: str) -> None:
        worker = threading.Thread(target=lambda: self.endings.append(self.held.read_on()), name=name)
        self.workers.append(worker)
        worker.start()

    def end(self) -> list[str]:
        """How the workers' reading has ended."""
        for worker in self.workers:
            worker.join(DEADLINE)
        return self.endings

    def ask_to_stop(self) -> None:
        self.stopping = True
        os.eventfd_write(self.stop, 1)

    def close(self) -> None:
        self.ask_to_stop()
        self.end()
        self.peer.close()
        self.ours.close()
        os.close(self.stop)


@pytest.fixture
def patient() -> Iterator[Server]:
    """A server whose workers wait for longer than a test may last."""
    server = Server(2 * DEADLINE)
    yield server
    server.close()


def test_it_is_read_to_the_end_of_the_stream_which_ends_a_wait_at_once(patient: Server) -> None:
    patient.peer.sendall(b"x" * 100)
    patient.start("worker-0")
    patient.wait_for(f"worker-0 read 100 bytes {b'x' * 64!r}")
    patient.peer.close()
    assert patient.end() == ["end of stream"]
    assert patient.told[0] == "worker-0 has the socket"
    assert (patient.held.received, patient.held.most, patient.held.holders) == (100, 1, [])


def test_it_is_let_go_when_nothing_came_in_a_wait() -> None:
    server = Server(0.01)
    server.start("worker-0")
    assert server.end() == [""]
    assert server.told == ["worker-0 has the socket", "worker-0 lets the socket go, silent for 0.01 s"]
    server.close()


def test_a_stop_ends_a_wait_and_is_no_end_of_the_connection(patient: Server) -> None:
    patient.start("worker-0")
    patient.wait_for("worker-0 has the socket")
    patient.ask_to_stop()
    assert patient.end() == [""]


def test_two_that_hold_it_at_once_are_named(patient: Server) -> None:
    patient.start("worker-0")
    patient.wait_for("worker-0 has the socket")
    patient.start("worker-1")
    patient.wait_for("worker-0 and worker-1 have the socket at the same time")
    assert patient.held.most == 2
