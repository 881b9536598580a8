"""The twin's acceptor on real listeners under poll and epoll."""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Iterator

import pytest

from aiolsp.blocking.mechanisms import acceptor as module
from aiolsp.blocking.mechanisms.acceptor import Acceptor
from aiolsp.linux.listener import PAUSE, Address, listen
from harness import DEADLINE


class Accepting:
    """An acceptor, its poller and the connections that it gave."""

    def __init__(self, poller: select.poll | select.epoll) -> None:
        self.poller = poller
        self.connections: list[socket.socket] = []
        self.error: Exception | None = None
        self.acceptor = Acceptor(listen("127.0.0.1", 0), poller, self.on_accept)
        self.address = next(iter(self.acceptor.listeners.values())).getsockname()

    def on_accept(self, connection: socket.socket, peer: Address) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error
        assert connection.getpeername() == peer
        self.connections.append(connection)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, DEADLINE)

    def turn(self, timeout: float = DEADLINE) -> int:
        """One turn of a readiness loop; how many descriptors were ready."""
        unit = 1 if isinstance(self.poller, select.epoll) else 1000
        ready = self.poller.poll(timeout * unit)
        for fd, _ in ready:
            assert fd in self.acceptor
            self.acceptor.accept(fd)
        return len(ready)


@pytest.fixture(params=[select.poll, select.epoll], ids=["poll", "epoll"])
def accepting(request: pytest.FixtureRequest) -> Iterator[Accepting]:
    made = Accepting(request.param())
    yield made
    for connection in made.connections:
        connection.close()
    made.acceptor.close()
    if isinstance(made.poller, select.epoll):
        made.poller.close()


def out_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "accept_ready", lambda *_: ([], errno.EMFILE))


def test_all_that_wait_are_accepted_in_one_turn_and_are_non_blocking(accepting: Accepting) -> None:
    accepting.acceptor.start()
    peers = [accepting.connect() for _ in range(5)]
    while len(accepting.connections) < 5:
        assert accepting.turn()
    assert not any(connection.getblocking() for connection in accepting.connections)
    for peer in peers:
        peer.close()


def test_nothing_is_reported_before_start_and_after_pause(accepting: Accepting) -> None:
    with accepting.connect():
        assert accepting.turn(0) == 0
        accepting.acceptor.start()
        accepting.acceptor.pause()
        assert accepting.acceptor.next_deadline() is None
        assert accepting.turn(0) == 0
        accepting.acceptor.start()
        assert accepting.turn() == 1
    assert len(accepting.connections) == 1


def test_want_of_descriptors_pauses_until_its_deadline_and_then_accepts(
    accepting: Accepting, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepting.acceptor.start()
    with accepting.connect(), monkeypatch.context() as patch:
        out_of_descriptors(patch)
        before = time.monotonic()
        accepting.turn()
        deadline = accepting.acceptor.next_deadline()
        assert deadline is not None and before + PAUSE <= deadline <= time.monotonic() + PAUSE
        assert accepting.turn(0) == 0
        accepting.acceptor.tick(deadline - 0.001)
        assert accepting.turn(0) == 0
        patch.undo()
        accepting.acceptor.tick(deadline)
        assert accepting.acceptor.next_deadline() is None
        assert accepting.turn() == 1
    assert len(accepting.connections) == 1


def test_want_of_descriptors_is_logged_once_until_a_connection_was_accepted(
    accepting: Accepting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accepting.acceptor.start()
    with accepting.connect(), monkeypatch.context() as patch:
        out_of_descriptors(patch)
        for _ in range(3):
            accepting.turn()
            accepting.acceptor.start()
        assert [record.getMessage() for record in caplog.records] == [
            "too many open files: new connections wait until a descriptor is free"
        ]
        patch.undo()
        accepting.turn()
        out_of_descriptors(patch)
        with accepting.connect():
            accepting.turn()
    assert len(caplog.records) == 2


def test_close_closes_the_listeners_and_a_late_event_does_no_harm(accepting: Accepting) -> None:
    accepting.acceptor.start()
    (fd,) = accepting.acceptor.listeners
    accepting.acceptor.close()
    accepting.acceptor.accept(fd)
    assert fd not in accepting.acceptor
    with pytest.raises(ConnectionRefusedError):
        accepting.connect()


def test_what_cannot_be_handed_on_is_closed_and_the_others_are_not_lost(
    accepting: Accepting, caplog: pytest.LogCaptureFixture
) -> None:
    accepting.error = ZeroDivisionError()
    with accepting.connect() as first, accepting.connect() as second:
        accepting.acceptor.start()
        while not accepting.connections:
            assert accepting.turn()
        assert first.recv(1) == b""
        assert [connection.getpeername() for connection in accepting.connections] == [second.getsockname()]
    assert [record.getMessage() for record in caplog.records] == ["nothing could be made of a connection"]


def test_finishing_takes_what_the_backlog_holds_and_refuses_what_comes_after(accepting: Accepting) -> None:
    accepting.acceptor.start()
    peers = [accepting.connect() for _ in range(5)]
    accepting.acceptor.finish()
    assert len(accepting.connections) == 5
    with pytest.raises(ConnectionRefusedError):
        accepting.connect()
    for peer in peers:
        peer.close()
