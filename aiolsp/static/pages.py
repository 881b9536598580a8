"""The paths under which a server tells of itself: its status, for people and Prometheus, and whether it serves.

The status says how busy a machine is and what it holds: so only clients on this machine get it. To all others the path
is a file's, as if there were no such page. A proxy on this machine is a client on this machine: what it says of the
one behind it (Forwarded and the like) counts, but a proxy that says nothing opens the status to everybody.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from aiolsp.http1.messages import Request
from aiolsp.http1.negotiation import accepts_json
from aiolsp.http1.response import HeadTemplate, ResponseHead
from aiolsp.sansio.exposition import JSON, TEXT, as_json, as_text
from aiolsp.sansio.metrics import Metrics
from aiolsp.static.answer import Answer
from aiolsp.static.policy import Policy, common_fields

FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via")
"""Fields by which a proxy says that the request is somebody else's (RFC 7239, RFC 9110 7.6.3, and custom)."""


class Pages:
    """The pages at the paths *status* and *health*, None for one that is not offered."""

    def __init__(self, status: str | None, health: str | None, policy: Policy) -> None:
        self._status = None if status is None else status.encode("utf-8", "surrogateescape")
        self._health = None if health is None else health.encode("utf-8", "surrogateescape")
        # No script of another origin may read the status through a browser on this machine.
        told = common_fields(policy._replace(cors=False))
        self._fields = (
            *(pair for pair in told if pair[0].lower() != b"cache-control"),
            (b"Cache-Control", b"no-store"),
        )

    def is_status(self, request: Request, peer: Any) -> bool:
        """Whether *request*, from *peer* (a socket's address), is one for the status."""
        return (
            self._status is not None
            and _path(request) == self._status
            and is_local(peer)
            and not any(name in request.fields for name in FORWARDED)
        )

    def is_health(self, request: Request) -> bool:
        """Whether *request* is one for the health."""
        return self._health is not None and _path(request) == self._health

    def disputed(self, request: Request) -> bool:
        """Whether *request* is for either page if the right client sends it: then its answer differs by client."""
        return _path(request) in (self._status, self._health)

    def own(self, request: Request, peer: Any) -> bool:
        """Whether *request*, from *peer*, is one for either page."""
        return self.is_health(request) or self.is_status(request, peer)

    def status(self, request: Request, workers: Mapping[int, Metrics]) -> Answer:
        """The answer to a GET or HEAD for the status: JSON if ``?format=json`` or the Accept field asks for it."""
        query = request.target.partition(b"?")[2].split(b"&")
        if b"format=json" in query or accepts_json(request.fields.combined(b"accept")):
            return self._answer(200, JSON, as_json(workers))
        return self._answer(200, TEXT, as_text(workers))

    def health(self, *, draining: bool) -> Answer:
        """The answer to a GET or HEAD for the health: 503 from the moment that the server is to stop."""
        if draining:
            return self._answer(503, b"text/plain", b"draining\n")
        return self._answer(200, b"text/plain", b"ok\n")

    def _answer(self, status: int, kind: bytes, body: bytes) -> Answer:
        told = ((b"Content-Type", kind), (b"Content-Length", b"%d" % len(body)))
        return Answer(status, HeadTemplate(ResponseHead(status, (*self._fields, *told))), (body,), len(body))


def is_local(peer: Any) -> bool:
    """Whether *peer*, a socket's address, is on this machine: loopback, or any client of a unix socket."""
    if not isinstance(peer, tuple):
        return True
    address = ipaddress.ip_address(peer[0].partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _path(request: Request) -> bytes:
    return request.target.partition(b"?")[0]
