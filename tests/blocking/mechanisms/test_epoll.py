"""The twin's epoll with a callback for each descriptor: who is called, and who is not any more."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator

import pytest

from aiolsp.blocking.mechanisms.acceptor import Acceptor
from aiolsp.blocking.mechanisms.epoll import EpollWatcher
from aiolsp.linux.listener import listen
from harness import DEADLINE


class Watching:
    """A watcher, and what it has called back with."""

    def __init__(self) -> None:
        self.watcher = EpollWatcher()
        self.nobody = Acceptor([], self.watcher.poller, lambda *_: pytest.fail("nothing is accepted"))
        self.heard: list[tuple[str, int]] = []

    def watch(self, name: str, sock: socket.socket, flags: int = select.EPOLLIN) -> None:
        self.watcher.watch(sock.fileno(), flags, lambda events: self.heard.append((name, events)))

    def turn(self, timeout: float = DEADLINE) -> list[tuple[str, int]]:
        """What one turn called back with."""
        self.heard.clear()
        self.watcher.turn(timeout, self.nobody)
        return self.heard


@pytest.fixture
def watching() -> Iterator[Watching]:
    watching = Watching()
    yield watching
    watching.watcher.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_who_watches_last_is_called_with_what_was_asked_for_last(
    watching: Watching, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair
    other.sendall(b"x")
    watching.watch("first", one)
    assert watching.turn() == [("first", select.EPOLLIN)]
    watching.watch("second", one, select.EPOLLIN | select.EPOLLOUT)
    assert watching.turn() == [("second", select.EPOLLIN | select.EPOLLOUT)]
    assert one.fileno() in watching.watcher


def test_who_is_not_watched_any_more_is_not_called_and_may_be_unwatched_again(
    watching: Watching, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair
    other.sendall(b"x")
    watching.watch("it", one)
    for _ in range(2):
        watching.watcher.unwatch(one.fileno())
    assert watching.turn(0) == [] and one.fileno() not in watching.watcher
    watching.watch("again", one)
    assert watching.turn() == [("again", select.EPOLLIN)]


def test_an_event_of_a_closed_descriptor_does_not_go_to_the_next_of_its_number(
    watching: Watching, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair
    first, first_peer = socket.socketpair()
    second, second_peer = socket.socketpair()
    both = (first, second)

    def close_both(events: int) -> None:
        """Whichever is reported first ends both, and each number is another's at once."""
        watching.heard.append(("first", events))
        for ours in both:
            watching.watcher.unwatch(ours.fileno())
            os.dup2(one.fileno(), ours.fileno())
            watching.watch("next", ours)

    with first, first_peer, second, second_peer:
        first_peer.sendall(b"x")
        second_peer.sendall(b"x")
        for ours in both:
            watching.watcher.watch(ours.fileno(), select.EPOLLIN, close_both)
        assert watching.turn() == [("first", select.EPOLLIN)]
        assert watching.turn(0) == []
        other.sendall(b"x")
        assert watching.turn() == [("next", select.EPOLLIN)] * 2
        for ours in both:
            watching.watcher.unwatch(ours.fileno())


def test_what_comes_to_the_acceptor_is_accepted(watching: Watching) -> None:
    accepted: list[socket.socket] = []
    acceptor = Acceptor(listen("127.0.0.1", 0), watching.watcher.poller, lambda peer, _: accepted.append(peer))
    acceptor.start()
    (address,) = (listener.getsockname() for listener in acceptor.listeners.values())
    with socket.create_connection(address, DEADLINE) as client:
        watching.watcher.turn(DEADLINE, acceptor)
        (peer,) = accepted
        with peer:
            assert peer.getpeername() == client.getsockname()
    acceptor.close()
    assert not watching.heard


def test_it_may_be_closed_again(watching: Watching) -> None:
    watching.watcher.close()
    watching.watcher.close()
