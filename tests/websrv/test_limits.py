"""How long a client may take for what: on the clock by rules, on the wire by the answers and ends it gets."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from aiolsp.http1.limits import Limits
from aiolsp.static.phases import Phase, seconds_for
from aiolsp.websettings import Settings
from aiolsp.websrv.connection import HttpConnection
from faults import state, wait_until
from harness import DEADLINE, Process, Shell, receive_to_end
from webclient import read_reply, request
from webhost import hosted

SMALL = b"small" * 100
LIMITS = Limits(head_timeout=3, idle_timeout=5, body_grace=7, body_rate=10, response_grace=11, response_rate=100)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("limits")
    (root / "small.txt").write_bytes(SMALL)
    return root


@pytest.mark.parametrize(
    ("phase", "progress", "seconds"),
    [
        (Phase.IDLE, 0, 5),
        (Phase.ANSWER, 0, 5),
        (Phase.HEAD, 0, 3),
        (Phase.HEAD, 1000, 3),
        (Phase.BODY, 0, 7),
        (Phase.BODY, 50, 12),
        (Phase.SENDING, 0, 11),
        (Phase.SENDING, 1000, 21),
        (Phase.LINGER, 1000, 2),
    ],
)
def test_progress_earns_time_where_a_rate_is_asked_for(phase: Phase, progress: int, seconds: float) -> None:
    assert seconds_for(phase, LIMITS, progress) == seconds


def more_came(served: Any) -> bool:
    return bool(served._patience.last_activity > served._patience.since)


def let_the_clock_go_on() -> None:
    """uvloop's has whole milliseconds, and all that a test does may be done in one."""
    time.sleep(0.002)


def test_each_head_has_its_own_time_though_no_packet_ends_with_one(shell: Shell, site: Path) -> None:
    """Of a pipeline cut anywhere, some head is always half there: together they may take as long as they like."""
    with hosted(shell.name, site, Settings(threads=1, cache_valid=1000)) as host:
        peer, served = host.connect()
        data = request("/small.txt")
        with peer:
            peer.sendall(data + data[:5])
            read_reply(peer)
            host.wait_until(lambda: host.waits_for(served, Phase.HEAD), "half a head")
            first = host.call(served._deadline)
            for _ in range(3):
                let_the_clock_go_on()
                # Five bytes of one and all but five of the next: the half heads are different ones.
                peer.sendall(data[5:] + data[:5])
                assert read_reply(peer).body == SMALL
                host.wait_until(lambda: host.waits_for(served, Phase.HEAD), "half a head")
                later = host.call(served._deadline)
                assert later > first
                first = later
            let_the_clock_go_on()
            peer.sendall(data[5:10])
            host.wait_until(lambda: more_came(served) and host.waits_for(served, Phase.HEAD), "more of the same head")
            assert host.call(served._deadline) == first


def taken(served: HttpConnection) -> int:
    return served._patience.progress(served.transport.get_write_buffer_size())


def test_what_a_client_has_taken_counts_from_answers_in_memory_too(loop_name: str, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(b"x" * 200_000)
    with hosted(loop_name, tmp_path, Settings(threads=1, cache_valid=1000)) as host:
        peer, served = host.connect(receive_buffer=4096, send_buffer=4096)
        with peer:
            peer.sendall(request("/file.bin") * 2)
            host.wait_until(lambda: served._full and served._patience.phase is Phase.SENDING, "a full buffer")
            before, waiting = host.call(lambda: (taken(served), served.transport.get_write_buffer_size()))
            peer.recv(50_000, socket.MSG_WAITALL)
            host.wait_until(lambda: served.transport.get_write_buffer_size() < waiting, "the client has read")
            after, left = host.call(lambda: (taken(served), served.transport.get_write_buffer_size()))
            assert after - before == waiting - left > 0
            peer.recv(150_000, socket.MSG_WAITALL)


def test_a_client_that_only_waits_for_our_disk_is_not_timed_out(shell: Shell, site: Path) -> None:
    settings = Settings(threads=1, limits=Limits(idle_timeout=0.5, head_timeout=0.5, response_grace=0.5))
    with hosted(shell.name, site, settings) as host, host.held_threads() as release:
        address = "127.0.0.1", host.server.addresses[0][1]
        with socket.create_connection(address, DEADLINE) as peer:
            peer.sendall(request("/small.txt"))  # at once: a silent moment of this test would count as the client's
            with socket.create_connection(address, DEADLINE) as watch:
                assert receive_to_end(watch) == b"", "a silent connection is timed out meanwhile"
            release.set()
            assert read_reply(peer).body == SMALL


def test_a_client_is_not_timed_out_for_the_time_that_the_server_was_stopped(shell: Shell, site: Path) -> None:
    with shell.server("websrv", site, "--idle-timeout", 1.5, "--head-timeout", 1.5, role="") as server:
        with server.connect() as idle, server.connect() as half:
            idle.sendall(request("/small.txt"))
            assert read_reply(idle).body == SMALL
            half.sendall(b"GET /small")
            server.send_signal(signal.SIGSTOP)
            try:
                wait_until(lambda: state(server.pid) == "T", "the server stopped")
                idle.sendall(request("/small.txt"))
                half.sendall(request("/small.txt")[10:])
                time.sleep(2.5)  # by more than LATE longer than any of them may take
            finally:
                server.send_signal(signal.SIGCONT)
            assert read_reply(idle).body == read_reply(half).body == SMALL


def test_a_silent_unix_client_is_not_one_of_many_from_one_address(shell: Shell, tmp_path: Path, site: Path) -> None:
    path = tmp_path / "web.sock"
    command = [*shell.command("websrv", "", site), "--unix", str(path), "--max-per-address", "1"]
    process = Process([*command, "--log", "common"])
    try:
        process.stdout.wait_for("listening on")
        peers = []
        for _ in range(3):
            peer = socket.socket(socket.AF_UNIX)
            peer.settimeout(20)
            peer.connect(str(path))
            peers.append(peer)
        for _ in range(2):
            for peer in peers:
                peer.sendall(request("/small.txt"))
                assert read_reply(peer).body == SMALL
        for peer in peers:
            peer.close()
        process.stderr.wait_for("\n", count=6)
        process.send_signal(15)
        assert process.wait() == 0
        lines = process.stderr.whole().splitlines()
        assert len(lines) == 6 and all(line.startswith("- - - [") for line in lines)
    finally:
        process.kill()


def test_who_begins_a_head_has_the_time_for_a_head_and_not_what_was_left_of_an_idle_one(
    loop_name: str, tmp_path: Path
) -> None:
    limits = Limits(head_timeout=10, idle_timeout=1000)
    with hosted(loop_name, tmp_path, Settings(limits=limits)) as host:
        peer, served = host.connect()
        with peer:
            host.wait_until(lambda: served._timer.active, "its timer")
            peer.sendall(b"GET / HTTP/1.1\r\n")
            host.wait_until(lambda: host.waits_for(served, Phase.HEAD), "the rest of a head awaited")
            assert host.call(lambda: served._timer.deadline - host.service.timers.time()) <= 10


def test_the_timer_of_who_is_gone_goes_with_him(loop_name: str, tmp_path: Path) -> None:
    with hosted(loop_name, tmp_path) as host:
        timers = host.service.timers.timers
        before = host.call(lambda: len(timers))
        peer, served = host.connect()
        with peer:
            host.wait_until(lambda: served._timer.active, "its timer")
        host.wait_until(lambda: not host.service.connections, "the connection lost")
        assert host.call(lambda: len(timers)) == before
