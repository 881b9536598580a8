"""What the parent of a pool and a child of it say to each other: words of one byte, some with a descriptor.

Facts (unix(7), tried on this kernel)
    - On SOCK_SEQPACKET one send is one receive, with the descriptor that it carries. The sender's copy is not touched.
    - A full socket says EAGAIN, after 278 messages with the usual buffers.
    - When the other side dies with messages unread, the next receive fails with ECONNRESET, once; what it had sent
      before can still be read after that.
    - A receiver that has no descriptor left gets the message without it (MSG_CTRUNC).
Consequence
    Who sends a connection keeps it until it is answered. What a dead child had said last is read before its connections
    go to others. A child that got a message without its descriptor says so.
Decision
    The child answers each connection, in order, and the parent leaves no more than UNANSWERED open at once: so an
    answer always finds room, and a child that is stuck holds up no more than these.
Price
    A message back for each connection.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

from aiolsp.linux.zygote import receive, send

CONNECTION, DRAIN = b"c", b"d"
"""What the parent says: here is a connection; no more will come, finish what you have."""

READY, LEAVING, TAKEN, REFUSED = b"r", b"l", b"t", b"n"
"""What a child says: I serve; let me go; I have the connection; I could not take it, for want of a descriptor."""

BIRTH = struct.Struct("=III")
"""What a child is born with: the index of its slot, its generation, its place."""

UNANSWERED = 64
"""Connections that a child may have been sent and not answered yet."""

BUDGET = 64
"""Messages received in one go, so that others get a turn."""


class Channel:
    """One side of the conversation, which owns its socket: ``(send | receive)* -> close``. It never waits."""

    def __init__(self, side: socket.socket) -> None:
        self._socket = side
        self._socket.setblocking(False)
        self.ended = False

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Both sides. Raises OSError as socketpair(2)."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), cls(theirs)

    def fileno(self) -> int:
        """The descriptor, readable when `receive` has something; -1 once closed."""
        return self._socket.fileno()

    def send(self, word: bytes, descriptors: Sequence[int] = ()) -> bool:
        """Say *word*; False if the socket is full, or the other side is gone."""
        try:
            send(self._socket, word, descriptors)
        except OSError:
            return False
        return True

    def receive(self, budget: int = BUDGET) -> list[tuple[bytes, list[int]]]:
        """What has come, each word with its descriptors; at its end, ``ended`` is true if the other side is gone."""
        heard: list[tuple[bytes, list[int]]] = []
        while len(heard) < budget and not self.ended:
            try:
                word, descriptors = receive(self._socket, 1, 1)
            except BlockingIOError:
                break
            except ConnectionResetError:
                continue
            if word:
                heard.append((word, descriptors))
            else:
                self.ended = True
        return heard

    def close(self) -> None:
        """Close this side. May be called again."""
        self._socket.close()
