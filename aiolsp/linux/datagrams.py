"""UDP sockets: on the port of TCP listeners, and connected to one peer; and a byte stream cut into datagrams.

Facts (udp(7), tried on this kernel)
    - TCP and UDP have port numbers of their own: a port that is free for one may be taken for the other.
    - On a socket that is not connected, ICMP messages about an earlier datagram are not reported; on a connected one
      "port unreachable" comes as ECONNREFUSED of a later call.
    - A datagram over 65,507 bytes is refused with EMSGSIZE; an empty one is a datagram like any other.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from aiolsp.linux.listener import ListenError, format_address, listen

MAX_DATAGRAM = 65_507
"""Bytes of the largest datagram of IPv4: 65,535 less 20 for the header of IP and 8 for that of UDP."""

TRIES = 20
"""How many free TCP ports are tried until one is free for UDP too."""


def listen_both(host: str, port: int) -> tuple[list[socket.socket], list[socket.socket]]:
    """TCP listeners on every address of *host*, and UDP sockets on the same addresses and port (0: one free for both).

    All are non-blocking. Raises ListenError.
    """
    for _ in range(TRIES):
        listeners = listen(host, port)
        datagrams: list[socket.socket] = []
        try:
            for listener in listeners:
                datagrams.append(socket.socket(listener.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
                _bind(datagrams[-1], listener.getsockname())
            return listeners, datagrams
        except OSError as error:
            for bound in listeners + datagrams:
                bound.close()
            if port or error.errno != errno.EADDRINUSE:
                reason = (error.strerror or str(error)).lower()
                raise ListenError(
                    error.errno, f"cannot listen on {format_address((host, port))} for UDP: {reason}"
                ) from None
    raise ListenError(errno.EADDRINUSE, f"no port of {host} is free for TCP and UDP ({TRIES} were tried)")


def connect_datagrams(host: str, port: int) -> socket.socket:
    """A blocking UDP socket that sends to, and hears only, the first address of *host*. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    connection = socket.socket(family, kind, protocol)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def take_line(buffer: bytearray) -> bytes:
    """Take the first line with its newline out of *buffer*, or as much of it as a datagram holds; b"" if it is open."""
    end = buffer.find(b"\n", 0, MAX_DATAGRAM) + 1
    if not end:
        if len(buffer) < MAX_DATAGRAM:
            return b""
        end = MAX_DATAGRAM
    line = bytes(buffer[:end])
    del buffer[:end]
    return line


def _bind(datagrams: socket.socket, address: Any) -> None:
    if datagrams.family == socket.AF_INET6:
        datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
    datagrams.bind(address)
