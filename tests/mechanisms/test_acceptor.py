"""Accepting for protocols on both loops: nothing lost, nothing leaked, no spin and no deafness without descriptors."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
from contextlib import ExitStack

import pytest

from aiolsp.linux.listener import BUDGET, Accepted, Address, accept_ready, listen
from aiolsp.mechanisms import acceptor as module
from aiolsp.mechanisms.acceptor import Acceptor
from greeting import (
    DEADLINE,
    Greeter,
    LoopFactory,
    accepting,
    connect,
    greet,
    hang_up,
    let_another_be_served,
    no_descriptor_left,
    receive,
    run,
    until,
)

pytestmark = pytest.mark.usefixtures("nobody_connected")

GRAIN = 0.002
"""Seconds that a timer may be early, by the clock of its loop: uvloop's counts whole milliseconds."""


def test_each_peer_gets_a_protocol(loop_factory: LoopFactory, peers: ExitStack) -> None:
    async def main() -> None:
        acceptor = accepting()
        for peer in [connect(acceptor, peers) for _ in range(200)]:
            assert await receive(peer) == b"hello"
        assert len(Greeter.connected) == 200
        acceptor.close()
        await hang_up()

    run(main, loop_factory, peers)


def test_a_transport_does_not_block_and_sends_small_writes_at_once(loop_factory: LoopFactory, peers: ExitStack) -> None:
    async def main() -> None:
        acceptor = accepting()
        await receive(connect(acceptor, peers))
        [greeter] = Greeter.connected
        accepted = greeter.transport.get_extra_info("socket")
        assert os.get_blocking(accepted.fileno()) is False
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        acceptor.close()
        await hang_up()

    run(main, loop_factory, peers)


def test_who_is_not_admitted_is_closed(loop_factory: LoopFactory, peers: ExitStack) -> None:
    seen: list[Address] = []

    def admit(connection: socket.socket, address: Address) -> Greeter | None:
        seen.append(address)
        return Greeter() if len(seen) > 1 else None

    async def main() -> None:
        acceptor = accepting(admit)
        first, second = connect(acceptor, peers), connect(acceptor, peers)
        assert await receive(first) == b""
        assert await receive(second) == b"hello"
        assert seen == [first.getsockname(), second.getsockname()]
        acceptor.close()
        await hang_up()

    run(main, loop_factory, peers)


@pytest.mark.parametrize("what", [IndexError, asyncio.CancelledError])
def test_a_protocol_that_cannot_be_made_costs_its_own_connection_only(
    loop_factory: LoopFactory, peers: ExitStack, what: type[BaseException]
) -> None:
    made: list[Greeter] = []
    reported: list[object] = []

    def fail_once(*_: object) -> Greeter:
        made.append(Greeter())
        if len(made) == 1:
            raise what
        return made[-1]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: reported.append(context["exception"]))
        acceptor = Acceptor(listen("127.0.0.1", 0), fail_once)
        first, second = connect(acceptor, peers), connect(acceptor, peers)  # accepted in one round
        acceptor.start()
        assert await receive(first) == b""
        assert await receive(second) == b"hello"
        acceptor.close()
        await hang_up()

    run(main, loop_factory, peers)
    assert [type(error) for error in reported] == [what]


def test_a_paused_acceptor_leaves_peers_in_the_backlog_until_started(
    loop_factory: LoopFactory, peers: ExitStack
) -> None:
    async def main() -> None:
        acceptor = accepting()
        acceptor.pause()
        peer = connect(acceptor, peers)
        await let_another_be_served(peers)
        assert not Greeter.connected
        acceptor.start()
        assert await receive(peer) == b"hello"
        acceptor.close()
        await hang_up()

    run(main, loop_factory, peers)


def test_a_pause_with_an_end_ends(loop_factory: LoopFactory, peers: ExitStack) -> None:
    async def main() -> None:
        acceptor = accepting()
        acceptor.pause(0.01)
        assert await receive(connect(acceptor, peers)) == b"hello"
        acceptor.close()
        await hang_up()

    run(main, loop_factory, peers)


def test_a_later_pause_outlasts_an_earlier_one(loop_factory: LoopFactory, peers: ExitStack) -> None:
    async def main() -> None:
        acceptor = accepting()
        acceptor.pause(0.01)
        acceptor.pause()
        connect(acceptor, peers)
        await asyncio.sleep(0.03)  # timers come in their order: the first pause's would have been before this one
        await let_another_be_served(peers)
        assert not Greeter.connected
        acceptor.close()

    run(main, loop_factory, peers)


def test_without_descriptors_it_pauses_once_and_then_serves_all(
    loop_factory: LoopFactory,
    peers: ExitStack,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rounds: list[float] = []

    def counted(listener: socket.socket, budget: int, *, blocking: bool) -> Accepted:
        rounds.append(asyncio.get_running_loop().time())
        return accept_ready(listener, budget, blocking=blocking)

    monkeypatch.setattr(module, "accept_ready", counted)
    monkeypatch.setattr(module, "PAUSE", 0.02)

    async def main() -> None:
        acceptor = accepting()
        await asyncio.to_thread(str)  # the pool's thread starts while there are descriptors
        waiting = [connect(acceptor, peers) for _ in range(3)]
        with no_descriptor_left():
            await until(lambda: len(rounds) == 5)
            assert not Greeter.connected
        pauses = [later - earlier for earlier, later in itertools.pairwise(rounds)]
        assert min(pauses) > 0.02 - GRAIN, "it spins"
        for peer in waiting:
            assert await receive(peer) == b"hello"
        acceptor.close()
        await hang_up()

    with caplog.at_level(logging.WARNING, "aiolsp.accept"):
        run(main, loop_factory, peers)
    [record] = caplog.records
    assert record.getMessage() == "too many open files: new connections wait until a descriptor is free"


def test_a_second_want_of_descriptors_is_logged_again(
    loop_factory: LoopFactory, peers: ExitStack, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.02)

    async def main() -> None:
        acceptor = accepting()
        await asyncio.to_thread(str)
        for expected in (1, 2):
            peer = connect(acceptor, peers)
            with no_descriptor_left():
                await until(lambda: len(caplog.records) == expected)  # noqa: B023
            assert await receive(peer) == b"hello"
        acceptor.close()
        await hang_up()

    with caplog.at_level(logging.WARNING, "aiolsp.accept"):
        run(main, loop_factory, peers)


def test_who_comes_alone_is_accepted_without_a_look_for_more_and_a_burst_in_a_few_turns(
    loop_factory: LoopFactory, peers: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[tuple[int, int]] = []

    def counted(listener: socket.socket, budget: int, *, blocking: bool) -> Accepted:
        accepted = accept_ready(listener, budget, blocking=blocking)
        rounds.append((budget, len(accepted[0])))
        return accepted

    monkeypatch.setattr(module, "accept_ready", counted)

    async def main() -> None:
        acceptor = accepting()
        for _ in range(module.LONE):
            assert await receive(connect(acceptor, peers)) == b"hello"
        alone = [(BUDGET, 1)] + [(1, 1)] * module.LONE
        assert rounds == alone[:-1]
        for peer in [connect(acceptor, peers) for _ in range(20)]:
            assert await receive(peer) == b"hello"
        assert rounds == [*alone, (BUDGET, 19)]
        acceptor.close()
        await hang_up()

    run(main, loop_factory, peers)


def test_several_listeners_are_served_and_closed_together(loop_factory: LoopFactory, peers: ExitStack) -> None:
    async def main() -> None:
        acceptor = Acceptor(listen("127.0.0.1", 0) + listen("127.0.0.1", 0), greet)
        acceptor.start()
        for listener in acceptor.listeners:
            peer = peers.enter_context(socket.create_connection(listener.getsockname(), DEADLINE))
            assert await receive(peer) == b"hello"
        acceptor.close()
        await hang_up()

    run(main, loop_factory, peers)
