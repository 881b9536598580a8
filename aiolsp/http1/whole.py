"""The usual request in one step: a packet that is one head, of a kind that leaves nothing open.

Facts
    - Most requests of a client that waits for its answers come so. What `RequestParser` does besides, to be ready for
      any other cut of the bytes, takes twice as long as to read such a head.
    - Most fields decide nothing (sieve.py). To make a name and a value of each is half of the time that is left, and
      what is left without them was often read before (sections.py), even if a cookie is another each time.
Consequence
    Between two requests, a packet may be tried as a whole first, without a parser, and without most of its fields.
Decision
    `rest` says what is left of a packet that may be one head; `request` reads that, and nothing else until somebody
    asks for a field that decides nothing. Both read what needs no state, by the same grammar, and complain of nothing:
    what they give None for, the parser reads from its first byte on.
Price
    A third way through the table of states, from REQUEST_LINE straight back to it. It must be the parser's, however the
    bytes are cut: tests ask both whenever they ask one.
"""

from __future__ import annotations

from collections.abc import Iterable

from aiolsp.http1.grammar import USUAL_REQUEST_LINE_CRLF, field_pairs
from aiolsp.http1.limits import Limits
from aiolsp.http1.messages import HTTP_1_1, Fields, Request
from aiolsp.http1.sections import read_section
from aiolsp.http1.sieve import END, FRAMING, Sieve

# Its own __new__ is one of Python's, and takes more than twice as long.
_new = tuple.__new__


class HeadReader:
    """Reads packets that are one head each, within *limits*, where the fields in *deciding* decide the answer."""

    def __init__(self, limits: Limits, deciding: Iterable[bytes] = ()) -> None:
        self.max_head = limits.max_head
        self._max_target, self._max_fields = limits.max_target, limits.max_fields
        self._deciding = frozenset((*FRAMING, *deciding))
        self.sift = Sieve(self._deciding).rest
        """What a head is without what decides nothing."""

    def rest(self, packet: bytes) -> bytes | None:
        """What is left of *packet* without what decides nothing; None if it is not one head, or past the limits.

        Something that is no head, or more than one, may pass; its rest is none of a head's.
        """
        if len(packet) > self.max_head or not packet.endswith(END):
            return None
        fields = packet.count(b"\n") - 2  # if it is one head
        if fields > self._max_fields:
            return None
        # With one field, that is Host, or there is no usual request.
        return self.sift(packet) if fields > 1 else packet

    def request(self, packet: bytes, rest: bytes) -> Request | None:
        """The request that *packet*, of which *rest* is left, is: HTTP/1.1, for a path, without a body; else None."""
        found = USUAL_REQUEST_LINE_CRLF.match(rest)
        if found is None:
            return None
        fields_start = found.end()
        if fields_start > self._max_target:
            return None
        # An empty line before the last one would be none of a section's: so nothing follows the head.
        section = read_section(rest[fields_start:])
        if section is None or not section.plain:
            return None
        fields = section.fields
        if len(rest) < len(packet):
            fields = _SiftedFields(fields, self._deciding, packet[fields_start:])
        method, target = found.groups()
        return _new(Request, (method, target, HTTP_1_1, fields, section.keep_alive, False, False, packet))


class _SiftedFields(Fields):
    """The fields in *lines*, which are all right; of *known*, those of the *deciding* names, the lines are not read."""

    __slots__ = ("_deciding", "_known", "_lines")

    def __init__(self, known: Fields, deciding: frozenset[bytes], lines: bytes) -> None:
        # What `Fields` sets is missing, until `__getattr__` is asked for it.
        self._known = known
        self._deciding = deciding
        self._lines = lines

    def __getattr__(self, name: str) -> object:
        if name not in Fields.__slots__:
            raise AttributeError(name)
        pairs = field_pairs(self._lines)
        assert pairs is not None
        super().__init__(pairs)
        return getattr(self, name)

    def combined(self, name: bytes) -> bytes | None:
        return self._known.combined(name) if name in self._deciding else super().combined(name)

    def has_any(self, names: frozenset[bytes]) -> bool:
        return self._known.has_any(names) if names <= self._deciding else super().has_any(names)
