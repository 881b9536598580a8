"""What was missing from a directory in one state of it is missing in an equal one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aiolsp.linux import cached, directories
from aiolsp.linux.directories import Directories
from faults import wait_until


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "sub" / "inner").mkdir(parents=True)
    (tmp_path / "sub" / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("sub")
    with open(tmp_path / "sub" / "file", "rb") as file:
        if not cached.knows_nowait(file.fileno()):
            pytest.skip("the file system of temporary files knows no RWF_NOWAIT")
    return tmp_path


@pytest.fixture
def looks(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Directories]:
    monkeypatch.setattr(directories, "SETTLED", 50_000_000)
    root = os.open(site, os.O_RDONLY)
    yield Directories(root)
    os.close(root)


def settled(looks: Directories, path: bytes) -> int:
    """The state of a directory that is left alone for long enough."""

    def look() -> int | None:
        looks.forget()
        return looks.state(path)

    wait_until(lambda: look() is not None, "a settled directory")
    state = look()
    assert state is not None
    return state


@pytest.mark.parametrize(
    "change",
    [
        lambda sub: (sub / "file.gz").write_bytes(b""),
        lambda sub: (sub / "file.gz").symlink_to("file"),
        lambda sub: (sub / "file.gz").hardlink_to(sub / "file"),
        lambda sub: (sub / "file.gz").mkdir(),
        lambda sub: (sub / "file").rename(sub / "file.gz"),
        lambda sub: (sub / ".." / "outside").rename(sub / "file.gz"),
        lambda sub: (sub / "inner").rmdir(),
    ],
)
@pytest.mark.parametrize("path", [b"sub", b""])
def test_whatever_is_made_changes_the_state_though_the_times_are_set_back(
    site: Path, looks: Directories, path: bytes, change: Callable[[Path], object]
) -> None:
    (site / "outside").write_bytes(b"")
    before = settled(looks, b"sub"), settled(looks, b"")
    was = (site / "sub").stat()
    change(site / "sub")
    os.utime(site / "sub", ns=(was.st_atime_ns, was.st_mtime_ns))
    assert settled(looks, b"sub") != before[0]
    if path == b"":
        (site / "made").write_bytes(b"")
        assert settled(looks, b"") != before[1]


def test_what_changes_no_name_changes_no_state(site: Path, looks: Directories) -> None:
    before = settled(looks, b"sub")
    (site / "sub" / "file").write_bytes(b"other")
    (site / "sub" / "file").chmod(0o600)
    (site / "sub" / "inner" / "more").write_bytes(b"")
    assert settled(looks, b"sub") == before


def test_another_directory_of_the_name_has_another_state(site: Path, looks: Directories) -> None:
    before = settled(looks, b"sub/inner")
    (site / "new" / "inner").mkdir(parents=True)
    (site / "sub").rename(site / "old")
    (site / "new").rename(site / "sub")
    assert settled(looks, b"sub/inner") != before
    (site / "sub").rename(site / "new")
    (site / "old").rename(site / "sub")
    assert settled(looks, b"sub/inner") == before


def test_a_state_counts_until_it_is_forgotten(site: Path, looks: Directories) -> None:
    before = settled(looks, b"sub")
    (site / "sub" / "file.gz").write_bytes(b"")
    assert looks.state(b"sub") == before
    looks.forget()
    assert looks.state(b"sub") != before


def test_nothing_is_known_of_one_that_has_just_changed(
    site: Path, looks: Directories, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(looks, b"sub")
    looks.forget()
    monkeypatch.setattr(directories, "SETTLED", 1 << 60)
    assert looks.state(b"sub") is None


@pytest.mark.parametrize("path", [b"link", b"link/inner", b"none", b"..", b"sub/file"])
def test_nothing_is_known_of_what_cannot_be_reached_without_links_and_within_the_root(
    site: Path, looks: Directories, path: bytes
) -> None:
    for there in (b"sub", b"sub/inner", b""):
        settled(looks, there)
    assert looks.state(path) is None
