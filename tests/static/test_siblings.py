"""Compressed files beside a file: which of them a client gets, and by which rules."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loading import field, load

pytestmark = pytest.mark.usefixtures("no_descriptor_leaks")


@pytest.mark.parametrize(
    ("accept_encoding", "coding", "body"),
    [
        (None, None, b"inside"),
        (b"", None, b"inside"),
        (b"gzip", b"gzip", b"as gzip"),
        (b"gzip, br, zstd", b"br", b"as br"),
        (b"gzip, zstd", b"zstd", b"as zstd"),
        (b"gzip;q=1.0, br;q=0.5", b"gzip", b"as gzip"),
        (b"gzip;q=0, br;q=0, zstd;q=0", None, b"inside"),
        (b"*", b"br", b"as br"),
        (b"deflate", None, b"inside"),
        (b"identity;q=1, gzip;q=0.5", None, b"inside"),
    ],
)
def test_the_sibling_that_the_client_likes_best_is_served(
    site: Path, accept_encoding: bytes | None, coding: bytes | None, body: bytes
) -> None:
    for suffix, name in ((".gz", b"gzip"), (".br", b"br"), (".zst", b"zstd")):
        (site / f"file.txt{suffix}").write_bytes(b"as " + name)
    resource = load(site, b"/file.txt", accept_encoding=accept_encoding)
    assert resource.body == body
    assert resource.outline.size == len(body)
    assert field(resource, b"Content-Encoding") == coding
    assert field(resource, b"Content-Type") == b"text/plain; charset=utf-8"
    assert field(resource, b"Vary") == b"Accept-Encoding"


def test_each_variant_has_a_tag_of_its_own(site: Path) -> None:
    (site / "file.txt.gz").write_bytes(b"as gzip")
    plain, compressed = load(site, b"/file.txt"), load(site, b"/file.txt", accept_encoding=b"gzip")
    assert field(plain, b"ETag") != field(compressed, b"ETag")


def test_a_compressed_file_asked_for_by_name_is_a_file_like_any_other(site: Path) -> None:
    (site / "file.txt.gz").write_bytes(b"as gzip")
    resource = load(site, b"/file.txt.gz", accept_encoding=b"gzip")
    assert resource.body == b"as gzip"
    assert field(resource, b"Content-Type") == b"application/gzip"
    assert field(resource, b"Content-Encoding") is None
    assert field(resource, b"Vary") is None


@pytest.mark.parametrize("kind", ["link", "older", "directory", "fifo"])
def test_a_sibling_obeys_the_rules_of_the_root(site: Path, kind: str) -> None:
    sibling = site / "file.txt.gz"
    if kind == "link":
        sibling.symlink_to("../secret")
    elif kind == "directory":
        sibling.mkdir()
    elif kind == "fifo":
        os.mkfifo(sibling)
    else:
        sibling.write_bytes(b"of an earlier version")
        os.utime(sibling, (1, 1))
    assert load(site, b"/file.txt", accept_encoding=b"gzip").body == b"inside"
