"""Over a line that loses, delays, doubles and reorders packets, every byte arrives, once and in its place."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

import pytest

from badline import Host, bad_line, why_not
from harness import DEADLINE, Server, Shell, receive_exactly, receive_to_end
from webclient import read_reply, request

DATA = random.Random(5).randbytes(200_000)


@cache
def reason() -> str:
    """Why these tests cannot run here."""
    return why_not()


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    """The server's host and the client's."""
    if reason():
        pytest.skip(reason())
    with bad_line() as pair:
        yield pair


@contextmanager
def served(
    hosts: tuple[Host, Host], shell: Shell, program: str, *options: object, role: str = "server"
) -> Iterator[Server]:
    """The program on the one host."""
    here, _ = hosts
    with ExitStack() as stack:
        running = shell.server(program, "--host", here.address, *options, role=role)
        yield here.call(lambda: stack.enter_context(running))


def test_an_echo_is_what_was_sent(hosts: tuple[Host, Host], shell: Shell) -> None:
    with served(hosts, shell, "echo") as server, hosts[1].call(server.connect) as peer:
        sender = threading.Thread(target=peer.sendall, args=(DATA,))
        sender.start()
        assert receive_exactly(peer, len(DATA)) == DATA
        sender.join()
        peer.shutdown(socket.SHUT_WR)
        assert receive_to_end(peer) == b""


def test_a_chat_is_heard_whole_and_in_order_by_all(hosts: tuple[Host, Host], shell: Shell) -> None:
    said = b"".join(b"line %d of a long story\n" % number for number in range(500))
    with ExitStack() as stack:
        server = stack.enter_context(served(hosts, shell, "chat"))
        teller, *listeners = [stack.enter_context(hosts[1].call(server.connect)) for _ in range(3)]
        for listener in listeners:
            meet(teller, listener)
        teller.sendall(said)
        for listener in listeners:
            heard = b""
            while not heard.endswith(said):
                heard += receive_exactly(listener, 1)
                assert len(heard) < 2 * len(said)
            assert not heard[: -len(said)].replace(b"hello\n", b"")


def meet(first: socket.socket, other: socket.socket) -> None:
    """Wait until both are in the room: who connects first may be the last that the server hears of."""
    other.settimeout(0.1)
    while True:
        first.sendall(b"hello\n")
        with suppress(TimeoutError):
            assert receive_exactly(other, 6) == b"hello\n"
            break
    other.settimeout(DEADLINE)


def test_files_arrive_whole_whoever_sends_them(hosts: tuple[Host, Host], shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "large.bin").write_bytes(DATA * 2)
    (tmp_path / "small.bin").write_bytes(DATA[:1000])
    with served(hosts, shell, "websrv", tmp_path, role="") as server, hosts[1].call(server.connect) as peer:
        peer.sendall(request("/small.bin") * 20 + request("/large.bin") + request("/small.bin", "Range: bytes=-10"))
        for _ in range(20):
            assert read_reply(peer).body == DATA[:1000]
        assert read_reply(peer).body == DATA * 2
        assert read_reply(peer).body == DATA[990:1000]
