"""Which of a file and its compressed siblings is sent: ``page.html``, ``page.html.gz`` (RFC 9110 section 12.5.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from aiolsp.http1.negotiation import SIBLINGS, accepted_codings, choose_coding
from aiolsp.linux.beneath import Opened
from aiolsp.linux.cached import NotCached
from aiolsp.static.representation import Resource

Find: TypeAlias = Callable[[Sequence[bytes], Resource | None, bytes], Opened | None]
"""Opens what is named, to be served in a coding, unless it is what is known; None if there is nothing to serve."""


def best_variant(
    find: Find, segments: Sequence[bytes], plain: Opened, accept_encoding: bytes, known: Resource | None
) -> tuple[Opened, bytes, tuple[bytes, ...] | None]:
    """The sibling that the client likes best, unless it is older, and its coding; else *plain*, which is at *segments*.

    The third tells which siblings are missing, or None if that is not all there is to say of them. What is not chosen
    is closed; all is, *plain* too, if *find* raises NotCached.
    """
    weights = accepted_codings(accept_encoding)
    *directory, name = segments
    found: dict[bytes, Opened] = {}
    missing: list[bytes] | None = []
    for coding, suffix in SIBLINGS.items():
        if not weights.get(coding, weights.get(b"*", 0)):
            continue
        try:
            sibling = find((*directory, name + suffix), known, coding)
        except NotCached:
            for other in (plain, *found.values()):
                other.close()
            raise
        if sibling is None:
            if missing is not None:
                missing.append(suffix)
            continue
        missing = None
        if sibling.is_directory or sibling.status.st_mtime_ns < plain.status.st_mtime_ns:
            sibling.close()
        else:
            found[coding] = sibling
    if not found:
        return plain, b"", missing if missing is None else tuple(missing)
    chosen = choose_coding(accept_encoding, [coding for coding in SIBLINGS if coding in found]) or b""
    best = found.pop(chosen, plain)
    for other in found.values():
        other.close()
    if best is not plain:
        plain.close()
    return best, chosen, None
