"""A directory that stays the one at its path, however another comes there."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from aiolsp.linux.named_directory import NamedDirectory
from harness import DEADLINE


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site"
    path.mkdir()
    (path / "old").touch()
    return path


@pytest.fixture
def named(site: Path) -> Iterator[NamedDirectory]:
    before = os.listdir("/proc/self/fd")
    made = NamedDirectory(str(site))
    yield made
    made.close()
    assert os.listdir("/proc/self/fd") == before


def make_anew(site: Path) -> None:
    shutil.rmtree(site)
    site.mkdir()
    (site / "new").touch()


def test_it_is_looked_for_once_after_each_doubt(named: NamedDirectory, site: Path) -> None:
    fd = named.fd
    make_anew(site)
    assert named.settled() and not named.follow()
    assert os.listdir(fd) == []
    named.doubt()
    assert not named.settled() and named.follow()
    assert named.settled() and not named.follow()
    assert named.fd == fd and os.listdir(fd) == ["new"]
    assert not os.get_inheritable(fd)
    named.doubt()
    assert named.settled() and not named.follow(), "the new one is still there"


def test_it_is_known_without_waiting_on_a_mount_of_its_own_too() -> None:
    named = NamedDirectory("/dev/shm")
    named.doubt()
    try:
        assert named.settled()
    finally:
        named.close()


def test_it_is_not_settled_while_a_thread_still_looks(
    named: NamedDirectory, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, may_go_on, look = threading.Event(), threading.Event(), os.stat

    def slow(path: str) -> os.stat_result:
        looks.set()
        assert may_go_on.wait(DEADLINE)
        return look(path)

    make_anew(site)
    named.doubt()
    monkeypatch.setattr(os, "stat", slow)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(named.follow)
        assert looks.wait(DEADLINE)
        settled = named.settled()
        second = threads.submit(lambda: (named.follow(), os.listdir(named.fd)))
        wait([second], timeout=0.05)  # it should not be done before the first
        may_go_on.set()
        found = first.result(), second.result()
    monkeypatch.undo()
    assert found == (True, (False, ["new"]))
    assert not settled and named.settled()


def test_where_it_is_still_the_same_no_other_is_opened(named: NamedDirectory) -> None:
    named.doubt()
    assert not named.follow() and os.listdir(named.fd) == ["old"]


@pytest.mark.parametrize("other", [None, "file", "link", "device"])
def test_it_stays_while_no_directory_takes_its_place(named: NamedDirectory, site: Path, other: str | None) -> None:
    kept = site.rename(site.with_name("kept"))
    if other == "file":
        site.touch()
    elif other == "link":
        site.symlink_to("nowhere")
    elif other == "device":
        os.mkfifo(site)
    named.doubt()
    assert not named.follow() and os.listdir(named.fd) == ["old"]
    assert named.settled(), "nobody looks again before the next doubt"
    site.unlink(missing_ok=True)
    kept.rename(site)
    named.doubt()
    assert not named.follow() and os.listdir(named.fd) == ["old"]


def test_a_relative_path_is_of_the_directory_where_it_was_made(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site.parent)
    named = NamedDirectory("site")
    monkeypatch.chdir("/")
    try:
        make_anew(site)
        named.doubt()
        assert named.follow() and os.listdir(named.fd) == ["new"]
    finally:
        named.close()


def test_what_is_no_directory_is_not_opened(site: Path) -> None:
    with pytest.raises(NotADirectoryError):
        NamedDirectory(str(site / "old"))
    with pytest.raises(FileNotFoundError):
        NamedDirectory(str(site / "nothing"))
