"""Bytes that are lent to sockets: whole, as they were, and until nobody needs them."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from aiolsp.linux.pages import Pages
from harness import receive_exactly


@pytest.fixture
def pages() -> Iterator[Pages]:
    kept = Pages()
    yield kept
    kept.clear()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as peer:
        ours, _ = listener.accept()
        with ours:
            ours.setblocking(False)
            yield ours, peer


def test_each_is_sent_from_its_place(pages: Pages, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    several = [os.urandom(size) for size in (1, 5000, 4096, 20_000)]
    places = [pages.put(data) for data in several]
    for place, data in reversed(list(zip(places, several, strict=True))):
        assert place is not None and place.send(ours.fileno()) == len(data)
        assert receive_exactly(peer, len(data)) == data


def test_what_was_lent_is_sent_though_all_is_forgotten_and_other_bytes_are_put_in_its_place(
    pages: Pages, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, peer = pair
    old, new = os.urandom(100_000), os.urandom(100_000)
    first = pages.put(old)
    assert first is not None
    sent = first.send(ours.fileno())
    assert sent
    pages.clear()
    second = pages.put(new)
    assert second is not None and second.offset == first.offset
    assert receive_exactly(peer, sent) == old[:sent]


def test_a_full_socket_takes_a_part_then_nothing_and_a_closed_one_nothing(
    pages: Pages, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, peer = pair
    data = os.urandom(32 << 20)
    place = pages.put(data)
    assert place is not None
    taken = 0
    while sent := place.send(ours.fileno()):
        taken += sent
        assert taken < 1 << 30
    assert taken % len(data)
    peer.close()
    assert place.send(ours.fileno()) == 0


def test_without_a_descriptor_or_room_there_is_no_place(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "memfd_create", lambda name: (_ for _ in ()).throw(OSError(errno.EMFILE, "none")))
        assert pages.put(b"x") is None
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        assert pages.put(b"12345") is not None
        assert pages.put(b"1234567") is None, "five of them fit"
        assert pages.put(b"1") is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
