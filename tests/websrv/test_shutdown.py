"""What a stopping server owes to whom: answers in flight, requests on their way, silence; by signals and by calls."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from aiolsp.blocking.websrv.readiness import ReadinessLoop
from aiolsp.http1.limits import Limits
from aiolsp.linux import unsent
from aiolsp.sansio.stopping import ECHO
from aiolsp.static import phases
from aiolsp.static.phases import Phase
from aiolsp.websettings import Settings
from faults import state, wait_until
from harness import DEADLINE, Server, Shell, receive_exactly, receive_to_end, receive_until
from webclient import exchange, read_reply, request
from webhost import hosted

SMALL = b"small" * 100
LARGE = b"large" * 1_000_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shutdown")
    (root / "small.txt").write_bytes(SMALL)
    (root / "large.bin").write_bytes(LARGE)
    return root


def test_answers_that_wait_for_the_disk_are_given_and_say_close(
    shell: Shell, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("websrv.server", "blocking.websrv.readiness"):
        monkeypatch.setattr(f"aiolsp.{module}.FRESH", 60.0)  # who has asked is let go before that
    with hosted(shell.name, site) as host:
        peer, served = host.connect()
        idle, _ = host.connect()
        with peer, idle:
            assert exchange(idle, "/small.txt").body == SMALL
            assert exchange(idle, "/missing").status == 404
            with host.held_threads():
                peer.sendall(request("/not-asked-for-yet") + request("/small.txt"))
                host.wait_until(lambda: host.has_asked(served), "the requests")
                host.begin_to_stop(60.0)
                assert receive_to_end(idle) == b""
            reply = read_reply(peer)
            assert reply.status == 404 and reply.fields["connection"] == "close"
            assert receive_to_end(peer) == b""


def test_a_request_that_is_half_there_is_answered(shell: Shell, site: Path) -> None:
    with hosted(shell.name, site) as host:
        head, first = host.connect()
        body, second = host.connect()
        with head, body:
            data = request("/small.txt")
            head.sendall(data[:20])
            body.sendall(request("/small.txt", "Content-Length: 9") + b"1234")
            host.wait_until(lambda: not first._fresh and not second._fresh, "the halves")
            host.begin_to_stop(20.0)
            head.sendall(data[20:])
            body.sendall(b"56789")
            for peer in (head, body):
                reply = read_reply(peer)
                assert reply.body == SMALL and reply.fields["connection"] == "close"
                assert receive_to_end(peer) == b""


def test_the_first_request_of_a_new_connection_may_still_be_on_its_way(shell: Shell, site: Path) -> None:
    with hosted(shell.name, site) as host:
        peer, _ = host.connect()
        silent, _ = host.connect()
        with peer, silent:
            host.begin_to_stop(60.0)
            reply = exchange(peer, "/small.txt")
            assert reply.body == SMALL and reply.fields["connection"] == "close"
            assert receive_to_end(silent) == b""


def test_a_file_on_its_way_arrives_whole_and_what_was_asked_after_it_does_not(shell: Shell, site: Path) -> None:
    with hosted(shell.name, site) as host:
        peer, served = host.connect(receive_buffer=4096, send_buffer=4096)
        with peer:
            peer.sendall(request("/large.bin") * 2)
            host.wait_until(lambda: served._transfer is not None, "the transfer")
            host.begin_to_stop(60.0)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(host.server.addresses[0][:2], 1)
            assert read_reply(peer).body == LARGE
            assert receive_to_end(peer) == b""


def test_others_have_their_turn_while_many_are_let_go(
    shell: Shell, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "blocking.websrv.readiness" if shell.name == "blocking" else "websrv.server"
    monkeypatch.setattr(f"aiolsp.{module}.MOST", 2)
    left: list[object] = []
    turns: list[int] = []
    with contextlib.ExitStack() as stack, hosted(shell.name, site) as host:
        peers = [stack.enter_context(host.connect()[0]) for _ in range(6)]
        for peer in peers:
            assert exchange(peer, "/small.txt").body == SMALL
        kind = type(next(iter(host.connections())))
        drain = kind.drain

        def counted(connection: object, **how: bool) -> None:
            left.append(connection)
            if shell.name != "blocking":
                asyncio.get_running_loop().call_soon(lambda: turns.append(len(left)))
            drain(connection, **how)

        monkeypatch.setattr(kind, "drain", counted)
        turn = ReadinessLoop.turn

        def noted(loop: ReadinessLoop, *latest: float) -> None:
            turns.append(len(left))
            turn(loop, *latest)

        monkeypatch.setattr(ReadinessLoop, "turn", noted)
        host.begin_to_stop(60.0)
        for peer in peers:
            assert receive_to_end(peer) == b""
    assert {2, 4, 6} <= set(turns), "between one drain and another"


def test_who_still_reads_the_last_answer_is_let_go_when_it_has(
    loop_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiolsp.websrv.server.FRESH", 0.0)
    (tmp_path / "file.bin").write_bytes(b"x" * 200_000)
    with hosted(loop_name, tmp_path) as host:
        peer, served = host.connect(receive_buffer=4096, send_buffer=4096)
        with peer:
            peer.sendall(request("/file.bin"))
            host.wait_until(lambda: served._full, "a full buffer")
            host.begin_to_stop(60.0)
            begin = receive_until(peer, b"\r\n\r\n")
            for _ in range(3):
                host.call(lambda: None)  # each is a turn of the loop: it has looked for fresh connections by now
            assert b" 200 OK" in begin and len(receive_exactly(peer, 200_000)) == 200_000
            assert receive_to_end(peer) == b""


@pytest.mark.parametrize("stops", [True, False], ids=["at a stop", "after silence"])
def test_a_request_that_comes_too_late_resets_no_answer_that_is_still_read(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops: bool
) -> None:
    monkeypatch.setattr(phases, "LINGER", DEADLINE)
    content = os.urandom(1_000_000)
    (tmp_path / "file.bin").write_bytes(content)
    limits = Limits() if stops else Limits(idle_timeout=1.0)
    with hosted(shell.name, tmp_path, Settings(threads=1, limits=limits)) as host:
        peer, served = host.connect(receive_buffer=1 << 15)
        unsent.set_free(host.socket_of(served))
        with peer:
            peer.sendall(request("/file.bin"))
            if stops:
                host.wait_until(lambda: unsent.untaken(host.socket_of(served)) > 500_000, "the answer with the kernel")
                host.wait_until(lambda: host.waits_for(served, Phase.IDLE), "all of it")
                host.begin_to_stop(20.0)
            host.wait_until(lambda: host.waits_for(served, Phase.LINGER) or not host.connections(), "no more answers")
            peer.sendall(request("/file.bin"))
            assert read_reply(peer).body == content
            assert receive_to_end(peer) == b""


@pytest.mark.parametrize("stops", [True, False], ids=["at a stop", "after silence"])
def test_who_has_read_all_is_not_waited_for(
    shell: Shell, site: Path, monkeypatch: pytest.MonkeyPatch, stops: bool
) -> None:
    monkeypatch.setattr(phases, "LINGER", 2 * DEADLINE)
    limits = Limits() if stops else Limits(idle_timeout=1.0)
    with hosted(shell.name, site, Settings(threads=1, limits=limits)) as host:
        peer, served = host.connect()
        with peer:
            assert exchange(peer, "/small.txt").body == SMALL
            if stops:
                host.wait_until(lambda: not unsent.untaken(host.socket_of(served)), "the acknowledgement")
                host.begin_to_stop(2 * DEADLINE)
            host.wait_until(lambda: not host.connections(), "the connection's end")


def test_with_no_grace_at_all_everything_is_cut(shell: Shell, site: Path) -> None:
    with hosted(shell.name, site, Settings(threads=1, grace=0)) as host:
        peers = [host.connect(receive_buffer=4096, send_buffer=4096)[0] for _ in range(3)]
        peers[0].sendall(request("/large.bin"))
        receive_until(peers[0], b"\r\n\r\n")
        peers[1].sendall(b"GET /")
    for peer in peers:
        assert len(receive_to_end(peer)) < len(LARGE)
        peer.close()


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGINT)])
def test_a_second_signal_of_either_kind_cuts_and_the_status_is_0(
    shell: Shell, site: Path, numbers: tuple[int, int]
) -> None:
    server = Server(shell.command("websrv", "", site, "--port", 0, "--grace", 1000, "-v"))
    try:
        with server.connect(receive_buffer=1 << 16) as peer:
            peer.sendall(request("/large.bin"))
            receive_until(peer, b"\r\n\r\n")
            server.send_signal(numbers[0])
            server.stderr.wait_for("= drain")
            time.sleep(2 * ECHO)
            server.send_signal(numbers[1])
            assert server.wait() == 0
            assert len(receive_to_end(peer)) < len(LARGE)
    finally:
        server.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("count", [1, 2])
def test_signals_that_come_together_are_one(shell: Shell, site: Path, count: int, number: int) -> None:
    """As timeout(1) sends its own twice, and a terminal that hangs up SIGHUP."""
    server = Server(shell.command("websrv", "", site, "--port", 0, "--workers", count))
    try:
        with server.connect(receive_buffer=1 << 16) as peer:
            peer.sendall(request("/large.bin"))
            receive_until(peer, b"\r\n\r\n")
            server.send_signal(signal.SIGSTOP)  # else this test could be late with the other, or the server to hear it
            wait_until(lambda: state(server.pid) == "T", "the server stopped")
            for together in (signal.SIGTERM, number, signal.SIGCONT):
                server.send_signal(together)
            assert receive_exactly(peer, len(LARGE)) == LARGE
        assert server.wait() == 0
    finally:
        server.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_is_in_flight_finish(shell: Shell, site: Path, number: int) -> None:
    server = Server(shell.command("websrv", "", site, "--port", 0, "-v"))
    try:
        with server.connect(receive_buffer=1 << 16) as busy, server.connect() as idle:
            idle.sendall(request("/missing"))
            read_reply(idle)
            busy.sendall(request("/large.bin"))
            receive_until(busy, b"\r\n\r\n")
            server.send_signal(number)
            server.stderr.wait_for("= drain")
            assert receive_to_end(idle) == b""
            assert receive_exactly(busy, len(LARGE)) == LARGE
            assert receive_to_end(busy) == b""
        assert server.wait() == 0
        with pytest.raises(ConnectionRefusedError):
            server.connect()
    finally:
        server.kill()


def test_after_the_grace_the_rest_is_cut(shell: Shell, site: Path) -> None:
    server = Server(shell.command("websrv", "", site, "--port", 0, "--grace", 0.2))
    try:
        with server.connect(receive_buffer=1 << 16) as peer:
            peer.sendall(request("/large.bin"))
            receive_until(peer, b"\r\n\r\n")
            server.stop()
            assert len(receive_to_end(peer)) < len(LARGE)
    finally:
        server.kill()
