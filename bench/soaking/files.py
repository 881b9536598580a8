"""Files that change while they are served, and which of their versions an answer may be.

A version's bytes follow from the file's name and the version's number, so that an answer tells which version it is, and
a mixture of two is none. Nobody can say which version is right at the instant of an answer; but a version that was
replaced before the request was sent, longer ago than the server may remember it, is wrong, and so is one to come.
"""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from math import inf
from pathlib import Path
from random import Random
from time import monotonic

STALE = 2.0
"""Seconds that an answer may be old: websrv looks at a file once a second (--cache-valid), and a look takes a while."""

KEPT = 64
"""Versions whose bytes are kept by those who check: of 1 MiB at most each."""


@lru_cache(KEPT)
def content(name: str, version: int, least: int) -> bytes:
    """The bytes of a version: *least* of them or up to a quarter more."""
    random = Random(f"{name} {version}")
    return random.randbytes(least + random.randrange(least // 4 + 1))


class ChangingFile:
    """A file of a directory, replaced by rename; any thread may ask what it may be."""

    def __init__(self, directory: Path, name: str, least: int) -> None:
        self.path = f"/{name}"
        self.least = least
        """Bytes that every version has."""
        self._place = directory / name
        self._begun: list[float] = []
        """When each version could be seen at the earliest."""
        self._ended: list[float] = []
        """When each could be seen at the latest."""
        self._tags: dict[str, int] = {}
        self._lock = threading.Lock()
        self.replace()

    def replace(self) -> None:
        """Put the next version in the place of the last one, at once."""
        version = len(self._begun)
        fresh = self._place.with_name(f".{self._place.name}.new")
        fresh.write_bytes(content(self.path, version, self.least))
        with self._lock:
            self._begun.append(monotonic())
            os.replace(fresh, self._place)
            self._ended[-1:] = [monotonic(), inf] if version else [inf]

    def possible(self, asked: float, answered: float) -> list[int]:
        """The versions that may answer what was asked and answered at these instants, the newest first."""
        with self._lock:
            return [
                version
                for version, (begun, ended) in reversed(list(enumerate(zip(self._begun, self._ended, strict=True))))
                if begun <= answered and ended + STALE >= asked
            ]

    def version_of(self, body: bytes, first: int, whole: int, versions: list[int]) -> int | None:
        """Which of *versions* has *whole* bytes, and *body* from the byte *first* on; None for none."""
        for version in versions:
            expected = content(self.path, version, self.least)
            if len(expected) == whole and expected[first : first + len(body)] == body:
                return version
        return None

    def tag_fault(self, tag: str, version: int) -> str | None:
        """What is wrong with the entity-tag *tag* for *version*: one tag is one version's for good."""
        with self._lock:
            known = self._tags.setdefault(tag, version)
        return None if known == version else f"the entity-tag {tag} of version {known} for version {version}"

    def version_tagged(self, tag: str) -> int | None:
        """The version that was seen with *tag*."""
        return self._tags.get(tag)
