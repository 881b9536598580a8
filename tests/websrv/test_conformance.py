"""What RFC 9110 asks of a server of files where few clients go, as tables of requests and what must come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import Server
from plainfiles import EARLY, LATE, make_plain_files
from webclient import ask


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("conformance")
    make_plain_files(root)
    return root


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([f"If-Modified-Since: {LATE}"], 304),
        ([f"If-Modified-Since: {LATE}", f"If-Modified-Since: {LATE}"], 200),
        ([f"If-Modified-Since: {LATE}, {LATE}"], 200),
        ([f"If-Unmodified-Since: {EARLY}"], 412),
        ([f"If-Unmodified-Since: {EARLY}", f"If-Unmodified-Since: {EARLY}"], 200),
        ([f"If-Unmodified-Since: {EARLY}, {EARLY}"], 200),
    ],
)
def test_a_list_of_dates_is_no_condition(server: Server, fields: list[str], status: int) -> None:
    """Sections 13.1.3 and 13.1.4."""
    assert ask(server, "/data.bin", *fields).status == status
