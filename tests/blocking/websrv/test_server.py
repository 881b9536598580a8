"""The blocking web server as an object in somebody's own program: its thread, its ends, what it leaves behind."""

from __future__ import annotations

import io
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.blocking.websrv import WebServer
from aiolsp.linux.listener import ListenError
from aiolsp.sansio.stopping import ECHO
from aiolsp.websettings import Settings
from harness import DEADLINE
from webclient import exchange
from webhost import descriptors, hosted

SMALL = b"small" * 100


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("server")
    (root / "small.txt").write_bytes(SMALL)
    return root


def body_of(server: WebServer) -> bytes:
    with socket.create_connection(("127.0.0.1", server.addresses[0][1]), DEADLINE) as peer:
        return exchange(peer, "/small.txt").body


def test_it_may_be_stopped_closed_twice_and_entered_again(site: Path) -> None:
    before, threads = descriptors(), threading.active_count()
    server = WebServer(site, port=0)
    for _ in range(2):
        with server:
            thread = threading.Thread(target=server.run)
            thread.start()
            assert body_of(server) == SMALL
            server.stop()
            thread.join(DEADLINE)
            server.close()
            server.close()
        with pytest.raises(ConnectionRefusedError):
            body_of(server)
    assert (descriptors(), threading.active_count()) == (before, threads)


def test_what_cannot_start_leaves_nothing_open(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        before, threads = descriptors(), threading.active_count()
        with pytest.raises(ListenError):
            WebServer(site, port=taken.getsockname()[1]).__enter__()
        with pytest.raises(NotADirectoryError):
            WebServer(site / "small.txt", port=0).__enter__()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", io.StringIO())
            with pytest.raises(io.UnsupportedOperation):
                WebServer(site, port=0, settings=Settings(log="common")).__enter__()
        assert (descriptors(), threading.active_count()) == (before, threads)


def test_a_request_wakes_the_readiness_loop_once(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hosted("blocking", site) as host:
        with host.connect()[0] as peer:
            assert exchange(peer, "/small.txt").body == SMALL
            wakes: list[float] = []
            fire = host.service.timers.fire

            def counted() -> None:
                wakes.append(time.monotonic())
                fire()

            monkeypatch.setattr(host.service.timers, "fire", counted)
            exchange(peer, "/small.txt")
            host.wait_until(lambda: not next(iter(host.connections()))._held, "rest")
            assert len(wakes) <= 2, "one for the request, and perhaps one that had begun before"


def test_abort_ends_the_wait_for_what_is_in_flight(site: Path) -> None:
    with hosted("blocking", site, Settings(threads=1, grace=1000.0)) as host:
        peer, served = host.connect()
        with peer:
            peer.sendall(b"GET /small.txt HTTP/1.1\r\n")
            host.wait_until(lambda: not served._fresh, "half a head")
            host.begin_to_stop(1000.0)
            host.server.abort()
            assert peer.recv(1) == b""


@pytest.mark.parametrize(("late", "cuts"), [(False, 0), (True, 1)])
def test_a_signal_cuts_what_is_in_flight_if_it_is_no_echo_of_the_first(
    site: Path, monkeypatch: pytest.MonkeyPatch, late: bool, cuts: int
) -> None:
    calls: list[str] = []
    with WebServer(site, port=0) as server, SelfPipe(signal.SIGTERM) as signals:
        monkeypatch.setattr(server, "abort", lambda: calls.append("abort"))
        signal.raise_signal(signal.SIGTERM)
        server._signalled(signals)
        if late:
            time.sleep(2 * ECHO)
        signal.raise_signal(signal.SIGTERM)
        if not late:
            time.sleep(2 * ECHO)  # it came early, but is heard only now
        server._signalled(signals)
    assert len(calls) == cuts
