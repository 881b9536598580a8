"""Listening sockets, and an accept loop that knows what each error of accept(2) asks for.

Facts (accept(2), tried on this kernel)
    - A ready listener may hold many connections; accept(2) gives one a call.
    - The connection may be gone by then: ECONNABORTED, EAGAIN. Linux also passes on errors that are pending on the new
      socket (ENETDOWN, EPROTO, ...); the man page says to treat them like EAGAIN and try again.
    - EMFILE and ENFILE (no descriptor left), ENOBUFS and ENOMEM leave the connection in the backlog: a level-triggered
      listener reports it again at once.
Consequence
    An accept loop takes all there are, up to a budget, skips those that died, and on want of a resource tells its
    caller, who must stop watching for a while: otherwise the loop spins at 100 % CPU.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import Any, NamedTuple, TypeAlias

Address: TypeAlias = "tuple[str, int] | tuple[str, int, int, int] | str | bytes"
"""A socket address as Python has it: IPv4, IPv6, or a unix path (bytes: abstract; empty: a client without a name)."""

BACKLOG = 1024
"""Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn. nginx asks for 511."""

OVERLOAD = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Want of a resource: the connection stays in the backlog, and the same call fails again until something is freed."""

DIED_IN_BACKLOG = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPERM,
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENONET,
        errno.EOPNOTSUPP,
    }
)
"""Errors of one connection, not of the listener (accept(2), "Error handling"); EPERM comes from a firewall rule."""


class ListenError(OSError):
    """The address cannot be listened on; the message is one line for a person."""


class Accepted(NamedTuple):
    """What one round of accepting gave: non-blocking sockets with their peers; the errno that ended it early, or 0."""

    connections: list[tuple[socket.socket, Address]]
    overload: int


def listen(host: str, port: int, *, backlog: int = BACKLOG, reuse_port: bool = False) -> list[socket.socket]:
    """Non-blocking TCP listeners on every address of *host*, all on one port (0: a free one).

    ``::`` listens on IPv4 as well (ipv6(7), IPV6_V6ONLY off). Raises ListenError for a host that has no address and
    for an address that cannot be bound.
    """
    listeners: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in _addresses(host, port, socket.SOCK_STREAM):
            if listeners and port == 0:
                address = (address[0], listeners[0].getsockname()[1], *address[2:])
            listeners.append(_bind(family, kind, protocol, address, reuse_port=reuse_port))
            listeners[-1].listen(backlog)
    except OSError as error:
        for listener in listeners:
            listener.close()
        raise _explain(error, format_address((host, port))) from None
    return listeners


def listen_unix(path: str, *, backlog: int = BACKLOG) -> socket.socket:
    """A non-blocking listener at *path* (unix(7)); a socket left there by a dead server is replaced.

    Raises ListenError if a live server, or anything else than a socket, is there.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        _remove_stale_socket(path)
        listener.bind(path)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise _explain(error, path) from None
    return listener


def accept_ready(listener: socket.socket, budget: int = 64) -> Accepted:
    """Accept what waits on a ready non-blocking *listener*, at most *budget* connections, so that others get a turn."""
    connections: list[tuple[socket.socket, Address]] = []
    for _ in range(budget):
        try:
            connection, peer = listener.accept()
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno in OVERLOAD:
                return Accepted(connections, error.errno or 0)
            if error.errno in DIED_IN_BACKLOG:
                continue
            raise
        connection.setblocking(False)
        connections.append((connection, peer))
    return Accepted(connections, 0)


def format_address(address: Address) -> str:
    """``HOST:PORT``, ``[IPV6]:PORT`` or a socket's path, as the ready line prints it."""
    if isinstance(address, tuple):
        host, port = address[0], address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return os.fsdecode(address) if isinstance(address, bytes) else str(address)


def _addresses(
    host: str, port: int, kind: socket.SocketKind
) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]]:
    found = socket.getaddrinfo(host or None, port, type=kind, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(found))


def _bind(family: int, kind: int, protocol: int, address: Any, *, reuse_port: bool) -> socket.socket:
    bound = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound


def _remove_stale_socket(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "a file that is not a socket is there")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _explain(error: OSError, address: str) -> ListenError:
    reason = (error.strerror or str(error)).lower()
    return ListenError(error.errno, f"cannot listen on {address}: {reason}")
