"""How the server of programs ends, is killed, and reloads, on each shell: what runs may end, and nothing is left."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

import faults
from aiolsp.sansio.stopping import ECHO
from cgiasking import ask, asking, write_programs
from harness import Server, Shell, receive_to_end, receive_until


@pytest.fixture(scope="module")
def cgi_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of programs."""
    folder = tmp_path_factory.mktemp("programs")
    write_programs(folder)
    return folder


def test_nothing_is_left_of_a_server_that_is_killed(shell: Shell, cgi_dir: Path) -> None:
    server = Server(shell.command("cgisrv", "server", "--port", 0, "--cgi-dir", cgi_dir, "--processes", 2))
    try:
        with asking(server, b"endless\r\n") as (_, pids):
            family = faults.descendants(server.pid)
            assert set(pids) <= set(family)
            server.send_signal(signal.SIGKILL)
            if shell.name == "blocking":  # without a zygote, what the program itself had started is out of reach
                os.kill(pids[1], signal.SIGKILL)
            for pid in family:
                faults.await_end(pid)
    finally:
        server.kill()


def test_a_program_that_runs_when_the_server_stops_may_end(shell: Shell, cgi_dir: Path) -> None:
    with shell.server("cgisrv", "--cgi-dir", cgi_dir, "--processes", 2) as server:
        with server.connect() as peer, server.connect() as idle:
            peer.sendall(b"slow\r\n")
            assert receive_until(peer, b"\n") == b"begin\n"
            server.send_signal(signal.SIGTERM)
            assert receive_to_end(peer) == b"end\n" and receive_to_end(idle) == b""
        assert server.wait() == 0


def test_a_second_signal_ends_it_at_once(shell: Shell, cgi_dir: Path) -> None:
    with shell.server("cgisrv", "--cgi-dir", cgi_dir, "--processes", 2) as server:
        with asking(server, b"endless\r\n") as (peer, pids):
            server.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionError):  # it has begun to stop
                while True:
                    server.connect().close()
            time.sleep(2 * ECHO)
            server.send_signal(signal.SIGINT)
            assert receive_to_end(peer) == b""
            for pid in pids:
                faults.await_end(pid)
        assert server.wait() == 0


def test_ten_reloads_under_load_lose_no_request(shell: Shell, cgi_dir: Path) -> None:
    with shell.server("cgisrv", "--cgi-dir", cgi_dir, "--processes", 2, "--max-children", 8) as server:
        answers: list[bytes] = []
        stop = threading.Event()

        def load() -> None:
            while not stop.is_set():
                answers.append(ask(server, b"hello\r\n"))

        loaders = [threading.Thread(target=load) for _ in range(2)]
        for loader in loaders:
            loader.start()
        try:
            for number in range(1, 11):
                server.send_signal(signal.SIGHUP)
                server.stderr.wait_for(r"worker with pid \d+ exited 0", count=2 * number)
        finally:
            stop.set()
            for loader in loaders:
                loader.join()
        assert answers and set(answers) == {b"hello\n"}


def test_a_program_with_orphans_survives_the_end_of_one_and_of_another_process(shell: Shell, cgi_dir: Path) -> None:
    with shell.server("cgisrv", "--cgi-dir", cgi_dir, "--processes", 2) as server:
        with asking(server, b"orphans\r\n") as (peer, (first, second)):
            server.send_signal(signal.SIGHUP)
            server.stderr.wait_for(r"worker with pid \d+ exited 0")
            os.kill(first, signal.SIGKILL)
            assert receive_to_end(peer) == b"end\n"  # it has seen that somebody reaped the first
            faults.await_end(second)
        faults.wait_until(lambda: not zombies(server), "the reaping of all orphans")


def zombies(server: Server) -> list[int]:
    """Dead processes of the server's family."""
    found: list[int] = []
    for pid in faults.descendants(server.pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            found += [pid] * (faults.state(pid) == "Z")
    return found
