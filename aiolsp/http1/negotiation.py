"""Proactive negotiation (RFC 9110 section 12.5): which coding of a file suits the client, and does it ask for a page.

Weights are counted in thousandths, the finest step the grammar allows, so that they compare exactly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from aiolsp.http1.expressions import expression

SIBLINGS = {b"br": b".br", b"zstd": b".zst", b"gzip": b".gz"}
"""Content codings in the order a server prefers them, best compression first, each with the suffix of its files."""

_QVALUE = rb"(?P<q>0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)"
"""qvalue (RFC 9110 section 12.4.2)."""

_CODING = expression(
    rb"(?P<coding>[!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:[ \t]*;[ \t]*q=" + _QVALUE + rb")?",
    re.IGNORECASE,
)
"""One element of Accept-Encoding: a token or ``*``, and its weight."""

_HTML = expression(rb"(?is)(?:text/html|application/xhtml\+xml)[ \t]*(?:;.*)?")
_JSON = expression(rb"(?is)application/json[ \t]*(?:;.*)?")
_WEIGHT = expression(rb"(?i);[ \t]*q=" + _QVALUE + rb"[ \t]*(?=;|\Z)")
_WEIGHT_NAME = expression(rb"(?i);[ \t]*q=")

LONGEST = 256
"""Bytes of an Accept-Encoding that is remembered."""

_UNLISTED_IDENTITY = 0.5
"""Weight of identity where nothing names it: acceptable, but less wanted than any coding that is."""


def accepted_codings(value: bytes | None) -> Mapping[bytes, int]:
    """The codings that Accept-Encoding lists, in lower case, with their weights from 0 (refused) to 1000.

    Malformed elements are skipped; of a coding named twice the last weight counts. None (no field) and an empty field
    list nothing. ``x-gzip`` is gzip (RFC 9110 section 8.4.1.3). Browsers send one of few values, so the last are kept;
    a list of thousands takes a third of a MiB, and none of these is.
    """
    return _remembered(value) if value is None or len(value) <= LONGEST else _read(value)


def _read(value: bytes | None) -> Mapping[bytes, int]:
    codings: dict[bytes, int] = {}
    for element in (value or b"").split(b","):
        match = _CODING.fullmatch(element.strip(b" \t"))
        if match is not None:
            coding = match["coding"].lower()
            codings[b"gzip" if coding == b"x-gzip" else coding] = _thousandths(match["q"])
    return codings


_remembered = lru_cache(maxsize=64)(_read)


def choose_coding(accept_encoding: bytes | None, available: Sequence[bytes]) -> bytes | None:
    """The coding to send, of those *available* in the server's order of preference; None is identity, the file itself.

    The client's highest weight wins, among equals the first available. Identity wins over a coding only if it, or the
    ``*`` that stands for it, has a higher weight. Without the field any coding would be allowed (section 12.5.3), but
    a client that says nothing often cannot decode: it gets identity, as does one that refuses all there is.
    """
    codings = accepted_codings(accept_encoding)
    others = codings.get(b"*", 0)
    best: bytes | None = None
    best_weight: float = codings.get(b"identity", codings.get(b"*", _UNLISTED_IDENTITY))
    for coding in available:
        weight = codings.get(coding, others)
        if weight > best_weight or (best is None and 0 < weight == best_weight):
            best, best_weight = coding, weight
    return best


def accepts_html(accept: bytes | None) -> bool:
    """Whether Accept names HTML (or XHTML) with a weight above 0, as a browser's does when a person follows a link.

    ``*/*`` is not enough: scripts and images are fetched with it, and a page in their place would hide a missing file.
    """
    return _names(accept, _HTML)


def accepts_json(accept: bytes | None) -> bool:
    """Whether Accept names JSON with a weight above 0; ``*/*`` is not enough, since all clients send that."""
    return _names(accept, _JSON)


def _names(accept: bytes | None, kind: re.Pattern[bytes]) -> bool:
    elements = (element.strip(b" \t") for element in (accept or b"").split(b","))
    return any(kind.fullmatch(element) is not None and _is_wanted(element) for element in elements)


def _is_wanted(element: bytes) -> bool:
    match = _WEIGHT.search(element)
    if match is None:
        return _WEIGHT_NAME.search(element) is None
    return _thousandths(match["q"]) > 0


def _thousandths(qvalue: bytes | None) -> int:
    if qvalue is None:
        return 1000
    whole, _, fraction = qvalue.partition(b".")
    return int(whole) * 1000 + int(fraction.ljust(3, b"0"))
