"""Small files in memory: a bounded table of what was loaded, least recently used out first.

Owned by the loop: no lock. An entry says when its file was last looked at; the look itself is a job for the pool
(service.py). Keys are what the answer depends on: the path as it was sent, and Accept-Encoding.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from aiolsp.static.resource import Resource

ENTRY_COST = 2048
"""Bytes that an entry takes besides its body: keys, head, stat; so that a million empty files stay bounded too."""


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
        self._entries: OrderedDict[Key, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Entry | None:
        """The entry of *key*, which is now the last to go."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: Key, resource: Resource, checked: float) -> Entry | None:
        """Keep *resource*, and let others go for it; None if it can never fit."""
        self.discard(key)
        entry = Entry(key, resource, checked)
        if entry.cost > self._size:
            return None
        self._entries[key] = entry
        self.used += entry.cost
        while self.used > self._size:
            _, oldest = self._entries.popitem(last=False)
            self.used -= oldest.cost
        return entry

    def discard(self, key: Key) -> None:
        """Forget *key*."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.used -= entry.cost
