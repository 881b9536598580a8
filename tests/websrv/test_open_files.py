"""Large files that are asked for again: the open file is what is ready, for a second, and as long as it is the same."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from aiolsp.linux.cached import knows_nowait
from aiolsp.linux.resident import Looks
from aiolsp.static.access_log import LogRecord
from aiolsp.websettings import Settings
from aiolsp.websrv import ready
from aiolsp.websrv.service import Service
from aiolsp.websrv.transfer import Transfer
from aiolsp.websrv.turns import LEAST
from faults import reset
from harness import receive_to_end
from webclient import exchange, read_reply, request
from webhost import Host, descriptors, hosted, ready_hits

HUGE = os.urandom(1_000_000)


@pytest.fixture
def endless(loop_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A server whose second ends when `Service._end_second`'s work is done by the test."""
    monkeypatch.setattr(Service, "_end_second", lambda service: None)
    for name in ("huge.bin", "1.bin", "2.bin", "3.bin"):
        (tmp_path / name).write_bytes(HUGE)
    (tmp_path / "file.txt").write_bytes(b"file")
    with (tmp_path / "huge.bin").open("rb") as file:
        if not knows_nowait(file.fileno()):
            pytest.skip("the file system of temporary files knows no RWF_NOWAIT")
    with hosted(loop_name, tmp_path, Settings(threads=1, cache_valid=1000)) as running:
        yield running


def test_a_large_file_is_opened_twice_in_a_second_however_often_it_is_asked_for(endless: Host) -> None:
    metrics = endless.service.metrics
    peer, _ = endless.connect()
    with peer:
        before = descriptors()
        exchange(peer, "/file.txt")  # the first file ever is looked at by a thread
        misses, requests = metrics.cache_misses_total, metrics.requests_total
        for number in range(10):
            assert exchange(peer, "/huge.bin", f"X: {number}").body == HUGE
        assert metrics.cache_misses_total - misses == 2 and ready_hits(endless) == 8
        assert metrics.requests_total - requests == 10 and metrics.sent_bytes_total > 10 * len(HUGE)
        assert endless.call(descriptors) == before + 1
        assert not exchange(peer, "/huge.bin", method="HEAD").body
        endless.call(endless.service.ready.forget)
        assert endless.call(descriptors) == before
        assert exchange(peer, "/huge.bin").body == HUGE and metrics.cache_misses_total - misses == 4


def test_a_part_of_a_large_file_is_sent_from_the_same_open_file_to_who_asks_for_it(endless: Host) -> None:
    peer, _ = endless.connect()
    with peer:
        for number in range(5):
            for first, last in ((0, 99_999), (500_000, 799_999)):
                reply = exchange(peer, "/huge.bin", f"Range: bytes={first}-{last}", f"X: {number}")
                assert reply.status == 206 and reply.body == HUGE[first : last + 1]
        assert ready_hits(endless) >= 6


def test_what_is_pipelined_comes_in_its_order_from_an_open_file_too(endless: Host) -> None:
    peer, _ = endless.connect(receive_buffer=4096, send_buffer=4096)
    with peer:
        for _ in range(3):
            peer.sendall((request("/huge.bin") * 2 + request("/file.txt")) * 2 + request("/huge.bin"))
            for expected in (HUGE, HUGE, b"file") * 2 + (HUGE,):
                assert read_reply(peer).body == expected
            assert exchange(peer, "/huge.bin").body == HUGE


@pytest.mark.parametrize("change", ["replaced", "removed", "appended to", "written over"])
def test_a_large_file_that_has_changed_is_not_sent_as_it_was(endless: Host, change: str, tmp_path: Path) -> None:
    path = tmp_path / "huge.bin"
    newer = {"replaced": b"n" * 500_000, "appended to": HUGE + b"x", "written over": b"y" + HUGE[1:]}
    peer, _ = endless.connect()
    with peer:
        while not ready_hits(endless):
            assert exchange(peer, "/huge.bin").body == HUGE
        if change == "replaced":
            (tmp_path / "new").write_bytes(newer[change])
            os.rename(tmp_path / "new", path)
        elif change == "removed":
            path.unlink()
        else:
            with path.open("r+b") as file:
                file.seek(0, os.SEEK_END if change == "appended to" else os.SEEK_SET)
                file.write(newer[change][-1:] if change == "appended to" else b"y")
        for _ in range(4):
            reply = exchange(peer, "/huge.bin")
            assert reply.status == 404 if change == "removed" else reply.body == newer[change]


def test_few_files_are_kept_open(endless: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "OPEN", 2)
    peer, _ = endless.connect()
    with peer:
        before = descriptors()
        for second in range(2):
            for target in ("/huge.bin", "/1.bin", "/2.bin", "/3.bin") * 4:
                assert exchange(peer, target).body == HUGE
            # On the loop's thread: the last file may be closed after its last byte has come.
            assert endless.call(descriptors) == before + 2, f"in second {second}"
            endless.call(endless.service.ready.forget)


def test_who_still_reads_when_the_second_ends_is_sent_the_rest_and_nothing_stays_open(endless: Host) -> None:
    warming, _ = endless.connect()
    with warming:
        before = descriptors()
        while not ready_hits(endless):
            assert exchange(warming, "/huge.bin").body == HUGE
        (first, one), (second, other) = (endless.connect(receive_buffer=4096, send_buffer=4096) for _ in range(2))
        with first:
            for peer in (first, second):
                peer.sendall(request("/huge.bin"))
            endless.wait_until(lambda: all(c._transfer and c._transfer._watching for c in (one, other)), "both wait")
            endless.call(endless.service.ready.forget)
            reset(second)
            assert read_reply(first).body == HUGE
            assert exchange(first, "/file.txt").body == b"file"
        endless.wait_until(lambda: descriptors() == before, "all closed")


def no_descriptor(sending: Transfer) -> NoReturn:
    """In the place of `Transfer._duplicate`."""
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def ask_until_kept(host: Host, fields: str = "X: 1") -> None:
    """Have the file of ``/huge.bin``, or of that part of it, be open already for who asks next."""
    warming, _ = host.connect()
    hits = ready_hits(host)
    with warming:
        while ready_hits(host) == hits:
            exchange(warming, "/huge.bin", fields)


def test_what_the_socket_takes_at_once_needs_no_descriptor_beside_the_connections(
    endless: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = "Range: bytes=0-99999"
    ask_until_kept(endless, part)
    monkeypatch.setattr(Transfer, "_duplicate", no_descriptor)
    peer, _ = endless.connect()
    with peer:
        for _ in range(5):
            assert exchange(peer, "/huge.bin", part).body == HUGE[:100_000]


def test_without_a_descriptor_to_wait_with_the_transport_waits(endless: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    ask_until_kept(endless)
    monkeypatch.setattr(Transfer, "_duplicate", no_descriptor)
    peer, _ = endless.connect(receive_buffer=4096, send_buffer=4096)
    with peer:
        for _ in range(2):
            assert exchange(peer, "/huge.bin").body == HUGE
        assert exchange(peer, "/file.txt").body == b"file"


def test_without_a_descriptor_for_a_thread_the_answer_is_cut(endless: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    ask_until_kept(endless)
    monkeypatch.setattr(Transfer, "_duplicate", no_descriptor)
    monkeypatch.setattr(Looks, "find", lambda looks, file, fd, offset, length: False)
    peer, _ = endless.connect()
    with peer:
        peer.sendall(request("/huge.bin"))
        assert len(receive_to_end(peer)) < len(HUGE)


def test_who_waits_for_a_turn_is_not_timed_out(endless: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    ask_until_kept(endless)
    turns, timers = endless.service.turns, endless.service.timers
    queued: list[Callable[[], None]] = []
    peer, served = endless.connect()
    with peer:
        endless.wait_until(lambda: served._timer.active, "its timer")
        with monkeypatch.context() as spent:
            spent.setattr(turns, "queue", queued.append)
            spent.setattr(turns, "left", LEAST)
            peer.sendall(request("/huge.bin"))
            endless.wait_until(lambda: queued, "the queue")
        endless.call(lambda: (timers.cancel(served._timer), served._timed_out(), queued.pop()()))
        assert read_reply(peer).body == HUGE


def test_what_a_client_says_of_itself_is_logged_when_its_file_is_open_already(endless: Host) -> None:
    class Log:
        record = staticmethod(LogRecord.of)

        def __init__(self) -> None:
            self.records: list[LogRecord] = []
            self.add = self.records.append

        def close(self, grace: float) -> None: ...

    endless.service.log = log = Log()
    peer, _ = endless.connect()
    agents = (b"one", b"one", b"one", b"other", b"one")
    with peer:
        for agent in agents:
            assert exchange(peer, "/huge.bin", f"User-Agent: {agent.decode()}").body == HUGE
        assert ready_hits(endless) == 2
    assert [(record.agent, record.size) for record in log.records] == [(agent, len(HUGE)) for agent in agents]
