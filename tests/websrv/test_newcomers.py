"""Who comes and stays is watched, once; who has gone by then is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from aiolsp.websrv.answering import Answering
from aiolsp.websrv.newcomers import AT_ONCE, SOON, Newcomers


class Clock:
    """The loop's timers, made to fire by hand."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> Clock:
        """Have *callback* called by `fire`; what takes it back."""
        assert delay == SOON
        self.due.append(callback)
        return self

    def call_soon(self, callback: Callable[[], None]) -> Clock:
        """The same for the next turn."""
        self.due.append(callback)
        return self

    def cancel(self) -> None:
        """Nothing is to be called."""
        self.due.clear()

    def fire(self) -> None:
        """The time has come."""
        due, self.due = self.due, []
        for callback in due:
            callback()


class Client(Answering):
    """As much of a connection as newcomers know; counts how often it is watched, and then calls *then*."""

    def __init__(self, then: Callable[[Client], object] = lambda client: None) -> None:
        self.watched = 0
        self._then = then

    def watch(self) -> None:
        """Count."""
        self.watched += 1
        self._then(self)


def make() -> tuple[Clock, Newcomers]:
    """Newcomers, and what makes their time pass."""
    clock = Clock()
    return clock, Newcomers(cast(asyncio.AbstractEventLoop, clock))


def test_who_stays_is_watched_once_and_who_has_gone_is_not() -> None:
    clock, newcomers = make()
    stays, goes = Client(), Client()
    newcomers.add(stays)
    newcomers.add(goes)
    assert len(newcomers) == 2
    newcomers.discard(goes)
    clock.fire()
    assert (stays.watched, goes.watched, len(newcomers)) == (1, 0, 0)
    clock.fire()
    assert stays.watched == 1


def test_one_timer_serves_all_that_come_until_it_fires_and_none_runs_while_nobody_comes() -> None:
    clock, newcomers = make()
    clients = [Client() for _ in range(3)]
    for client in clients:
        newcomers.add(client)
    assert len(clock.due) == 1
    clock.fire()
    assert [client.watched for client in clients] == [1, 1, 1]
    assert clock.due == []
    late = Client()
    newcomers.add(late)
    clock.fire()
    assert late.watched == 1


def test_of_many_that_come_at_once_some_are_watched_in_a_turn() -> None:
    clock, newcomers = make()
    clients = [Client() for _ in range(2 * AT_ONCE + 1)]
    for client in clients:
        newcomers.add(client)
    for count in (AT_ONCE, 2 * AT_ONCE, 2 * AT_ONCE + 1):
        assert len(clock.due) == 1
        clock.fire()
        assert sum(client.watched for client in clients) == count
    assert clock.due == [] and max(client.watched for client in clients) == 1


def test_to_be_watched_may_make_all_others_leave() -> None:
    clock, newcomers = make()
    clients: list[Client] = []

    def empty(client: Client) -> None:
        for other in clients:
            newcomers.discard(other)

    clients += [Client(empty) for _ in range(3)]
    for client in clients:
        newcomers.add(client)
    clock.fire()
    assert sum(client.watched for client in clients) == 1


def test_nothing_waits_for_a_server_that_has_closed() -> None:
    clock, newcomers = make()
    newcomers.close()
    newcomers.add(client := Client())
    newcomers.discard(client)
    newcomers.close()
    assert clock.due == []


def test_to_be_watched_may_bring_in_another_or_make_one_leave() -> None:
    clock, newcomers = make()
    another = Client()

    def bring(client: Client) -> None:
        newcomers.add(another)
        newcomers.discard(client)

    newcomers.add(Client(bring))
    clock.fire()
    assert another.watched == 0
    clock.fire()
    assert another.watched == 1
