"""What the parser says: a request, pieces of its body, its end, or what was wrong with it.

The events of one message, in order: ``Request Data* EndOfMessage``; a ProtocolError may come instead of any of them,
and is the last event of its connection.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar, cast, overload

from aiolsp.http1.grammar import Pair

_Default = TypeVar("_Default")

Version = tuple[int, int]

HTTP_1_0: Version = (1, 0)
HTTP_1_1: Version = (1, 1)


if TYPE_CHECKING:

    class _Get(Protocol):
        @overload
        def __call__(self, name: bytes, /) -> bytes | None: ...
        @overload
        def __call__(self, name: bytes, default: _Default, /) -> bytes | _Default: ...


class Fields:
    """The fields of a head or trailer section in their order: pairs of a lower-cased name and a value. Immutable.

    ``get(name, default=None)`` is the first value of a name given in lower case. A request is asked for half a dozen
    names, most of them missing: so there is an index from the start, and *get* is the index's own, without a call more.
    """

    __slots__ = ("_first", "_pairs", "get", "repeated")

    def __init__(self, pairs: Sequence[Pair] = ()) -> None:
        first = dict(pairs)
        self.repeated = len(first) != len(pairs)
        """Whether any name occurs twice."""
        if self.repeated:
            first = dict(reversed(pairs))
        self._first = first
        self._pairs = pairs
        self.get = cast("_Get", first.get)

    def get_all(self, name: bytes) -> list[bytes]:
        """Each value of *name* (in lower case), in order."""
        if name not in self._first:
            return []
        return [value for key, value in self._pairs if key == name]

    def combined(self, name: bytes) -> bytes | None:
        """All values of *name* as one list, joined by commas (RFC 9110 5.3), or None."""
        if not self.repeated:
            return self.get(name)
        return b", ".join(self.get_all(name)) if name in self._first else None

    def replaced(self, name: bytes, value: bytes) -> "Fields":
        """The same fields, but for *name*, which has *value* and stands first."""
        return Fields([(name, value), *(pair for pair in self._pairs if pair[0] != name)])

    def has_any(self, names: frozenset[bytes]) -> bool:
        """Whether any of *names* (in lower case) is there."""
        return not names.isdisjoint(self._first)

    def __contains__(self, name: bytes) -> bool:
        return name in self._first

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fields) and tuple(self._pairs) == tuple(other._pairs)

    def __hash__(self) -> int:
        return hash(tuple(self._pairs))

    def __repr__(self) -> str:
        return f"Fields({list(self._pairs)!r})"


NO_FIELDS = Fields()


class Request(NamedTuple):
    """A head whose every part was checked; *target* is as it came, and *fields* holds the Host that counts.

    *version* is (1, 0) or (1, 1). *keep_alive* is what the client allows (RFC 9112 9.3). *expects_continue* means that
    it waits for a 100 before it sends the body. *head* is all of it as it came, from the request-line to the empty
    line. (A named tuple, like the other events: a frozen dataclass of eight takes a microsecond more to make, and each
    one 0.2 ms more to define, when a server starts. Nor are annotations imported from __future__ beside named
    tuples: typing would compile the text of each.)
    """

    method: bytes
    target: bytes
    version: Version
    fields: Fields
    keep_alive: bool
    expects_continue: bool
    has_body: bool
    head: bytes = b""


class Data(NamedTuple):
    """A piece of the body, without its framing; how the body is cut into pieces means nothing."""

    data: bytes


class EndOfMessage(NamedTuple):
    """The end of a message, with or without a body; *trailers* only ever come with a chunked one."""

    trailers: Fields = NO_FIELDS


class ProtocolError(NamedTuple):
    """What the client did wrong: the *status* to answer before closing, and the *reason* for a person.

    *to_head*: it answers a HEAD, after which no content may be sent (RFC 9110 9.3.2).
    """

    status: int
    reason: str
    to_head: bool = False


Event = Request | Data | EndOfMessage | ProtocolError

END_OF_MESSAGE = EndOfMessage()
