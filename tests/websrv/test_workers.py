"""The web server by several processes: replaced, killed, limited and stopped under load, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import resource
import select
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from aiolsp.http1.limits import Limits
from aiolsp.linux.pidfd import PidFd
from aiolsp.websettings import ACCEPT
from faults import wait_until
from harness import DEADLINE, SHELLS, Process, Server, Shell, receive_exactly, receive_to_end, receive_until
from webclient import Reply, ask, exchange, read_reply, request

ASYNCIO, UVLOOP, BLOCKING = SHELLS

SMALL = b"small" * 100
LARGE = b"large" * 1_000_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("workers")
    (root / "small.txt").write_bytes(SMALL)
    (root / "large.bin").write_bytes(LARGE)
    return root


def case(value: object) -> str:
    """How a case is called in the name of a test."""
    return value.name if isinstance(value, Shell) else str(value)


@contextmanager
def workers(shell: Shell, site: Path, *options: object, **settings: Any) -> Iterator[Server]:
    """A running server of two workers, both of which have answered, with a status page; it must stop quietly."""
    told = ("--workers", 2, "--status", "/status", *options)
    with shell.server("websrv", site, *told, role="", **settings) as server:
        wait_until(lambda: both_answer(server), "two workers")
        yield server


def status(server: Server) -> dict[str, Any]:
    """The status of all and of each, by a connection of its own."""
    told: dict[str, Any] = json.loads(ask(server, "/status?format=json").body)
    return told


def both_answer(server: Server) -> bool:
    """Whether two workers have answered: so both get connections."""
    answered = [worker for worker in status(server)["workers"].values() if worker["requests_total"]]
    return len(answered) == 2


def serving(server: Server) -> set[int]:
    """The process ids of the workers that serve."""
    return {worker["pid"] for worker in status(server)["workers"].values() if worker["pid"] and not worker["draining"]}


def wait_for_others(server: Server, old: set[int]) -> None:
    """Wait until two workers serve, none of them among *old*."""
    wait_until(lambda: len(new := serving(server)) == 2 and not new & old, "two new workers")


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


class Load:
    """Clients that ask without a pause, one on a connection for each request, one on a connection that it keeps."""

    def __init__(self, server: Server) -> None:
        self.answers: Counter[str] = Counter()
        self.faults: list[str] = []
        self._server = server
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(ask_,)) for ask_ in (self._ask_once, self._ask_on)]
        self._kept: socket.socket | None = None

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(DEADLINE)
        if self._kept is not None:
            self._kept.close()

    def _run(self, ask_: Any) -> None:
        while not self._ended.is_set() and not self.faults:
            try:
                reply: Reply = ask_()
                if (reply.status, reply.body) != (200, SMALL):
                    self.faults.append(repr(reply))
                self.answers[ask_.__name__] += 1
            except (OSError, AssertionError) as error:
                self.faults.append(repr(error))

    def _ask_once(self) -> Reply:
        return ask(self._server, "/small.txt", "Connection: close")

    def _ask_on(self) -> Reply:
        if self._kept is None:
            self._kept = self._server.connect()
            return self._ask_kept(self._kept)
        try:
            return self._ask_kept(self._kept)
        except (OSError, AssertionError):
            # A server may close an idle connection just when a request comes: a client asks again (RFC 9112 9.3.1).
            self._kept.close()
            self._kept = self._server.connect()
            return self._ask_kept(self._kept)

    def _ask_kept(self, kept: socket.socket) -> Reply:
        reply = exchange(kept, "/small.txt")
        if reply.fields.get("connection") == "close":
            kept.close()
            self._kept = None
        return reply


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
