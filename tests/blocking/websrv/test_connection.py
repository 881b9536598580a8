"""What only threads can get wrong: whom they wait for, who holds a connection, and what a full queue does to whom."""

from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from aiolsp.blocking.websrv import connection, transfer
from aiolsp.blocking.websrv.service import Service
from aiolsp.linux import unsent
from aiolsp.linux.sendfile import FileSlice, SendProgress
from aiolsp.linux.sendfile import send_file as really_send
from aiolsp.static import phases
from aiolsp.static.phases import Phase
from aiolsp.websettings import Settings
from faults import reset, wait_until
from harness import DEADLINE, SHELLS, receive_to_end, receive_until
from webclient import exchange, read_reply, request
from webhost import descriptors, hosted

SMALL = b"small" * 100
LARGE = os.urandom(3_000_000)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("twin")
    (root / "small.txt").write_bytes(SMALL)
    (root / "large.bin").write_bytes(LARGE)
    return root


def test_clients_that_do_not_read_hold_no_thread(site: Path) -> None:
    with hosted("blocking", site, Settings(threads=1, grace=1.0)) as host:
        slow = [host.connect(receive_buffer=4096, send_buffer=4096) for _ in range(5)]
        for peer, _ in slow:
            peer.sendall(request("/large.bin"))
        host.wait_until(lambda: all(host.waits_for(served, Phase.SENDING) for _, served in slow), "full sockets")
        with host.connect()[0] as other:
            assert exchange(other, "/small.txt").body == SMALL
        for peer, _ in slow:
            with peer:
                assert read_reply(peer).body == LARGE


def test_a_full_queue_is_503_at_once_and_only_for_what_needs_a_thread(site: Path) -> None:
    with hosted("blocking", site, Settings(threads=1, max_queue=1, grace=1.0)) as host:
        peer, _ = host.connect()
        sending, sender = host.connect(receive_buffer=4096, send_buffer=4096)
        waiting, waiter = host.connect()
        with peer, sending, waiting:
            sending.sendall(request("/large.bin"))
            host.wait_until(lambda: host.waits_for(sender, Phase.SENDING), "a full socket")
            with host.held_threads():
                waiting.sendall(request("/large.bin"))
                host.wait_until(lambda: host.has_asked(waiter), "a full queue")
                peer.sendall(request("/small.txt") * 2 + request("/", method="OPTIONS") + request("/", method="PUT"))
                for status in (503, 503, 204, 405):
                    refused = read_reply(peer)
                    assert refused.status == status and "connection" not in refused.fields
                    assert refused.fields.get("retry-after") == ("1" if status == 503 else None)
                sending.settimeout(20)
                # What is half sent is not refused: it waits its turn, beyond the bound of the queue.
                receive_until(sending, b"\r\n\r\n")
                begin = sending.recv(1 << 20)
                host.wait_until(lambda: host.service.pool.queued == 2, "the rest of the file in the queue")
            while len(begin) < len(LARGE):
                begin += sending.recv(1 << 20)
            assert begin == LARGE and read_reply(waiting).body == LARGE
            assert exchange(peer, "/small.txt").body == SMALL


def test_who_has_read_all_when_the_thread_sees_the_stop_is_not_waited_for(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phases, "LINGER", 2 * DEADLINE)
    resting, release = threading.Event(), threading.Event()

    def rest(served: connection.HttpConnection, event: int) -> Phase:
        resting.set()
        release.wait(DEADLINE)
        return really_wait_for(served, event)

    really_wait_for = connection.HttpConnection._waits_for
    monkeypatch.setattr(connection.HttpConnection, "_waits_for", rest)
    with hosted("blocking", site, Settings(threads=1)) as host:
        peer, served = host.connect()
        with peer:
            assert exchange(peer, "/small.txt").body == SMALL and resting.wait(DEADLINE)
            host.wait_until(lambda: not unsent.untaken(host.socket_of(served)), "the acknowledgement")
            host.begin_to_stop(2 * DEADLINE)
            release.set()
            host.wait_until(lambda: not host.connections(), "the connection's end")


def test_a_client_that_leaves_while_a_thread_sends_costs_no_descriptor(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, release = threading.Event(), threading.Event()

    def slow(out: int, piece: FileSlice, limit: int) -> SendProgress:
        entered.set()
        release.wait(20)
        return really_send(out, piece, limit)

    monkeypatch.setattr(transfer, "send_file", slow)
    with hosted("blocking", site) as host:
        before = descriptors()
        peer, _ = host.connect()
        peer.sendall(request("/large.bin"))
        assert entered.wait(20)
        reset(peer)
        release.set()
        host.wait_until(lambda: not host.service.connections and descriptors() == before, "everything closed")


def test_a_download_that_is_broken_off_is_logged_with_what_was_sent(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[tuple[int, int]] = []
    monkeypatch.setattr(Service, "note", lambda service, connection, asked, *facts: noted.append(facts))
    with hosted("blocking", site) as host:
        peer, served = host.connect(receive_buffer=4096, send_buffer=4096)
        peer.sendall(request("/large.bin"))
        host.wait_until(lambda: host.waits_for(served, Phase.SENDING), "a full socket")
        sent = served._transfer.sent
        reset(peer)
        host.wait_until(lambda: noted, "the log's line")
    assert noted == [(200, sent)] and 0 < sent < len(LARGE)


@pytest.mark.parametrize("fault", [OSError(errno.EIO, "the disk is broken"), ZeroDivisionError()])
def test_a_broken_disk_or_a_fault_of_our_own_cuts_the_body_and_nothing_else(
    site: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def broken(out: int, piece: FileSlice, limit: int) -> SendProgress:
        raise fault

    with hosted("blocking", site, Settings(threads=1, grace=1.0)) as host:
        with monkeypatch.context() as patched:
            patched.setattr(transfer, "send_file", broken)
            peer, _ = host.connect()
            with peer:
                peer.sendall(request("/large.bin"))
                assert len(receive_to_end(peer)) < len(LARGE)
        with host.connect()[0] as other:
            assert exchange(other, "/large.bin").body == LARGE
        ours = isinstance(fault, ZeroDivisionError)
        assert [seen["exception"] for seen in host.faults] == ([fault] if ours else [])
        host.faults.clear()


def test_a_client_that_never_stops_sending_keeps_no_thread_to_itself(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "READS", 1)
    with hosted("blocking", site, Settings(threads=1, grace=1.0)) as host:
        peer, _ = host.connect()
        with peer, host.connect()[0] as other:
            peer.sendall(request("/small.txt", "Content-Length: 1000000") + bytes(500_000))
            assert exchange(other, "/small.txt").body == SMALL
            peer.sendall(bytes(500_000))
            assert read_reply(peer).body == SMALL


def test_many_clients_on_few_threads_each_get_their_own_answers_in_order(site: Path) -> None:
    with hosted("blocking", site, Settings(threads=4, grace=1.0)) as host:
        wrong: list[object] = []

        def client(number: int) -> None:
            with socket.create_connection(("127.0.0.1", host.server.addresses[0][1]), 20) as peer:
                for turn in range(20):
                    start = 1000 * number + turn
                    peer.sendall(request("/large.bin", f"Range: bytes={start}-{start + 9}") + request("/small.txt"))
                    bodies = [read_reply(peer).body for _ in range(2)]
                    if bodies != [LARGE[start : start + 10], SMALL]:
                        wrong.append(bodies)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert not wrong and not any(thread.is_alive() for thread in threads)
        host.wait_until(lambda: not host.service.connections, "all gone")
        assert len(host.service.timers.timers) == host.service.crowd.present == 0


def test_the_trace_shows_who_holds_the_socket_and_why_it_is_let_go(site: Path) -> None:
    with SHELLS[2].server("websrv", site, "-v", role="") as server, server.connect() as peer:
        peer.sendall(request("/small.txt"))
        assert read_reply(peer).body == SMALL
        for line in (
            r"\n< epoll_wait fd=(\d+) EPOLLIN\n",
            r"\n= submit fd=\d+ queued=0  a worker thread serves it\n",
            r"\n\[aiolsp-disk-\d\] < recv fd=\d+ \d+ B  while waiting for a request\n",
            r"\n\[aiolsp-disk-\d\] > send fd=\d+ \d+ B\n",
            r"\n\[aiolsp-disk-\d\] = epoll_ctl MOD fd=\d+ EPOLLIN\|EPOLLONESHOT  armed again: wait for a request\n",
        ):
            server.stderr.wait_for(line)
        with server.connect(receive_buffer=4096) as slow:
            slow.sendall(request("/large.bin") * 4)
            server.stderr.wait_for(r"> sendfile fd=\d+ \d+ B  the socket is full: wait until it is writable\n")
            server.stderr.wait_for(r"EPOLLOUT\|EPOLLONESHOT  armed again: wait for the client to read\n")
            for _ in range(4):
                assert read_reply(slow).body == LARGE
            server.stderr.wait_for(r"= recv EAGAIN fd=\d+  read later\n")


def test_a_thread_stuck_in_the_disk_keeps_its_descriptors_when_the_server_ends(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, release = threading.Event(), threading.Event()
    used: list[int] = []

    def stuck(out: int, piece: FileSlice, limit: int) -> SendProgress:
        entered.set()
        release.wait(20)
        used.extend((os.fstat(out).st_ino, os.fstat(piece.fd).st_ino))
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(transfer, "send_file", stuck)
    before = descriptors()
    with hosted("blocking", site, Settings(threads=1, grace=0.1)) as host:
        peer, served = host.connect()
        peer.sendall(request("/large.bin"))
        assert entered.wait(20)
        out, file = os.fstat(served.fd).st_ino, (site / "large.bin").stat().st_ino
    assert len(receive_to_end(peer)) < 1000, "no more than the head"
    peer.close()
    release.set()
    wait_until(lambda: not host.service.connections, "the thread's end")
    assert used == [out, file]
    assert host.service.pool.close()
    host.service.close()
    assert descriptors() == before
