"""A raw HTTP client for the tests: it sends bytes as they are and reads one framed answer, trusting nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import NamedTuple

from harness import Server, receive_exactly, receive_to_end, receive_until


class Reply(NamedTuple):
    """One answer: names of fields in lower case."""

    status: int
    fields: dict[str, str]
    body: bytes


def read_reply(peer: socket.socket, *, head: bool = False) -> Reply:
    """The next answer on *peer*; *head* if it answers a HEAD. Fails on a repeated field or a body without a length."""
    lines = receive_until(peer, b"\r\n\r\n").decode("latin-1").split("\r\n")[:-2]
    version, status, _ = lines[0].split(" ", 2)
    assert version == "HTTP/1.1", lines[0]
    fields: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(": ")
        assert colon and name.lower() not in fields, line
        fields[name.lower()] = value
    if int(status) == 100:
        return Reply(100, fields, b"")
    assert "date" in fields and fields["server"] == "aiolsp" and fields["x-content-type-options"] == "nosniff"
    if head or int(status) in (204, 304):
        return Reply(int(status), fields, b"")
    if fields.get("transfer-encoding") == "chunked":
        assert "content-length" not in fields
        return Reply(int(status), fields, b"".join(read_chunks(peer)))
    return Reply(int(status), fields, receive_exactly(peer, int(fields["content-length"])))


def read_chunks(peer: socket.socket) -> Iterator[bytes]:
    """The data of each chunk of a body, to its end."""
    while size := int(receive_until(peer, b"\r\n"), 16):
        yield receive_exactly(peer, size)
        assert receive_exactly(peer, 2) == b"\r\n"
    assert receive_exactly(peer, 2) == b"\r\n"


def request(target: str, *fields: str, method: str = "GET", version: str = "1.1") -> bytes:
    """The bytes of a request for *target*, with a Host and these field lines."""
    lines = [f"{method} {target} HTTP/{version}", "Host: localhost", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def exchange(peer: socket.socket, target: str, *fields: str, method: str = "GET") -> Reply:
    """One request on a connection that is there, and its answer."""
    peer.sendall(request(target, *fields, method=method))
    return read_reply(peer, head=method == "HEAD")


def ask(server: Server, target: str, *fields: str, method: str = "GET") -> Reply:
    """One request on a connection of its own."""
    with server.connect() as peer:
        return exchange(peer, target, *fields, method=method)


def send_raw(server: Server, data: bytes) -> Reply:
    """One answer to *data*, after which the server must close the connection."""
    with server.connect() as peer:
        peer.sendall(data)
        reply = read_reply(peer)
        assert reply.fields["connection"] == "close"
        assert receive_to_end(peer) == b""
        return reply
