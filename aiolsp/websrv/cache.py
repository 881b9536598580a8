"""Small files in memory: a bounded table of what was loaded, least recently used out first.

Where all files are asked for in turn, by a crawler or from a site larger than the table, each would push out one that
is asked for sooner, and none would be found again. So a full table turns a newcomer away, unless it is asked for again
while it is among the last REMEMBERED that were: a walk through all files leaves the table as it was. (As in 2Q: Johnson
and Shasha, VLDB 1994. Of 20,000 files, a third of which have room, it finds 33 % where they are asked for in turn and
the plain table none; 80 instead of 77 % by Zipf's law; and 65 instead of 71 % where the favourites change all at once
after each 20,000 requests.) Of what has no place, an outline is kept (outlines.py).

Owned by the loop: no lock. An entry says when its file was last looked at; the look itself is a job for the pool
(files.py). Keys are what the answer depends on: the path as it was sent, and Accept-Encoding.
"""

from collections import OrderedDict
from typing import TypeAlias

from aiolsp.static.representation import Outline, Resource
from aiolsp.websrv.outlines import Outlines

ENTRY_COST = 2048
"""Bytes that an entry takes besides its body: keys, head, stat; so that a million empty files stay bounded too."""

OUTLINED = 3
"""One part in so many of the size is for outlines.

The least time, or within a tenth of it, for 20,000 and 60,000 files of 8 KiB, asked for in turn and by Zipf's law with
exponents 0.8 and 1, if a look takes 6 us with content at hand, 10 with an outline, and 27 with neither.
"""

REMEMBERED = 1024
"""Newcomers that were turned away, by the hash of their keys: two equal ones only let a newcomer in too early."""


Key: TypeAlias = tuple[bytes, bytes | None]
"""What tells one representation from another: a path, and what Accept-Encoding says."""


class Entry:
    """A loaded resource and when it was last seen to be what is on the disk (seconds, the loop's clock).

    *asked_until* is the end of the second that it was last asked for in.
    """

    __slots__ = ("asked_until", "checked", "cost", "resource")

    def __init__(self, key: Key, resource: Resource, checked: float) -> None:
        self.resource = resource
        self.checked = checked
        self.asked_until = 0.0
        self.cost = _cost(key, resource)


class FileCache:
    """Entries by key, and outlines of what has no place: at most *size* bytes in all (0: nothing is kept)."""

    def __init__(self, size: int) -> None:
        self._outlines = Outlines(size // OUTLINED)
        self.outline = self._outlines.get
        """What is known of the file of a key without an entry, for `DocumentRoot.load_again`."""
        self._size = size - size // OUTLINED
        self._used = 0
        self._turned_away: OrderedDict[int, None] = OrderedDict()
        self._entries: OrderedDict[Key, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def used(self) -> int:
        """Bytes that entries and outlines take."""
        return self._used + self._outlines.used

    def remember(self, key: Key, outline: Outline) -> None:
        """*outline* is of what *key* stands for now, and that has no entry: keep it, if it is a file's."""
        self._drop(key)
        self._outlines.keep(key, outline, newcomer=True)

    def get(self, key: Key) -> Entry | None:
        """The entry of *key*, which is now the last to go."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: Key, resource: Resource, checked: float) -> Entry | None:
        """The entry for *resource*, for which others may have to go.

        None if there is no place for it: then `remember` its outline, if that is news.
        """
        newcomer = key not in self._entries
        if not newcomer:
            self._drop(key)
        cost = _cost(key, resource)
        if cost > self._size or (newcomer and self._used + cost > self._size and not self._admits(key)):
            return None
        self._outlines.discard(key)
        entry = self._entries[key] = Entry(key, resource, checked)
        self._used += entry.cost
        while self._used > self._size:
            gone, oldest = self._entries.popitem(last=False)
            self._used -= oldest.cost
            self._outlines.keep(gone, oldest.resource.outline, newcomer=False)
        return entry

    def _admits(self, key: Key) -> bool:
        """Whether the newcomer *key* takes the place of others."""
        turned_away = self._turned_away
        mark = hash(key)
        if mark in turned_away:
            del turned_away[mark]
            return True
        turned_away[mark] = None
        if len(turned_away) > REMEMBERED:
            turned_away.popitem(last=False)
        return False

    def _drop(self, key: Key) -> None:
        """Forget the entry of *key*, if there is one."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._used -= entry.cost


def _cost(key: Key, resource: Resource) -> int:
    path, accept_encoding = key
    return ENTRY_COST + len(resource.body or b"") + len(path) + len(accept_encoding or b"")
