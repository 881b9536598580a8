"""Small files in memory: a bounded table of what was loaded, least recently used out first.

Where all files are asked for in turn, by a crawler or from a site larger than the table, each would push out one that
is asked for sooner, and none would be found again. So a full table takes one newcomer of NEWCOMERS: what is asked for
often is soon in, and a walk through all files leaves most of the table as it was (bimodal insertion: Qureshi et al.,
Adaptive Insertion Policies for High Performance Caching, ISCA 2007).

Owned by the loop: no lock. An entry says when its file was last looked at; the look itself is a job for the pool
(service.py). Keys are what the answer depends on: the path as it was sent, and Accept-Encoding.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from aiolsp.static.resource import Resource

ENTRY_COST = 2048
"""Bytes that an entry takes besides its body: keys, head, stat; so that a million empty files stay bounded too."""


NEWCOMERS = 8
"""Of so many for which others would have to go, one takes their place; the kernel still has what it read of the others.

More would keep a file out for longer that many ask for all at once.
"""


class Key(NamedTuple):
    """What tells one representation from another."""

    path: bytes
    accept_encoding: bytes | None


class Entry:
    """A loaded resource and when it was last seen to be what is on the disk (seconds, the loop's clock).

    *asked_until* is the end of the second that it was last asked for in.
    """

    __slots__ = ("asked_until", "checked", "cost", "resource")

    def __init__(self, key: Key, resource: Resource, checked: float) -> None:
        self.resource = resource
        self.checked = checked
        self.asked_until = 0.0
        self.cost = ENTRY_COST + len(resource.body or b"") + len(key.path) + len(key.accept_encoding or b"")


class FileCache:
    """Entries by key, at most *size* bytes in all (0: none is kept)."""

    def __init__(self, size: int) -> None:
        self.used = 0
        """Bytes that the entries take."""
        self._size = size
        self._newcomers = 0
        self._entries: OrderedDict[Key, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Entry | None:
        """The entry of *key*, which is now the last to go."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: Key, resource: Resource, checked: float) -> Entry:
        """The entry for *resource*, which is kept if there is a place for it; others may have to go."""
        newcomer = not self.discard(key)
        entry = Entry(key, resource, checked)
        if entry.cost > self._size or (newcomer and self.used + entry.cost > self._size and not self._admits()):
            return entry
        self._entries[key] = entry
        self.used += entry.cost
        while self.used > self._size:
            _, oldest = self._entries.popitem(last=False)
            self.used -= oldest.cost
        return entry

    def _admits(self) -> bool:
        """Whether a newcomer takes the place of others."""
        self._newcomers += 1
        return self._newcomers % NEWCOMERS == 0

    def discard(self, key: Key) -> bool:
        """Forget *key*; False if it was not known."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return False
        self.used -= entry.cost
        return True
