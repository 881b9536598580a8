"""Files that change while they are served, overload, the access log, and the end of a server, on both loops."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from aiolsp.websettings import Settings
from aiolsp.websrv import WebServer
from harness import DEADLINE, READY, Server, Shell, receive_exactly, receive_to_end, receive_until
from webclient import ask, read_reply, request

OLD = b"old" * 4_000_000
NEW = b"new" * 4_000_000


def start(loop_name: str, site: Path, *options: object) -> Server:
    return Server(Shell(loop_name).command("websrv", "", site, "--port", 0, *options))


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(NEW)
    other.rename(path)


def truncated(path: Path) -> None:
    os.truncate(path, 1000)


def rewritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(NEW)


@pytest.mark.parametrize("change", [replaced, truncated, rewritten, Path.unlink])
def test_a_file_that_changes_while_it_is_sent_is_never_mixed_and_never_padded(
    loop_name: str, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(OLD)
    server = start(loop_name, tmp_path)
    try:
        with server.connect(receive_buffer=1 << 16) as peer:
            peer.sendall(request("/file.bin"))
            receive_until(peer, b"\r\n\r\n")
            body = receive_exactly(peer, 100)
            change(path)
            if change in (replaced, Path.unlink):
                assert body + receive_exactly(peer, len(OLD) - 100) == OLD
            else:
                # What the kernel held already may be of either version, but the end never comes.
                assert len(body + receive_to_end(peer)) < len(OLD)
        assert ask(server, "/file.bin").status == (404 if change is Path.unlink else 200)
        server.stop()
    finally:
        server.kill()


def test_a_small_file_that_changed_is_seen_within_the_second(loop_name: str, tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    server = start(loop_name, tmp_path)
    try:
        with server.connect() as peer:
            peer.sendall(request("/file.txt"))
            tag = read_reply(peer).fields["etag"]
            path.write_text("newer")
            reply = read_reply_of(peer, lambda fields: fields["etag"] != tag)
            assert reply == b"newer"
        server.stop()
    finally:
        server.kill()


def read_reply_of(peer: socket.socket, wanted: Callable[[dict[str, str]], bool]) -> bytes:
    """Ask until the answer is as wanted; two ticks of the server's second bound it."""
    dates: list[str] = []
    while len(dates) < 4:
        peer.sendall(request("/file.txt"))
        reply = read_reply(peer)
        if wanted(reply.fields):
            return reply.body
        if reply.fields["date"] not in dates:
            dates.append(reply.fields["date"])
    raise AssertionError("the old file was served for more than two seconds")


def test_unchecked_entries_can_be_ruled_out(loop_name: str, tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    server = start(loop_name, tmp_path, "--cache-valid", 0)
    try:
        for number in range(20):
            path.write_text(f"{number:05}")
            os.utime(path, ns=(0, number * 1_000_000_000))
            assert ask(server, "/file.txt").body == b"%05d" % number
        server.stop()
    finally:
        server.kill()


def test_a_gibibyte_costs_no_memory(loop_name: str, tmp_path: Path) -> None:
    size = 1 << 30
    with (tmp_path / "sparse.bin").open("wb") as file:
        file.truncate(size)
        file.seek(size // 2)
        file.write(b"middle")
    server = start(loop_name, tmp_path)
    try:
        before = server.rss()
        digest, left = hashlib.blake2b(), size
        with server.connect() as peer:
            peer.sendall(request("/sparse.bin"))
            receive_until(peer, b"\r\n\r\n")
            while left:
                data = peer.recv(1 << 20)
                assert data
                digest.update(data)
                left -= len(data)
        assert server.rss() - before < 8 << 20
        expected = hashlib.blake2b()
        with (tmp_path / "sparse.bin").open("rb") as file:
            while data := file.read(1 << 20):
                expected.update(data)
        assert digest.digest() == expected.digest()
        server.stop()
    finally:
        server.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_is_in_flight_finish(loop_name: str, tmp_path: Path, number: int) -> None:
    (tmp_path / "file.bin").write_bytes(OLD)
    server = start(loop_name, tmp_path, "-v")
    try:
        with server.connect(receive_buffer=1 << 16) as busy, server.connect() as idle:
            idle.sendall(request("/missing"))
            read_reply(idle)
            busy.sendall(request("/file.bin"))
            receive_until(busy, b"\r\n\r\n")
            server.send_signal(number)
            server.stderr.wait_for("= drain")
            assert receive_to_end(idle) == b""
            assert receive_exactly(busy, len(OLD)) == OLD
            assert receive_to_end(busy) == b""
        assert server.wait() == 0
        with pytest.raises(ConnectionRefusedError):
            server.connect()
    finally:
        server.kill()


def test_after_the_grace_the_rest_is_cut(loop_name: str, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(OLD)
    server = start(loop_name, tmp_path, "--grace", 0.2)
    try:
        with server.connect(receive_buffer=1 << 16) as peer:
            peer.sendall(request("/file.bin"))
            receive_until(peer, b"\r\n\r\n")
            server.stop()
            assert len(receive_to_end(peer)) < len(OLD)
    finally:
        server.kill()


def test_a_second_signal_forces(loop_name: str, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(OLD)
    server = start(loop_name, tmp_path, "--grace", 1000, "-v")
    try:
        with server.connect(receive_buffer=1 << 16) as peer:
            peer.sendall(request("/file.bin"))
            receive_until(peer, b"\r\n\r\n")
            server.send_signal(signal.SIGTERM)
            server.stderr.wait_for("= drain")
            server.send_signal(signal.SIGTERM)
            assert server.wait() == 0
    finally:
        server.kill()


@pytest.mark.parametrize("form", ["common", "combined", "json"])
def test_the_access_log_has_a_line_an_answer_and_no_line_of_a_clients_making(
    loop_name: str, tmp_path: Path, form: str
) -> None:
    (tmp_path / "file.txt").write_text("file")
    server = start(loop_name, tmp_path, "--log", form)
    try:
        with server.connect() as peer:
            for _ in range(3):
                peer.sendall(request("/file.txt", 'User-Agent: "a\\b\x1b\xe9"'.replace("\x1b", "\t")))
                assert read_reply(peer).body == b"file"
        ask(server, "/%0a127.0.0.1%20-%20forged")
        server.stderr.wait_for("forged")
        server.stop()
    finally:
        server.kill()
    lines = server.stderr.whole().splitlines()
    assert len(lines) == 4
    if form == "json":
        facts = [json.loads(line) for line in lines]
        assert [(fact["status"], fact["bytes"] > 0) for fact in facts] == [(200, True)] * 3 + [(404, True)]
        assert facts[0]["peer"] == "127.0.0.1" and facts[0]["target"] == "/file.txt"
    else:
        pattern = r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET \S+ HTTP/1\.1" (200|404) \d+'
        assert all(re.match(pattern, line) for line in lines)
    assert all(line.isascii() and line.isprintable() for line in lines)


def test_a_server_whose_log_nobody_reads_serves_on_and_ends_within_two_seconds(loop_name: str, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("file")
    reader, writer = os.pipe()
    command = Shell(loop_name).command("websrv", "", tmp_path, "--port", 0, "--log", "combined")
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writer)
    os.close(writer)
    try:
        assert server.stdout is not None
        found = READY.search(server.stdout.readline().decode())
        assert found is not None
        with socket.create_connection(("127.0.0.1", int(found["port"])), DEADLINE) as peer:
            packet = request("/file.txt", "User-Agent: " + "x" * 1000) * 50
            for _ in range(40):
                peer.sendall(packet)
                for _ in range(50):
                    assert read_reply(peer).body == b"file"
        server.send_signal(signal.SIGTERM)
        assert server.wait(2) == 0
    finally:
        server.kill()
        server.wait()
        server.stdout.close()  # type: ignore[union-attr]
        os.close(reader)


async def fetch(server: WebServer, target: str) -> bytes:
    port = server.addresses[0][1]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    writer.write(request(target, "Connection: close"))
    data = await reader.read()
    writer.close()
    await writer.wait_closed()
    return data


def test_it_embeds_and_a_full_queue_answers_503_at_once(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    (tmp_path / "file.txt").write_text("file")

    async def main() -> None:
        async with WebServer(tmp_path, port=0, settings=Settings(threads=1, max_queue=1)) as server:
            assert server.url == f"http://127.0.0.1:{server.addresses[0][1]}/"
            assert (await fetch(server, "/file.txt")).endswith(b"\r\n\r\nfile")
            release = threading.Event()
            jobs = [server._service.pool.submit(release.wait) for _ in range(2)]
            refused = await fetch(server, "/other.txt")
            assert refused.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: 1\r\n" in refused
            release.set()
            await asyncio.gather(*jobs)
            assert (await fetch(server, "/other.txt")).startswith(b"HTTP/1.1 404 ")
        with pytest.raises(NotADirectoryError):
            async with WebServer(tmp_path / "file.txt", port=0):
                pass

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_the_loops_thread_never_touches_the_disk(loop_name: str, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    site, log = tmp_path / "site", tmp_path / "strace.log"
    (site / "sub").mkdir(parents=True)
    (site / "small.txt").write_text("small")
    (site / "small.txt.gz").write_text("smaller")
    (site / "large.bin").write_bytes(OLD)
    calls = "open,openat,openat2,stat,lstat,newfstatat,statx,fstat,getdents64,pread64,preadv,readlink,sendfile"
    command = Shell(loop_name).command("websrv", "", site, "--port", 0)
    server = Server(["strace", "-f", "-o", str(log), "-e", f"trace={calls},accept4", *command])
    child = int(Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()[0])
    try:
        for target in ("/small.txt", "/large.bin", "/", "/sub", "/missing", "/sub/", "/small.txt"):
            ask(server, target)
            ask(server, target, "Accept-Encoding: gzip", "Range: bytes=0-0")
        calls_so_far = log.read_text()
        os.kill(child, signal.SIGTERM)
        server.wait()
    finally:
        server.kill()
    after = calls_so_far[calls_so_far.index("accept4(") :].splitlines()[1:]
    loop_calls = [line for line in after if line.split(maxsplit=1)[0] == str(child)]
    served = [line for line in after if "small.txt" in line or "sendfile" in line]
    assert served and not [line for line in loop_calls if "site" in line or "sendfile" in line or "small" in line]
    # Imports at the first request would show here as well; libuv holds /dev/null in reserve for want of descriptors.
    assert not [line for line in loop_calls if ("open" in line or "stat" in line) and "/dev/null" not in line]
