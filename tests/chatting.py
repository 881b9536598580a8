"""Peers of a chat room, whichever: members that have joined, what they hear, and what a client is typed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from harness import DEADLINE, Process, Server


def check(server: Server) -> None:
    """Two members hear each other."""
    with members(server, 2) as (first, second):
        first.sendall(b"are you there?\n")
        hear(second, b"are you there?\n")


@contextmanager
def members(server: Server, count: int, *, receive_buffer: int = 0) -> Iterator[list[socket.socket]]:
    """Connected peers that have all joined: who connects first hears what a later one says."""
    with ExitStack() as stack:
        peers = [stack.enter_context(server.connect(receive_buffer=receive_buffer)) for _ in range(count)]
        assembled(peers)
        yield peers


def assembled(peers: list[socket.socket]) -> None:
    """Wait until the last of *peers*, connected in this order, has joined, and the others with it."""
    if len(peers) > 1:
        peers[-1].sendall(b"all are here\n")
        for peer in peers[:-1]:
            hear(peer, b"all are here\n")


def hear(peer: socket.socket, line: bytes) -> None:
    """Wait for *line*, whatever those say before and after it who were cut off by a fault."""
    heard = b""
    while line not in heard:
        data = peer.recv(1 << 16)
        assert data, "the connection ended"
        heard = heard[-len(line) :] + data


class Reader(threading.Thread):
    """A member that reads all that comes, until *size* bytes other than newlines are here, or the end."""

    def __init__(self, peer: socket.socket, size: int) -> None:
        super().__init__(daemon=True)
        self._peer = peer
        self._size = size
        self.text = bytearray()
        self.start()

    def run(self) -> None:
        while len(self.text) < self._size and (data := self._peer.recv(1 << 16)):
            self.text += data.replace(b"\n", b"")

    def result(self) -> bytes:
        self.join(DEADLINE)
        assert not self.is_alive(), f"only {len(self.text)} of {self._size} bytes came"
        return bytes(self.text)


def send_to_the_end(peer: socket.socket) -> None:
    """Send until the server ends the connection."""
    try:
        while True:
            peer.sendall(b"z" * 65_535 + b"\n")
    except OSError:
        pass


def write(client: Process, data: bytes) -> None:
    """Type *data* to the client."""
    assert client.popen.stdin
    client.popen.stdin.write(data)
    client.popen.stdin.flush()


def close(client: Process) -> None:
    """End the client's stdin."""
    assert client.popen.stdin
    client.popen.stdin.close()


def processes(server: Server) -> list[int]:
    """The server, and all processes below it."""
    found = [server.pid]
    for pid in found:
        with suppress(FileNotFoundError):
            found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return found
