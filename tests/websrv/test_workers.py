"""The web server by several processes: replaced, killed, limited and stopped under load, and nothing left behind."""

from __future__ import annotations

import os
import re
import resource
import select
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from aiolsp.http1.limits import Limits
from aiolsp.linux.pidfd import PidFd
from aiolsp.sansio.stopping import ECHO
from aiolsp.websettings import ACCEPT
from faults import wait_until
from harness import DEADLINE, SHELLS, Process, Server, Shell, receive_exactly, receive_to_end, receive_until
from webclient import ask, exchange, request
from webworkers import SMALL, Load, case, serving, status, wait_for_others, workers

ASYNCIO, UVLOOP, BLOCKING = SHELLS
LARGE = b"large" * 1_000_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("workers")
    (root / "small.txt").write_bytes(SMALL)
    (root / "large.bin").write_bytes(LARGE)
    return root


@pytest.mark.parametrize(
    ("shell", "accept"),
    [
        (ASYNCIO, "parent"),
        (UVLOOP, "parent"),
        (ASYNCIO, "reuseport"),
        (UVLOOP, "child"),
        *((BLOCKING, accept) for accept in ACCEPT),
    ],
    ids=case,
)
def test_two_processes_serve_one_address(shell: Shell, site: Path, accept: str) -> None:
    with workers(shell, site, "--accept", accept) as server:
        pids = serving(server)
        assert len(pids) == 2 and server.pid not in pids
        peers = [server.connect() for _ in range(20)]
        for peer in peers:
            assert exchange(peer, "/small.txt").body == SMALL
        wait_until(lambda: status(server)["all"]["connections"] >= 20, "all connections in the status")
        told = status(server)["workers"].values()
        if accept == "parent":
            assert all(worker["connections"] in (10, 11) for worker in told), "they go round"
        for peer in peers:
            peer.close()
        server.stdout.wait_for(rf"http://127.0.0.1:{server.port}/ serves {site} by 2 processes; Ctrl-C stops it")
        assert len(server.stdout.text.splitlines()) == 2


def test_ten_hangups_under_load_lose_no_request(shell: Shell, site: Path) -> None:
    with workers(shell, site) as server:
        with Load(server) as load:
            before = 0
            for _ in range(10):
                old = serving(server)
                server.send_signal(signal.SIGHUP)
                wait_for_others(server, old)
                total = status(server)["all"]["requests_total"]
                assert total >= before
                before = total
        assert not load.faults
        assert min(load.answers.values()) > 10 and len(load.answers) == 2
        wait_until(lambda: status(server)["all"]["connections"] == 1, "no connection but the one that asks")


def test_a_worker_that_is_killed_takes_only_its_own_connections_along(shell: Shell, site: Path) -> None:
    with workers(shell, site) as server:
        peers = [server.connect() for _ in range(10)]
        for peer in peers:
            assert exchange(peer, "/small.txt").body == SMALL
        wait_until(lambda: status(server)["all"]["requests_total"] >= 10, "all requests in the status")
        before = status(server)
        counted = before["all"]
        victim = next(worker for worker in before["workers"].values() if worker["pid"])
        os.kill(victim["pid"], signal.SIGKILL)
        wait_until(lambda: len(pids := serving(server)) == 2 and victim["pid"] not in pids, "a new worker")
        lost = 0
        for peer in peers:
            try:
                assert exchange(peer, "/small.txt").body == SMALL
            except (OSError, AssertionError):
                lost += 1
            peer.close()
        assert lost == 5, "the half that it had"
        after = status(server)["all"]
        assert all(after[name] >= counted[name] for name in after if name.endswith("_total"))
        wait_until(lambda: status(server)["all"]["connections"] == 1, "no connection of the dead")
        server.stderr.wait_for(rf"worker with pid {victim['pid']} was killed by SIGKILL")


@pytest.mark.parametrize(
    ("shell", "killed"),
    [(ASYNCIO, "parent"), (UVLOOP, "parent"), (UVLOOP, "zygote"), (BLOCKING, "parent")],
    ids=case,
)
def test_no_process_outlives_the_server(shell: Shell, site: Path, killed: str) -> None:
    server = Server(shell.command("websrv", "", site, "--port", 0, "--workers", 2, "--status", "/status"))
    try:
        wait_until(lambda: len(serving(server)) == 2, "two workers")
        family = psutil.Process(server.pid).children(recursive=True)
        assert len(family) == (2 if shell is BLOCKING else 3), "two workers, and the one that forks for a loop"
        fds = [PidFd(process.pid) for process in family]
        os.kill(server.pid if killed == "parent" else family[0].pid, signal.SIGKILL)
        for fd in fds:
            assert select.select([fd], [], [], DEADLINE)[0], "it still runs"
            fd.close()
        assert server.wait() == (-signal.SIGKILL if killed == "parent" else 1)
        if killed == "zygote":
            (line,) = server.stderr.whole().splitlines()
            assert line.startswith("python -m aiolsp.websrv: the process that forks was killed")
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("shell", "everybody"), [(ASYNCIO, False), (ASYNCIO, True), (UVLOOP, True), (BLOCKING, True)], ids=case
)
def test_what_is_in_flight_is_finished_when_it_is_stopped(shell: Shell, site: Path, everybody: bool) -> None:
    """A terminal's Ctrl-C goes to the parent and all workers, as does what systemd sends."""
    with workers(shell, site, start_new_session=True) as server:
        peers = [server.connect(receive_buffer=1 << 16) for _ in range(4)]
        for peer in peers:
            peer.sendall(request("/large.bin"))
            receive_until(peer, b"\r\n\r\n")
        if everybody:
            os.killpg(server.pid, signal.SIGTERM)
        else:
            server.send_signal(signal.SIGTERM)
        wait_until(server.refuses, "no more connections")
        if everybody:  # once more, now that they have begun to finish
            for child in psutil.Process(server.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.send_signal(signal.SIGTERM)
        for peer in peers:
            assert receive_exactly(peer, len(LARGE)) == LARGE
            peer.close()
        assert server.wait() == 0


def test_a_second_signal_cuts_what_is_in_flight(shell: Shell, site: Path) -> None:
    with workers(shell, site, "--grace", 600, "-v") as server:
        with server.connect(receive_buffer=1 << 16) as peer:
            peer.sendall(request("/large.bin"))
            receive_until(peer, b"\r\n\r\n")
            server.send_signal(signal.SIGTERM)
            server.stderr.wait_for("finish what is in flight")
            time.sleep(2 * ECHO)
            server.send_signal(signal.SIGTERM)
            assert server.wait() == 0
            assert len(receive_to_end(peer)) < len(LARGE)


def test_workers_that_cannot_start_leave_the_old_ones_serving(shell: Shell, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "small.txt").write_bytes(SMALL)
    with workers(shell, site) as server:
        old = serving(server)
        site.rename(tmp_path / "elsewhere")
        server.send_signal(signal.SIGHUP)
        server.stderr.wait_for(rf"(?m)^aiolsp.*websrv: cannot serve {site}: no such file or directory$")
        assert ask(server, "/small.txt").body == SMALL
        (tmp_path / "elsewhere").rename(site)
        wait_for_others(server, old)


@pytest.mark.parametrize("shell", [UVLOOP, BLOCKING], ids=case)
def test_a_unix_socket_is_served_and_removed(shell: Shell, site: Path, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    process = Process(shell.command("websrv", "", site, "--unix", path, "--workers", 2))
    try:
        process.stdout.wait_for("listening on")
        for _ in range(4):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(DEADLINE)
                peer.connect(str(path))
                assert exchange(peer, "/small.txt").body == SMALL
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0 and not path.exists()
    finally:
        process.kill()


@pytest.mark.parametrize("shell", [UVLOOP, BLOCKING], ids=case)
@pytest.mark.parametrize("count", [1, 2])
def test_a_burst_of_connections_waits_for_no_larger_table_of_descriptors(shell: Shell, site: Path, count: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with shell.server("websrv", site, "--workers", count, "--status", "/status", role="") as server:
        wait_until(lambda: len(serving(server)) == count, "all serve")
        for pid in serving(server):
            told = re.search(r"FDSize:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
            assert told is not None and int(told[1]) >= min(Limits().max_connections, most)


def test_what_cannot_be_had_is_one_line(shell: Shell, site: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cases = (
            ((site, "--port", port), "cannot listen on"),
            ((site, "--port", port, "--accept", "reuseport"), "cannot listen on"),
            ((site / "missing", "--port", 0), "cannot serve"),
            ((site, "--unix", "x", "--accept", "reuseport"), "a unix socket has no --accept reuseport"),
            ((site, "--workers", "0"), "--workers"),
        )
        running = [Process(shell.command("websrv", "", "--workers", 2, *words)) for words, _ in cases]
        try:
            for process, (_, message) in zip(running, cases, strict=True):
                assert process.wait() == 2
                (line,) = process.stderr.whole().splitlines()
                assert message in line
        finally:
            for process in running:
                process.kill()


def test_one_process_stops_cleanly_at_a_hangup_unless_it_is_ignored(shell: Shell, site: Path) -> None:
    with shell.server("websrv", site, role="") as server:
        server.send_signal(signal.SIGHUP)
        assert server.wait() == 0

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with shell.server("websrv", site, role="", preexec_fn=ignore) as server:
        server.send_signal(signal.SIGHUP)
        assert ask(server, "/small.txt").body == SMALL
