"""Every program as a person starts and stops it: one line for an error, a status, whatever its streams are."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

import faults
from aiolsp import cli
from aiolsp.catalog import PROGRAMS
from aiolsp.cli import (
    EXIT_FAILURE,
    EXIT_USAGE,
)
from aiolsp.linux.listener import listen
from harness import DEADLINE, READY, Process, Shell, receive_exactly, unused_port


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_busy_port_is_one_line_and_status_2(shell: Shell, program: str) -> None:
    [other] = listen("127.0.0.1", 0)
    with other:
        port = other.getsockname()[1]
        server = Process(shell.command(program, "server", "--port", port))
        assert server.wait() == EXIT_USAGE
    expected = rf"python -m \S+: cannot listen on 127.0.0.1:{port}: address already in use\n"
    assert server.stderr.wait_for(expected)[0] == server.stderr.whole()
    assert server.stdout.whole() == ""


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_server_that_is_not_there_is_one_line_and_status_1(shell: Shell, program: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can take it meanwhile
        port = nobody.getsockname()[1]
        client = Process(shell.command(program, "client", "--port", port))
        assert client.wait() == EXIT_FAILURE
    expected = rf"python -m \S+: 127.0.0.1:{port}: connection refused\n"
    assert client.stderr.wait_for(expected)[0] == client.stderr.whole()


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("role", ["server", "client"])
def test_an_unknown_host_is_one_line_and_status_2(shell: Shell, program: str, role: str) -> None:
    process = Process(shell.command(program, role, "--host", "nohost.invalid"))
    assert process.wait() == EXIT_USAGE
    assert process.stderr.whole().count("\n") == 1
    assert "nohost.invalid" in process.stderr.whole()


@pytest.mark.parametrize("program", PROGRAMS)
def test_ctrl_c_stops_a_server_cleanly(shell: Shell, program: str, tmp_path: Path) -> None:
    (tmp_path / "cgi-bin").mkdir()
    with shell.server(program, cwd=tmp_path) as server:
        server.stop(signal.SIGINT)


@pytest.mark.parametrize("words", ["analyze", "events", "oneshot --wait 0.1", "oob", "trigger", "trigger --mode et"])
def test_a_server_whose_disk_is_full_stops_with_one_line_and_status_1(shell: Shell, tmp_path: Path, words: str) -> None:
    program, *options = words.split()
    report = tmp_path / "report"
    command = shell.command(program, "server", "--port", 0, *options)
    with open(report, "wb") as stdout, subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE) as server:
        try:
            faults.wait_until(lambda: report.read_bytes().endswith(b"\n"), "the ready line")
            size = report.stat().st_size
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, size))
            found = READY.search(report.read_text())
            assert found is not None
            with socket.create_connection(("127.0.0.1", int(found["port"]))) as peer:
                peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
                errors = server.communicate(timeout=DEADLINE)[1].decode()
        finally:
            server.kill()
    assert re.fullmatch(r"python -m \S+: file too large\n", errors)
    assert server.returncode == EXIT_FAILURE


def test_a_log_that_nobody_reads_holds_nobody_up_and_what_was_lost_is_counted() -> None:
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as pipe, open(writer, "w") as stderr:
        handler = cli._StderrHandler(stderr)
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        for number in range(100):
            handler.emit(logging.makeLogRecord({"msg": f"{number} " + "x" * 998}))
        taken = pipe.read(8192).splitlines()
        handler.emit(logging.makeLogRecord({"msg": "again"}))
        lost = 100 - len(taken)
        assert pipe.read(8192) == b"%d lines were not logged: stderr is not read fast enough\nagain\n" % lost
        assert lost >= 90


ALL_CLOSED = "0<&- >&- 2>&-"

# A program that forks has more descriptors to confuse with standard streams.
CLOSED = [
    *(("echo server", b"echo", b"echo", closed) for closed in ("0<&-", ">&-", "2>&-", ALL_CLOSED)),
    ("cgisrv server --cgi-dir .", b"none\r\n", b"cgisrv: no such program\r\n", ALL_CLOSED),
    ("websrv . --workers 2 --log common", b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 404 ", ALL_CLOSED),
]


@pytest.mark.parametrize(("words", "question", "answer", "closed"), CLOSED)
def test_a_server_whose_standard_streams_are_closed_serves_and_stops(
    shell: Shell, tmp_path: Path, words: str, question: bytes, answer: bytes, closed: str
) -> None:
    port = unused_port()
    program, role, *options = words.split()
    command = shell.command(program, role if role == "server" else "", *options, "--port", port)
    process = Process(["bash", "-c", f'exec "$@" {closed}', "bash", *command], cwd=tmp_path)
    try:
        for _ in range(2):
            peer = connect_when_ready(port, process)
            with peer:
                peer.sendall(question)
                assert receive_exactly(peer, len(answer)) == answer
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    finally:
        process.kill()


def test_python_is_given_no_cause_to_warn_of_an_encoding(shell: Shell, tmp_path: Path) -> None:
    port = unused_port()
    command = shell.command("websrv", "", ".", "--workers", 2, "--port", port)
    env = {**os.environ, "PYTHONWARNDEFAULTENCODING": "1"}
    process = Process(["bash", "-c", 'exec "$@" >&-', "bash", *command], cwd=tmp_path, env=env)
    try:
        connect_when_ready(port, process).close()
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
        assert process.stderr.whole() == ""
    finally:
        process.kill()


def connect_when_ready(port: int, process: Process) -> socket.socket:
    """A connection to a server that cannot say that it is ready: its stdout is closed."""
    deadline = time.monotonic() + DEADLINE
    while True:
        assert process.popen.poll() is None and time.monotonic() < deadline
        try:
            return socket.create_connection(("127.0.0.1", port), DEADLINE)
        except ConnectionRefusedError:
            os.sched_yield()
