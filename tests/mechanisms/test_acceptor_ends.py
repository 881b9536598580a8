"""Acceptors that end on both loops: nobody is lost who was accepted, and nothing leaks."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import pytest

from aiolsp.linux.listener import BUDGET
from aiolsp.mechanisms.acceptor import Acceptor
from greeting import (
    DEADLINE,
    Greeter,
    LoopFactory,
    accepting,
    connect,
    hang_up,
    let_another_be_served,
    open_descriptors,
    receive,
    run,
)

pytestmark = pytest.mark.usefixtures("nobody_connected")


def test_closing_refuses_new_peers_and_keeps_the_old_ones(loop_factory: LoopFactory, peers: ExitStack) -> None:
    async def main() -> None:
        acceptor = accepting()
        address = acceptor.listeners[0].getsockname()
        peer = connect(acceptor, peers)
        await receive(peer)
        acceptor.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, DEADLINE)
        [greeter] = Greeter.connected
        greeter.transport.write(b"still")
        assert await receive(peer) == b"still"
        await hang_up()

    run(main, loop_factory, peers)


async def closed_while_peers_arrive(peers: ExitStack, turns: int) -> Acceptor:
    """An acceptor that was closed so many turns of the loop after five have connected."""
    acceptor = accepting()
    for _ in range(5):
        connect(acceptor, peers)
    for _ in range(turns):
        await asyncio.sleep(0)
    acceptor.close()
    return acceptor


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_after_wait_closed_no_connection_comes_any_more(
    loop_factory: LoopFactory, peers: ExitStack, turns: int
) -> None:
    async def main() -> None:
        acceptor = await closed_while_peers_arrive(peers, turns)
        await acceptor.wait_closed()
        connected = len(Greeter.connected)
        await let_another_be_served(peers)
        assert len(Greeter.connected) == connected
        await hang_up()

    run(main, loop_factory, peers)


def test_closing_during_a_pause_and_twice_is_quiet(loop_factory: LoopFactory, peers: ExitStack) -> None:
    async def main() -> None:
        acceptor = accepting()
        acceptor.pause(0.001)
        acceptor.close()
        acceptor.close()
        await asyncio.sleep(0.01)  # timers come in their order: the end of the pause would have been before this one

    run(main, loop_factory, peers)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_loop_that_ends_while_peers_arrive_leaks_none(
    loop_factory: LoopFactory, peers: ExitStack, turns: int
) -> None:
    async def main() -> None:
        await closed_while_peers_arrive(peers, turns)

    before = open_descriptors()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
        runner.run(hang_up())
    peers.close()
    assert open_descriptors() == before


def test_finishing_serves_the_backlog_before_it_closes(loop_factory: LoopFactory, peers: ExitStack) -> None:
    async def main() -> None:
        acceptor = accepting()
        acceptor.pause()
        waiting = [connect(acceptor, peers) for _ in range(200)]
        await acceptor.finish()
        assert acceptor.listeners == ()
        for peer in waiting:
            assert await receive(peer) == b"hello"
        await hang_up()

    run(main, loop_factory, peers)


def test_finishing_leaves_turns_to_others(loop_factory: LoopFactory, peers: ExitStack) -> None:
    admitted = [0]

    def admit(*_: object) -> Greeter:
        admitted[-1] += 1
        return Greeter()

    async def main() -> None:
        acceptor = accepting(admit)
        acceptor.pause()
        waiting = [connect(acceptor, peers) for _ in range(3 * BUDGET)]
        counting = asyncio.create_task(count_turns())
        await acceptor.finish()
        counting.cancel()
        assert sum(admitted) == len(waiting) and max(admitted) == BUDGET
        await hang_up()

    async def count_turns() -> None:
        while True:
            admitted.append(0)
            await asyncio.sleep(0)

    run(main, loop_factory, peers)
