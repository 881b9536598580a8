"""Files that change while they are served: never mixed, never padded, and seen within the second."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Server, Shell, receive_exactly, receive_to_end, receive_until
from webclient import ask, exchange, read_reply, request

OLD = b"old" * 4_000_000
NEW = b"new" * 4_000_000


def start(shell: Shell, site: Path, *options: object) -> Server:
    return Server(shell.command("websrv", "", site, "--port", 0, *options))


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(NEW)
    other.rename(path)


def truncated(path: Path) -> None:
    os.truncate(path, 1000)


def rewritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(NEW)


def made_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("change", [replaced, truncated, rewritten, Path.unlink, made_a_fifo])
def test_a_file_that_changes_while_it_is_sent_is_never_mixed_and_never_padded(
    shell: Shell, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(OLD)
    server = start(shell, tmp_path)
    try:
        with server.connect(receive_buffer=1 << 16) as peer:
            peer.sendall(request("/file.bin"))
            receive_until(peer, b"\r\n\r\n")
            body = receive_exactly(peer, 100)
            change(path)
            if change in (replaced, Path.unlink, made_a_fifo):
                assert body + receive_exactly(peer, len(OLD) - 100) == OLD
            else:
                # What the kernel held already may be of either version, but the end never comes.
                assert len(body + receive_to_end(peer)) < len(OLD)
        assert ask(server, "/file.bin").status == (404 if change in (Path.unlink, made_a_fifo) else 200)
        server.stop()
    finally:
        server.kill()


def test_a_small_file_that_changed_is_seen_within_the_second(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    server = start(shell, tmp_path)
    try:
        with server.connect() as peer:
            peer.sendall(request("/file.txt"))
            tag = read_reply(peer).fields["etag"]
            path.write_text("newer")
            reply = read_reply_of(peer, lambda fields: fields.get("etag") not in (tag, None))
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


def made_anew(site: Path) -> None:
    shutil.rmtree(site.resolve())
    site.unlink()
    site.mkdir()
    (site / "file.txt").write_text("newer")


def put_in_place(site: Path) -> None:
    other = site.with_name("other")
    other.mkdir()
    (other / "file.txt").write_text("newer")
    site.rename(site.with_name("old"))
    other.rename(site)


def led_elsewhere(site: Path) -> None:
    other = site.with_name("other")
    other.mkdir()
    (other / "file.txt").write_text("newer")
    link = site.with_name("link")
    link.symlink_to(other)
    link.rename(site)


@pytest.mark.parametrize("deploy", [made_anew, put_in_place, led_elsewhere])
def test_a_site_that_another_takes_the_place_of_is_that_one_within_the_second(
    shell: Shell, tmp_path: Path, deploy: Callable[[Path], None]
) -> None:
    first, site = tmp_path / "first", tmp_path / "site"
    first.mkdir()
    (first / "file.txt").write_text("old")
    site.symlink_to(first)
    server = start(shell, site)
    try:
        with server.connect() as peer:
            tag = exchange(peer, "/file.txt").fields["etag"]
            deploy(site)
            reply = read_reply_of(peer, lambda fields: fields.get("etag") not in (tag, None))
            assert reply == b"newer"
            assert exchange(peer, "/other.txt").status == 404
        server.stop()
    finally:
        server.kill()


def test_unchecked_entries_can_be_ruled_out(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    server = start(shell, tmp_path, "--cache-valid", 0)
    try:
        for number in range(20):
            path.write_text(f"{number:05}")
            os.utime(path, ns=(0, number * 1_000_000_000))
            assert ask(server, "/file.txt").body == b"%05d" % number
        server.stop()
    finally:
        server.kill()


def link_out(path: Path) -> None:
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize("become", [os.mkfifo, Path.mkdir, link_out])
def test_a_file_in_memory_that_is_no_file_any_more_is_missing(
    shell: Shell, tmp_path: Path, become: Callable[[Path], None]
) -> None:
    path = tmp_path / "file.txt"
    path.write_text("file")
    server = start(shell, tmp_path, "--cache-valid", 0)
    try:
        with server.connect() as peer:
            for _ in range(20):
                assert exchange(peer, "/file.txt").body == b"file"
            path.unlink()
            become(path)
            for _ in range(20):
                assert exchange(peer, "/file.txt").status == (308 if path.is_dir() else 404)
        server.stop()
    finally:
        server.kill()
