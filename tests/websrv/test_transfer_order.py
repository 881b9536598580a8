"""A file to a client that reads slowly: nothing overtakes it, it overtakes nothing, and what is said of it is true."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from aiolsp.linux.resident import Looks
from aiolsp.linux.sendfile import FileSlice, SendProgress
from aiolsp.linux.sendfile import send_file as really_send
from aiolsp.static.phases import Phase
from aiolsp.websettings import Settings
from aiolsp.websrv import transfer
from aiolsp.websrv.service import Service
from aiolsp.websrv.turns import LEAST
from harness import DEADLINE, receive_exactly
from webclient import exchange, read_reply, request
from webhost import descriptors, hosted

LARGE = os.urandom(1_000_000)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("order")
    (root / "large.bin").write_bytes(LARGE)
    return root


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The status and size of each answer that the log is told of."""
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(Service, "note", lambda service, connection, asked, *facts: told.append(facts))
    return told


@pytest.mark.parametrize("together", [True, False])
def test_a_file_follows_what_the_socket_has_not_taken(loop_name: str, site: Path, together: bool) -> None:
    little, large = request("/large.bin", "Range: bytes=7-50006"), request("/large.bin")
    with hosted(loop_name, site) as host:
        peer, served = host.connect(receive_buffer=4096, send_buffer=4096)
        with peer:
            peer.sendall(little + large if together else little)
            host.wait_until(lambda: served.transport.get_write_buffer_size(), "a full socket")
            if not together:
                assert not host.call(lambda: served.full)
                peer.sendall(large)
            host.wait_until(lambda: served._transfer and host.waits_for(served, Phase.SENDING), "the file waits")
            assert read_reply(peer).body == LARGE[7:50_007]
            assert read_reply(peer).body == LARGE


@pytest.mark.parametrize("in_memory", [True, False])
def test_several_parts_are_logged_with_what_stands_between_them(
    loop_name: str, site: Path, noted: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    monkeypatch.setattr(Looks, "find", lambda looks, file, fd, offset, length: in_memory)
    with hosted(loop_name, site) as host:
        peer, _ = host.connect()
        with peer:
            host.call(lambda: setattr(host.service.turns, "left", LEAST))  # so the first part waits for its turn
            reply = exchange(peer, "/large.bin", "Range: bytes=0-99999,500000-599999")
            host.wait_until(lambda: noted, "the log's line")
    assert noted == [(206, len(reply.body))]


def test_who_is_cut_while_a_file_waits_for_him_is_logged_once_and_the_file_closed(
    loop_name: str, site: Path, noted: list[tuple[int, int]]
) -> None:
    with hosted(loop_name, site) as host:
        before = descriptors()
        peer, served = host.connect(receive_buffer=4096, send_buffer=4096)
        with peer:
            peer.sendall(request("/large.bin"))
            host.wait_until(lambda: served._transfer and served._transfer._watching, "a full socket")
            assert served._transfer is not None
            sent = served._transfer.sent
            host.call(served.abort)
            host.wait_until(lambda: noted, "the log's line")
        host.wait_until(lambda: descriptors() == before, "all closed")
    assert noted == [(200, sent)]


def test_who_leaves_when_a_thread_has_sent_a_piece_leaves_no_file_open(
    loop_name: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, release = threading.Event(), threading.Event()

    def slow(out: int, piece: FileSlice, limit: int) -> SendProgress:
        progress = really_send(out, piece, 1000)
        entered.set()
        release.wait(DEADLINE)
        return progress

    monkeypatch.setattr(transfer, "send_file", slow)
    monkeypatch.setattr(transfer, "own_file", lambda fd, offset: None)
    with hosted(loop_name, site) as host:
        before = descriptors()
        peer, served = host.connect()
        with peer:
            peer.sendall(request("/large.bin"))
            assert entered.wait(DEADLINE)
            host.call(served.abort)
            host.wait_until(lambda: not host.service.connections, "the connection lost")
            release.set()
        host.wait_until(lambda: descriptors() == before, "all closed")


def test_what_still_waits_for_a_thread_when_the_server_ends_is_closed(
    loop_name: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, release, held, let_go = (threading.Event() for _ in range(4))

    def slow(out: int, piece: FileSlice, limit: int) -> SendProgress:
        progress = really_send(out, piece, 1000)
        entered.set()
        release.wait(DEADLINE)
        return progress

    def hold() -> None:
        held.set()
        let_go.wait(DEADLINE)

    monkeypatch.setattr(transfer, "send_file", slow)
    monkeypatch.setattr(transfer, "own_file", lambda fd, offset: None)
    with hosted(loop_name, site, Settings(threads=1, grace=0.1)) as host:
        peer, served = host.connect()
        with peer:
            peer.sendall(request("/large.bin"))
            assert entered.wait(DEADLINE)
            host.call(lambda: host.service.pool.submit(hold))
            release.set()
            assert held.wait(DEADLINE)
            host.wait_until(lambda: served._transfer.sent == 1000 and host.service.pool.queued, "the next piece")
            sending = served._transfer
    let_go.set()
    assert sending._out.fileno() < 0
    host.service.root.close()  # left to the thread that was stuck


def test_who_reads_a_little_after_a_long_time_is_given_no_time_anew(
    loop_name: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hosted(loop_name, site) as host:
        peer, served = host.connect(receive_buffer=4096, send_buffer=4096)
        with peer:
            peer.sendall(request("/large.bin"))
            host.wait_until(lambda: served._transfer and host.waits_for(served, Phase.SENDING), "a full socket")
            sent = served._transfer.sent
            later = host.service.timers.time() + 1000
            monkeypatch.setattr(host.service.timers, "time", lambda: later)
            host.call(lambda: setattr(host.service.turns, "left", LEAST))  # so the next piece waits for its turn
            while served._transfer.sent == sent:
                receive_exactly(peer, 1000)
            host.wait_until(lambda: served._transfer._watching, "a full socket again")
            assert host.call(served._deadline) < later
