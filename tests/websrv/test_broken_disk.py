"""A disk that fails while the server serves from it: each answer says so, and the next is right when it is mended."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiolsp.linux.sendfile import FileSlice, SendProgress
from aiolsp.linux.sendfile import send_file as really_send
from harness import Shell, receive_exactly, receive_to_end, receive_until
from webclient import exchange, read_reply, request
from webhost import Host, descriptors, hosted

SMALL, LARGE = b"small" * 100, b"large" * 2_000_000

FAILURES = (errno.EIO, errno.ESTALE, errno.ENODEV)
"""A bad sector, a file of NFS that its server has forgotten, a disk that was pulled out."""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "small.txt").write_bytes(SMALL)
    (tmp_path / "large.bin").write_bytes(LARGE)
    return tmp_path


def forget(host: Host) -> None:
    """Have every look be one at the disk, whatever the kernel has in memory."""
    root = host.service.root
    root._cached, root._probed = None, True


def failing(number: int) -> Callable[..., Any]:
    """A function that fails as the disk does."""

    def fail(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", FAILURES, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["open_beneath", "os.pread"])
def test_a_file_that_cannot_be_opened_or_read_is_500_and_the_connection_lives_on(
    shell: Shell, site: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    with hosted(shell.name, site) as host:
        forget(host)
        peer, _ = host.connect()
        with peer:
            assert exchange(peer, "/large.bin", "Range: bytes=0-0").status == 206
            before = descriptors()
            with monkeypatch.context() as broken:
                broken.setattr(f"aiolsp.static.resource.{call}", failing(number))
                for _ in range(3):
                    reply = exchange(peer, "/small.txt")
                    assert reply.status == 500 and "connection" not in reply.fields
                    assert os.strerror(number).encode() not in reply.body
            assert exchange(peer, "/small.txt").body == SMALL
            host.wait_until(lambda: descriptors() <= before, "the files closed")


@pytest.mark.parametrize("number", FAILURES, ids=errno.errorcode.get)
def test_an_answer_whose_file_fails_half_way_is_cut_and_the_next_is_whole(
    shell: Shell, site: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    calls = []

    def half(out: int, piece: FileSlice, limit: int) -> SendProgress:
        calls.append(piece)
        if len(calls) > 1:
            raise OSError(number, os.strerror(number))
        return really_send(out, piece, min(limit, 100_000))

    module = "aiolsp.blocking.websrv.transfer" if shell.name == "blocking" else "aiolsp.websrv.transfer"
    with hosted(shell.name, site) as host:
        peer, _ = host.connect()
        before = descriptors()
        with monkeypatch.context() as broken:
            broken.setattr(f"{module}.send_file", half)
            peer.sendall(request("/large.bin"))
            receive_until(peer, b"\r\n\r\n")
            sent = receive_to_end(peer)
            assert LARGE.startswith(sent) and 0 < len(sent) < len(LARGE)
        peer.close()
        host.wait_until(lambda: descriptors() < before, "the connection and its file closed")
        peer, _ = host.connect()
        with peer:
            assert exchange(peer, "/large.bin").body == LARGE


def test_other_answers_under_way_are_not_touched_by_one_that_fails(
    shell: Shell, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hosted(shell.name, site) as host:
        slow, _ = host.connect(receive_buffer=4096, send_buffer=4096)
        peer, _ = host.connect()
        with slow, peer:
            slow.sendall(request("/large.bin"))
            receive_until(slow, b"\r\n\r\n")
            forget(host)
            with monkeypatch.context() as broken:
                broken.setattr("aiolsp.static.resource.open_beneath", failing(errno.EIO))
                assert exchange(peer, "/large.bin").status == 500
            assert receive_exactly(slow, 100_000) == LARGE[:100_000]
            peer.sendall(request("/small.txt"))
            assert read_reply(peer).body == SMALL
