"""Nothing outside of the root leaves by a socket: 100,000 targets in all, of every encoding, to servers on each shell.

The same client finds what leaks from a server that joins root and target, as the book's does (p. 304): it can fail.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import pytest

from aiolsp.linux.beneath import Opened
from aiolsp.linux.cached import knows_nowait
from aiolsp.static.representation import Outline, Resource
from aiolsp.static.resource import DocumentRoot
from aiolsp.websettings import Settings
from escaping import ELSEWHERE, MAY_LEAVE, PROGRAM_NAMES, SECRET, exchanging, make_programs, make_site, targets
from harness import DEADLINE, SHELLS, Shell
from webhost import hosted

TRIES = {"": 25_000, "--follow-symlinks": 8_400}
"""Targets for each shell, by the option of its server."""

AGAIN = 1_000
"""Of them, the last are asked for once more: their answers may come from memory."""

CHANGES = 1_000
"""Requests for names that change, at the least."""

RUNS = 2_000
"""Targets near those of programs; few of them run one."""

BATCH = 100
"""Requests that are sent at once."""

_ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n(?:[^\r\n]+\r\n)*Content-Length: (\d+)\r\n(?:[^\r\n]+\r\n)*\r\n")
"""A head of whole lines, with no CR or LF within one."""


class Answer(NamedTuple):
    """A status, and all bytes from the first of the head to the last of the body."""

    status: int
    data: bytes


def ask_for(connect: Callable[[], socket.socket], asked: Iterable[bytes]) -> Iterator[tuple[bytes, Answer]]:
    """The answer to a request for each target, in order; a 400 must end its connection, and the rest takes another."""
    rest = iter(asked)
    while batch := list(islice(rest, BATCH)):
        while batch:
            answers = converse(connect, batch)
            yield from zip(batch, answers, strict=False)
            del batch[: len(answers)]


def converse(connect: Callable[[], socket.socket], batch: Sequence[bytes]) -> list[Answer]:
    """The answers to requests for the targets of *batch*, sent at once; to the first that is malformed at the most."""
    answers: list[Answer] = []
    received = bytearray()
    with connect() as peer:
        peer.sendall(b"".join(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target for target in batch))
        for _ in batch:
            answers.append(next_answer(peer, received))
            if answers[-1].status == 400:
                assert not received and not peer.recv(1), "more after a 400"
                break
    return answers


def next_answer(peer: socket.socket, received: bytearray) -> Answer:
    """The first answer in *received*, which is taken out of it, and what else has come is put into."""
    while (head := _ANSWER.match(received)) is None:
        piece = peer.recv(1 << 16)
        assert piece, f"no answer in {bytes(received)!r}"
        received += piece
    end = head.end() + int(head[2])
    status = int(head[1])
    while len(received) < end:
        piece = peer.recv(1 << 16)
        assert piece, "half an answer"
        received += piece
    data = bytes(received[:end])
    del received[:end]
    return Answer(status, data)


@pytest.mark.parametrize("option", TRIES)
def test_no_target_leads_out_of_the_root(shell: Shell, tmp_path: Path, option: str) -> None:
    site = make_site(tmp_path, links_out=not option)
    made = list(targets(SHELLS.index(shell), TRIES[option], broken=0.02))
    statuses = set()
    with shell.server("websrv", site, *option.split(), role="") as server:
        for target, answer in ask_for(server.connect, made + made[-AGAIN:]):
            assert SECRET not in answer.data and ELSEWHERE not in answer.data, target
            statuses.add((answer.status, answer.data.endswith(MAY_LEAVE)))
    assert statuses == {(200, True), (200, False), (308, False), (400, False), (404, False)}


# Names that change while they are asked for


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[Path]:
    """A site whose file *name* and directory *folder* turn into links that lead out, and back, all the time."""
    site = make_site(tmp_path)
    (site / "name").write_bytes(MAY_LEAVE)
    (site / "folder").mkdir()
    (site / "folder" / "secret.txt").write_bytes(MAY_LEAVE)
    with exchanging((site / "name", site / "link"), (site / "folder", site / "up")):
        yield site


def changing_targets() -> Iterator[bytes]:
    """As many as it takes: by names that may be in memory, and by names that never are."""
    for number in count():
        for target in (b"/name", b"/folder/secret.txt", b"/folder/"):
            yield target
            yield target + b"?%d" % number


def test_a_name_that_turns_into_a_link_while_it_is_asked_for_never_leads_out(shell: Shell, changing: Path) -> None:
    seen: set[tuple[int, bool]] = set()
    with shell.server("websrv", changing, "--cache-valid", 0.001, role="") as server:
        for number, (target, answer) in enumerate(ask_for(server.connect, changing_targets())):
            assert SECRET not in answer.data and ELSEWHERE not in answer.data, target
            seen.add((answer.status, answer.data.endswith(MAY_LEAVE)))
            if number > CHANGES and seen == {(200, True), (200, False), (404, False)}:
                break


@pytest.mark.parametrize("small", [0, 1 << 20], ids=["opened", "read"])
def test_no_file_that_is_opened_by_the_name_it_had_leads_out(
    loop_name: str, changing: Path, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    with open(changing / "folder" / "secret.txt", "rb") as file:
        if not knows_nowait(file.fileno()):
            pytest.skip("the file system of temporary files knows no RWF_NOWAIT")
    found: set[bool] = set()
    load_again = DocumentRoot.load_again

    def noted(root: DocumentRoot, outline: Outline) -> Resource | None:
        resource = load_again(root, outline)
        found.add(resource is not None)
        return resource

    monkeypatch.setattr(DocumentRoot, "load_again", noted)
    monkeypatch.setattr("aiolsp.websrv.cache.ENTRY_COST", 1 << 40)  # so that nothing but outlines is kept
    with hosted(loop_name, changing, Settings(cache_valid=0, cache_file=small)) as host:
        for number, (target, answer) in enumerate(ask_for(lambda: host.connect()[0], changing_targets())):
            assert SECRET not in answer.data and ELSEWHERE not in answer.data, target
            if number > CHANGES and found == {True, False}:
                break


def test_it_sees_what_a_check_by_name_lets_out(shell: Shell, changing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check_and_open(root: int, segments: Sequence[bytes], **_: object) -> Opened:
        path = os.path.join(os.fsencode(changing), *segments)
        if os.path.islink(path):
            raise FileNotFoundError
        fd = os.open(path, os.O_RDONLY)
        return Opened(fd, os.fstat(fd))

    monkeypatch.setattr("aiolsp.static.resource.open_beneath", check_and_open)
    with hosted(shell.name, changing, Settings(threads=2, grace=1.0, cache_valid=0)) as host:
        asked = ask_for(lambda: host.connect()[0], changing_targets())
        assert any(SECRET in answer.data for _, answer in asked)


# Programs


def test_no_target_runs_a_program_outside_of_their_directory(shell: Shell, tmp_path: Path) -> None:
    programs = make_programs(tmp_path)
    asked = targets(SHELLS.index(shell), RUNS, broken=0.02, names=PROGRAM_NAMES, start=b"/cgi-bin/")
    with shell.server("websrv", make_site(tmp_path), "--cgi-dir", programs, role="") as server:
        answers = [answer.data for _, answer in ask_for(server.connect, asked)]
    assert not (tmp_path / "ran").exists() and any(data.endswith(b"inside") for data in answers)


def test_a_directory_of_programs_that_turns_into_a_link_is_still_the_same(shell: Shell, tmp_path: Path) -> None:
    programs = make_programs(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "inside").symlink_to("../outside")
    link = tmp_path / "to-others"
    link.symlink_to("other")
    with shell.server("websrv", make_site(tmp_path), "--cgi-dir", programs, role="") as server:
        with exchanging((programs, link)):
            answers = {answer for _, answer in ask_for(server.connect, [b"/cgi-bin/inside"] * 20)}
    assert {answer.status for answer in answers} == {200} and not (tmp_path / "ran").exists()


# What the client finds where there is something to find


def test_it_sees_what_links_lead_to_where_they_may_lead_out(tmp_path: Path) -> None:
    with SHELLS[0].server("websrv", make_site(tmp_path), "--follow-symlinks", role="") as server:
        assert leaks(server.connect, 5_000) == {SECRET, ELSEWHERE}


def test_it_sees_what_dots_lead_to_in_a_server_that_joins_root_and_target(tmp_path: Path) -> None:
    with careless_server(make_site(tmp_path, links_out=False)) as connect:
        assert leaks(connect, 1_000) == {SECRET, ELSEWHERE}


def leaks(connect: Callable[[], socket.socket], tries: int) -> set[bytes]:
    """What leaves that must not."""
    asked = ask_for(connect, targets(8, tries))
    return {secret for _, answer in asked for secret in (SECRET, ELSEWHERE) if secret in answer.data}


@contextmanager
def careless_server(root: Path) -> Iterator[Callable[[], socket.socket]]:
    """A server of *root* that takes a target as it comes; how to connect to it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = os.fsencode(root) + unquote_to_bytes(self.path.encode("latin-1"))
            try:
                body = os.fsencode("\n".join(os.listdir(os.fsdecode(path)))) if os.path.isdir(path) else read(path)
                self.send_response(200)
            except (OSError, ValueError):
                body = b""
                self.send_response(404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    def read(path: bytes) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield lambda: socket.create_connection(server.server_address[:2], DEADLINE)  # type: ignore[arg-type]
        finally:
            server.shutdown()
            thread.join(DEADLINE)
