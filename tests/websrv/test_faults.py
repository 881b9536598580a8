"""Bad input and faults that every server must survive, on every shell of the web server."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from faults import (
    Check,
    await_end,
    binary_garbage,
    connections_dropped_at_once,
    data_without_newline,
    descriptors_exhausted,
    resets_in_the_middle,
    stopped_server,
)
from harness import DEADLINE, Server, Shell
from webclient import ask, read_reply, request


def check(server: Server) -> None:
    assert ask(server, "/file.txt").body == b"file"


@pytest.mark.parametrize(
    "fault",
    [
        resets_in_the_middle,
        data_without_newline,
        binary_garbage,
        connections_dropped_at_once,
        descriptors_exhausted,
        stopped_server,
    ],
)
def test_it_survives(shell: Shell, tmp_path: Path, fault: Callable[[Server, Check], None]) -> None:
    (tmp_path / "file.txt").write_text("file")
    with shell.server("websrv", tmp_path, role="") as server:
        fault(server, check)


def test_a_process_that_is_stopped_holds_up_its_own_clients_alone_and_not_the_end(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("file")
    options = ("--workers", 2, "--grace", 0.1, "-v")
    with shell.server("websrv", tmp_path, *options, role="") as server, ExitStack() as stack:
        stopped = int(server.stderr.wait_for(r"< ready pid=(\d+)", count=2)[1])
        os.kill(stopped, signal.SIGSTOP)
        peers = [stack.enter_context(server.connect()) for _ in range(8)]
        for peer in peers:
            peer.sendall(request("/file.txt"))
        answered = select.select(peers, [], [], DEADLINE)[0]  # those of the other
        assert answered and all(read_reply(peer).body == b"file" for peer in answered)
        os.kill(stopped, signal.SIGCONT)
        assert all(read_reply(peer).body == b"file" for peer in peers if peer not in answered)
        os.kill(stopped, signal.SIGSTOP)
        stack.close()
        server.stop()
    await_end(stopped)
