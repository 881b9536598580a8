"""How many clients there may be at once, in all and from one address: a count, and what it means."""

from __future__ import annotations

from typing import Any

from aiolsp.sansio.tally import LocalTally, Tally

SPARE = 256
"""Connections over the limit that are told so; those beyond are closed without a word."""


class Crowd:
    """Counts the clients that have joined, at most *most* in all and *most_of_one* from one address.

    Clients of a unix socket have no address, and are not counted as many from one. *tally* is where they are counted:
    here by default, or with those of other workers.
    """

    def __init__(self, most: int, most_of_one: int, tally: Tally | None = None) -> None:
        self._most = most
        self._with_spare = most + SPARE
        self._most_of_one = most_of_one
        self._tally: Tally = LocalTally() if tally is None else tally
        self.leave = self._tally.remove
        """One less, from the host that it is called with."""

    def join(self, host: str) -> bool:
        """One more, from *host* (see `host_of`); False if it is one too many. It must leave in either case."""
        # Counted before it is compared: of two that join two workers at one moment, each sees the other.
        of_host = self._tally.add(host)
        return self._tally.in_all <= self._most and of_host <= self._most_of_one

    @property
    def present(self) -> int:
        """How many there are."""
        return self._tally.in_all

    @property
    def has_room(self) -> bool:
        """Whether one more may join, if only to be told that it is one too many."""
        return self._tally.in_all < self._with_spare


def host_of(peer: Any) -> str:
    """A client's address without its port; "" for a unix socket, whose clients have none."""
    host: str = peer[0] if isinstance(peer, tuple) else ""
    return host
