"""What a connection does with requests that are many, odd, wrong, or cut."""

from __future__ import annotations

import gc
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import time
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aiolsp.blocking.websrv.connection import HEADS
from aiolsp.static import phases
from aiolsp.static.phases import Phase
from aiolsp.websettings import Settings
from faults import reset
from harness import DEADLINE, SHELLS, Server, Shell, receive_exactly, receive_to_end
from webclient import ask, read_reply, request
from webhost import hosted

SMALL = b"small" * 100
MIDDLE = bytes(range(255)) * 1_200
LARGE = bytes(range(256)) * 80_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("connection")
    (root / "small.txt").write_bytes(SMALL)
    (root / "middle.bin").write_bytes(MIDDLE)
    (root / "large.bin").write_bytes(LARGE)
    return root


def test_the_end_of_an_answer_does_not_wait_for_the_client_to_acknowledge_its_beginning(
    shell: Shell, site: Path
) -> None:
    with hosted(shell.name, site) as host:
        peer, served = host.connect()
        with peer:
            assert host.socket_of(served).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_hundred_requests_in_one_packet_are_answered_in_order(server: Server) -> None:
    targets = ["/small.txt", "/missing", "/middle.bin"]
    with server.connect() as peer:
        peer.sendall(b"".join(request(targets[number % 3] + f"?{number}") for number in range(99)))
        for number in range(99):
            reply = read_reply(peer)
            assert reply.status == (404 if number % 3 == 1 else 200)
            assert number % 3 == 1 or reply.body == (SMALL, None, MIDDLE)[number % 3]


def test_a_hundred_answers_leave_in_one_write_or_in_one_for_each_read(shell: Shell, site: Path, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    log = tmp_path / "strace.log"
    command = shell.command("websrv", "", site, "--port", 0)
    server = Server(["strace", "-f", "-o", str(log), "-e", "trace=write,writev,sendto,sendmsg", *command])
    try:
        with server.connect() as peer:
            peer.sendall(request("/small.txt"))
            read_reply(peer)
            peer.sendall(request("/small.txt") * 100)
            for _ in range(100):
                assert read_reply(peer).body == SMALL
    finally:
        os.kill(int((Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()).split()[0]), signal.SIGTERM)
        server.wait()
        server.kill()
    writes = [int(line.rpartition("= ")[2]) for line in log.read_text().splitlines() if "HTTP/1.1 200" in line]
    reads = -(-100 * len(request("/small.txt")) // HEADS) if shell.name == "blocking" else 1
    assert len(writes) == 1 + reads and sum(writes[1:]) == 100 * writes[0]


def test_the_same_packet_is_answered_alike_again_and_again(server: Server) -> None:
    packet = request("/small.txt") + request("/missing") + request("/small.txt", method="HEAD")
    with server.connect() as peer:
        for _ in range(5):
            peer.sendall(packet)
            assert read_reply(peer).body == SMALL
            assert read_reply(peer).status == 404
            assert read_reply(peer, head=True).status == 200


def test_a_request_may_come_byte_by_byte(server: Server) -> None:
    with server.connect() as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2):
            for byte in request("/small.txt"):
                peer.sendall(bytes([byte]))
            assert read_reply(peer).body == SMALL


def test_bodies_are_read_past_so_that_the_next_request_is_found(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(request("/small.txt", "Content-Length: 5", method="POST") + b"12345")
        chunked = b"5;ext=1\r\n12345\r\n0\r\nTrailer: x\r\n\r\n"
        peer.sendall(request("/small.txt", "Transfer-Encoding: chunked") + chunked + request("/small.txt"))
        assert read_reply(peer).status == 405
        assert read_reply(peer).body == SMALL
        assert read_reply(peer).body == SMALL


def test_a_client_that_waits_for_100_is_told_to_go_on_or_the_answer(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(request("/small.txt", "Content-Length: 5", "Expect: 100-continue"))
        assert read_reply(peer).status == 100
        peer.sendall(b"12345")
        assert read_reply(peer).body == SMALL
        peer.sendall(request("/small.txt", "Content-Length: 5", "Expect: 100-continue", method="PUT"))
        refused = read_reply(peer)
        assert refused.status == 405 and refused.fields["connection"] == "close"
        assert receive_to_end(peer) == b""


def test_http_1_0_closes_unless_asked_to_keep_alive(server: Server) -> None:
    with server.connect() as peer:
        for _ in range(2):
            peer.sendall(request("/small.txt", "Connection: keep-alive", version="1.0"))
            reply = read_reply(peer)
            assert reply.fields["connection"] == "keep-alive" and reply.body == SMALL
        peer.sendall(request("/small.txt", version="1.0"))
        assert read_reply(peer).fields["connection"] == "close"
        assert receive_to_end(peer) == b""
    with server.connect() as peer:
        peer.sendall(request("/small.txt", "Connection: close"))
        assert read_reply(peer).fields["connection"] == "close"
        assert receive_to_end(peer) == b""


def test_absolute_form_is_a_request_like_any_other(server: Server) -> None:
    assert ask(server, "http://elsewhere.example:81/small.txt").body == SMALL


@pytest.mark.parametrize("target", ["/small.txt", "/large.bin"])
def test_who_half_closes_still_gets_the_answers_owed(server: Server, target: str) -> None:
    with server.connect() as peer:
        peer.sendall(request(target) * 3)
        peer.shutdown(socket.SHUT_WR)
        for _ in range(3):
            assert len(read_reply(peer).body) in (len(SMALL), len(LARGE))
        assert receive_to_end(peer) == b""


def test_who_half_closes_while_the_disk_is_asked_still_gets_the_answer(shell: Shell, site: Path) -> None:
    with hosted(shell.name, site) as host:
        peer, served = host.connect()
        with peer, host.held_threads() as release:
            peer.sendall(request("/small.txt"))
            host.wait_until(lambda: host.has_asked(served), "the request")
            peer.shutdown(socket.SHUT_WR)
            if shell.name != "blocking":  # whose thread does not read meanwhile
                host.wait_until(lambda: served._ended, "the end")
            release.set()
            assert read_reply(peer).body == SMALL
            assert receive_to_end(peer) == b""


def test_who_does_not_read_is_not_waited_for_without_end_because_the_disk_was_asked(loop_name: str, site: Path) -> None:
    with hosted(loop_name, site) as host:
        peer, served = host.connect()
        with peer:
            with host.held_threads():
                peer.sendall(request("/small.txt"))
                host.wait_until(lambda: host.has_asked(served), "the request")
                host.call(served.pause_writing)
                assert host.waits_for(served, Phase.ANSWER)
            host.wait_until(lambda: host.waits_for(served, Phase.SENDING), "the answer")
            host.call(served.resume_writing)
            assert read_reply(peer).body == SMALL


def test_when_a_body_has_come_in_pieces_the_next_request_has_its_own_time(shell: Shell, site: Path) -> None:
    with hosted(shell.name, site) as host:
        peer, served = host.connect()
        with peer:
            peer.sendall(request("*", "Content-Length: 4", method="OPTIONS") + b"ab")
            host.wait_until(lambda: host.waits_for(served, Phase.BODY), "half of it")
            peer.sendall(b"cd")
            assert read_reply(peer).status == 204
            host.wait_until(lambda: host.waits_for(served, Phase.IDLE), "its rest")


def test_half_a_request_and_its_end_is_no_request(server: Server) -> None:
    for begun in (b"GET / HT", request("/small.txt", "Content-Length: 9") + b"12345"):
        with server.connect() as peer:
            peer.sendall(request("/small.txt") + begun)
            peer.shutdown(socket.SHUT_WR)
            assert read_reply(peer).body == SMALL
            assert receive_to_end(peer) == b""


def test_an_answer_that_waits_for_the_disk_is_not_overtaken_when_the_client_has_read(
    loop_name: str, tmp_path: Path
) -> None:
    # Two that are known are more than the transport takes unsent, and each is small enough to be written with others.
    bodies = {f"/{name}": name.encode() * 60_000 for name in "abcd"}
    for target, body in bodies.items():
        (tmp_path / target[1:]).write_bytes(body)
    # Entries count for long, so that only what is asked for the first time needs a thread.
    with hosted(loop_name, tmp_path, Settings(threads=2, cache_valid=1000)) as host:
        peer, served = host.connect(receive_buffer=4096, send_buffer=4096)
        with peer:
            for target in ("/a", "/b", "/d"):
                peer.sendall(request(target))
                assert read_reply(peer).body == bodies[target]
            with host.held_threads() as release:
                peer.sendall(b"".join(request(target) for target in bodies))
                host.wait_until(lambda: served._full and served._patience.phase is Phase.ANSWER, "both waits at once")
                for target in ("/a", "/b"):
                    assert read_reply(peer).body == bodies[target]
                host.wait_until(lambda: not served._full, "the client has read")
                release.set()
            for target in ("/c", "/d"):
                assert read_reply(peer).body == bodies[target]


@pytest.mark.parametrize("ends_too", [False, True])
def test_the_last_answer_is_sent_whole_however_slowly_it_is_read(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends_too: bool
) -> None:
    monkeypatch.setattr(phases, "LINGER", 0.01)
    body = b"x" * 200_000
    (tmp_path / "file.bin").write_bytes(body)
    with hosted(shell.name, tmp_path) as host:
        peer, served = host.connect(receive_buffer=4096, send_buffer=4096)
        with peer:
            peer.sendall(request("/file.bin", "Connection: close"))
            begin = receive_exactly(peer, 100)
            host.wait_until(lambda: host.waits_for(served, Phase.SENDING), "the last answer")
            if ends_too:
                peer.shutdown(socket.SHUT_WR)
            assert (begin + receive_to_end(peer)).endswith(b"\r\n\r\n" + body)


def test_the_last_answer_and_the_end_are_one_packet(loop_name: str, site: Path) -> None:
    with hosted(loop_name, site) as host:
        for _ in range(3):  # looked up, kept, ready
            peer, _ = host.connect()
            with peer:
                poller = select.poll()
                poller.register(peer, select.POLLIN | select.POLLRDHUP)
                peer.sendall(request("/small.txt", "Connection: close"))
                assert poller.poll(DEADLINE * 1000) == [(peer.fileno(), select.POLLIN | select.POLLRDHUP)]
                assert read_reply(peer).body == SMALL


@pytest.mark.parametrize("size", [9_000, 15_000])  # of the second, a part is taken, or nothing
def test_a_last_answer_is_sent_whole_though_the_socket_be_full(loop_name: str, tmp_path: Path, size: int) -> None:
    body = b"x" * size
    (tmp_path / "file.bin").write_bytes(body)
    questions = request("/file.bin"), request("/file.bin", "Connection: close")
    with hosted(loop_name, tmp_path, Settings(cache_valid=1000)) as host:
        for _ in range(3):
            peer, served = host.connect(receive_buffer=4096, send_buffer=4096)
            with peer:
                peer.sendall(questions[0])
                begin = receive_exactly(peer, 1)
                peer.sendall(questions[1])
                host.wait_until(lambda: host.waits_for(served, Phase.SENDING), "the last answer")  # noqa: B023
                received = begin + receive_to_end(peer)
                assert received.endswith(b"\r\n\r\n" + body) and received.count(body) == 2


def test_who_stops_reading_again_at_once_is_waited_for(loop_name: str, site: Path) -> None:
    with hosted(loop_name, site) as host:
        peer, served = host.connect()
        with peer:
            host.call(lambda: (served.pause_writing(), served.resume_writing(), served.pause_writing()))
            peer.sendall(request("/small.txt"))
            host.wait_until(lambda: served._input, "the request")
            host.call(served.resume_writing)
            assert read_reply(peer).body == SMALL


@pytest.mark.parametrize("name", [shell.name for shell in SHELLS])
def test_no_connection_is_left_to_the_garbage_collector(name: str, site: Path) -> None:
    """What is freed at once costs no search, and takes what was not sent along; so none must refer to itself."""
    usual = (request("/small.txt", "Connection: close"), request("/small.txt"), request("/none"), b"bad")
    unread = (request("/small.txt") * 1000, request("/large.bin"))
    with hosted(name, site) as host:
        gc.collect()
        gc.disable()
        try:
            for question in usual + unread:
                peer, served = host.connect(receive_buffer=4096, send_buffer=4096)
                gone = weakref.ref(served)
                del served
                with peer:
                    peer.sendall(question)
                    if question in usual:
                        peer.shutdown(socket.SHUT_WR)
                        receive_to_end(peer)
                    else:
                        receive_exactly(peer, 1)
                        reset(peer)
                host.wait_until(partial(is_freed, gone), f"that the connection of {question[:99]!r} was freed")
        finally:
            gc.enable()


def is_freed(reference: weakref.ref[Any]) -> bool:
    return reference() is None


def test_clients_that_reset_leave_no_descriptor_behind(server: Server) -> None:
    ask(server, "/large.bin")
    before = len(os.listdir(f"/proc/{server.pid}/fd"))
    for _ in range(30):
        peer = server.connect(receive_buffer=4096)
        peer.sendall(request("/large.bin"))
        receive_exactly(peer, 100)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
    deadline = time.monotonic() + DEADLINE
    while len(os.listdir(f"/proc/{server.pid}/fd")) > before:
        assert time.monotonic() < deadline
        ask(server, "/small.txt")


def test_who_pipelines_without_reading_costs_no_memory(server: Server) -> None:
    before = server.rss()
    with server.connect(receive_buffer=4096) as peer:
        peer.settimeout(0.5)
        data = request("/small.txt") * 1000
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 64 << 20:
                sent += peer.send(data)
        assert server.rss() - before < 8 << 20
        assert ask(server, "/small.txt").body == SMALL


def test_ten_megabytes_without_a_newline_are_refused_early(server: Server) -> None:
    with server.connect() as peer:
        try:
            peer.sendall(b"G" * (10 << 20))
            received = receive_to_end(peer)
        except (BrokenPipeError, ConnectionResetError):
            return
        assert b" 431 " in received


def test_a_transcript_says_what_happened_and_why(shell: Shell, site: Path) -> None:
    with shell.server("websrv", site, "-v", role="") as server:
        ask(server, "/large.bin")
        for pattern in (
            r"< accept fd=\d+",
            r"< (data_received|recv) fd=\d+ \d+ B",
            "= submit .*thread",
            r"> sendfile fd=\d+ \d+ B",
        ):
            server.stderr.wait_for(pattern)


def test_curl_resumes_a_download(server: Server, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    part = tmp_path / "part"
    part.write_bytes(LARGE[:1_000_000])
    url = f"http://{server.host}:{server.port}/large.bin"
    subprocess.run(["curl", "-sf", "-C", "-", "-o", part, url], check=True, timeout=DEADLINE)
    assert part.read_bytes() == LARGE
