"""Fixtures of the lab's pages: one browser for all tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Chromium]:
    """A headless Chromium; skips the test where there is none."""
    if chromium.PROGRAM is None:
        pytest.skip("no chromium is installed")
    with chromium.chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def tab(browser: chromium.Chromium) -> Iterator[chromium.Tab]:
    """An empty page, which must have complained of nothing by the end."""
    page = chromium.Tab(browser)
    yield page
    complaints = page.complaints()
    page.close()
    assert not complaints, complaints
