"""No client that has much to ask keeps the others waiting: the allowance of a turn of the loop, and what it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aiolsp.http1.limits import Limits
from aiolsp.http1.messages import Event, ProtocolError
from aiolsp.http1.parser import RequestParser
from aiolsp.static.phases import Phase
from aiolsp.websettings import Settings
from aiolsp.websrv.connection import HEADS, HttpConnection
from aiolsp.websrv.service import Service
from aiolsp.websrv.turns import LEAST, TURN, Turns
from faults import reset
from harness import DEADLINE, Shell, receive_to_end
from webclient import exchange, read_reply, request
from webhost import hosted


async def test_what_was_spent_is_there_again_in_the_next_turn_of_the_loop() -> None:
    turns = Turns()
    turns.spend(LEAST)
    assert turns.left == TURN, "what any connection may do costs nothing"
    turns.spend(TURN - 1)
    assert turns.left == LEAST
    turns.spend(TURN)
    assert turns.left == LEAST
    await asyncio.sleep(0)
    assert turns.left == TURN


async def test_who_queues_comes_one_by_one_and_once() -> None:
    turns = Turns()
    seen: list[tuple[str, int]] = []

    def first() -> None:
        seen.append(("first", turns.left))
        turns.spend(TURN)

    def second() -> None:
        seen.append(("second", turns.left))

    for advance in (first, second, first):
        turns.queue(advance)
    for _ in range(3):
        await asyncio.sleep(0)
    assert seen == [("first", TURN), ("second", TURN)]


async def test_the_queue_moves_by_one_in_a_turn_of_the_loop_until_it_is_empty() -> None:
    turns = Turns()
    seen: list[str] = []
    for name in "abc":
        turns.queue(partial(seen.append, name))
    for count in range(1, 4):
        await asyncio.sleep(0)
        assert "".join(seen) == "abc"[:count]
    assert not turns._counting, "an idle server is not woken"


@pytest.mark.parametrize("count", [2_000, 20])
def test_one_request_is_answered_before_the_last_of_thousands_that_came_earlier(
    loop_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    answered: list[Any] = []
    note = Service.note

    def noted(service: Service, connection: Any, *facts: Any) -> None:
        answered.append(connection)
        note(service, connection, *facts)

    monkeypatch.setattr(Service, "note", noted)
    with hosted(loop_name, tmp_path) as host:
        greedy, many = host.connect()
        honest, one = host.connect()
        with greedy, honest:
            data = request("*", method="OPTIONS")
            host.call(lambda: (many.data_received(data * count), one.data_received(data)))
            for _ in range(count):
                assert read_reply(greedy).status == 204
            assert read_reply(honest).status == 204
            before = answered.index(one)
            assert answered.count(many) == count and before <= (TURN // 2 if count > TURN else count)
            assert exchange(greedy, "/missing").status == 404


def test_pipelines_that_nobody_reads_hold_up_nobody_though_there_is_one_thread(shell: Shell, tmp_path: Path) -> None:
    data = request("*", method="OPTIONS")
    with hosted(shell.name, tmp_path, Settings(threads=1)) as host, ExitStack() as stack:
        for _ in range(3):
            greedy, many = host.connect(receive_buffer=4096, send_buffer=4096)
            stack.enter_context(greedy).setblocking(False)
            greedy.send(data * 20_000)
            host.wait_until(partial(host.waits_for, many, Phase.SENDING), "a full socket")
        honest, _ = host.connect()
        with honest:
            for _ in range(3):
                assert exchange(honest, "*", method="OPTIONS").status == 204
                assert exchange(honest, "/missing").status == 404


def test_who_leaves_with_requests_unanswered_is_not_complained_of(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_bytes(b"x" * 1000)
    with shell.server("websrv", tmp_path, role="") as server:
        for _ in range(10):
            peer = server.connect()
            for _ in range(3):
                peer.sendall(request("/file.txt") * 500)
            read_reply(peer)
            reset(peer)
        with server.connect() as peer:
            assert exchange(peer, "/file.txt").status == 200
        assert server.stderr.text == ""


def test_who_waits_for_its_turn_is_not_timed_out(
    loop_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[Callable[[], None]] = []
    expired: list[Phase] = []
    timed_out = HttpConnection._timed_out

    def noted(connection: HttpConnection) -> None:
        expired.append(connection._patience.phase)
        timed_out(connection)

    monkeypatch.setattr(HttpConnection, "_timed_out", noted)
    with hosted(loop_name, tmp_path, Settings(limits=Limits(idle_timeout=0.2))) as host:
        turns = host.service.turns
        peer, _ = host.connect()
        with peer:
            monkeypatch.setattr(turns, "queue", waiting.append)
            peer.sendall(request("*", method="OPTIONS") * TURN)
            host.wait_until(lambda: len(expired) == 2, "a second time-out while it waits")
            monkeypatch.undo()
            host.call(lambda: turns.queue(*waiting))
            for _ in range(TURN):
                assert read_reply(peer).status == 204
    assert set(expired) == {Phase.IDLE}


def test_who_waits_for_its_turn_is_answered_though_the_server_stops(
    loop_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[Callable[[], None]] = []
    bare = len(request("*", "X: ", method="OPTIONS"))
    data = request("*", "X: " + "y" * (HEADS - bare), method="OPTIONS")
    with hosted(loop_name, tmp_path) as host:
        turns = host.service.turns
        peer, served = host.connect()
        with peer:
            with monkeypatch.context() as spent:
                spent.setattr(turns, "queue", waiting.append)
                host.call(lambda: setattr(turns, "left", 2))
                peer.sendall(data * 3)
                host.wait_until(lambda: waiting, "the queue")
            assert not served._events and served._parser.between_messages, "all that was parsed is answered"
            host.call(lambda: (served.drain(), turns.queue(*waiting)))
            assert [read_reply(peer).fields.get("connection") for _ in range(2)] == [None, "close"]
            assert receive_to_end(peer) == b""


def test_a_hundred_that_are_timed_out_at_once_are_told_so_in_several_turns(
    loop_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [0]
    refuse = HttpConnection.refuse

    def counted(connection: HttpConnection, fault: ProtocolError) -> None:
        turns[-1] += 1
        refuse(connection, fault)

    async def count_turns() -> None:
        while sum(turns) < 100:
            turns.append(0)
            await asyncio.sleep(0)

    monkeypatch.setattr(HttpConnection, "refuse", counted)
    limits = Limits(head_timeout=0.5)
    with hosted(loop_name, tmp_path, Settings(threads=1, limits=limits)) as host, ExitStack() as stack:
        peers = [stack.enter_context(host.connect()[0]) for _ in range(100)]
        host.wait_until(lambda: not len(host.service.newcomers), "a timer for each")

        def begin() -> None:
            for connection in host.service.connections:
                connection.data_received(b"GET / HTTP/1.1\r\n")
            for connection in host.service.connections:
                host.service.timers.adjust(connection._timer, host.service.loop.time() + 0.5)

        host.call(begin)
        counting = asyncio.run_coroutine_threadsafe(count_turns(), host.service.loop)
        assert [read_reply(peer).status for peer in peers] == [408] * 100
        counting.result(DEADLINE)
    assert max(turns) == 32, "each is a tenth of a millisecond"


@pytest.mark.parametrize(
    ("body", "most"),
    [(b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n", HEADS // 6 + 1), (b"10000\r\n" + b"x" * 65536 + b"\r\n0\r\n\r\n", 3)],
    ids=["small chunks", "a large one"],
)
def test_few_chunks_are_read_at_a_time_and_a_large_one_in_few_pieces(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes, most: int
) -> None:
    events: list[int] = []
    feed = RequestParser.feed

    def counted(parser: RequestParser, data: bytes) -> list[Event]:
        found = feed(parser, data)
        events.append(len(found))
        return found

    monkeypatch.setattr(RequestParser, "feed", counted)
    with hosted(shell.name, tmp_path) as host:
        peer, _ = host.connect()
        with peer:
            peer.sendall(request("*", "Transfer-Encoding: chunked", method="OPTIONS") + body)
            assert read_reply(peer).status == 204
    assert max(events) <= most
