"""The web server as an object in somebody's own program, on both loops."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from aiolsp.blocking import websrv as blocking
from aiolsp.linux.listener import ListenError
from aiolsp.static.representation import Resource, Wanted
from aiolsp.static.resource import DocumentRoot
from aiolsp.websettings import Settings
from aiolsp.websrv import WebServer
from faults import RESET_ON_CLOSE
from harness import DEADLINE, Shell, receive_exactly, receive_to_end, receive_until
from webclient import exchange, read_reply, request
from webhost import descriptors, hosted

SMALL = b"small" * 100
LARGE = os.urandom(2_000_000)

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("server")
    (root / "small.txt").write_bytes(SMALL)
    (root / "large.bin").write_bytes(LARGE)
    return root


async def status_of(server: WebServer) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.addresses[0][1]))
    writer.write(request("/small.txt", "Connection: close"))
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.endswith(b"\r\n\r\n" + SMALL)
    return answer.split(b" ")[1]


def test_it_may_be_closed_twice_and_entered_again(loop_factory: LoopFactory, site: Path) -> None:
    async def main() -> None:
        server = WebServer(site, port=0)
        for _ in range(2):
            async with server:
                assert await status_of(server) == b"200"
                await asyncio.gather(server.close(), server.close())
            with pytest.raises(ConnectionRefusedError):
                await status_of(server)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        before = descriptors()
        runner.run(main())
        assert descriptors() <= before + 8, "what the loop itself opens when it first runs"


def test_closed_again_with_less_grace_it_waits_no_longer_than_that(loop_factory: LoopFactory, tmp_path: Path) -> None:
    (tmp_path / "endless").touch()
    os.truncate(tmp_path / "endless", 1 << 28)  # more than the kernel takes for a client that does not read

    async def main() -> None:
        async with WebServer(tmp_path, port=0) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(server.addresses[0][1]), limit=1000)
            writer.write(request("/endless"))
            await reader.readexactly(100)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(server.close(10 * DEADLINE), 0.05)
            async with asyncio.timeout(DEADLINE):
                await server.close(0.05)
            writer.transport.abort()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


async def test_closed_before_it_is_entered_it_does_nothing(site: Path) -> None:
    await WebServer(site).close()
    blocking.WebServer(site).close()


def test_it_serves_and_closes_though_the_loops_executor_is_shut_down(loop_factory: LoopFactory, site: Path) -> None:
    async def main() -> None:
        await asyncio.get_running_loop().shutdown_default_executor()
        async with WebServer(site, port=0, settings=Settings(log="common")) as server:
            assert await status_of(server) == b"200"

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_two_servers_share_a_loop(loop_factory: LoopFactory, site: Path) -> None:
    async def main() -> None:
        async with WebServer(site, port=0) as one, WebServer(site, port=0) as other:
            assert one.url != other.url
            for status in await asyncio.gather(status_of(one), status_of(other)):
                assert status == b"200"

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


async def test_what_cannot_start_leaves_nothing_open(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        before, threads = descriptors(), threading.active_count()
        with pytest.raises(ListenError):
            await WebServer(site, port=taken.getsockname()[1]).__aenter__()
        with pytest.raises(NotADirectoryError):
            await WebServer(site / "small.txt", port=0).__aenter__()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", io.StringIO())
            with pytest.raises(io.UnsupportedOperation):
                await WebServer(site, port=0, settings=Settings(log="common")).__aenter__()
        assert (descriptors(), threading.active_count()) == (before, threads)


def test_two_hundred_mixed_requests_leave_no_descriptor(shell: Shell, site: Path) -> None:
    fields = ["Range: bytes=0-9", "Range: bytes=0-9,20-29", "Range: bytes=9999999-", "If-Match: none", "X-Nothing: 1"]
    with hosted(shell.name, site) as host:
        before = descriptors()
        peer, _ = host.connect()
        tag = exchange(peer, "/large.bin").fields["etag"]
        for number in range(200):
            match number % 10:
                case 0:
                    assert exchange(peer, "/large.bin", f"If-None-Match: {tag}").status == 304
                case 1:
                    assert exchange(peer, "/large.bin", method="HEAD").status == 200
                case 2:
                    assert exchange(peer, "/missing").status == 404
                case 3:
                    assert exchange(peer, "/").status == 200
                case 4:
                    assert exchange(peer, "/small.txt", method="POST").status == 405
                case 5 | 6:
                    other, _ = host.connect(receive_buffer=4096)
                    other.sendall(request("/large.bin") * 2)
                    if number % 10 == 5:
                        receive_until(other, b"\r\n\r\n")
                        receive_exactly(other, 1000)
                    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                    other.close()
                case kind:
                    asked = fields[(number // 10 + kind) % len(fields)]
                    assert exchange(peer, "/large.bin", asked).status in (200, 206, 412, 416)
        peer.close()
        host.wait_until(lambda: not host.service.connections and descriptors() == before, "everything closed")
        assert host.call(lambda: (len(host.service.timers.timers), host.service.crowd.present)) == (0, 0)


def test_a_full_queue_is_503_with_retry_after_at_once_and_what_is_in_memory_is_served(
    loop_name: str, site: Path
) -> None:
    with hosted(loop_name, site, Settings(threads=1, max_queue=1, cache_valid=1000)) as host:
        peer, _ = host.connect()
        with peer:
            assert exchange(peer, "/small.txt").body == SMALL
            with host.held_threads():
                waiting, served = host.connect()
                waiting.sendall(request("/large.bin"))
                host.wait_until(lambda: served._awaits_disk, "a full queue")
                for _ in range(3):
                    refused = exchange(peer, "/missing")
                    assert (refused.status, refused.fields["retry-after"]) == (503, "1")
                    assert "connection" not in refused.fields
                    assert exchange(peer, "/small.txt").body == SMALL
            with waiting:
                assert read_reply(waiting).body == LARGE
            assert exchange(peer, "/missing").status == 404


def test_a_thread_stuck_in_a_look_delays_the_end_by_the_grace_and_a_moment(
    shell: Shell, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, release = threading.Event(), threading.Event()
    found: list[int] = []
    load = DocumentRoot.load

    def stuck(root: DocumentRoot, wanted: Wanted, known: Resource | None = None) -> Resource:
        entered.set()
        release.wait(DEADLINE)
        resource = load(root, wanted, known)
        found.append(resource.outline.status)
        return resource

    monkeypatch.setattr(DocumentRoot, "load", stuck)
    with hosted(shell.name, site, Settings(threads=1, grace=0.05)) as host:
        peer, _ = host.connect()
        peer.sendall(request("/small.txt"))
        assert entered.wait(DEADLINE)
    with peer:
        assert receive_to_end(peer) == b""
    # The directory is still there for it: its number is not that of another file by now.
    release.set()
    for thread in threading.enumerate():
        if thread.name.startswith("aiolsp-disk"):
            thread.join(DEADLINE)
    assert found == [200]
    # Nothing is stuck any more: let go of what was kept for that thread.
    (host.service.close if shell.name == "blocking" else host.service.root.close)()
