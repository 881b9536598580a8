"""Scripted clients: a blocking socket with a deadline on each call, which tells what it does."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from aiolsp.lab.model import Record
from aiolsp.linux.listener import format_address

PATIENCE = 10.0
"""Seconds that a script waits for one thing; what it waits for takes milliseconds on a machine that is not busy."""


SHOWN = 32
"""Bytes of what is sent or received that are shown."""


class Failed(Exception):
    """A lab did not go as its script has it; the message is one line for a person."""


class Actor:
    """A client called *name*, connected to *address*; *tell* is called with a record of each thing that it does.

    Every method raises Failed when the server does not do its part in PATIENCE seconds.
    """

    def __init__(
        self,
        name: str,
        address: tuple[str, int],
        tell: Callable[[Record], object],
        *,
        udp: bool = False,
        receive_buffer: int = 0,
    ) -> None:
        self.name = name
        self._tell = tell
        self._rest = b""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
        self._socket.settimeout(PATIENCE)
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        begun = time.monotonic_ns()
        try:
            self._socket.connect(address)
        except OSError as error:
            self._socket.close()
            raise self._failed("connect", error) from None
        ours = format_address(self._socket.getsockname())
        tell({"name": "client", "ph": "M", "pid": 0, "tid": 0, "args": {"address": ours, "name": name}})
        self._note("=", "connect", why="a datagram socket" if udp else "", at_ns=begun)

    def send(self, data: bytes, *, why: str = "") -> None:
        """Send *data*, all of it."""
        self._note(">", "send", len(data), why=why or _shown(data))
        try:
            self._socket.sendall(data) if data else self._socket.send(data)
        except OSError as error:
            raise self._failed("send", error) from None

    def send_urgent(self, data: bytes) -> None:
        """Send *data* as urgent: its last byte comes out of band."""
        self._note(">", "send MSG_OOB", len(data), why=_shown(data))
        self._socket.send(data, socket.MSG_OOB)

    def receive(self, count: int) -> bytes:
        """Exactly *count* bytes."""
        while len(self._rest) < count:
            self._rest += self._piece("receive")
        return self._taken(count)

    def receive_line(self, *, quiet: bool = False) -> bytes:
        """A line with its end; *quiet* tells nobody."""
        while b"\n" not in self._rest:
            self._rest += self._piece("receive a line")
        return self._taken(self._rest.index(b"\n") + 1, quiet=quiet)

    def receive_datagram(self) -> bytes:
        """One datagram, whole."""
        try:
            data = self._socket.recv(1 << 16)
        except OSError as error:
            raise self._failed("receive", error) from None
        self._note("<", "recvfrom", len(data), why=_shown(data))
        return data

    def receive_to_end(self, *, why: str = "") -> bytes:
        """What still comes before the server ends the connection; a reset counts as the end."""
        data, ending = bytearray(self._rest), "end of stream"
        self._rest = b""
        try:
            while piece := self._socket.recv(1 << 16):
                data += piece
        except ConnectionResetError:
            ending = "reset"
        except OSError as error:
            raise self._failed("wait for the end", error) from None
        if data:
            self._note("<", "recv", len(data), why=_shown(bytes(data[: SHOWN + 1])))
        self._note("<", "recv", 0, why=f"{ending}{why and f': {why}'}")
        return bytes(data)

    def shut_down(self, *, why: str = "it says no more") -> None:
        """End its half of the connection."""
        self._note("x", "shutdown", why=why)
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close, if that has not been done."""
        if self._socket.fileno() >= 0:
            self._note("x", "close")
            self._socket.close()

    def _piece(self, doing: str) -> bytes:
        try:
            piece = self._socket.recv(1 << 16)
        except OSError as error:
            raise self._failed(doing, error) from None
        if not piece:
            raise Failed(f"{self.name} cannot {doing}: the server has closed")
        return piece

    def _taken(self, count: int, *, quiet: bool = False) -> bytes:
        data, self._rest = self._rest[:count], self._rest[count:]
        if not quiet:
            self._note("<", "recv", count, why=_shown(data))
        return data

    def _note(self, sign: str, call: str, size: int = -1, *, why: str = "", at_ns: int = 0) -> None:
        args = {name: value for name, value in (("bytes", size), ("why", why)) if value not in (-1, "")}
        ts = (at_ns or time.monotonic_ns()) / 1000
        self._tell(
            {"name": f"{sign} {call}", "ph": "i", "ts": ts, "pid": 0, "tid": 0, "client": self.name, "args": args}
        )

    def _failed(self, doing: str, error: OSError) -> Failed:
        reason = "nothing in time" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()
        return Failed(f"{self.name} cannot {doing}: {reason}")


def _shown(data: bytes) -> str:
    """The beginning of *data* for people, if it is text."""
    text = data[:SHOWN].decode("latin-1").encode("unicode_escape").decode()
    if not data.strip(b"\n\r").isascii() or not data[:SHOWN].strip().decode("latin-1").isprintable():
        return ""
    return f"{text}..." if len(data) > SHOWN else text
