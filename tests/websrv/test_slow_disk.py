"""A disk that does not answer: what is known of it is served, the rest is refused, and all is well when it is back."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from aiolsp.websettings import Settings
from aiolsp.websrv import files, look
from aiolsp.websrv.files import Files
from harness import Shell
from webclient import exchange, read_reply, request
from webhost import Host, hosted

SETTINGS = Settings(threads=2, max_queue=2, cache_valid=0.000_001, health="/health")
"""Whatever is asked for needs a look, since nothing counts for longer than a moment."""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "hot.txt").write_text("old")
    (tmp_path / "cold.txt").write_text("cold")
    return tmp_path


def test_with_a_full_queue_what_is_known_is_served_as_it_was(loop_name: str, site: Path) -> None:
    with hosted(loop_name, site, SETTINGS) as host:
        peer, _ = host.connect()
        waiting = [host.connect()[0] for _ in range(2)]
        with peer:
            assert exchange(peer, "/hot.txt").body == b"old"
            with host.held_threads():
                for number, other in enumerate(waiting):
                    other.sendall(request(f"/missing/{number}"))
                host.wait_until(lambda: host.service.pool.queued == 2, "a full queue")
                (site / "hot.txt").write_text("newer")
                for _ in range(3):
                    assert exchange(peer, "/hot.txt").body == b"old"
                    refused = exchange(peer, "/cold.txt")
                    assert (refused.status, refused.fields["retry-after"]) == (503, "1")
            for other in waiting:
                assert read_reply(other).status == 404
                other.close()
            assert exchange(peer, "/hot.txt").body == b"newer"
            assert exchange(peer, "/cold.txt").body == b"cold"


def test_who_waits_for_a_look_that_does_not_end_gets_what_was_seen_the_last_time(
    loop_name: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "PATIENCE", 0.0)
    with hosted(loop_name, site, SETTINGS) as host:
        peers = [host.connect()[0] for _ in range(2)]
        assert exchange(peers[0], "/hot.txt").body == b"old"
        with host.held_threads():
            (site / "hot.txt").write_text("newer")
            for peer in peers:
                peer.sendall(request("/hot.txt"))
            assert [read_reply(peer).body for peer in peers] == [b"old"] * 2, "at the end of the second"
            assert exchange(peers[0], "/hot.txt").body == b"old", "at once: the look has not ended"
            assert host.service.pool.queued == 1, "one look is enough for all of them"
        host.wait_until(lambda: not host.service.files.loading, "the end of the look")
        for peer in peers:
            assert exchange(peer, "/hot.txt").body == b"newer"
            peer.close()


def test_who_waits_too_long_for_what_is_not_known_is_told_to_come_again(
    loop_name: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "GIVE_UP", 0.0)
    with hosted(loop_name, site, SETTINGS) as host:
        peer, _ = host.connect()
        with peer:
            with host.held_threads():
                for _ in range(2):
                    refused = exchange(peer, "/cold.txt")
                    assert (refused.status, refused.fields["retry-after"]) == (503, "1")
                assert exchange(peer, "/health").status == 200
            host.wait_until(lambda: not host.service.files.loading, "the end of the look")
            assert exchange(peer, "/cold.txt").body == b"cold"


@pytest.mark.parametrize("target", ["/cold.txt", "/missing", "/large.bin", "/stuck.txt"])
def test_many_who_waited_for_one_look_are_answered_a_few_in_a_turn(
    loop_name: str, site: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    (site / "large.bin").write_bytes(b"x" * 1_000_000)
    monkeypatch.setattr(Files._answer_each, "__defaults__", (2,))
    monkeypatch.setattr(files, "FEW", 2)
    name = "_load_for" if target == "/large.bin" else "_send_kept"
    if target == "/stuck.txt":
        monkeypatch.setattr(look, "GIVE_UP", 0.0)
        name = "_answer_unseen"
    turns = [0]
    answer = getattr(Files, name)

    def counted(self: Files, *args: object, **more: object) -> None:
        turns[-1] += 1
        answer(self, *args, **more)

    async def count_turns() -> None:
        while True:
            turns.append(0)
            await asyncio.sleep(0)

    with ExitStack() as stack, hosted(loop_name, site, Settings(threads=2)) as host:
        peers = [stack.enter_context(host.connect()[0]) for _ in range(6)]
        with host.held_threads() as release:
            for peer in peers:
                peer.sendall(request(target))
            host.wait_until(lambda: [len(each.waiters) for each in host.service.files.loading.values()] == [6], "all")
            monkeypatch.setattr(Files, name, counted)
            counting = asyncio.run_coroutine_threadsafe(count_turns(), host.service.loop)
            if target != "/stuck.txt":
                release.set()
            assert len({read_reply(peer).status for peer in peers}) == 1
        counting.cancel()
    assert sum(turns) == (5 if target == "/large.bin" else 6) and max(turns) == 2


def test_who_finds_the_queue_full_is_refused_and_all_are_served_when_the_disk_is_back(shell: Shell, site: Path) -> None:
    targets = [f"/cold{number}.txt" for number in range(5)]
    for target in targets:
        (site / target[1:]).write_text("cold")
    with hosted(shell.name, site, SETTINGS) as host:
        peers = [host.connect()[0] for _ in targets]
        with host.held_threads():
            for number, peer in enumerate(peers):
                peer.sendall(request(targets[number]) + request("/health"))
                if number < 2:
                    host.wait_until(partial(queued, host, number + 1), "a job that waits")
                else:
                    refused = read_reply(peer)
                    assert (refused.status, refused.fields["retry-after"]) == (503, "1")
                    assert read_reply(peer).status == 200, "what needs no disk"
        for number, peer in enumerate(peers):
            if number < 2:
                assert read_reply(peer).body == b"cold" and read_reply(peer).status == 200
            assert exchange(peer, targets[number]).body == b"cold"
            peer.close()


def queued(host: Host, count: int) -> bool:
    return bool(host.service.pool.queued == count)
