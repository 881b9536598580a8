"""Answers that hold files, against clients that read slowly or leave, and want of descriptors, on both loops."""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import socket
import threading
import time
from pathlib import Path
from typing import NoReturn

import pytest

from aiolsp.blocking.websrv import transfer as blocking_transfer
from aiolsp.linux import unsent
from aiolsp.linux.resident import Looks
from aiolsp.linux.sendfile import FileSlice, SendProgress
from aiolsp.linux.sendfile import send_file as really_send
from aiolsp.linux.unsent import UNSENT
from aiolsp.static.phases import Phase
from aiolsp.websettings import Settings
from aiolsp.websrv import transfer
from aiolsp.websrv.service import Service
from aiolsp.websrv.transfer import Transfer
from aiolsp.websrv.turns import Turns
from faults import reset, wait_until
from harness import Shell, receive_exactly, receive_to_end, receive_until
from webclient import exchange, read_reply, request
from webhost import descriptors, hosted

LARGE = os.urandom(3_000_000)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("transfer")
    (root / "large.bin").write_bytes(LARGE)
    (root / "small.txt").write_text("small")
    return root


@pytest.fixture
def held_send(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """A thread sends each piece, and not before the second event; the first says that it is about to."""
    entered, release = threading.Event(), threading.Event()

    def slow(out: int, piece: FileSlice, limit: int) -> SendProgress:
        entered.set()
        release.wait(20)
        return really_send(out, piece, limit)

    monkeypatch.setattr(transfer, "send_file", slow)
    monkeypatch.setattr(transfer, "own_file", lambda fd, offset: None)
    return entered, release


def test_parts_and_pipelined_requests_keep_their_order_for_a_slow_reader(shell: Shell, site: Path) -> None:
    with hosted(shell.name, site) as host:
        peer, _ = host.connect(receive_buffer=4096, send_buffer=4096)
        with peer:
            ranges = request("/large.bin", "Range: bytes=0-99999,500000-599999,1000000-1000000")
            peer.sendall((ranges + request("/small.txt") + request("/large.bin")) * 2)
            for _ in range(2):
                several = read_reply(peer)
                assert several.status == 206 and several.body.count(LARGE[500_000:600_000]) == 1
                assert read_reply(peer).body == b"small"
                assert read_reply(peer).body == LARGE


def test_for_a_client_that_reads_nothing_the_kernel_takes_little_of_a_file(shell: Shell, site: Path) -> None:
    with hosted(shell.name, site) as host:
        peer, served = host.connect(receive_buffer=4096)
        with peer:
            peer.sendall(request("/large.bin"))
            host.wait_until(lambda: served._transfer is not None and served._transfer.sent, "a full socket")
            assert host.call(lambda: served._transfer.sent) < 4 * UNSENT, "of 2.4 MB that fit"
            assert read_reply(peer).body == LARGE


def test_the_kernel_is_told_once_that_a_client_reads(shell: Shell, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    freed: list[socket.socket] = []
    monkeypatch.setattr(unsent, "set_free", freed.append)
    with hosted(shell.name, site) as host:
        peer, _ = host.connect(receive_buffer=4096, send_buffer=4096)
        with peer:
            assert exchange(peer, "/large.bin").body == LARGE
    assert len(freed) == 1


def test_a_client_is_given_time_for_what_its_side_has_taken_and_not_for_what_the_kernel_holds(
    shell: Shell, site: Path
) -> None:
    with hosted(shell.name, site) as host:
        peer, served = host.connect(receive_buffer=4096)
        with peer:
            asked = time.monotonic()
            peer.sendall(request("/large.bin"))
            host.wait_until(lambda: host.waits_for(served, Phase.SENDING), "a full socket")
            deadline = host.call(served._deadline)
            limits = host.server.settings.limits
            assert deadline < asked + limits.response_grace + UNSENT / 4 / limits.response_rate
            assert receive_exactly(peer, 20_000)
            longer = 10_000 / limits.response_rate
            host.wait_until(lambda: served._deadline() > deadline + longer, "more time")


def test_without_a_descriptor_for_the_file_the_answer_is_503_and_the_next_is_served(
    loop_name: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_descriptor(sending: Transfer) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with hosted(loop_name, site) as host:
        peer, _ = host.connect()
        with peer:
            before = descriptors()
            with monkeypatch.context() as patched:
                patched.setattr(Transfer, "_duplicate", no_descriptor)
                for fields in ((), ("Range: bytes=0-999999",)) * 2:
                    refused = exchange(peer, "/large.bin", *fields)
                    assert refused.status == 503 and refused.fields["retry-after"] == "1"
            for _ in range(3):  # the third time, the file is open already, unless a second has ended
                assert exchange(peer, "/large.bin").body == LARGE
            with monkeypatch.context() as patched:
                patched.setattr(Transfer, "_duplicate", no_descriptor)
                assert exchange(peer, "/large.bin").status == 503
            assert exchange(peer, "/large.bin").body == LARGE
            host.wait_until(lambda: descriptors() == before, "the files closed")


def test_a_client_that_leaves_while_a_thread_sends_costs_no_descriptor(
    loop_name: str, site: Path, held_send: tuple[threading.Event, threading.Event]
) -> None:
    entered, release = held_send
    with hosted(loop_name, site) as host:
        before = descriptors()
        peer, served = host.connect()
        peer.sendall(request("/large.bin"))
        receive_until(peer, b"\r\n\r\n")
        assert entered.wait(20)
        reset(peer)
        host.wait_until(lambda: not host.service.connections, "the connection lost")
        assert served._transfer is not None and served._transfer._out.fileno() >= 0, "the thread still sends on it"
        release.set()
        host.wait_until(lambda: descriptors() == before, "everything closed")


def test_that_the_client_had_read_what_went_before_is_no_reason_to_send_a_piece_twice(
    loop_name: str, site: Path, held_send: tuple[threading.Event, threading.Event]
) -> None:
    entered, release = held_send
    with hosted(loop_name, site, Settings(threads=2)) as host:
        peer, served = host.connect()
        with peer:
            peer.sendall(request("/large.bin"))
            assert entered.wait(20)

            def tell() -> None:
                served.pause_writing()
                served.resume_writing()
                asyncio.get_running_loop().call_soon(release.set)

            host.call(tell)
            assert read_reply(peer).body == LARGE
            assert exchange(peer, "/small.txt").body == b"small"


def test_a_download_that_is_broken_off_is_logged_with_what_was_sent(
    loop_name: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[tuple[int, int]] = []
    monkeypatch.setattr(Service, "note", lambda service, connection, asked, *facts: noted.append(facts))
    with hosted(loop_name, site) as host:
        peer, served = host.connect(receive_buffer=4096, send_buffer=4096)
        peer.sendall(request("/large.bin"))
        host.wait_until(lambda: served._transfer is not None and served._transfer._watching, "a full socket")
        assert served._transfer is not None
        sent = served._transfer.sent
        reset(peer)
        host.wait_until(lambda: noted, "the log's line")
    assert noted == [(200, sent)] and 0 < sent < len(LARGE)


def test_the_time_that_the_disk_takes_is_not_the_clients(
    shell: Shell, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, release = threading.Event(), threading.Event()

    def slow(out: int, piece: FileSlice, limit: int) -> SendProgress:
        if piece.offset:
            entered.set()
            release.wait(20)
        return really_send(out, piece, limit)

    monkeypatch.setattr(blocking_transfer if shell.name == "blocking" else transfer, "send_file", slow)
    monkeypatch.setattr(transfer, "own_file", lambda fd, offset: None)
    with hosted(shell.name, site) as host:
        peer, served = host.connect(receive_buffer=4096, send_buffer=4096)
        with peer:
            peer.sendall(request("/large.bin"))
            host.wait_until(lambda: served._transfer is not None and served._transfer.sent, "the first piece")
            host.wait_until(lambda: host.waits_for(served, Phase.SENDING), "a full socket")
            receive_until(peer, b"\r\n\r\n")
            begin = receive_exactly(peer, served._transfer.sent - 1)
            assert entered.wait(20)
            clock, name = (served, "_time") if shell.name == "blocking" else (host.service.timers, "time")
            later = getattr(clock, name)() + 1000
            monkeypatch.setattr(clock, name, lambda: later)
            assert host.call(served._deadline) > later, "while a thread sends"
            release.set()
            host.wait_until(lambda: host.waits_for(served, Phase.SENDING), "a full socket again")
            assert host.call(served._deadline) > later, "and after that"
            assert begin + receive_exactly(peer, len(LARGE) - len(begin)) == LARGE


def test_a_thread_stuck_in_the_disk_keeps_its_descriptors_when_the_server_ends(
    loop_name: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, release = threading.Event(), threading.Event()
    used: list[int] = []

    def stuck(out: int, piece: FileSlice, limit: int) -> SendProgress:
        entered.set()
        release.wait(20)
        used.extend((os.fstat(out).st_ino, os.fstat(piece.fd).st_ino))
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(transfer, "send_file", stuck)
    monkeypatch.setattr(transfer, "own_file", lambda fd, offset: None)
    with hosted(loop_name, site, Settings(threads=1, grace=0.1)) as host:
        peer, served = host.connect()
        peer.sendall(request("/large.bin"))
        receive_until(peer, b"\r\n\r\n")
        assert entered.wait(20)
        sending = served._transfer
        assert sending is not None
        out, file = os.fstat(sending._out.fileno()).st_ino, (site / "large.bin").stat().st_ino
    assert receive_to_end(peer) == b""
    peer.close()
    release.set()
    wait_until(lambda: len(used) == 2, "the thread's end")
    assert used == [out, file]
    sending._release()
    host.service.root.close()


@pytest.mark.parametrize("in_memory", [True, False])
def test_the_loop_sends_what_is_in_memory_and_threads_send_the_rest(
    loop_name: str, site: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    senders: list[str] = []

    def noted(out: int, piece: FileSlice, limit: int) -> SendProgress:
        senders.append("disk" if threading.current_thread().name.startswith("aiolsp-disk") else "loop")
        return really_send(out, piece, limit)

    monkeypatch.setattr(transfer, "send_file", noted)
    monkeypatch.setattr(Looks, "find", lambda looks, file, fd, offset, length: in_memory)
    with hosted(loop_name, site) as host:
        peer, _ = host.connect(receive_buffer=4096, send_buffer=4096)
        with peer:
            assert exchange(peer, "/large.bin").body == LARGE
    assert len(senders) > 2 and set(senders) == ({"loop"} if in_memory else {"disk"})


def test_the_loop_sends_one_piece_in_a_turn_however_many_files_are_on_their_way(
    loop_name: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [0]
    begin = Turns._begin

    def counted(turns: Turns) -> None:
        pieces.append(0)
        begin(turns)

    def noted(out: int, piece: FileSlice, limit: int) -> SendProgress:
        pieces[-1] += not threading.current_thread().name.startswith("aiolsp-disk")
        return really_send(out, piece, limit)

    monkeypatch.setattr(Turns, "_begin", counted)
    monkeypatch.setattr(transfer, "send_file", noted)
    monkeypatch.setattr(transfer, "EVENT", 1)
    monkeypatch.setattr(Looks, "find", lambda looks, file, fd, offset, length: True)
    with hosted(loop_name, site) as host:
        peers = [host.connect(receive_buffer=1 << 15)[0] for _ in range(4)]
        for peer in peers:
            peer.sendall(request("/large.bin") * 2)
        for peer in peers * 2:
            assert read_reply(peer).body == LARGE
        for peer in peers:
            peer.close()
    assert max(pieces) == 1 and sum(pieces) >= 8


def test_files_that_the_socket_takes_at_once_are_answered_in_their_order_and_from_one_frame(
    loop_name: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    depths: list[int] = []

    def taken(out: int, piece: FileSlice, limit: int) -> SendProgress:
        depths.append(len(inspect.stack(0)))
        return SendProgress(piece.length, None, False)

    monkeypatch.setattr(transfer, "send_file", taken)
    monkeypatch.setattr(transfer, "EVENT", 1 << 30)
    monkeypatch.setattr(Looks, "find", lambda looks, file, fd, offset, length: True)
    with hosted(loop_name, site) as host:
        peer, _ = host.connect()
        with peer:
            peer.sendall(request("/large.bin") * 20 + request("/small.txt"))
            for _ in range(20):
                assert b"Content-Length: 3000000" in receive_until(peer, b"\r\n\r\n")
            assert read_reply(peer).body == b"small"
    assert len(depths) == 20 and max(depths) - min(depths) < 20


def test_a_socket_that_takes_all_it_is_given_is_not_watched(
    loop_name: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offsets: list[int] = []

    def taken(out: int, piece: FileSlice, limit: int) -> SendProgress:
        offsets.append(piece.offset)
        sent = min(limit, 500_000)
        rest = piece._replace(offset=piece.offset + sent, length=piece.length - sent)
        return SendProgress(sent, rest if rest.length else None, False)

    def watched(sending: Transfer) -> NoReturn:
        raise AssertionError("it is known to be writable")

    monkeypatch.setattr(transfer, "send_file", taken)
    monkeypatch.setattr(Transfer, "_watch", watched)
    monkeypatch.setattr(Looks, "find", lambda looks, file, fd, offset, length: True)
    with hosted(loop_name, site) as host:
        peer, _ = host.connect()
        with peer:
            peer.sendall(request("/large.bin") + request("/small.txt"))
            assert b"Content-Length: 3000000" in receive_until(peer, b"\r\n\r\n")
            assert read_reply(peer).body == b"small"
    assert len(offsets) >= 6 and offsets == sorted(offsets)


def test_a_head_does_not_go_before_its_file(loop_name: str, site: Path) -> None:
    with hosted(loop_name, site) as host:
        peer, _ = host.connect()
        with peer:
            peer.sendall(request("/large.bin"))
            packet = peer.recv(1 << 20)
            assert packet.startswith(b"HTTP/1.1 200") and not packet.endswith(b"\r\n\r\n")
            receive_exactly(peer, packet.index(b"\r\n\r\n") + 4 + len(LARGE) - len(packet))
            assert exchange(peer, "/small.txt").body == b"small"


@pytest.mark.parametrize("size", [0, 1000, 2_999_999])
def test_a_file_that_is_cut_while_the_loop_sends_it_is_not_padded(
    loop_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(Looks, "find", lambda looks, file, fd, offset, length: True)
    (tmp_path / "large.bin").write_bytes(LARGE)
    with hosted(loop_name, tmp_path) as host:
        peer, served = host.connect(receive_buffer=4096, send_buffer=4096)
        with peer:
            peer.sendall(request("/large.bin"))
            host.wait_until(lambda: served._transfer is not None and served._transfer._watching, "a full socket")
            os.truncate(tmp_path / "large.bin", size)
            head, _, body = receive_to_end(peer).partition(b"\r\n\r\n")
            assert f"Content-Length: {len(LARGE)}".encode() in head and len(body) < len(LARGE)
        host.wait_until(lambda: not host.service.connections, "the connection cut")


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_fault_of_the_servers_own_is_told_to_the_loop_and_the_body_is_cut(
    loop_name: str, site: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    def broken(out: int, piece: FileSlice, limit: int) -> SendProgress:
        raise ZeroDivisionError

    monkeypatch.setattr(transfer, "send_file", broken)
    monkeypatch.setattr(Looks, "find", lambda looks, file, fd, offset, length: in_memory)
    with hosted(loop_name, site) as host:
        peer, _ = host.connect()
        with peer:
            peer.sendall(request("/large.bin"))
            receive_until(peer, b"\r\n\r\n")
            assert len(receive_to_end(peer)) < len(LARGE)
        host.wait_until(lambda: host.faults, "the complaint")
        assert isinstance(host.faults.pop()["exception"], ZeroDivisionError)
