"""Limits on connections and on programs: they hold for all workers together, also when one is killed."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from aiolsp.linux.pidfd import PidFd
from faults import wait_until
from harness import DEADLINE, Server, Shell, receive_to_end, receive_until
from webclient import ask, exchange, read_reply, request
from webworkers import SMALL, serving, status, wait_for_others, workers


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("limits")
    (root / "small.txt").write_bytes(SMALL)
    return root


def test_programs_are_bounded_for_all_workers_together(shell: Shell, site: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    program = tmp_path / "cgi" / "wait"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho Content-Type: text/plain\necho\nread line < {tmp_path / 'fifo'}\n")
    program.chmod(0o755)
    with workers(shell, site, "--cgi-dir", program.parent, "--max-children", 1) as server:
        with server.connect() as peer, server.connect() as other:
            peer.sendall(request("/cgi-bin/wait"))
            receive_until(peer, b"\r\n\r\n")
            wait_until(lambda: status(server)["all"]["programs"] == 1, "the program in the status")
            assert exchange(other, "/cgi-bin/wait").status == 503
            (tmp_path / "fifo").write_text("go on\n")
            receive_until(peer, b"0\r\n\r\n")
            wait_until(lambda: exchange(other, "/small.txt").status == 200, "an answer")
        wait_until(lambda: status(server)["all"]["programs"] == 0, "the end of the program")


def test_the_programs_of_a_worker_that_is_killed_end_and_leave_their_places(
    shell: Shell, site: Path, tmp_path: Path
) -> None:
    for name, rest in (("stay", "echo $$; sleep 600"), ("quick", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho Content-Type: text/plain\necho\n{rest}\n")
        (tmp_path / name).chmod(0o755)
    with workers(shell, site, "--cgi-dir", tmp_path, "--max-children", 1) as server:
        with server.connect() as peer:
            peer.sendall(request("/cgi-bin/stay"))
            receive_until(peer, b"\r\n\r\n")
            pid = int(receive_until(peer, b"\n\r\n").splitlines()[1])
            wait_until(lambda: status(server)["all"]["programs"] == 1, "the program in the status")
            (busy,) = (worker["pid"] for worker in status(server)["workers"].values() if worker["programs"])
            started = [PidFd(process.pid) for process in psutil.Process(pid).children()] + [PidFd(pid)]
            os.kill(busy, signal.SIGKILL)
            for program in started:
                assert select.select([program], [], [], DEADLINE)[0], "it still runs"
                program.close()
        wait_until(lambda: ask(server, "/cgi-bin/quick").status == 200, "a place")
        wait_until(lambda: status(server)["all"]["programs"] == 0, "no program")
        wait_for_others(server, {busy})


def connect_from(server: Server, address: str) -> socket.socket:
    """A client at *address*."""
    return socket.create_connection((server.host, server.port), DEADLINE, (address, 0))


def test_the_limits_hold_for_all_workers_together(shell: Shell, site: Path) -> None:
    options = ("--max-connections", 7, "--max-per-address", 5)
    with workers(shell, site, *options) as server:
        wait_until(lambda: status(server)["all"]["connections"] == 1, "nobody else")
        victim = min(serving(server))

        def come(address: str) -> socket.socket:
            while True:  # who was refused a moment ago counts until the server has seen him go
                peer = connect_from(server, address)
                peer.sendall(request("/small.txt"))
                if (reply := read_reply(peer)).status == 200:
                    assert reply.body == SMALL
                    return peer
                peer.close()

        def refused(address: str) -> bool:
            with connect_from(server, address) as peer:
                reply = read_reply(peer)
                receive_to_end(peer)
                return reply.status == 503

        first = [come("127.0.0.1") for _ in range(5)]
        assert refused("127.0.0.1") and refused("127.0.0.1")
        second = [come("127.0.0.2") for _ in range(2)]
        assert refused("127.0.0.3") and refused("127.0.0.1")
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: ask(server, "/small.txt").status == 200, "room again")
        for peer in first + second:
            peer.close()
        wait_until(lambda: len(serving(server)) == 2, "a new worker")


def test_a_rush_on_both_workers_never_exceeds_the_limit(shell: Shell, site: Path) -> None:
    with workers(shell, site, "--max-connections", 20) as server:
        peers: list[socket.socket] = []

        def rush() -> None:
            peers.extend(server.connect() for _ in range(15))

        threads = [threading.Thread(target=rush) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        for peer in peers:
            with suppress(OSError):  # who was refused may be gone already
                peer.sendall(request("/small.txt"))
        told = Counter(read_reply(peer).status for peer in peers)
        assert set(told) == {200, 503} and told.total() == 60
        assert told[200] <= 20, "of those that come at one moment, more may be turned away than had to be"
        for peer in peers:
            peer.close()
        wait_until(lambda: ask(server, "/small.txt").status == 200, "room again")
