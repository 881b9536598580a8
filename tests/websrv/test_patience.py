"""Clients that are slow, or do not read, or are too many: how long and how many a connection waits for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness import DEADLINE, Server, Shell, receive_to_end
from webclient import ask, read_reply, request

SMALL = b"small" * 100
LARGE = bytes(range(256)) * 80_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("patience")
    (root / "small.txt").write_bytes(SMALL)
    (root / "large.bin").write_bytes(LARGE)
    return root


def impatient(shell: Shell, site: Path, *options: object) -> Server:
    return Server(shell.command("websrv", "", site, "--port", 0, *options))


def test_a_head_that_does_not_end_is_timed_out(shell: Shell, site: Path) -> None:
    server = impatient(shell, site, "--head-timeout", 0.3, "--idle-timeout", 0.6)
    try:
        with server.connect() as slow, server.connect() as idle, server.connect() as silent:
            slow.sendall(b"GET / HTTP/1.1\r\n")
            idle.sendall(request("/small.txt"))
            assert read_reply(idle).body == SMALL
            timed_out = read_reply(slow)
            assert timed_out.status == 408 and timed_out.fields["connection"] == "close"
            assert receive_to_end(slow) == receive_to_end(idle) == receive_to_end(silent) == b""
        server.stop()
    finally:
        server.kill()


def test_a_body_that_trickles_is_timed_out(shell: Shell, site: Path) -> None:
    server = impatient(shell, site, "--body-grace", 0.2, "--body-rate", 1000)
    try:
        with server.connect() as peer:
            peer.sendall(request("/small.txt", "Content-Length: 1000") + b"x" * 10)
            assert read_reply(peer).status == 408
            assert receive_to_end(peer) == b""
        server.stop()
    finally:
        server.kill()


@pytest.mark.parametrize("target", ["/large.bin", "/small.txt"])
def test_who_does_not_read_is_cut(shell: Shell, site: Path, target: str) -> None:
    server = impatient(shell, site, "--response-grace", 0.3, "--response-rate", 1e9, "-v")
    try:
        # A much smaller buffer would leave the rest to the persist timer of TCP, which waits for minutes.
        with server.connect(receive_buffer=1 << 16) as peer:
            peer.settimeout(1)
            try:
                for _ in range(1 if target == "/large.bin" else 20_000):
                    peer.sendall(request(target))
            except (TimeoutError, ConnectionError):
                pass
            assert ask(server, "/small.txt").body == SMALL
            server.stderr.wait_for("- timed out .*waited for the client to read")
            peer.settimeout(DEADLINE)
            received = receive_to_end(peer)
            assert len(received) < (len(LARGE) if target == "/large.bin" else 20_000 * len(SMALL))
        server.stop()
    finally:
        server.kill()


def test_too_many_connections_are_told_so(shell: Shell, site: Path) -> None:
    for option in ("--max-connections", "--max-per-address"):
        server = impatient(shell, site, option, 2)
        try:
            with server.connect() as first, server.connect() as second:
                for peer in (first, second):
                    peer.sendall(request("/small.txt"))
                    assert read_reply(peer).body == SMALL
                with server.connect() as third:
                    refused = read_reply(third)
                    assert refused.status == 503 and refused.fields["retry-after"]
                    assert receive_to_end(third) == b""
                second.close()
                deadline = time.monotonic() + DEADLINE
                while ask(server, "/small.txt").status != 200:
                    assert time.monotonic() < deadline
                first.sendall(request("/small.txt"))
                assert read_reply(first).body == SMALL
            server.stop()
        finally:
            server.kill()


def test_without_descriptors_it_waits_and_goes_on(shell: Shell, site: Path) -> None:
    command = shell.command("websrv", "", site, "--port", 0)
    server = Server(["prlimit", "--nofile=40:40", *command])
    try:
        peers = [server.connect() for _ in range(60)]
        server.stderr.wait_for("too many open files")
        used = server.cpu_seconds()
        with pytest.raises(TimeoutError):
            peers[-1].settimeout(1)
            peers[-1].sendall(request("/small.txt"))
            peers[-1].recv(1)
        assert server.cpu_seconds() - used < 0.5
        for peer in peers[:-1]:
            peer.close()
        peers[-1].settimeout(DEADLINE)
        assert read_reply(peers[-1]).body == SMALL
        peers[-1].close()
        server.stop()
    finally:
        server.kill()
