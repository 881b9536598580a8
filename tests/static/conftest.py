"""The tree that the tests of a document root load from, and the proof that they close what they open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from loading import SECRET


@pytest.fixture
def site(tmp_path: Path) -> Path:
    directory = tmp_path / "site"
    (directory / "sub").mkdir(parents=True)
    (directory / "file.txt").write_bytes(b"inside")
    (directory / "sub" / "page.html").write_bytes(b"<p>")
    (tmp_path / "secret").write_bytes(SECRET)
    return directory


@pytest.fixture
def no_descriptor_leaks() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before
