"""The socket at ``--unix``: there while its server listens, gone after it, and never taken from another server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from faults import wait_until
from harness import DEADLINE, Process, Shell, receive_to_end
from webclient import exchange, request

LARGE = 8 << 20
"""More than fits into the buffers of a connection: its answer is in flight until the client has read it."""

WORKERS = pytest.mark.parametrize("workers", [1, 2])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "file.txt").write_text("file")
    (tmp_path / "site" / "large.bin").write_bytes(bytes(LARGE))
    return tmp_path / "socket"


def command(shell: Shell, path: Path, workers: int) -> list[str]:
    return shell.command("websrv", "", path.parent / "site", "--unix", path, "--workers", workers, "--grace", DEADLINE)


@contextmanager
def serving(shell: Shell, path: Path, workers: int = 1) -> Iterator[Process]:
    """A server at *path*, which has been seen to answer there."""
    process = Process(command(shell, path, workers))
    try:
        process.stdout.wait_for(f"listening on {path}")
        check(path)
        yield process
    finally:
        process.kill()


def connect(path: Path) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(DEADLINE)
    try:
        peer.connect(str(path))
    except OSError:
        peer.close()
        raise
    return peer


def check(path: Path) -> None:
    """Somebody serves at *path*."""
    with connect(path) as peer:
        assert exchange(peer, "/file.txt").body == b"file"


def stop(process: Process) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0


@WORKERS
def test_a_server_that_stops_removes_its_socket(shell: Shell, path: Path, workers: int) -> None:
    with serving(shell, path, workers) as process:
        stop(process)
        assert not path.exists()


@WORKERS
def test_a_socket_that_another_server_has_put_there_stays(shell: Shell, path: Path, workers: int) -> None:
    with serving(shell, path, workers) as first:
        path.unlink()
        with serving(shell, path) as second:
            stop(first)
            check(path)
            stop(second)
    assert not path.exists()


@WORKERS
def test_the_next_server_may_start_while_this_one_finishes(shell: Shell, path: Path, workers: int) -> None:
    with serving(shell, path, workers) as first, connect(path) as peer:
        peer.sendall(request("/large.bin"))
        assert peer.recv(1) == b"H"
        first.send_signal(signal.SIGTERM)
        wait_until(lambda: not listens(path), "the listener closed")
        with serving(shell, path) as second:
            assert first.popen.poll() is None
            assert len(receive_to_end(peer)) > LARGE
            assert first.wait() == 0
            check(path)
            stop(second)
    assert not path.exists()


def listens(path: Path) -> bool:
    try:
        connect(path).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    return True


@WORKERS
def test_a_server_that_was_killed_is_replaced_and_one_that_lives_is_not(shell: Shell, path: Path, workers: int) -> None:
    with serving(shell, path, workers) as first:
        refused = subprocess.run(command(shell, path, workers), capture_output=True, timeout=DEADLINE)
        assert refused.returncode == 2 and refused.stderr.count(b"\n") == 1
        assert b"address already in use" in refused.stderr
        check(path)
        first.send_signal(signal.SIGKILL)
        first.wait()
        wait_until(lambda: not listens(path), "the workers ended")
        with serving(shell, path, workers) as second:
            stop(second)
    assert not path.exists()


@WORKERS
def test_a_server_that_nobody_hears_say_that_it_is_ready_leaves_no_socket(
    shell: Shell, path: Path, workers: int
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(command(shell, path, workers), stdout=writer, stderr=subprocess.PIPE, timeout=DEADLINE)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"") and not path.exists()
