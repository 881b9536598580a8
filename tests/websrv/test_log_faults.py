"""A log that cannot be written, for want of a reader or of space: the server serves on, and ends as it should."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from faults import wait_until
from harness import DEADLINE, Shell
from webclient import exchange


@pytest.mark.parametrize("fault", ["no reader", "no space"])
def test_it_serves_on_without_its_log_and_ends_with_status_0(shell: Shell, tmp_path: Path, fault: str) -> None:
    (tmp_path / "file.txt").write_text("file")
    reader, writer = os.pipe() if fault == "no reader" else (-1, os.open("/dev/full", os.O_WRONLY))
    with shell.server_writing_to(writer, "websrv", tmp_path, "--log", "common") as (server, address):
        with socket.create_connection(address, DEADLINE) as peer:
            assert exchange(peer, "/file.txt").body == b"file"
            if reader >= 0:
                assert b'"GET /file.txt HTTP/1.1" 200 4\n' in os.read(reader, 4096)
                os.close(reader)
            for number in range(100):
                assert exchange(peer, f"/missing/{number}").status == 404
            assert exchange(peer, "/file.txt").body == b"file"
        server.send_signal(signal.SIGTERM)
        assert server.wait(DEADLINE) == 0


@pytest.mark.parametrize("form", ["common", "json"])
def test_what_a_full_disk_did_not_take_is_counted_and_begins_no_line_of_another(
    shell: Shell, tmp_path: Path, form: str
) -> None:
    log = tmp_path / "log"
    missing = re.compile(
        r'(?:\{"subject": ")?(\d+) more lines were not logged(?:", "remark"|): "?file too large(?:"\})?'
    )
    line = re.compile(r'127\.0\.0\.1 - - \[[^]]+\] "GET /\d+ HTTP/1.1" 404 \d+|\{"time": .*\}')
    writer = os.open(log, os.O_WRONLY | os.O_CREAT)
    with shell.server_writing_to(writer, "websrv", tmp_path, "--log", form) as (server, address):
        soft, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (500, hard))  # some lines, and a part of one
        with socket.create_connection(address, DEADLINE) as peer:
            for number in range(40):
                assert exchange(peer, f"/{number}").status == 404
            wait_until(lambda: log.stat().st_size == 500, "that the disk is full")
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (soft, hard))
            assert exchange(peer, "/40").status == 404
            wait_until(lambda: b"/40" in log.read_bytes(), "that it can be written again")
        server.send_signal(signal.SIGTERM)
        assert server.wait(DEADLINE) == 0
    lines = log.read_text().splitlines()
    told = sum(line.fullmatch(text) is not None for text in lines)
    counts = [int(found[1]) for text in lines if (found := missing.fullmatch(text))]
    assert told + sum(counts) == 41 and told > 2 and counts
    assert len(lines) - told - len(counts) <= 1, "more than the one line that is there in part"


@pytest.mark.parametrize("log", ["off", "common"])
def test_a_reader_who_is_stuck_stops_neither_answers_nor_complaints_nor_the_end(
    shell: Shell, tmp_path: Path, log: str
) -> None:
    (tmp_path / "file.txt").write_text("file")
    reader, writer = full_pipe()
    options = (tmp_path, "--log", log, "--grace", 0.5, "--cache-valid", DEADLINE)
    with shell.server_writing_to(writer, "websrv", *options) as (server, address):
        with socket.create_connection(address, DEADLINE) as peer, ExitStack() as peers:
            assert exchange(peer, "/file.txt").body == b"file"
            # It has no descriptor for the next: of that it complains.
            held, soft = len(os.listdir(f"/proc/{server.pid}/fd")), resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (held + 2, soft[1]))
            for _ in range(10):
                peers.enter_context(socket.create_connection(address, DEADLINE))
            for _ in range(20):
                assert exchange(peer, "/file.txt").status in (200, 503)
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, soft)
            peers.close()
            with socket.create_connection(address, DEADLINE) as later:
                assert exchange(later, "/file.txt").body == b"file"
        server.send_signal(signal.SIGTERM)
        assert server.wait(DEADLINE) == 0
    os.close(reader)


def full_pipe() -> tuple[int, int]:
    """Both ends of a pipe that takes nothing more until somebody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    return reader, writer
