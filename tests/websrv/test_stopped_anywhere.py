"""The web server stopped at any moment: whatever an answer was doing, who gets its first byte gets its last.

Twice: embedded, where hypothesis chooses what has been sent and read on each connection when the stop comes; and as a
process with programs and workers, where SIGTERM comes after delays that are swept.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.websettings import Settings
from harness import DEADLINE, SHELLS, Server, Shell, receive_to_end
from orphans import adopting_orphans
from webclient import Reply, read_reply, request
from webhost import hosted

SMALL = b"small" * 100
LARGE = b"large" * 200_000
DELAYS = (0.0, 0.003, 0.02)
"""Seconds from the clients' requests to SIGTERM."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("anywhere") / "site"
    root.mkdir()
    (root / "small.txt").write_bytes(SMALL)
    (root / "large.bin").write_bytes(LARGE)
    programs = root.parent / "programs"
    programs.mkdir()
    (programs / "slow").write_text("#!/bin/sh\nprintf 'Content-Type: a/b\\n\\nbegin '; sleep 0.05; printf end\n")
    (programs / "slow").chmod(0o755)
    return root


class Received(io.BytesIO):
    """What came on a connection, to be read again as from a socket."""

    recv = io.BytesIO.read


def answers(data: bytes) -> list[Reply]:
    """The answers in *data*; AssertionError if the last is not whole."""
    received: Any = Received(data)
    found = []
    while received.tell() < len(data):
        found.append(read_reply(received))
    return found


# Embedded


class Visit(NamedTuple):
    """A connection: its requests, and how much of them was sent and of the answers read when the stop comes."""

    data: bytes
    sent: float
    read: int


DATA = st.sampled_from(
    [
        request("/small.txt"),
        request("/small.txt", "Content-Length: 9") + b"123456789",
        request("/missing") + request("/small.txt"),
        request("/large.bin"),
        request("/large.bin", "Range: bytes=0-9,20-29,-5"),
        request("/small.txt") + request("/large.bin") + request("/small.txt"),
    ]
)
VISITS = st.builds(Visit, DATA, st.sampled_from([0.0, 1.0]) | st.floats(0, 1), st.sampled_from([0, 1, 300, 70_000]))


@pytest.mark.parametrize("shell_name", [shell.name for shell in SHELLS])
@settings(max_examples=25)
@given(visits=st.lists(VISITS, min_size=1, max_size=4))
def test_what_was_begun_is_ended_whatever_was_sent_and_read(shell_name: str, site: Path, visits: list[Visit]) -> None:
    with ExitStack() as stack:
        for module in ("aiolsp.websrv.server", "aiolsp.blocking.websrv.readiness"):
            stack.enter_context(mock.patch(f"{module}.FRESH", 0.02))
        # A busy client that sends more and reads late is cut when the lingering ends, as it is at other times.
        stack.enter_context(mock.patch("aiolsp.static.phases.LINGER", DEADLINE))
        host = stack.enter_context(hosted(shell_name, site, Settings(threads=2)))
        peers = [stack.enter_context(host.connect(receive_buffer=1 << 15)[0]) for _ in visits]
        received = []
        for peer, visit in zip(peers, visits, strict=True):
            peer.sendall(visit.data[: round(len(visit.data) * visit.sent)])
            received.append(peer.recv(visit.read) if visit.sent == 1 and visit.read else b"")
        host.begin_to_stop(DEADLINE)
        for number, (peer, visit) in enumerate(zip(peers, visits, strict=True)):
            with suppress(ConnectionError):  # not a byte had come of it: it may be over
                peer.sendall(visit.data[round(len(visit.data) * visit.sent) :])
            replies = answers(received[number] + receive_to_end(peer))
            assert replies or not round(len(visit.data) * visit.sent)
            assert {reply.status for reply in replies} <= {200, 206, 404}


# As a process


def kept(server: Server) -> bytes:
    """Requests at once, on a connection that stays."""
    with server.connect() as peer:
        peer.sendall(request("/small.txt") * 20)
        return receive_to_end(peer)


def slowly(server: Server) -> bytes:
    """A large file, with little room for it."""
    with server.connect(receive_buffer=4096) as peer:
        peer.sendall(request("/large.bin"))
        return receive_to_end(peer)


def program(server: Server) -> bytes:
    """The output of a program."""
    with server.connect() as peer:
        peer.sendall(request("/cgi-bin/slow"))
        return receive_to_end(peer)


class Visitor:
    """Visits in a thread, again and again until nobody listens."""

    def __init__(self, server: Server, visit: Callable[[Server], bytes]) -> None:
        self.received: list[bytes] = []
        self._server = server
        self._visit = visit
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        end = time.monotonic() + DEADLINE
        with suppress(OSError):
            while time.monotonic() < end:
                self.received.append(self._visit(self._server))


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_at_any_moment_cuts_no_answer_and_leaves_no_process(
    shell: Shell, site: Path, workers: int, delay: float
) -> None:
    options = (site, "--cgi-dir", site.parent / "programs", "--workers", workers)
    with adopting_orphans() as await_ends:
        with shell.server("websrv", *options, role="") as server:
            visitors = [Visitor(server, visit) for visit in (kept, slowly, program, program)]
            time.sleep(delay)
            server.stop()
            for visitor in visitors:
                visitor.thread.join(DEADLINE)
                assert not visitor.thread.is_alive(), "a client waits for its answer"
        await_ends()
    replies = [reply for visitor in visitors for data in visitor.received for reply in answers(data)]
    assert {reply.status for reply in replies} <= {200}
    assert {reply.body for reply in replies} <= {SMALL, LARGE, b"begin end"}
