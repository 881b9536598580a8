"""Loads from a document root, and what a test looks at of what came of them."""

from __future__ import annotations

from pathlib import Path

from aiolsp.http1.target import parse_target
from aiolsp.static.policy import Policy
from aiolsp.static.representation import Resource, Wanted
from aiolsp.static.resource import DocumentRoot

SECRET = b"outside"
"""What stands beside the site, and must never be served."""

HTML = b"text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"


def load(
    site: Path,
    raw: bytes,
    policy: Policy | None = None,
    *,
    small: int = 1 << 20,
    accept_encoding: bytes | None = None,
    accept: bytes | None = None,
) -> Resource:
    """One load from a root of its own, with what it opened closed again."""
    target = parse_target(raw)
    assert target is not None
    root = DocumentRoot(str(site), policy or Policy(), small=small)
    try:
        resource = root.load(Wanted(target, accept_encoding, accept))
        resource.close()
        return resource
    finally:
        root.close()


def field(resource: Resource, name: bytes) -> bytes | None:
    values = [value for given, value in resource.outline.fields if given == name]
    assert len(values) <= 1
    return values[0] if values else None


def wanted(raw: bytes, accept_encoding: bytes | None = None) -> Wanted:
    target = parse_target(raw)
    assert target is not None
    return Wanted(target, accept_encoding)
