"""Content types by name."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.http1.media_types import DEFAULT, MEDIA_TYPES, media_type


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"index.html", b"text/html; charset=utf-8"),
        (b"app.js", b"text/javascript; charset=utf-8"),
        (b"app.mjs", b"text/javascript; charset=utf-8"),
        (b"app.js.map", b"application/json"),
        (b"style.CSS", b"text/css; charset=utf-8"),
        (b"a.wasm", b"application/wasm"),
        (b"a.svg", b"image/svg+xml"),
        (b"a.webmanifest", b"application/manifest+json"),
        (b"a.woff2", b"font/woff2"),
        (b"a.mp4", b"video/mp4"),
        (b"main.py", b"text/plain; charset=utf-8"),
        (b"App.tsx", b"text/plain; charset=utf-8"),
        (b"rows.jsonl", b"text/plain; charset=utf-8"),
        (b"poetry.lock", b"text/plain; charset=utf-8"),
        (b"a.heif", b"image/heif"),
        (b"a.mpg", b"video/mpeg"),
        (b"a.pdf", b"application/pdf"),
        (b"\xff\n.png", b"image/png"),
        (b"README", DEFAULT),
        (b"a.unknown", DEFAULT),
        (b"a.", DEFAULT),
        (b"", DEFAULT),
        (b".html", DEFAULT),
        (b".config.json", b"application/json"),
    ],
)
def test_the_type_of_a_name(name: bytes, expected: bytes) -> None:
    assert media_type(name) == expected


@pytest.mark.parametrize("name", [b"a.gz", b"a.tar.gz", b"a.tgz", b"a.html.gz"])
def test_a_gz_by_name_is_an_archive_not_a_coding(name: bytes) -> None:
    """svenstaro/miniserve#160."""
    assert media_type(name) == b"application/gzip"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=12), st.sampled_from(sorted(MEDIA_TYPES)))
def test_any_name_has_a_type_and_its_last_extension_decides(name: bytes, extension: bytes) -> None:
    assert media_type(name) in {DEFAULT, *MEDIA_TYPES.values()}
    assert media_type(b"x" + name + b"." + extension.upper()) == MEDIA_TYPES[extension]


def test_the_table_is_well_formed() -> None:
    assert len(MEDIA_TYPES) >= 80
    for extension, content_type in MEDIA_TYPES.items():
        assert re.fullmatch(rb"[a-z0-9]+", extension)
        assert re.fullmatch(rb"[a-z]+/[a-z0-9.+-]+(; charset=utf-8)?", content_type)
        assert content_type.startswith(b"text/") == content_type.endswith(b"; charset=utf-8")
