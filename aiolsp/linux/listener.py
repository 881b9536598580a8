"""Listening sockets, and an accept loop that knows what each error of accept(2) asks for.

Facts (accept(2), tried on this kernel)
    - A ready listener may hold many connections; accept(2) gives one a call.
    - The connection may be gone by then: ECONNABORTED, EAGAIN. Linux also passes on errors that are pending on the new
      socket (ENETDOWN, EPROTO, ...); the man page says to treat them like EAGAIN and try again.
    - EMFILE and ENFILE (no descriptor left), ENOBUFS and ENOMEM leave the connection in the backlog: a level-triggered
      listener reports it again at once.
    - Python's ``accept`` gives sockets that block, of its own class, and looks for time-outs first; that class wraps in
      Python what is in C. To make them of the right class at once, and without the wrapping, takes a twentieth less of
      the instructions of a connection that is for one request.
    - ``socket.family`` and ``socket.type`` make an enumeration's member of a number at each look, which takes 0.4 us.
      Accepting looks twice, and making a transport three times: 6 % of the server's processor time for a connection
      that is for one request.
Consequence
    An accept loop takes all there are, up to a budget, skips those that died, and on want of a resource tells its
    caller, who must stop watching for a while: otherwise the loop spins at 100 % CPU. Listeners, and the sockets that
    are accepted, are of classes that know their family and type.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Sequence
from typing import Any, TypeAlias

from aiolsp.linux import unsent

Found: TypeAlias = "tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]"
"""What getaddrinfo(3) gives for one address: family, kind, protocol, canonical name, address."""

Address: TypeAlias = "tuple[str, int] | tuple[str, int, int, int] | str | bytes"
"""A socket address as Python has it: IPv4, IPv6, or a unix path (bytes: abstract; empty: a client without a name)."""

Accepted: TypeAlias = "tuple[list[tuple[socket.socket, Address]], int]"
"""What one round of accepting gave: sockets with their peers; the errno that ended it early, or 0."""

BACKLOG = 1024
"""Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn. nginx asks for 511."""

BUDGET = 64
"""Connections accepted in one go, so that those that are there get a turn; the rest are reported again."""

PAUSE = 0.5
"""Seconds without accepting after EMFILE, ENFILE, ENOBUFS or ENOMEM; the stock loop waits 1 s, nginx 0.5 s."""

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


LAST_PORT = 65535

PORT_ATTEMPTS = 8
"""Free ports to try on a host of several addresses: a port that is free on the first may be taken on the second."""

NOT_OF_THIS_MACHINE = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
"""An address of a host that this machine lacks, as ``::1`` of localhost where IPv6 is off: the others do without it."""


_NEVER_WAITS = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
"""A type that says that no time-out holds: else there is a default one, for which each send looks before it sends."""

_new, _begin = socket.SocketType.__new__, socket.SocketType.__init__


class StreamSocket(socket.socket):
    """A socket of a class that knows its family and type, and so do the sockets that it accepts; see the module."""

    __slots__ = ()  # so that the class may take the place of the one it comes from

    def accept(self) -> tuple[socket.socket, Any]:
        """As Python's own, but of this class at once; and the object never waits, whatever its descriptor does."""
        descriptor, peer = self._accept()  # type: ignore[attr-defined]  # as socket.py has it
        accepted = _new(self.__class__)
        _begin(accepted, self.family, _NEVER_WAITS, self.proto, descriptor)
        accepted._io_refs, accepted._closed = 0, False  # type: ignore[attr-defined]  # as its __init__ does
        return accepted, peer

    detach = socket.SocketType.detach


_STREAMS = {
    family: type("StreamSocket", (StreamSocket,), {"__slots__": (), "family": family, "type": socket.SOCK_STREAM})
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
}


class ListenError(OSError):
    """The address cannot be listened on; the message is one line for a person."""

    def __str__(self) -> str:
        return self.strerror or ""


def listen(host: str, port: int, *, backlog: int = BACKLOG, reuse_port: bool = False) -> list[socket.socket]:
    """Non-blocking TCP listeners on every address of *host*, all on one port (0: a free one).

    ``::`` listens on IPv4 as well (ipv6(7), IPV6_V6ONLY off), and so does ``""``, every address of the machine. Raises
    ListenError for a host that has no address, a port that is none, and an address that cannot be bound.
    """
    where = format_address((host, port))
    if not 0 <= port <= LAST_PORT:  # getaddrinfo(3) would take its last 16 bits
        raise ListenError(errno.EINVAL, f"cannot listen on {where}: a port is a number from 0 to {LAST_PORT}")
    try:
        found = _addresses(host, port)
        for _ in range(PORT_ATTEMPTS - 1 if port == 0 and len(found) > 1 else 0):
            try:
                return _listen_on(found, backlog, reuse_port=reuse_port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        return _listen_on(found, backlog, reuse_port=reuse_port)
    except UnicodeError:
        raise ListenError(errno.EINVAL, f"cannot listen on {where}: not a host name") from None
    except OSError as error:
        raise _explain(error, where) from None


def listen_again(listeners: Sequence[socket.socket]) -> list[socket.socket]:
    """Other listeners on the addresses of *listeners*: the kernel spreads connections over all (SO_REUSEPORT).

    Raises ValueError if one was not made with *reuse_port*, ListenError.
    """
    again: list[socket.socket] = []
    for listener in listeners:
        host, port, *_ = listener.getsockname() if listener.family != socket.AF_UNIX else ("", 0)
        if not host or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
            raise ValueError("only TCP listeners that were made with reuse_port can have others beside them")
        beside = listen(host, port, reuse_port=True)
        unsent.inherit(listener, beside)
        again += beside
    return again


def stream_socket(plain: socket.socket) -> socket.socket:
    """The same socket, which knows its family and type from now on."""
    plain.__class__ = _STREAMS[plain.family]
    return plain


def listen_unix(path: str, *, backlog: int = BACKLOG) -> socket.socket:
    """A non-blocking listener at *path* (unix(7)); a socket left there by a dead server is replaced.

    Raises ListenError if a live server, or anything else than a socket, is there.
    """
    listener = stream_socket(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
    try:
        remove_stale_socket(path)
        listener.bind(path)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise _explain(error, path) from None
    return listener


def remove_stale_socket(path: str) -> None:
    """Remove the socket at *path* if nobody listens there any more; nothing if there is none.

    Asked by connect(2): neither the name nor the inode, which may be given to another, tells whose it is by now. Raises
    OSError if a live server (EADDRINUSE), or anything else than a socket, is there.
    """
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "a file that is not a socket is there")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        if probe.connect_ex(path) == errno.ECONNREFUSED:
            os.unlink(path)
        else:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def accept_ready(listener: socket.socket, budget: int = BUDGET, *, blocking: bool = False) -> Accepted:
    """Accept what waits on a ready non-blocking *listener*, at most *budget* connections, so that others get a turn.

    Those do not block, unless *blocking*, which spares a system call for who changes that anyway.
    """
    connections: list[tuple[socket.socket, Address]] = []
    for _ in range(budget):
        try:
            connection, peer = listener.accept()
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno in OVERLOAD:
                return connections, error.errno or 0
            if error.errno in DIED_IN_BACKLOG:
                continue
            raise
        if not blocking:
            connection.setblocking(False)
        connections.append((connection, peer))
    return connections, 0


def format_address(address: Address) -> str:
    """``HOST:PORT``, ``[IPV6]:PORT`` or a socket's path, as the ready line prints it."""
    if isinstance(address, tuple):
        host, port = address[0], address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return os.fsdecode(address) if isinstance(address, bytes) else str(address)


def _addresses(host: str, port: int) -> list[Found]:
    # As bytes, for else Python loads the tables of international names, even for 127.0.0.1.
    name = host.encode("ascii") if host.isascii() else host
    found = socket.getaddrinfo(name or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(found))


def _listen_on(found: list[Found], backlog: int, *, reuse_port: bool) -> list[socket.socket]:
    listeners: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, kind, protocol, _, address in found:
            if listeners and address[1] == 0:
                address = (address[0], listeners[0].getsockname()[1], *address[2:])
            # A :: that takes IPv4 too could not be bound beside 0.0.0.0.
            dual_stack = address[0] == "::" and len(found) == 1
            try:
                listeners.append(_bind(family, kind, protocol, address, reuse_port=reuse_port, dual_stack=dual_stack))
            except OSError as error:
                if error.errno not in NOT_OF_THIS_MACHINE:
                    raise
                missing = error
                continue
            listeners[-1].listen(backlog)
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    if missing is not None and not listeners:
        raise missing
    return listeners


def _bind(family: int, kind: int, protocol: int, address: Any, *, reuse_port: bool, dual_stack: bool) -> socket.socket:
    bound = stream_socket(socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol))
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse_port)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual_stack)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound


def _explain(error: OSError, address: str) -> ListenError:
    reason = (error.strerror or str(error)).lower()
    return ListenError(error.errno, f"cannot listen on {address}: {reason}")
