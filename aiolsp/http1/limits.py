"""Every limit on what a client controls, in one object that command line, help and tests read.

Each default has a precedent or a reason, since a limit without one is a guess that nobody dares to change.
"""

import math
from typing import Any, NamedTuple, Self

KIB = 1024
MIB = 1024 * KIB


class _Limits(NamedTuple):
    """The numbers; a named tuple, for a dataclass takes a hundredth of a server's start to define."""

    max_target: int = 8 * KIB
    """Longest request-target (414). Apache's LimitRequestLine is 8190, one of nginx's header buffers 8 KiB."""
    max_head: int = 32 * KIB
    """Longest request-line and fields together (431). nginx's large_client_header_buffers are 4 of 8 KiB."""
    max_fields: int = 100
    """Most fields in one head or trailer section (431). Apache's LimitRequestFields."""
    max_body: int = MIB
    """Longest request body (413). nginx's client_max_body_size; a file server only reads it to reach what follows."""
    max_trailers: int = 8 * KIB
    """Longest trailer section of a chunked body (431). One of nginx's header buffers: they carry checksums."""
    max_extensions: int = 4 * KIB
    """Chunk extensions in one chunked body (413), which nobody uses.

    Node allows 16 KiB since CVE-2024-22019, where extensions without end kept a server reading.
    """

    head_timeout: float = 10.0
    """Time to send a whole head (408). Half of the 20 s of Apache's RequestReadTimeout: a head is one packet."""
    idle_timeout: float = 75.0
    """Time a connection may be silent between requests. nginx's keepalive_timeout."""
    body_rate: float = 240.0
    """Least rate of sending a body (408). Kestrel's MinRequestBodyDataRate; Apache's RequestReadTimeout asks 500."""
    body_grace: float = 10.0
    """Time before the rate of a body counts. Apache's RequestReadTimeout starts at 20 s, Kestrel's grace is 5 s."""
    response_rate: float = 240.0
    """Least rate of taking a response. Kestrel's MinResponseDataRate."""
    response_grace: float = 60.0
    """Time before the rate of taking a response counts. nginx's send_timeout: players pause."""

    max_connections: int = 16_384
    """Most connections at once (503). One costs a few KiB here: some 100 MB in all."""
    max_per_address: int = 8_192
    """Most connections at once from one address (503).

    Half of all: many people may share one address, but one address may not shut out the rest.
    """
    max_ranges: int = 16
    """Most ranges in one request; with more, the whole is sent.

    A player asks for 1, a PDF viewer for a few; Apache merges or refuses from 200 (CVE-2011-3192).
    """


class Limits(_Limits):
    """Bounds on one client and on all together; whole numbers of at least 1, times and rates above 0.

    Their names are in ``_fields``, their defaults in ``_field_defaults``, their units in UNITS. Raises ValueError.
    """

    __slots__ = ()

    def __new__(cls, *values: Any, **named: Any) -> Self:
        """As a named tuple is made, but checked."""
        made = super().__new__(cls, *values, **named)
        for name, default in cls._field_defaults.items():
            _check(name, getattr(made, name), whole=isinstance(default, int))
        if made.max_target >= made.max_head:
            raise ValueError(f"max_target ({made.max_target}) must be less than max_head ({made.max_head})")
        return made


UNITS = {
    "max_target": "bytes",
    "max_head": "bytes",
    "max_fields": "fields",
    "max_body": "bytes",
    "max_trailers": "bytes",
    "max_extensions": "bytes",
    "head_timeout": "seconds",
    "idle_timeout": "seconds",
    "body_rate": "bytes/s",
    "body_grace": "seconds",
    "response_rate": "bytes/s",
    "response_grace": "seconds",
    "max_connections": "connections",
    "max_per_address": "connections",
    "max_ranges": "ranges",
}


def _check(name: str, value: object, *, whole: bool) -> None:
    if whole:
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
    elif not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a number above 0, not {value!r}")
