"""The shared-memory chat on stock asyncio, uvloop and its blocking twin: what is said, and who is let in."""

from __future__ import annotations

import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from argparse import ArgumentTypeError
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

import faults
from aiolsp.catalog import shared_memory
from aiolsp.linux.shm import KINDS
from chatting import Reader, assembled, close, hear, members, processes, send_to_the_end, write
from harness import DEADLINE, SHELLS, Process, Server, Shell, receive_to_end, receive_until

MIB = 1 << 20
LINE = b"z" * 1000 + b"\n"
ROOM = 12


def check(server: Server) -> None:
    """Two members hear each other, once those who were cut off by a fault have made room for them."""
    heard = b""
    while heard != b"are you there?\n":
        with server.connect() as first, server.connect() as second, suppress(ConnectionError):
            second.sendall(b"are you there?\n")
            ready, _, _ = select.select([first, second], [], [], DEADLINE)
            assert ready, "neither heard nor rejected"
            heard = first.recv(100) if second not in ready else b"too many users\n"


def receive_past(peer: socket.socket, end: bytes) -> bytes:
    """All that comes, up to *end* and what came with it."""
    data = bytearray()
    while end not in data[-MIB:]:
        piece = peer.recv(MIB)
        assert piece, "the connection ended"
        data += piece
    return bytes(data)


def child_of(server: Server, slot: int, count: int = 1) -> int:
    """The process of the *count*-th member that had *slot*; the server must run with -v."""
    return int(server.stderr.wait_for(rf"= fork fd=\d+ slot={slot} pid=(\d+)\n", count=count)[1])


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[Shell, tuple[Server, int]]]:
    """One server of each shell, which must outlive all that this file does to it, and its processes when it is idle."""
    with ExitStack() as stack:
        started = {shell: stack.enter_context(shell.server("shmchat", "--max-users", ROOM)) for shell in SHELLS}
        yield {shell: (server, len(processes(server))) for shell, server in started.items()}


@pytest.fixture
def server(shell: Shell, servers: dict[Shell, tuple[Server, int]]) -> Server:
    """A running server with nobody in it."""
    running, idle = servers[shell]
    faults.wait_until(lambda: len(processes(running)) == idle, "an empty room")
    return running


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_goes_to_all_but_its_sender_in_each_kind_of_memory(shell: Shell, kind: str) -> None:
    with shell.server("shmchat", "--shm", kind) as running, members(running, 3) as (first, second, third):
        first.sendall(b"hello\n")
        assert receive_until(second, b"\n") == receive_until(third, b"\n") == b"hello\n"
        second.sendall(b"hi\n")
        assert receive_until(first, b"\n") == receive_until(third, b"\n") == b"hi\n"


def test_who_connects_first_hears_what_a_later_one_says_however_long_its_process_takes(server: Server) -> None:
    for _ in range(5):
        with ExitStack() as stack:
            peers = [stack.enter_context(server.connect()) for _ in range(4)]
            assembled(peers)
        faults.wait_until(lambda: len(processes(server)) < 4, "their end")


def test_lines_are_heard_whole_however_they_were_cut_and_long_ones_in_pieces(server: Server) -> None:
    with members(server, 2) as (speaker, listener):
        for half in (b"first ", b"half\r\nand ", b"a second line\n"):
            speaker.sendall(half)
        speaker.sendall(b"x" * 1023 + b"\n" + b"y" * 1500 + b"\n")
        heard = [receive_until(listener, b"\n") for _ in range(5)]
        assert heard == [
            b"first half\n",
            b"and a second line\n",
            b"x" * 1023 + b"\n",
            b"y" * 1023 + b"\n",
            b"y" * 477 + b"\n",
        ]


def test_the_last_line_without_its_newline_is_delivered_when_its_sender_leaves(server: Server) -> None:
    with members(server, 3) as (listener, half, whole):
        half.sendall(b"good\nbye")
        half.shutdown(socket.SHUT_WR)
        assert receive_until(listener, b"bye\n") == b"good\nbye\n"
        hear(whole, b"bye\n")
        assert receive_to_end(half) == b""
        whole.sendall(b"me too")
        whole.close()
        assert receive_until(listener, b"\n") == b"me too\n"


def test_one_too_many_is_told_so_and_who_sees_an_end_finds_the_slot_free(shell: Shell) -> None:
    with shell.server("shmchat") as running, members(running, 5) as peers:
        for _ in range(3):
            with running.connect() as sixth:
                assert receive_to_end(sixth) == b"too many users\n"
        for number in range(10):
            peers[0].shutdown(socket.SHUT_WR)
            receive_to_end(peers[0])
            peers[0].close()
            peers[0] = running.connect()
            peers[0].sendall(b"in again %d\n" % number)
            hear(peers[1], b"in again %d\n" % number)
        peers[0].close()


def test_a_flood_is_heard_whole_by_all_who_read(server: Server) -> None:
    with members(server, 4) as peers:
        readers = [Reader(peer, 8 * MIB) for peer in peers[:3]]
        text = b"".join(b"%08d" % number * 25 + b"\n" for number in range(8 * MIB // 200 + 1))
        peers[3].sendall(text)
        peers[3].shutdown(socket.SHUT_WR)
        for reader in readers:
            assert reader.result() == text.replace(b"\n", b"")


def test_one_who_does_not_read_is_told_how_much_it_missed_and_delays_nobody(shell: Shell) -> None:
    total = 6 * MIB // len(LINE)
    with shell.server("shmchat") as running, ExitStack() as stack:
        stuck = stack.enter_context(running.connect(receive_buffer=4096))
        listener = stack.enter_context(running.connect())
        speaker = stack.enter_context(running.connect())
        assembled([stuck, listener, speaker])
        reader = Reader(listener, total * (len(LINE) - 1))
        speaker.sendall(LINE * total)
        assert reader.result().count(b"z") == total * (len(LINE) - 1)
        listener.sendall(b"was that all?\n")
        assert receive_until(speaker, b"\n") == b"was that all?\n"
        assert missed_by(stuck, total) > 0
        port = stuck.getsockname()[1]
        running.stderr.wait_for(rf"shmchat: 127.0.0.1:{port} missed \d+ lines: it reads too slowly\n")


def missed_by(peer: socket.socket, total: int) -> int:
    """How many of *total* lines the peer is told that it missed; the others it hears."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
    heard = missed = 0
    rest = b""
    while heard + missed < total:
        data = peer.recv(MIB)
        assert data, "the connection ended"
        *lines, rest = (rest + data).split(b"\n")
        heard += lines.count(LINE[:-1])
        missed += sum(int(line.split()[1]) for line in lines if line.startswith(b"* "))
    assert heard + missed == total
    return missed


def test_a_flood_waits_for_a_stopped_process_no_longer_than_its_patience(shell: Shell) -> None:
    total = 500
    with shell.server("shmchat", "-v") as running, ExitStack() as stack:
        peers = [stack.enter_context(running.connect()) for _ in range(3)]
        assembled(peers)
        os.kill(child_of(running, 0), signal.SIGSTOP)
        reader = Reader(peers[1], total * (len(LINE) - 1))
        peers[2].sendall(LINE * total)
        assert len(reader.result()) == total * (len(LINE) - 1)
        os.kill(child_of(running, 0), signal.SIGCONT)
        assert missed_by(peers[0], total) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_child_killed_cuts_off_its_client_alone_and_its_slot_is_given_out_again(shell: Shell, kind: str) -> None:
    with shell.server("shmchat", "-v", "--shm", kind) as running, members(running, 4) as peers:
        flood = threading.Thread(target=send_to_the_end, args=(peers[0],), daemon=True)
        flood.start()
        running.stderr.wait_for(r"< (recv|data_received) fd=\d+ .*slot=0 ", count=3)
        os.kill(child_of(running, 0), signal.SIGKILL)
        flood.join()
        receive_to_end(peers[0])
        with running.connect() as successor:
            successor.sendall(b"here I am\n")
            for peer in peers[1:]:
                for line in receive_past(peer, b"here I am\n").splitlines():
                    assert re.fullmatch(rb"z{1023}|z{63}|\* \d+ lines? missed|here I am", line), line
            child_of(running, 0, count=2)


def test_visitors_come_and_go_and_nothing_is_lost_or_left_over(shell: Shell, server: Server) -> None:
    count, together = 60, 4

    def visit(number: int) -> None:
        with server.connect() as visitor:
            visitor.sendall(b"<visitor %d>\n" % number)
            visitor.shutdown(socket.SHUT_WR)
            text = receive_to_end(visitor)
            assert not text or re.fullmatch(rb"(<visitor \d+>\n)+", text)

    before, descriptors = faults.shared_memory(), faults.open_descriptors(server)
    with server.connect() as witness, ThreadPoolExecutor(together) as visitors:
        list(visitors.map(visit, range(count)))
        heard = sorted(receive_until(witness, b"\n") for _ in range(count))
        assert heard == sorted(b"<visitor %d>\n" % number for number in range(count))
    faults.wait_until(lambda: faults.open_descriptors(server) == descriptors, "all descriptors closed")
    assert faults.shared_memory() <= before


def test_without_memory_it_says_so_in_one_line_and_ends_with_status_1(shell: Shell) -> None:
    small = "mount -t tmpfs -o size=64k none /dev/shm"
    unshare = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    if subprocess.run([*unshare, small], capture_output=True).returncode:
        pytest.skip("no mount namespace here")
    command = shell.command("shmchat", "server", "--port", 0, "--shm", "posix")
    refused = Process([*unshare, f'{small} && exec "$0" "$@"', *command])
    assert refused.wait() == 1
    assert re.fullmatch(r"[^\n]*\d+ bytes of /dev/shm: no space left on device\n", refused.stderr.whole())


def test_more_users_than_descriptors_are_one_line_and_status_1(shell: Shell) -> None:
    refused = Process(shell.command("shmchat", "server", "--port", 0, "--max-users", 5000, "--slot-size", 4096))
    resource.prlimit(refused.pid, resource.RLIMIT_NOFILE, (200, 200))
    assert refused.wait() == 1
    assert re.fullmatch(r"[^\n]*too many open files\n", refused.stderr.whole())


@pytest.mark.skipif(os.geteuid() != 0, reason="RLIMIT_NPROC can be met for sure only as somebody who has no process")
def test_one_for_whom_there_is_no_process_is_told_so_and_the_next_is_let_in(shell: Shell) -> None:
    program, *words = shell.command("shmchat", "server", "--port", 0)[2:]
    nobody, limit = 54_321 + SHELLS.index(shell), 2 if shell.name == "blocking" else 3
    script = (
        f"import encodings.idna, os, resource, shutil, sys, uvloop, {program}\n"
        f"resource.setrlimit(resource.RLIMIT_NPROC, ({limit}, {limit}))\n"
        f"os.setgid({nobody}); os.setuid({nobody})\n"
        f"sys.exit({program}.main(sys.argv[1:]))\n"
    )
    running = Server([sys.executable, "-c", script, *words])
    try:
        with running.connect() as first, running.connect() as second:
            assert receive_to_end(second) == b"no process left\n"
            running.stderr.wait_for(r"no process for 127.0.0.1:\d+: resource temporarily unavailable\n")
            first.shutdown(socket.SHUT_WR)
            assert receive_to_end(first) == b""
        with running.connect() as third:
            third.sendall(b"alone\n")
            third.shutdown(socket.SHUT_WR)
            assert receive_to_end(third) == b""
        running.stop()
    finally:
        running.kill()


def test_a_busy_port_and_a_bad_option_are_one_line_and_status_2(shell: Shell, server: Server) -> None:
    for options in (["--port", server.port], ["--max-users", 0], ["--shm", "paper"], ["--slot-size", 100]):
        refused = Process(shell.command("shmchat", "server", *options))
        assert refused.wait() == 2
        assert refused.stderr.whole().count("\n") == 1


def test_system_v_memory_without_its_package_is_a_bad_option(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shared_memory("sysv") == "sysv"
    monkeypatch.setitem(sys.modules, "sysv_ipc", None)
    with pytest.raises(ArgumentTypeError, match="pip install"):
        shared_memory("sysv")
    assert shared_memory("memfd") == "memfd"


def test_the_trace_tells_each_event_and_why(shell: Shell) -> None:
    with shell.server("shmchat", "-v", "--max-users", 2) as running, members(running, 2) as (first, second):
        first.sendall(b"hello\n")
        assert receive_until(second, b"\n") == b"hello\n"
        with running.connect() as third:
            receive_to_end(third)
        first.shutdown(socket.SHUT_WR)
        receive_to_end(first)
        running.stderr.wait_for(r"< waitid .*slot=0 pid=\d+ status=0\n")
    trace = running.stderr.whole()
    received = r"recv fd=\d+ POLLIN" if shell.name == "blocking" else r"data_received fd=\d+"
    for pattern in (
        r"< accept fd=\d+ peer=127.0.0.1:\d+\n",
        r"= fork fd=\d+ slot=1 pid=\d+\n",
        rf"< {received} 6 B slot=0  into its slot; ring the others\n",
        r"< eventfd_read fd=\d+ slot=1\n",
        r"> (send|write) fd=\d+ 6 B slot=1 waiting=0\n",
        r"! reject fd=\d+  too many users\n",
        r"it says no more: it leaves\n",
        r"x (close|connection_lost) fd=\d+ slot=0  closed\n",
    ):
        assert re.search(pattern, trace), f"{pattern} is not in:\n{trace}"


@pytest.mark.parametrize("program", ["chat", "shmchat"])
@pytest.mark.parametrize("client_shell", SHELLS, ids=lambda shell: shell.name)
def test_the_clients_of_both_chats_talk_on_every_server(server: Server, client_shell: Shell, program: str) -> None:
    with server.connect() as peer, client_shell.client(program, server, stdin=subprocess.PIPE) as client:
        write(client, b"hello\n")
        assert receive_until(peer, b"\n") == b"hello\n"
        peer.sendall(b"hi\n")
        client.stdout.wait_for("hi\n")
        close(client)
        assert client.wait() == 0, client.stderr.whole()


def test_resets_in_the_middle(server: Server) -> None:
    faults.resets_in_the_middle(server, check)


def test_ten_mebibytes_without_a_newline_from_a_peer_that_resets(server: Server) -> None:
    faults.data_without_newline(server, check)


def test_binary_garbage(server: Server) -> None:
    faults.binary_garbage(server, check)


def test_200_connections_dropped_at_once(server: Server) -> None:
    faults.connections_dropped_at_once(server, check, count=200)


def test_descriptors_exhausted(server: Server) -> None:
    faults.descriptors_exhausted(server, check)


def test_a_stopped_client(shell: Shell, server: Server) -> None:
    faults.stopped_client(server, check, shell, "shmchat")


def test_a_stopped_server(server: Server) -> None:
    faults.stopped_server(server, check)


def test_a_storm_of_signals(server: Server) -> None:
    faults.signal_storm(server, check)
