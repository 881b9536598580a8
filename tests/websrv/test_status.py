"""The status page on the wire: what is counted, who may see it, and that it is in no log."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from aiolsp.http1.limits import Limits
from aiolsp.websettings import Settings
from harness import Process, Server, Shell, receive_to_end
from prometheus import read_exposition
from webclient import Reply, ask, exchange, read_reply, request
from webhost import hosted

SMALL = b"small" * 100
LARGE = b"large" * 400_000

STATUS = Settings(threads=2, grace=1.0, cache_valid=1000, status="/status", health="/healthz")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("status")
    (root / "small.txt").write_bytes(SMALL)
    (root / "large.bin").write_bytes(LARGE)
    return root


def numbers(peer: socket.socket) -> dict[str, int]:
    """What the status says of the server in all, by a request on *peer*."""
    counted: dict[str, int] = json.loads(exchange(peer, "/status?format=json").body)["all"]
    return counted


def test_each_request_answer_and_connection_is_counted_once(shell: Shell, site: Path) -> None:
    remembers = shell.name != "blocking"  # or has every request ask the disk, the status by a thread as well
    with hosted(shell.name, site, STATUS) as host:
        peer, _ = host.connect()
        with peer:
            before = numbers(peer)
            with host.connect()[0] as other:
                replies = [exchange(other, "/small.txt"), exchange(other, "/small.txt")]
                replies += [exchange(other, "/small.txt", f"X: {number}") for number in range(3)]
                replies += [exchange(other, "/missing"), exchange(other, "/large.bin")]
                replies += [exchange(other, "/small.txt", f"If-None-Match: {replies[0].fields['etag']}")]
                there = numbers(peer)
                other.sendall(b"nonsense\r\n\r\n")
                replies.append(read_reply(other))
                receive_to_end(other)
            host.wait_until(lambda: len(host.service.connections) == 1, "the other connection's end")
            after = numbers(peer)
    assert [reply.status for reply in replies] == [200] * 5 + [404, 200, 304, 400]
    assert (before["connections"], there["connections"], after["connections"]) == (1, 2, 1)
    grown = {name: after[name] - before[name] for name in after}
    assert grown["connections_total"] == 1 and grown["refused_total"] == 0
    assert grown["requests_total"] == 8 + 2, "and two for the status; what was not understood is none"
    assert grown["responses_2xx_total"] == 6 + 2
    assert (grown["responses_3xx_total"], grown["responses_4xx_total"], grown["responses_5xx_total"]) == (1, 2, 0)
    assert grown["ready_hits_total"] + grown["cache_hits_total"] + grown["cache_misses_total"] == 8
    assert grown["cache_misses_total"] == (3 if remembers else 8) and grown["ready_hits_total"] <= 4
    assert grown["cache_entries"] == remembers and (grown["cache_bytes"] > len(SMALL)) == remembers
    assert (after["threads_busy"], after["queue_length"]) == (not remembers, 0) and after["timers"] >= 1
    body = 5 * len(SMALL) + len(LARGE) + sum(len(replies[number].body) for number in (5, 8))
    assert body < grown["sent_bytes_total"] < body + 20_000


def test_ready_answers_are_counted_and_all_their_bytes(loop_name: str, site: Path) -> None:
    with hosted(loop_name, site, STATUS) as host:
        peer, served = host.connect()
        with peer:
            exchange(peer, "/small.txt")
            before = numbers(peer)
            for _ in range(50):
                exchange(peer, "/small.txt")
            after = numbers(peer)
    assert after["requests_total"] - before["requests_total"] == 51
    assert after["ready_hits_total"] - before["ready_hits_total"] >= 40, "all but one for each second that began"
    assert after["sent_bytes_total"] - before["sent_bytes_total"] > 50 * len(SMALL)


def test_what_waits_for_a_thread_is_seen(loop_name: str, site: Path) -> None:
    with hosted(loop_name, site, STATUS) as host:
        peer, waiting = host.connect()[0], host.connect()[0]
        with peer, waiting, host.held_threads():
            waiting.sendall(request("/small.txt"))
            host.wait_until(lambda: host.service.pool.queued == 1, "a request in the queue")
            seen = numbers(peer)
            assert (seen["threads_busy"], seen["queue_length"]) == (2, 1)


def test_refused_connections_are_counted(shell: Shell, site: Path) -> None:
    limits = Limits(max_connections=1)
    settings = Settings(threads=1, grace=1.0, status="/status", limits=limits)
    with hosted(shell.name, site, settings) as host:
        peer, _ = host.connect()
        with peer:
            other = socket.create_connection(("127.0.0.1", host.server.addresses[0][1]), 20)
            with other:
                assert read_reply(other).status == 503
            host.wait_until(lambda: len(host.service.connections) == 1, "the end of the refused one")
            seen = numbers(peer)
    assert (seen["connections_total"], seen["refused_total"], seen["responses_5xx_total"]) == (2, 1, 1)


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[Server]:
    options = ("--status", "/status", "--health", "/healthz", "--log", "common", "--bind", "0.0.0.0", "--spa")
    with Shell("auto").server("websrv", site, *options, role="") as running:
        yield running


def reply(server: Server, *fields: str, method: str = "GET", target: str = "/status") -> Reply:
    server.host = "127.0.0.1"
    return ask(server, target, *fields, method=method)


def own_address() -> str | None:
    """An address of this machine that is not loopback, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("192.0.2.1", 9))
        found: str = probe.getsockname()[0]
        return None if found.startswith("127.") else found
    return None


def test_prometheus_reads_it(server: Server) -> None:
    text = reply(server, "Accept: application/openmetrics-text;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1")
    assert text.fields["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = read_exposition(text.body.decode())
    assert samples["aiolsp_worker_pid", frozenset({("worker", "0")})] == server.pid
    assert samples["aiolsp_connections", frozenset()] >= 1


def test_head_says_what_get_would_and_other_methods_are_refused(server: Server) -> None:
    told = reply(server, method="HEAD")
    assert told.status == 200 and int(told.fields["content-length"]) > 1000 and told.body == b""
    assert told.fields["cache-control"] == "no-store"
    refused = reply(server, method="POST")
    assert (refused.status, refused.fields["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert reply(server, method="OPTIONS").status == 204


def test_nobody_else_learns_that_there_is_a_status(server: Server) -> None:
    assert reply(server, "X-Forwarded-For: 192.0.2.1").body == reply(server, target="/missing").body
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    server.host = address
    assert ask(server, "/status").status == 404
    assert ask(server, "/healthz").status == 200


def test_neither_page_is_in_the_access_log_but_who_was_refused_it_is(server: Server) -> None:
    reply(server)
    reply(server, target="/healthz")
    reply(server, "Via: 1.1 proxy", target="/status?from=outside")
    server.stderr.wait_for(r"GET /status\?from=outside HTTP/1.1. 404")
    assert "/healthz" not in server.stderr.text and 'GET /status HTTP/1.1" 200' not in server.stderr.text


def test_without_the_options_there_are_no_pages(shell: Shell, site: Path) -> None:
    with hosted(shell.name, site) as host:
        peer, _ = host.connect()
        with peer:
            assert exchange(peer, "/status").status == 404
            assert exchange(peer, "/healthz").status == 404


def test_a_client_of_a_unix_socket_is_on_this_machine(shell: Shell, site: Path, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    command = shell.command("websrv", "", site, "--unix", path, "--status", "/status")
    process = Process(command)
    try:
        process.stdout.wait_for("listening on")
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(path))
            assert numbers(peer)["connections"] == 1
    finally:
        process.kill()
