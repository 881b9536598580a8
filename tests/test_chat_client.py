"""The client of the chat program on each shell: what it splices, what it may be given, and how it ends."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import faults
from chatting import Reader, close, write
from harness import DEADLINE, SHELLS, Process, Server, Shell, receive_until, unused_port


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[Shell, tuple[Server, int]]]:
    """One server of each shell, and its sockets when it is idle."""
    with ExitStack() as stack:
        started = {shell: stack.enter_context(shell.server("chat")) for shell in SHELLS}
        yield {shell: (server, faults.sockets_of(server)) for shell, server in started.items()}


@pytest.fixture
def server(shell: Shell, servers: dict[Shell, tuple[Server, int]]) -> Server:
    """A running chat server with nobody in it."""
    running, idle = servers[shell]
    faults.wait_until(lambda: faults.sockets_of(running) == idle, "an empty room")
    return running


@pytest.mark.parametrize("client_shell", SHELLS, ids=lambda shell: shell.name)
def test_every_client_talks_on_every_server(shell: Shell, client_shell: Shell, server: Server) -> None:
    with server.connect() as peer, client_shell.client("chat", server, stdin=subprocess.PIPE) as client:
        write(client, b"hello\n")
        assert receive_until(peer, b"\n") == b"hello\n"
        peer.sendall(b"hi\n")
        client.stdout.wait_for("hi\n")
        close(client)
        assert client.wait() == 0, client.stderr.whole()


def test_the_client_sends_a_file_and_ends_when_the_server_closes(shell: Shell, server: Server, tmp_path: Path) -> None:
    text = b"".join(b"line %06d\n" % number for number in range(100_000))
    source = tmp_path / "lines"
    source.write_bytes(text)
    with server.connect() as peer, open(source, "rb") as stdin:
        reader = Reader(peer, len(text) - text.count(b"\n"))
        with shell.client("chat", server, stdin=stdin.fileno()) as client:
            assert client.wait() == 0, client.stderr.whole()
        assert reader.result() == text.replace(b"\n", b"")


def test_the_client_takes_dev_null(shell: Shell, server: Server) -> None:
    with shell.client("chat", server) as client:
        assert client.wait() == 0, client.stderr.whole()
        assert client.stdout.whole() == ""


def test_a_client_that_cannot_read_its_input_says_so_and_ends(shell: Shell, server: Server, tmp_path: Path) -> None:
    with open(tmp_path / "written", "wb") as source, shell.client("chat", server, stdin=source.fileno()) as client:
        assert client.wait() == 1
    assert re.fullmatch(r"[^\n]*: bad file descriptor\n", client.stderr.whole())


def test_the_client_takes_a_terminal_and_leaves_it_blocking(shell: Shell, server: Server) -> None:
    master, slave = pty.openpty()
    with server.connect() as peer, shell.client("chat", server, stdin=slave) as client:
        os.write(master, b"hello\n")
        assert receive_until(peer, b"\n") == b"hello\n"
        assert os.get_blocking(slave)
        os.write(master, b"\x04")
        assert client.wait() == 0, client.stderr.whole()
    os.close(slave)
    os.close(master)


def test_the_client_writes_to_a_file_opened_for_appending(shell: Shell, server: Server, tmp_path: Path) -> None:
    target = tmp_path / "heard"
    command = shell.command("chat", "client", "--port", server.port)
    with server.connect() as peer, open(target, "ab") as stdout:
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout)
        assert client.stdin
        client.stdin.write(b"here\n")
        client.stdin.flush()
        assert receive_until(peer, b"\n") == b"here\n"
        peer.sendall(b"hello\n")
        faults.wait_until(lambda: target.read_bytes() == b"hello\n", "the line in the file")
        client.stdin.close()
        assert client.wait(DEADLINE) == 0


def test_a_client_that_is_rejected_says_what_it_was_told_and_ends(shell: Shell) -> None:
    with shell.server("chat", "--max-users", 1) as running, running.connect() as peer:
        with shell.client("chat", running, stdin=subprocess.PIPE) as client:
            assert client.wait() == 0, client.stderr.whole()
            assert client.stdout.whole() == "too many users\n"
        peer.sendall(b"alone\n")


def test_a_client_without_a_server_says_so_in_one_line(shell: Shell) -> None:
    client = Process(shell.command("chat", "client", "--port", unused_port()))
    assert client.wait() == 1
    assert re.fullmatch(r"[^\n]*refused[^\n]*\n", client.stderr.whole().lower())


def test_the_client_splices_and_reads_no_byte_of_stdin_itself(shell: Shell, server: Server, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    calls = tmp_path / "calls"
    strace = ["strace", "-f", "-o", str(calls), "-e", "trace=read,pread64,readv,recvfrom,recvmsg,splice,mmap,write"]
    command = shell.command("chat", "client", "--port", server.port)
    with server.connect() as peer:
        client = Process([*strace, *command], stdin=subprocess.PIPE)
        write(client, b"a secret of 21 bytes\n")
        assert receive_until(peer, b"\n") == b"a secret of 21 bytes\n"
        peer.sendall(b"an answer of 23 bytes.\n")
        client.stdout.wait_for("an answer of 23 bytes.\n")
        close(client)
        assert client.wait() == 0, client.stderr.whole()
    text = calls.read_text()
    assert re.search(r"splice\(0, .*= 21$", text, re.M) and re.search(r"splice\(\d+, NULL, 1, .*= 23$", text, re.M)
    assert not re.search(r"(read|pread64|readv|recvfrom|recvmsg|mmap)\(0,", text)
    assert "secret" not in text and "answer" not in text


@pytest.mark.parametrize("command", ["nc {host} {port}", "socat - TCP:{host}:{port}", "telnet {host} {port}"])
def test_the_tools_of_debian_are_members_too(server: Server, command: str) -> None:
    words = command.format(host=server.host, port=server.port).split()
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    with server.connect() as peer:
        tool = Process(words, stdin=subprocess.PIPE)
        try:
            write(tool, b"hello\n")
            assert receive_until(peer, b"\n") == b"hello\n"
            peer.sendall(b"hi\n")
            tool.stdout.wait_for("hi\n")
        finally:
            tool.kill()
