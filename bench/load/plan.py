"""What is to be done in a run: target, requests, schedule, stop rule, client. Frozen, picklable, printable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import cycle
from urllib.parse import SplitResult, urlsplit

from aiolsp.cli import UsageError
from load.record import GOOD_STATUSES
from load.schedule import ClosedLoop, Schedule, Share
from load.stop import StopRule
from load.units import SECOND

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that may be sent again when a kept connection closed before any answer (RFC 9110 section 9.2.2)."""


NUMBER = b"{n}"
"""In a numbered plan, stands for the number of the request in paths and fields."""


@dataclass(frozen=True)
class Target:
    """Where the requests go: one origin, by TCP or by a unix socket."""

    scheme: str
    host: str
    port: int
    unix: str | None = None

    @property
    def authority(self) -> str:
        """The Host field's value (RFC 9112 section 3.2): the port is left out when it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """The URL without a path."""
        return f"{self.scheme}://{self.authority}"

    def __str__(self) -> str:
        return f"{self.origin} by {self.unix}" if self.unix else self.origin


@dataclass(frozen=True)
class Plan:
    """Everything a run needs to know; the report and the JSON print the same object."""

    target: Target
    paths: tuple[str, ...] = ("/",)
    method: str = "GET"
    fields: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    schedule: Schedule = field(default_factory=ClosedLoop)
    stop: StopRule = field(default_factory=lambda: StopRule(duration=5 * SECOND))
    warmup: int = 0
    connections: int = 64
    timeout: int = 10 * SECOND
    client: str = "aiohttp"
    churn: bool = False
    pipeline: int = 1
    numbered: bool = False
    """Whether each request is to differ from every other, by NUMBER; like *pipeline*, of the wire client."""
    good_statuses: frozenset[int] = GOOD_STATUSES
    expect: bytes | None = None
    verify_tls: bool = True

    @property
    def url(self) -> str:
        """The first URL of the plan."""
        return self.target.origin + self.paths[0]

    @property
    def digest(self) -> str:
        """Of all that is asked but of whom, so that results can be compared and yet show no password."""
        asked = repr((self.method, self.paths, self.fields, self.body))
        return sha256(asked.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    @property
    def may_repeat(self) -> bool:
        """Whether a request may be sent again on a new connection."""
        return self.method in IDEMPOTENT

    def request_bytes(self, path: str) -> bytes:
        """The request for *path*, ready to be sent."""
        names = {name.lower() for name, _ in self.fields}
        lines = [f"{self.method} {path} HTTP/1.1"]
        if "host" not in names:
            lines.append(f"Host: {self.target.authority}")
        lines += [f"{name}: {value}" for name, value in self.fields]
        if (self.body or self.method in {"POST", "PUT", "PATCH"}) and "content-length" not in names:
            lines.append(f"Content-Length: {len(self.body)}")
        if self.churn and "connection" not in names:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body

    def requests(self) -> Iterator[bytes]:
        """The requests in turn, without end, ready to be sent."""
        ready = [self.request_bytes(path) for path in self.paths]
        if not self.numbered:
            return cycle(ready)
        pieces = cycle([request.split(NUMBER) for request in ready])
        return ((b"%d" % number).join(parts) for number, parts in enumerate(pieces))


def share(plan: Plan, index: int, of: int) -> Plan:
    """The part of worker *index* of several: together they open the same connections and send the same requests."""
    return replace(
        plan,
        schedule=Share(plan.schedule, index, of),
        stop=plan.stop.share(index, of),
        connections=len(range(index, plan.connections, of)),
        paths=tuple(plan.paths[(index + step * of) % len(plan.paths)] for step in range(len(plan.paths))),
    )


def parse_url(text: str, unix: str | None = None) -> tuple[Target, str]:
    """The target and the path (with its query) of a URL; ``host:port`` alone is http. Raises UsageError."""
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        port = url.port
    except ValueError as error:
        raise UsageError(f"{text!r} is not a URL: {str(error).lower()}") from None
    if url.scheme not in {"http", "https"}:
        raise UsageError(f"{text!r}: only http and https can be loaded, not {url.scheme}")
    if not url.hostname:
        raise UsageError(f"{text!r} is not a URL: it names no host")
    if url.username is not None:
        raise UsageError("a URL with a user's name is not loaded as such: give --header 'Authorization: ...'")
    if port == 0:
        raise UsageError(f"{text!r} is not a URL: nobody listens on port 0")
    if any(character <= " " or character > "~" for character in text):
        raise UsageError(f"{text!r} is not a URL: write spaces and other characters as %XX")
    return Target(url.scheme, url.hostname, port or (443 if url.scheme == "https" else 80), unix), _origin_form(url)


def parse_paths(lines: list[str], target: Target, source: str) -> tuple[str, ...]:
    """The paths of a URL list: a URL of the same origin or a path on each line, ``#`` comments. Raises UsageError."""
    paths = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        found, path = parse_url(target.origin + text if text.startswith("/") else text, target.unix)
        if found != target:
            raise UsageError(f"{source}:{number}: {text} is on another server than {target.origin}")
        paths.append(path)
    if not paths:
        raise UsageError(f"{source} holds no URL")
    return tuple(paths)


def _origin_form(url: SplitResult) -> str:
    return (url.path or "/") + (f"?{url.query}" if url.query else "")
