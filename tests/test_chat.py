"""The chat program on stock asyncio, uvloop and its blocking twin: one body each, real sockets, real processes."""

from __future__ import annotations

import os
import re
import resource
import select
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

import faults
from chatting import Reader, assembled, check, members, send_to_the_end
from harness import DEADLINE, SHELLS, Process, Server, Shell, receive_to_end, receive_until

MIB = 1 << 20


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[Shell, tuple[Server, int]]]:
    """One server of each shell, which must outlive all that this file does to it, and its sockets when it is idle."""
    with ExitStack() as stack:
        started = {shell: stack.enter_context(shell.server("chat", "--max-users", 1000)) for shell in SHELLS}
        yield {shell: (server, faults.sockets_of(server)) for shell, server in started.items()}


@pytest.fixture
def server(shell: Shell, servers: dict[Shell, tuple[Server, int]]) -> Server:
    """A running chat server with room for many, and nobody in it."""
    running, idle = servers[shell]
    faults.wait_until(lambda: faults.sockets_of(running) == idle, "an empty room")
    return running


def test_a_line_goes_to_all_but_its_sender(server: Server) -> None:
    with members(server, 3) as (first, second, third):
        first.sendall(b"hello\n")
        second.sendall(b"hi\n")
        assert receive_until(first, b"\n") == b"hi\n"
        assert receive_until(second, b"\n") == b"hello\n"
        assert {receive_until(third, b"\n"), receive_until(third, b"\n")} == {b"hello\n", b"hi\n"}


def test_lines_are_heard_whole_however_they_were_cut(server: Server) -> None:
    with members(server, 3) as (speaker, other, listener):
        for half in (b"first ", b"half\r\nand ", b"a second line\n"):
            speaker.sendall(half)
            other.sendall(b"meanwhile\n")
            receive_until(speaker, b"meanwhile\n")
        heard = [receive_until(listener, b"\n") for _ in range(5)]
        assert heard.count(b"meanwhile\n") == 3
        assert [line for line in heard if line != b"meanwhile\n"] == [b"first half\n", b"and a second line\n"]


def test_a_line_of_1023_bytes_is_one_and_a_longer_one_comes_in_pieces(server: Server) -> None:
    with members(server, 2) as (speaker, listener):
        speaker.sendall(b"x" * 1023 + b"\n" + b"y" * 2500 + b"\n")
        pieces = [receive_until(listener, b"\n") for _ in range(4)]
        assert pieces == [b"x" * 1023 + b"\n", b"y" * 1023 + b"\n", b"y" * 1023 + b"\n", b"y" * 454 + b"\n"]


@pytest.mark.parametrize(
    "leave", [lambda peer: peer.shutdown(socket.SHUT_WR), socket.socket.close], ids=["half", "whole"]
)
def test_the_last_line_without_its_newline_is_delivered_when_its_sender_leaves(server: Server, leave: object) -> None:
    with members(server, 2) as (speaker, listener):
        speaker.sendall(b"good\nbye")
        assert callable(leave)
        leave(speaker)
        assert receive_until(listener, b"bye\n") == b"good\nbye\n"
        if speaker.fileno() >= 0:
            assert receive_to_end(speaker) == b""


def test_one_too_many_is_told_so_and_closed_and_a_place_left_is_free_again(shell: Shell) -> None:
    with shell.server("chat") as running, members(running, 5) as peers:
        with running.connect() as sixth:
            assert receive_to_end(sixth) == b"too many users\n"
        with running.connect() as sixth:
            sixth.sendall(b"let me in\n")
            assert receive_to_end(sixth) == b"too many users\n"
        peers[0].shutdown(socket.SHUT_WR)
        assert receive_to_end(peers[0]) == b""
        with running.connect() as sixth:
            sixth.sendall(b"thanks\n")
            assert receive_until(peers[1], b"\n") == b"thanks\n"


def test_a_member_that_does_not_read_is_dropped_and_the_others_hear_everything(shell: Shell) -> None:
    with shell.server("chat", "--high-water", 20_000) as running, ExitStack() as stack:
        stuck = stack.enter_context(running.connect(receive_buffer=4096))
        listener = stack.enter_context(running.connect())
        speaker = stack.enter_context(running.connect())
        assembled([stuck, listener, speaker])
        reader = Reader(listener, 8 * MIB)
        speaker.sendall((b"z" * 1000 + b"\n") * (8 * MIB // 1000 + 1))
        assert reader.result().count(b"z") >= 8 * MIB
        running.stderr.wait_for(rf"dropped 127.0.0.1:{stuck.getsockname()[1]}: ")
        assert len(receive_to_end(stuck)) < 8 * MIB
        listener.sendall(b"was that all?\n")
        assert receive_until(speaker, b"\n") == b"was that all?\n"


def test_a_line_does_not_wait_for_one_who_lags_while_a_flood_does(shell: Shell) -> None:
    with shell.server("chat", "-v") as running, ExitStack() as stack:
        stuck = stack.enter_context(running.connect(receive_buffer=4096))
        listener = stack.enter_context(running.connect())
        talker = stack.enter_context(running.connect())
        flooder = stack.enter_context(running.connect())
        assembled([stuck, listener, talker, flooder])
        lines = b"z" * 1000 + b"\n"
        reader = Reader(listener, 16 * MIB + len("a word in between"))
        flood = threading.Thread(target=flooder.sendall, args=(lines * (16 * MIB // 1000 + 1),), daemon=True)
        deaf = Reader(talker, 16 * MIB)
        flood.start()
        running.stderr.wait_for(r"= pause_writing fd=\d+ \d+ B  it lags: floods wait for it\n")
        running.stderr.wait_for(r"= pause_reading fd=\d+  a flood waits until all have caught up\n")
        talker.sendall(b"a word in between\n")
        running.stderr.wait_for(r"< (recv|data_received) fd=\d+ (POLLIN )?18 B ")
        running.stderr.wait_for(r"! drop fd=\d+  over the high-water mark for 1.0 s\n")
        running.stderr.wait_for(r"= resume_reading fd=\d+\n")
        assert b"a word in between" in reader.result()
        assert len(deaf.result()) >= 16 * MIB
        flood.join(DEADLINE)


def test_one_that_resets_before_it_is_turned_away_harms_nobody(shell: Shell) -> None:
    with shell.server("chat", "--max-users", 1) as running, running.connect() as member:
        with faults.stopped(running):
            for _ in range(3):
                faults.reset(running.connect())
        with running.connect() as next_one:
            assert receive_to_end(next_one) == b"too many users\n"
        member.sendall(b"alone\n")


def test_a_flood_that_resets_before_it_is_held_back_harms_nobody(shell: Shell) -> None:
    lines = b"z" * 1000 + b"\n"
    with shell.server("chat", "-v") as running, ExitStack() as stack:
        stuck = stack.enter_context(running.connect(receive_buffer=4096))
        talker, other, flooder = (stack.enter_context(running.connect()) for _ in range(3))
        assembled([stuck, talker, other, flooder])
        flood = threading.Thread(target=send_to_the_end, args=(flooder,), daemon=True)
        flood.start()
        running.stderr.wait_for("it lags: floods wait for it")
        with faults.stopped(running):
            talker.sendall(lines * 4)
            other.sendall(lines * 70)  # with the talker's lines, more than a turn: delivered to it, and then it waits
            faults.reset(other)
        running.stderr.wait_for(r"! drop fd=\d+  over the high-water mark for 1.0 s\n")
        running.stop()
        flood.join(DEADLINE)
        assert not flood.is_alive()


def test_ten_mebibytes_without_a_newline_are_heard_whole_by_those_who_read(server: Server) -> None:
    with faults.unharmed(server, check), members(server, 3) as peers:
        readers = [Reader(peer, 10 * MIB) for peer in peers[:2]]
        peers[2].sendall(b"n" * 10 * MIB)
        peers[2].shutdown(socket.SHUT_WR)
        for reader in readers:
            assert reader.result() == b"n" * 10 * MIB


def test_binary_garbage_is_heard_as_it_was_said(server: Server) -> None:
    garbage = os.urandom(100_000).replace(b"\r", b"?") + b"\n"
    with members(server, 2) as (speaker, listener):
        reader = Reader(listener, len(garbage.replace(b"\n", b"")))
        speaker.sendall(garbage)
        assert reader.result() == garbage.replace(b"\n", b"")


def test_a_thousand_members_hear_all_ten_lines_of_each_in_one_order(shell: Shell) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 3000:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(3000, hard), hard))
    with shell.server("chat", "--max-users", 1001) as running, ExitStack() as stack:
        peers = [stack.enter_context(running.connect()) for _ in range(1001)]
        assembled(peers)
        heard = converse(peers)
    whole = bytes(heard[-1])
    assert sorted(whole.splitlines()) == sorted(line_of(member, turn) for member in range(1000) for turn in range(10))
    for member, text in enumerate(heard[:-1]):
        expected = whole
        for turn in range(10):
            expected = expected.replace(line_of(member, turn) + b"\n", b"")
        assert text == expected, f"member {member} heard something else"


def line_of(member: int, turn: int) -> bytes:
    """A line that is like no other and no part of another."""
    return b"<%03d says %d>" % (member, turn)


def converse(peers: list[socket.socket]) -> list[bytearray]:
    """All but the last say ten lines, a round of one line each; what each has heard."""
    size = len(line_of(0, 0)) + 1
    heard = [bytearray() for _ in peers]
    missing = {peer.fileno(): size * 10 * (len(peers) - 2) for peer in peers[:-1]}
    missing[peers[-1].fileno()] = size * 10 * (len(peers) - 1)
    index = {peer.fileno(): number for number, peer in enumerate(peers)}
    with select.epoll() as poller:
        for fd in missing:
            poller.register(fd, select.EPOLLIN)

        def listen(timeout: float) -> None:
            ready = poller.poll(timeout, 2000)
            assert ready or not timeout, f"nothing more came; {sum(missing.values())} bytes are missing"
            for fd, _ in ready:
                data = peers[index[fd]].recv(1 << 18)
                assert data, f"member {index[fd]} was dropped"
                heard[index[fd]] += data
                missing[fd] -= len(data)

        for turn in range(10):
            for number, peer in enumerate(peers[:-1]):
                peer.sendall(line_of(number, turn) + b"\n")
            listen(0)
        while any(missing.values()):
            listen(DEADLINE)
    return heard


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_with_status_0_while_members_are_connected(shell: Shell, number: int) -> None:
    with shell.server("chat") as running, members(running, 2) as (first, second):
        first.sendall(b"hello\n")
        assert receive_until(second, b"\n") == b"hello\n"
        running.stop(number)
        assert receive_to_end(first) == receive_to_end(second) == b""


def test_a_member_that_reads_slowly_is_still_given_what_was_said_before_the_stop(shell: Shell) -> None:
    with shell.server("chat", "-v", "--high-water", 16 * MIB) as running, members(running, 3) as peers:
        slow, listener, speaker = peers
        reader = Reader(listener, 8 * MIB + len("the end"))
        speaker.sendall((b"z" * 1000 + b"\n") * (8 * MIB // 1000) + b"z" * (8 * MIB % 1000) + b"the end\n")
        assert reader.result().endswith(b"the end")
        running.send_signal(signal.SIGTERM)
        running.stderr.wait_for("< signal ")
        assert receive_to_end(slow)[-8:] == b"the end\n"
        assert running.wait() == 0


def test_it_stops_while_a_member_lags(shell: Shell) -> None:
    with shell.server("chat", "-v") as running, members(running, 2, receive_buffer=4096) as (stuck, speaker):
        flood = threading.Thread(target=send_to_the_end, args=(speaker,), daemon=True)
        flood.start()
        running.stderr.wait_for("it lags: floods wait for it")
        running.stop()
        flood.join(DEADLINE)
        assert not flood.is_alive()


def test_a_busy_port_and_a_bad_option_are_one_line_and_status_2(shell: Shell, server: Server) -> None:
    for options in (["--port", server.port], ["--max-users", 0], ["--high-water", "much"]):
        refused = Process(shell.command("chat", "server", *options))
        assert refused.wait() == 2
        assert refused.stderr.whole().count("\n") == 1


def test_the_trace_tells_each_event_and_why(shell: Shell) -> None:
    with shell.server("chat", "-v", "--max-users", 2) as running, members(running, 2) as (first, second):
        first.sendall(b"hello\n")
        assert receive_until(second, b"\n") == b"hello\n"
        with running.connect() as third:
            receive_to_end(third)
        first.shutdown(socket.SHUT_WR)
        assert receive_to_end(first) == b""
        running.stderr.wait_for(r"x (close|connection_lost) fd=\d+  closed\n", count=2)
    trace = running.stderr.whole()
    received = r"recv fd=\d+ POLLIN" if shell.name == "blocking" else r"data_received fd=\d+"
    for pattern in (
        r"< accept fd=\d+ peer=127.0.0.1:\d+\n",
        rf"< {received} 6 B  said; delivered at the end of this turn\n",
        r"> (sendmsg|write) fd=\d+ 6 B waiting=\d+\n",
        r"! reject fd=\d+  too many users\n",
        r"it says no more: it leaves\n",
    ):
        assert re.search(pattern, trace), f"{pattern} is not in:\n{trace}"


def test_resets_in_the_middle(server: Server) -> None:
    faults.resets_in_the_middle(server, check)


def test_ten_mebibytes_without_a_newline_from_a_peer_that_resets(server: Server) -> None:
    faults.data_without_newline(server, check)


def test_binary_garbage(server: Server) -> None:
    faults.binary_garbage(server, check)


def test_500_connections_dropped_at_once(server: Server) -> None:
    faults.connections_dropped_at_once(server, check)


def test_descriptors_exhausted(server: Server) -> None:
    faults.descriptors_exhausted(server, check)


def test_a_stopped_client(shell: Shell, server: Server) -> None:
    faults.stopped_client(server, check, shell, "chat")


def test_a_server_that_is_stopped_and_goes_on(server: Server) -> None:
    faults.stopped_server(server, check)


def test_a_storm_of_signals(server: Server) -> None:
    faults.signal_storm(server, check)
