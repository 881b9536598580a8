"""Programs by name over TCP, on a process pool: one body of tests for stock asyncio, uvloop and the blocking twin."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import faults
from aiolsp.blocking import cgisrv as twin
from aiolsp.blocking.mechanisms.acceptor import Acceptor
from aiolsp.linux.pidfd import PidFd
from aiolsp.linux.places import Places
from aiolsp.linux.programs import ProgramDirectory
from cgiasking import ask, asking, check, write_programs
from escaping import PROGRAM_NAMES, make_programs, targets
from harness import DEADLINE, SHELLS, Process, Server, Shell, receive_to_end

MIB = 1 << 20


@pytest.fixture(scope="module")
def cgi_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of programs, and of what must not run."""
    folder = tmp_path_factory.mktemp("cgi") / "programs"
    folder.mkdir()
    write_programs(folder)
    (folder / "text").write_text("#!/bin/sh\necho no\n")
    (folder / "text").chmod(0o644)
    (folder / "link").symlink_to("/bin/sh")
    (folder / "folder").mkdir()
    (folder.parent / "outside").write_text("#!/bin/sh\necho outside\n")
    (folder.parent / "outside").chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def servers(cgi_dir: Path) -> Iterator[dict[Shell, Server]]:
    """One server of each shell, which must outlive all that this file does to it."""
    options = ("--cgi-dir", cgi_dir, "--processes", 2, "--max-children", 4, "--cgi-timeout", 20)
    with ExitStack() as stack:
        yield {shell: stack.enter_context(shell.server("cgisrv", *options)) for shell in SHELLS}


@pytest.fixture
def server(shell: Shell, servers: dict[Shell, Server]) -> Server:
    """A running server."""
    return servers[shell]


# What runs


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_the_output_of_a_program_comes_and_then_the_end(server: Server, end: bytes) -> None:
    assert ask(server, b"hello" + end) == b"hello\n"


def test_a_client_that_says_no_more_still_gets_the_output(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(b"slow\r\n")
        peer.shutdown(socket.SHUT_WR)
        assert receive_to_end(peer) == b"begin\nend\n"


def test_the_name_may_come_in_pieces_and_what_follows_it_is_forgotten(server: Server) -> None:
    with server.connect() as peer:
        for piece in (b"he", b"llo\r", b"\nstatus\r\n"):
            peer.sendall(piece)
        assert receive_to_end(peer) == b"hello\n"


def test_programs_of_three_languages_run_without_arguments_and_with_an_empty_input(server: Server) -> None:
    assert ask(server, b"python\r\n") == b"args [] input \n"
    assert ask(server, b"perl\r\n") == b"42\n"
    assert ask(server, b"silent\r\n") == b""


def test_the_environment_is_clean_and_the_directory_is_the_programs_own(server: Server, cgi_dir: Path) -> None:
    words = ask(server, b"env\r\n").decode().splitlines()
    assert words[0] == str(cgi_dir)
    names = {line.partition("=")[0] for line in words[1:]}
    assert names <= {"LANG", "PATH", "REMOTE_ADDR", "PWD", "OLDPWD", "SHLVL", "_"} and "REMOTE_ADDR=127.0.0.1" in words


def test_what_a_program_complains_of_and_how_it_ends_is_logged(server: Server) -> None:
    assert ask(server, b"status\r\n") == b"half\n"
    server.stderr.wait_for(r"(?m)^complaint$")
    server.stderr.wait_for(r"status exited 3 for 127\.0\.0\.1:\d+")


def test_the_programs_own_client_prints_the_output(shell: Shell, server: Server) -> None:
    with shell.client("cgisrv", server, "hello") as client:
        assert client.wait() == 0 and client.stdout.whole() == "hello\n"


def test_nc_is_a_client(server: Server) -> None:
    if shutil.which("nc") is None:
        pytest.skip("nc is not installed")
    done = subprocess.run(
        ["nc", "-N", server.host, str(server.port)], input=b"slow\r\n", capture_output=True, timeout=DEADLINE
    )
    assert done.stdout == b"begin\nend\n"


# What does not run


@pytest.mark.parametrize(
    "name",
    [b"", b".", b"..", b"../outside", b"/bin/sh", b"folder/x", b"./hello", b"he\0llo", b"hel\x1blo", b"x" * 300],
)
def test_what_is_no_plain_name_is_refused(server: Server, name: bytes) -> None:
    assert ask(server, name + b"\r\n") == b"cgisrv: a request is the plain name of a program, and CR LF\r\n"


@pytest.mark.parametrize("name", [b"missing", b"link", b"folder", b"outside", b"hello ", b"\xff\xfe"])
def test_what_is_no_file_of_the_directory_is_not_there(server: Server, name: bytes) -> None:
    assert ask(server, name + b"\r\n") == b"cgisrv: no such program\r\n"


def test_no_request_runs_a_program_outside_of_the_directory(shell: Shell, tmp_path: Path) -> None:
    folder = make_programs(tmp_path)
    asked = [*targets(SHELLS.index(shell), 1000, names=PROGRAM_NAMES * 2, start=b""), b"inside"]
    with shell.server("cgisrv", "--cgi-dir", folder, "--processes", 1) as server:
        answers = {ask(server, name + b"\r\n") for name in asked}
    assert not (tmp_path / "ran").exists() and any(answer.endswith(b"inside") for answer in answers)


def test_what_is_not_executable_or_no_program_does_not_run(server: Server) -> None:
    assert ask(server, b"text\r\n") == b"cgisrv: that is not executable\r\n"
    for name in (b"noise", b"lost"):
        assert ask(server, name + b"\r\n") == b"cgisrv: the program cannot be started\r\n"


def test_a_name_without_its_end_runs_nothing(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(b"hello")
        peer.shutdown(socket.SHUT_WR)
        assert receive_to_end(peer) == b""


def test_an_event_of_a_closed_descriptor_does_not_go_to_the_next_of_its_number(cgi_dir: Path, tmp_path: Path) -> None:
    """In one turn: a program ends, a client asks, one connects, and something comes from the pipe that is closed."""
    (programs := tmp_path / "programs").mkdir()
    shutil.copy(cgi_dir / "slow", programs)
    for name in ("end", "late"):
        os.mkfifo(tmp_path / name)
    first = f"#!/bin/sh\ncat {tmp_path}/late &\necho $PPID $$ $!\nread line <{tmp_path}/end\n"
    (programs / "first").write_text(first)
    (programs / "first").chmod(0o755)
    with (
        Shell("blocking").server("cgisrv", "--cgi-dir", programs, "--processes", 1, "--accept", "child") as server,
        server.connect() as second,
        asking(server, b"first\r\n") as (peer, (worker, leader, late)),
    ):
        faults.wait_until(lambda: faults.state(worker) == "S", "the worker in epoll_wait")
        os.kill(worker, signal.SIGSTOP)
        faults.wait_until(lambda: faults.state(worker) == "T", "the worker stopped")
        (tmp_path / "end").write_text("end\n")
        faults.wait_until(lambda: faults.state(leader) == "Z", "the end of the program")
        second.sendall(b"slow\r\n")
        with server.connect() as newcomer:
            (tmp_path / "late").write_text("late\n")
            faults.await_end(late)
            os.kill(worker, signal.SIGCONT)
            newcomer.sendall(b"slow\r\n")
            assert receive_to_end(peer) == b"late\n"
            assert receive_to_end(second) == receive_to_end(newcomer) == b"begin\nend\n"


def test_a_client_that_reads_slowly_does_not_stop_the_watch_of_one_with_the_number_of_its_pipe(cgi_dir: Path) -> None:
    with ExitStack() as stack:
        directory, places = stack.enter_context(ProgramDirectory(cgi_dir)), stack.enter_context(Places(1))
        serving = stack.enter_context(twin.CgiServer(directory, places))
        nobody = Acceptor([], serving.watcher.poller, serving.add)
        client, accepted = small_pair()
        stack.enter_context(client)
        serving.add(accepted, client.getsockname())
        (slow,) = serving.connections
        client.sendall(b"pipeful\r\n")
        while slow._program is None:
            serving.watcher.turn(DEADLINE, nobody)
        pipe = slow._pipe
        while not slow._closing:
            serving.watcher.turn(DEADLINE, nobody)
        one, other = socket.socketpair()
        stack.enter_context(other)
        if (number := one.detach()) != pipe:
            os.dup2(number, pipe)
            os.close(number)
        serving.add(socket.socket(fileno=pipe), ("newcomer", 0))
        before = len(slow._unsent)
        while len(slow._unsent) in (0, before):
            client.recv(1024)
            serving.watcher.turn(DEADLINE, nobody)
        assert pipe in serving.watcher


def small_pair() -> tuple[socket.socket, socket.socket]:
    """A client and what was accepted, non-blocking, between which little is on its way."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(DEADLINE)
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    accepted.setblocking(False)
    return client, accepted


# Bounds


@pytest.mark.parametrize("name", [b"endless", b"stubborn"])
def test_what_runs_too_long_is_killed_with_all_its_group(shell: Shell, cgi_dir: Path, name: bytes) -> None:
    with shell.server("cgisrv", "--cgi-dir", cgi_dir, "--processes", 1, "--cgi-timeout", 0.4) as server:
        with asking(server, name + b"\r\n") as (peer, pids):
            assert receive_to_end(peer) == b"cgisrv: timed out after 0.4 s\r\n"
            for pid in pids:
                faults.await_end(pid)
        with server.connect() as peer:
            assert receive_to_end(peer) == b"cgisrv: timed out after 0.4 s\r\n"
        check(server)


def test_no_more_programs_run_than_may_at_once_in_all_processes(shell: Shell, cgi_dir: Path) -> None:
    options = ("--cgi-dir", cgi_dir, "--processes", 3, "--max-children", 2)
    with shell.server("cgisrv", *options) as server, asking(server, b"endless\r\n") as (first, _):
        with asking(server, b"endless\r\n") as (second, _):
            for _ in range(4):  # each process says so
                assert ask(server, b"hello\r\n") == b"cgisrv: too many programs run: try again later\r\n"
            faults.reset(second)
        faults.reset(first)
        faults.wait_until(lambda: ask(server, b"hello\r\n") == b"hello\n", "a place that was given back")


def test_a_client_that_does_not_read_stops_the_program_not_the_server(server: Server) -> None:
    with server.connect(receive_buffer=256 * 1024) as peer:
        peer.sendall(b"large\r\n")
        assert peer.recv(1) == b"\0"
        before = sum(rss(pid) for pid in faults.descendants(server.pid))
        check(server)
        received = 1
        while piece := peer.recv(MIB):
            received += len(piece)
            assert not piece.strip(b"\0")
        assert received == 24 * MIB
        grown = sum(rss(pid) for pid in faults.descendants(server.pid)) - before
        assert grown < 16 * MIB


def rss(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_one_that_forks_away_does_not_keep_its_client_waiting(server: Server) -> None:
    with asking(server, b"daemon\r\n") as (peer, (daemon,)):
        assert receive_to_end(peer) == b""
        os.kill(daemon, signal.SIGKILL)


def test_what_a_program_leaves_in_its_group_is_killed_when_it_ends(server: Server) -> None:
    with asking(server, b"stray\r\n") as (peer, (stray,)):
        assert receive_to_end(peer) == b""
        faults.await_end(stray)


@pytest.mark.parametrize("half_closed", [False, True])
def test_a_client_that_leaves_takes_its_program_along(server: Server, half_closed: bool) -> None:
    with asking(server, b"endless\r\n") as (peer, pids):
        if half_closed:
            peer.shutdown(socket.SHUT_WR)
        faults.reset(peer)
        for pid in pids:
            faults.await_end(pid)


# Processes


@pytest.mark.parametrize("accept", ["parent", "child", "reuseport"])
def test_whoever_accepts_every_client_is_served(shell: Shell, cgi_dir: Path, accept: str) -> None:
    options = ("--cgi-dir", cgi_dir, "--processes", 3, "--accept", accept)
    with shell.server("cgisrv", *options) as server:
        for _ in range(9):
            check(server)
        assert len(faults.descendants(server.pid)) >= 3


def test_a_worker_that_is_killed_loses_its_own_and_is_replaced(shell: Shell, cgi_dir: Path) -> None:
    options = ("--cgi-dir", cgi_dir, "--processes", 2, "--max-children", 2)
    with shell.server("cgisrv", *options) as server, ExitStack() as stack:
        seen: list[bytes] = []
        faults.wait_until(lambda: both_serve(server, seen), "a program of the other process")
        first, first_pids = stack.enter_context(asking(server, b"endless\r\n"))
        with asking(server, b"endless\r\n") as (second, second_pids):
            os.kill(parent_of(first_pids[0]), signal.SIGKILL)
            assert receive_to_end(first) == b""
            for pid in first_pids:
                faults.await_end(pid)
            faults.wait_until(lambda: ask(server, b"hello\r\n") == b"hello\n", "the place of the dead one")
            with PidFd(second_pids[0]):
                faults.reset(second)
        server.stderr.wait_for("was killed by SIGKILL")


def both_serve(server: Server, seen: list[bytes]) -> bool:
    """Ask once more; whether two processes have answered: from then on they take turns."""
    seen.append(ask(server, b"parent\r\n"))
    return len(set(seen)) == 2


def parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])


# Bad input and faults


def test_bad_input_leaves_it_unharmed(server: Server) -> None:
    faults.resets_in_the_middle(server, check, opening=b"hel")
    faults.data_without_newline(server, check)
    faults.binary_garbage(server, check)
    faults.connections_dropped_at_once(server, check)
    faults.signal_storm(server, check, count=2000)
    faults.stopped_server(server, check)


def test_a_process_that_has_no_descriptor_left_serves_on(shell: Shell, cgi_dir: Path) -> None:
    with shell.server("cgisrv", "--cgi-dir", cgi_dir, "--processes", 1, "--accept", "child") as server:
        worker = int(ask(server, b"parent\r\n"))
        held, (_, most) = len(os.listdir(f"/proc/{worker}/fd")), resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (held + 15, most))
        with ExitStack() as stack:
            for _ in range(40):
                stack.enter_context(server.connect()).sendall(b"hello\r\n")
            server.stderr.wait_for("new connections wait until a descriptor is free")
        faults.wait_until(lambda: ask(server, b"hello\r\n") == b"hello\n", "descriptors that are free again")


def test_a_parent_that_has_no_descriptor_left_outlives_its_process(shell: Shell, cgi_dir: Path) -> None:
    with shell.server("cgisrv", "--cgi-dir", cgi_dir, "--processes", 1) as server:
        worker = int(ask(server, b"parent\r\n"))
        before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (0, before[1]))
        os.kill(worker, signal.SIGKILL)
        server.stderr.wait_for("was not forked: too many open files")
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)
        faults.wait_until(lambda: ask(server, b"hello\r\n") == b"hello\n", "another process")


def test_a_directory_that_is_not_there_is_one_line(shell: Shell, tmp_path: Path) -> None:
    missing = Process(shell.command("cgisrv", "server", "--port", 0, "--cgi-dir", tmp_path / "missing"))
    assert missing.wait() == 2
    assert re.fullmatch(r".*: cannot run programs of .*/missing: no such file or directory\n", missing.stderr.whole())


def test_a_busy_port_is_one_line(shell: Shell, server: Server, cgi_dir: Path) -> None:
    second = Process(shell.command("cgisrv", "server", "--port", server.port, "--cgi-dir", cgi_dir))
    assert second.wait() == 2
    assert second.stderr.whole().count("\n") == 1 and "address already in use" in second.stderr.whole()


def test_the_trace_tells_each_step(shell: Shell, cgi_dir: Path) -> None:
    with shell.server("cgisrv", "--cgi-dir", cgi_dir, "--processes", 1, "-v") as server:
        check(server)
        for line in ("= fork", "> sendmsg fd=\\d+ SCM_RIGHTS", "< recvmsg fd=\\d+ SCM_RIGHTS", "= started", "< waitid"):
            server.stderr.wait_for(line)
