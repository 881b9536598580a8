"""How many clients there may be at once, in all and from one address: a count, and what it means."""

from __future__ import annotations

from collections import Counter
from typing import Any

SPARE = 256
"""Connections over the limit that are told so; those beyond are closed without a word."""


class Crowd:
    """Counts the clients that have joined, at most *most* in all and *most_of_one* from one address.

    Clients of a unix socket have no address, and are not counted as many from one.
    """

    def __init__(self, most: int, most_of_one: int) -> None:
        self.present = 0
        self._most = most
        self._most_of_one = most_of_one
        self._of_address: Counter[str] = Counter()

    def join(self, peer: Any) -> bool:
        """One more, from the socket address *peer*; False if it is one too many. It must leave in either case."""
        host = host_of(peer)
        self.present += 1
        self._of_address[host] += 1
        return self.present <= self._most and (not host or self._of_address[host] <= self._most_of_one)

    def leave(self, peer: Any) -> None:
        """One less."""
        host = host_of(peer)
        self.present -= 1
        self._of_address[host] -= 1
        if not self._of_address[host]:
            del self._of_address[host]

    @property
    def has_room(self) -> bool:
        """Whether one more may join, if only to be told that it is one too many."""
        return self.present < self._most + SPARE


def host_of(peer: Any) -> str:
    """A client's address without its port; "" for a unix socket, whose clients have none."""
    return str(peer[0]) if isinstance(peer, tuple) else ""
