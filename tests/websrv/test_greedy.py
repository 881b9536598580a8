"""Greedy clients in small: the memory stays bounded, and an honest client beside them gets its answers, all right.

How fast it gets them is for bench/greedy.py to say, which sets the same attacks on the server at their full size.
"""

from __future__ import annotations

import fcntl
import struct
import sys
import termios
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aiolsp.linux.unsent import UNSENT
from aiolsp.static.phases import Phase
from aiolsp.websettings import Settings
from aiolsp.websrv import ready
from aiolsp.websrv.connection import READ
from faults import GROWTH, unharmed
from harness import Server, Shell, receive_exactly, receive_to_end
from load.attacks import ATTACKS, SMALL_BUFFER, Attack
from webclient import ask, exchange, read_reply, request, send_raw
from webhost import hosted

PAGE = b"page" * 1024


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("greedy")
    (root / "page.html").write_bytes(PAGE)
    (root / "picture.bin").write_bytes(b"p" * 200_000)
    (root / "large.bin").write_bytes(b"l" * (8 << 20))
    return root


def check(server: Server) -> None:
    assert ask(server, "/page.html").body == PAGE


@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name for attack in ATTACKS])
def test_an_honest_client_beside_greedy_ones_gets_its_answers(server: Server, attack: Attack) -> None:
    stays = attack.allowance > 0
    count = attack.count // 20 if stays else attack.count
    steps = attack.steps((server.host, server.port), count)
    with unharmed(server, check, growth=GROWTH + count * attack.allowance), closing(steps), server.connect() as honest:
        for _ in range(20):
            for _ in range(5):
                next(steps)
            assert exchange(honest, "/page.html").body == PAGE


def test_a_head_of_a_mebibyte_is_refused_by_the_limit_it_exceeds(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * (1 << 20))
        assert read_reply(peer).status == 431
        assert receive_to_end(peer) == b""
    assert send_raw(server, b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 414


def test_ten_thousand_ranges_are_the_whole_page_once(server: Server) -> None:
    with server.connect() as peer:
        for part in ("0-", "0-0", "-1"):
            count = 30_000 // (len(part) + 1)
            reply = exchange(peer, "/page.html", "Range: bytes=" + ",".join([part] * count))
            assert reply.status == 200 and reply.body == PAGE


@pytest.mark.parametrize("asked", [request("/large.bin"), request("/page.html") * 2000], ids=["file", "pipeline"])
def test_the_kernel_keeps_no_more_for_a_client_that_does_not_read(shell: Shell, site: Path, asked: bytes) -> None:
    with hosted(shell.name, site) as host:
        peer, served = host.connect(receive_buffer=SMALL_BUFFER)
        with peer:
            peer.sendall(asked)
            host.wait_until(lambda: unacknowledged(host.socket_of(served)) >= UNSENT, "a full socket")
            honest, _ = host.connect()
            with honest:  # time enough for more
                assert exchange(honest, "/page.html").body == PAGE
            # Besides the last of the pieces that the kernel keeps bytes in.
            assert unacknowledged(host.socket_of(served)) <= UNSENT + 64 * 1024


def test_of_a_pipeline_that_waits_little_is_parsed(shell: Shell, site: Path) -> None:
    asked = request("/page.html") * 10_000
    with hosted(shell.name, site) as host:
        peer, served = host.connect(receive_buffer=SMALL_BUFFER)
        with peer:
            peer.setblocking(False)
            peer.send(asked)
            host.wait_until(partial(host.waits_for, served, Phase.SENDING), "a full socket")
            # A request is two events: what is left of one piece of heads.
            piece = sys.modules[type(served).__module__].HEADS
            assert len(served._events) <= 2 * piece // len(request("/page.html")) + 2


def unacknowledged(sock: Any) -> int:
    """Bytes that the kernel keeps for the peer of *sock* (SIOCOUTQ, tcp(7))."""
    (size,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
    return int(size)


def test_a_large_answer_from_memory_is_kept_once_for_all_that_do_not_read_it(shell: Shell, tmp_path: Path) -> None:
    if shell.name == "asyncio" and sys.version_info < (3, 12):
        pytest.skip("this loop copies what it cannot send at once")
    size, count = 4 << 20, 20
    (tmp_path / "film.bin").write_bytes(b"f" * size)
    with shell.server("websrv", tmp_path, "--cache-file", str(size), role="") as server, ExitStack() as stack:
        assert len(ask(server, "/film.bin").body) == size
        before = server.rss()
        for _ in range(count):
            peer = stack.enter_context(server.connect(receive_buffer=SMALL_BUFFER))
            peer.sendall(request("/film.bin"))
            assert receive_exactly(peer, 1)
        assert server.rss() - before < count * size // 4


def test_the_stock_loop_takes_no_memory_from_the_kernel_for_each_read(site: Path) -> None:
    with hosted("asyncio", site) as host:
        peer, served = host.connect()
        with peer:
            assert served.transport.max_size == READ < 128 * 1024, "from where on malloc maps memory (mallopt(3))"
            for _ in range(2):
                peer.sendall(request("/page.html") * 3000)
                for _ in range(3000):
                    assert read_reply(peer).body == PAGE


def test_paths_that_are_not_there_leave_nothing_in_memory(loop_name: str, site: Path) -> None:
    with hosted(loop_name, site, Settings(threads=2, grace=1.0)) as host:
        peer, _ = host.connect()
        with peer:
            for first in range(0, 500, 100):
                peer.sendall(b"".join(request(f"/missing/{first + number}") for number in range(100)))
                for _ in range(100):
                    assert read_reply(peer).status == 404
            service = host.service
            assert host.call(
                lambda: (len(service.files.cache), service.files.cache.used, len(service.files.loading))
            ) == (0, 0, 0)
            assert host.call(lambda: service.ready._size) <= ready.SIZE
            peer.sendall(request("/page.html"))
            assert read_reply(peer).body == PAGE
