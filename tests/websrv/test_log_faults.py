"""A log that cannot be written, for want of a reader or of space: the server serves on, and ends as it should."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from harness import DEADLINE, READY, Shell
from webclient import exchange


@pytest.mark.parametrize("fault", ["no reader", "no space"])
def test_it_serves_on_without_its_log_and_ends_with_status_0(shell: Shell, tmp_path: Path, fault: str) -> None:
    (tmp_path / "file.txt").write_text("file")
    reader, writer = os.pipe() if fault == "no reader" else (-1, os.open("/dev/full", os.O_WRONLY))
    command = shell.command("websrv", "", tmp_path, "--port", 0, "--log", "common")
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writer)
    os.close(writer)
    try:
        assert server.stdout is not None
        found = READY.search(server.stdout.readline().decode())
        assert found is not None
        with socket.create_connection(("127.0.0.1", int(found["port"])), DEADLINE) as peer:
            assert exchange(peer, "/file.txt").body == b"file"
            if reader >= 0:
                assert b'"GET /file.txt HTTP/1.1" 200 4\n' in os.read(reader, 4096)
                os.close(reader)
            for number in range(100):
                assert exchange(peer, f"/missing/{number}").status == 404
            assert exchange(peer, "/file.txt").body == b"file"
        server.send_signal(signal.SIGTERM)
        assert server.wait(DEADLINE) == 0
    finally:
        server.kill()
        server.wait()
        server.stdout.close()  # type: ignore[union-attr]
