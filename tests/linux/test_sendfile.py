"""A slice of a file goes out exactly, or the sender learns that it cannot."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiolsp.linux.sendfile import CHUNK, FileChanged, FileSlice, send_file

MIB = 1024 * 1024


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.settimeout(20)
        yield ours, theirs


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(4 * MIB + 1))
    return path


@pytest.fixture
def whole(path: Path) -> Iterator[FileSlice]:
    fd = os.open(path, os.O_RDONLY)
    status = os.fstat(fd)
    yield FileSlice(fd, 0, status.st_size, status.st_size, status.st_mtime_ns)
    os.close(fd)


def received(theirs: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        data += theirs.recv(count - len(data))
    return bytes(data)


def test_a_slice_is_sent_as_it_stands_in_the_file(
    pair: tuple[socket.socket, socket.socket], path: Path, whole: FileSlice
) -> None:
    progress = send_file(pair[0].fileno(), whole._replace(offset=1000, length=500), MIB)
    assert progress == (500, None, False)
    assert received(pair[1], 500) == path.read_bytes()[1000:1500]


def test_a_full_socket_is_no_error_and_the_rest_follows(
    pair: tuple[socket.socket, socket.socket], path: Path, whole: FileSlice
) -> None:
    rest: FileSlice | None = whole
    got = b""
    was_full = False
    while rest is not None:
        progress = send_file(pair[0].fileno(), rest, whole.length)
        was_full |= progress.full
        assert (progress.rest is None) == (len(got) + progress.sent == whole.length)
        got += received(pair[1], progress.sent)
        rest = progress.rest
    assert was_full
    assert got == path.read_bytes()


def test_a_socket_that_was_full_before_takes_nothing_and_says_so(
    pair: tuple[socket.socket, socket.socket], whole: FileSlice
) -> None:
    left = whole
    while (progress := send_file(pair[0].fileno(), left, whole.length)).sent:
        assert progress.rest is not None
        left = progress.rest
    assert progress == (0, left, True)


def test_no_more_than_the_limit_is_sent(pair: tuple[socket.socket, socket.socket], whole: FileSlice) -> None:
    progress = send_file(pair[0].fileno(), whole, 100)
    assert progress == (100, whole._replace(offset=100, length=whole.length - 100), False)


def test_an_empty_slice_is_sent_at_once(pair: tuple[socket.socket, socket.socket], whole: FileSlice) -> None:
    assert send_file(pair[0].fileno(), whole._replace(length=0), MIB) == (0, None, False)


def test_a_file_that_was_cut_is_not_sent(
    pair: tuple[socket.socket, socket.socket], path: Path, whole: FileSlice
) -> None:
    os.truncate(path, 10)
    with pytest.raises(FileChanged):
        send_file(pair[0].fileno(), whole, MIB)


def test_a_file_written_to_in_place_is_not_sent(
    pair: tuple[socket.socket, socket.socket], path: Path, whole: FileSlice
) -> None:
    os.utime(path, ns=(0, whole.mtime_ns + 1))
    with pytest.raises(FileChanged):
        send_file(pair[0].fileno(), whole, MIB)


def test_a_slice_beyond_the_end_of_the_file_is_not_waited_for(
    pair: tuple[socket.socket, socket.socket], whole: FileSlice
) -> None:
    with pytest.raises(FileChanged):
        send_file(pair[0].fileno(), whole._replace(offset=whole.size, length=1), MIB)


def test_a_file_replaced_by_another_is_sent_on(
    pair: tuple[socket.socket, socket.socket], path: Path, whole: FileSlice, tmp_path: Path
) -> None:
    before = path.read_bytes()
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "new").rename(path)
    assert send_file(pair[0].fileno(), whole, 1000).sent == 1000
    assert received(pair[1], 1000) == before[:1000]


def test_the_file_is_looked_at_again_before_each_call(
    pair: tuple[socket.socket, socket.socket], whole: FileSlice, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def sendfile(out_fd: int, in_fd: int, offset: int, count: int) -> int:
        calls.append(count)
        if len(calls) == 2:
            os.utime(in_fd, ns=(0, 0))
        return count

    monkeypatch.setattr("os.sendfile", sendfile)
    with pytest.raises(FileChanged):
        send_file(pair[0].fileno(), whole, whole.length)
    assert calls == [CHUNK, CHUNK]


def test_a_peer_that_is_gone_is_an_error(pair: tuple[socket.socket, socket.socket], whole: FileSlice) -> None:
    pair[1].close()
    with pytest.raises(ConnectionError):
        send_file(pair[0].fileno(), whole, MIB)
