"""Every limit on what a client controls, in one object that command line, help and tests read.

Each default has a precedent or a reason, since a limit without one is a guess that nobody dares to change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

KIB = 1024
MIB = 1024 * KIB


def _limit(default: float, unit: str, help: str) -> Any:
    return field(default=default, metadata={"unit": unit, "help": help})


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one client and on all together; whole numbers of at least 1, times and rates above 0.

    ``fields(Limits)`` gives each limit's ``metadata["unit"]`` and ``metadata["help"]``. Raises ValueError.
    """

    # Apache's LimitRequestLine is 8190, one of nginx's large_client_header_buffers 8 KiB.
    max_target: int = _limit(8 * KIB, "bytes", "longest request-target (414)")
    # nginx's large_client_header_buffers are 4 of 8 KiB.
    max_head: int = _limit(32 * KIB, "bytes", "longest request-line and fields together (431)")
    # Apache's LimitRequestFields.
    max_fields: int = _limit(100, "fields", "most fields in one head or trailer section (431)")
    # nginx's client_max_body_size; a file server needs none at all and only reads it to reach the next request.
    max_body: int = _limit(MIB, "bytes", "longest request body (413)")
    # One of nginx's header buffers: trailers carry checksums and signatures.
    max_trailers: int = _limit(8 * KIB, "bytes", "longest trailer section of a chunked body (431)")
    # Node allows 16 KiB since CVE-2024-22019, where extensions without end kept a server reading; nobody uses them.
    max_extensions: int = _limit(4 * KIB, "bytes", "chunk extensions in one chunked body (413)")

    # Half of the 20 s of Apache's RequestReadTimeout: a head is one packet.
    head_timeout: float = _limit(10.0, "seconds", "time to send a whole head (408)")
    # nginx's keepalive_timeout.
    idle_timeout: float = _limit(75.0, "seconds", "time a connection may be silent between requests")
    # Kestrel's MinRequestBodyDataRate; Apache's RequestReadTimeout asks for 500.
    body_rate: float = _limit(240.0, "bytes/s", "least rate of sending a body (408)")
    # Apache's RequestReadTimeout starts at 20 s, Kestrel's grace is 5 s.
    body_grace: float = _limit(10.0, "seconds", "time before the rate of a body counts")
    # Kestrel's MinResponseDataRate.
    response_rate: float = _limit(240.0, "bytes/s", "least rate of taking a response")
    # nginx's send_timeout: players pause.
    response_grace: float = _limit(60.0, "seconds", "time before the rate of taking a response counts")

    # A connection costs a few KiB here: some 100 MB in all.
    max_connections: int = _limit(16_384, "connections", "most connections at once (503)")
    # Half of all: many people may share one address, but one address may not shut out the rest.
    max_per_address: int = _limit(8_192, "connections", "most connections at once from one address (503)")
    # A player asks for 1, a PDF viewer for a few; Apache merges or refuses from 200 (CVE-2011-3192).
    max_ranges: int = _limit(16, "ranges", "most ranges in one request; with more, the whole is sent")

    def __post_init__(self) -> None:
        for limit in fields(self):
            _check(limit.name, getattr(self, limit.name), whole=limit.type == "int")
        if self.max_target >= self.max_head:
            raise ValueError(f"max_target ({self.max_target}) must be less than max_head ({self.max_head})")


def _check(name: str, value: object, *, whole: bool) -> None:
    if whole:
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
    elif not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a number above 0, not {value!r}")
