"""What is known of files whose content has no place in memory: an outline is a tenth of a small file, or less.

Facts: to look for a file by what was asked, and to make its head, takes twice as long as to open and read it. The head
and the file's identity are some 1 KB, and true as long as stat(2) says the same.
Consequence: a site that is larger than the cache is answered sooner if the cache forgets contents, but not heads.
Decision: a part of the cache is for outlines, of files that were turned away, had to go, or are too large to be read.
An outline is never sent: `DocumentRoot.load_again` opens the file, reads it, and compares. As in the table of contents,
a newcomer takes nobody's place, lest a walk through all files leave nothing; what had its content here does.
Price: that part of the cache holds no content.

Owned by the loop: no lock.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from aiolsp.static.representation import Outline

if TYPE_CHECKING:
    from aiolsp.websrv.cache import Key

OUTLINE_COST = 1088
"""Bytes that an outline takes besides its names, as tracemalloc counts them, rounded up."""


class Outlines:
    """What is known of files by key, least recently used out first, at most *size* bytes in all."""

    def __init__(self, size: int) -> None:
        self.used = 0
        """Bytes that they take."""
        self._size = size
        self._outlines: OrderedDict[Key, Outline] = OrderedDict()

    def __len__(self) -> int:
        return len(self._outlines)

    def get(self, key: Key) -> Outline | None:
        """The outline of *key*, which is now the last to go."""
        outline = self._outlines.get(key)
        if outline is not None:
            self._outlines.move_to_end(key)
        return outline

    def keep(self, key: Key, outline: Outline, *, newcomer: bool) -> None:
        """Keep *outline* if it is a file's; of a *newcomer*, only if there is room."""
        known = self._outlines.get(key)
        if known is not None:
            if known.identity == outline.identity:
                return
            self.discard(key)
        room = (self._size - self.used) if newcomer else self._size
        if room < OUTLINE_COST or not outline.path or room < (cost := _cost(key, outline)):
            return
        self._outlines[key] = outline
        self.used += cost
        while self.used > self._size:
            self.used -= _cost(*self._outlines.popitem(last=False))

    def discard(self, key: Key) -> None:
        """Forget *key*."""
        outline = self._outlines.pop(key, None)
        if outline is not None:
            self.used -= _cost(key, outline)


def _cost(key: Key, outline: Outline) -> int:
    path, accept_encoding = key
    return OUTLINE_COST + len(path) + len(accept_encoding or b"") + len(outline.path)
