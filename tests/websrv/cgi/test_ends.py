"""When a program ends: with all that it started, with its client, with its time, with the server; and how many run."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import pytest

from aiolsp.linux.pidfd import PidFd
from cgiprograms import await_end, post
from faults import reset, wait_until
from harness import DEADLINE, Server, Shell, receive_to_end, receive_until
from webclient import ask, exchange, read_chunks, read_reply, request


def test_what_a_program_leaves_in_its_group_ends_with_it(server: Server) -> None:
    pid = int(ask(server, "/cgi-bin/stray.sh").body)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the stray's end")


def test_a_daemon_that_holds_the_pipe_does_not_hold_the_answer(server: Server) -> None:
    with server.connect() as peer:
        pid = int(exchange(peer, "/cgi-bin/daemon.sh").body)
        os.kill(pid, signal.SIGKILL)
        assert exchange(peer, "/file.txt").body == b"a file"


def test_a_client_that_does_not_read_stops_the_program_and_not_the_server(server: Server) -> None:
    size = 256 << 20
    before = server.rss()
    with server.connect(receive_buffer=4096) as peer:
        peer.sendall(request(f"/cgi-bin/zeros.sh?{size}"))
        receive_until(peer, b"\r\n\r\n")
        assert ask(server, "/file.txt").body == b"a file"
        assert server.rss() - before < 16 << 20
        reset(peer)
    with server.connect() as peer:
        peer.sendall(request(f"/cgi-bin/zeros.sh?{size}"))
        receive_until(peer, b"\r\n\r\n")
        assert sum(len(chunk) for chunk in read_chunks(peer)) == size
    assert server.rss() - before < 16 << 20


def test_a_client_that_never_reads_is_cut_and_its_program_killed(site: Path, shell: Shell) -> None:
    options = ("--cgi", "--response-grace", 0.3, "--response-rate", 1 << 40)
    with shell.server("websrv", site, *options, role="") as server:
        with server.connect(receive_buffer=4096) as peer:
            peer.sendall(request(f"/cgi-bin/zeros.sh?{1 << 30}"))
            await_end(server, "zeros.sh")
            receive_to_end(peer)


def test_a_program_that_does_not_answer_in_time_is_killed_with_all_it_started(hasty: Server) -> None:
    with hasty.connect() as peer:
        reply = exchange(peer, "/cgi-bin/hangs.sh")
        assert reply.status == 504
        await_end(hasty, "hangs.sh")
        assert exchange(peer, "/file.txt").body == b"a file"
    hasty.stderr.wait_for("/cgi-bin/hangs.sh: the program was silent for 0.5 s\n")


def test_a_program_that_stops_in_the_middle_is_killed_and_its_answer_cut(hasty: Server) -> None:
    with hasty.connect() as peer:
        peer.sendall(request("/cgi-bin/halts.sh"))
        assert not receive_to_end(peer).endswith(b"0\r\n\r\n")
    await_end(hasty, "halts.sh")


def test_a_program_that_closes_its_output_and_goes_on_has_answered(hasty: Server) -> None:
    assert ask(hasty, "/cgi-bin/closes.sh").body == b"all"
    await_end(hasty, "closes.sh")


def test_a_program_that_goes_on_after_its_answer_holds_up_nothing_for_ever(hasty: Server) -> None:
    with hasty.connect() as peer:
        assert exchange(peer, "/cgi-bin/endless.sh").body == b"y\ny"
        assert exchange(peer, "/cgi-bin/endless.sh", method="HEAD").fields["content-length"] == "3"
        assert exchange(peer, "/cgi-bin/endless-redirect.sh").body == b"a file"
    hasty.stderr.wait_for("killed: it answered, and did not end\n", count=3)


def test_more_programs_than_may_run_are_refused_at_once(hasty: Server) -> None:
    waiting = [hasty.connect() for _ in range(2)]
    for peer in waiting:
        peer.sendall(request("/cgi-bin/waits.sh", "Content-Length: 3", method="POST"))
    hasty.stderr.wait_for(r"waits.sh: \d+", count=2)
    reply = post(hasty, "/cgi-bin/echo", b"abc")
    assert (reply.status, reply.fields["retry-after"]) == (503, "1")
    assert ask(hasty, "/file.txt").body == b"a file"
    for peer in waiting:
        peer.sendall(b"ab\n")
        assert read_reply(peer).body == b"ab"
        peer.close()
    assert post(hasty, "/cgi-bin/deaf.sh", b"abc").body == b"deaf"


@pytest.mark.parametrize("body", [b"", b"half"])
def test_a_client_that_leaves_takes_its_program_along(server: Server, body: bytes) -> None:
    before = server.stderr.text.count("hangs.sh: ")
    with server.connect() as peer:
        peer.sendall(request("/cgi-bin/hangs.sh", f"Content-Length: {len(body) * 2}", method="POST") + body)
        server.stderr.wait_for(r"hangs.sh: \d+", count=before + 1)
        reset(peer)
    await_end(server, "hangs.sh", count=before + 1)


def test_a_server_that_stops_lets_a_program_finish(site: Path, shell: Shell) -> None:
    with shell.server("websrv", site, "--cgi", role="") as server:
        with server.connect() as peer:
            peer.sendall(request("/cgi-bin/waits.sh", "Content-Length: 3", method="POST"))
            server.stderr.wait_for(r"waits.sh: \d+")
            server.send_signal(signal.SIGTERM)
            wait_until(server.refuses, "no more connections")
            peer.sendall(b"ab\n")
            assert read_reply(peer).body == b"ab"
        # A second signal would end a process whose handlers are gone already.
        assert server.wait() == 0


def test_a_server_that_must_stop_kills_its_programs(site: Path, shell: Shell) -> None:
    with shell.server("websrv", site, "--cgi", "--grace", 0.2, role="") as server, server.connect() as peer:
        peer.sendall(request("/cgi-bin/hangs.sh"))
        pids = server.stderr.wait_for(r"hangs.sh: (\d+) (\d+)").groups()
        held = PidFd(int(pids[0]))
        server.send_signal(signal.SIGTERM)
        assert receive_to_end(peer) == b""
        assert server.wait() == 0 and select.select([held], [], [], DEADLINE)[0]
        held.close()
    for pid in pids:
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), "the end of it all")  # type: ignore[misc]
