"""What the kernel has in memory is found without waiting, and what it has not is left to others."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from aiolsp.linux import cached
from aiolsp.linux.beneath import open_beneath
from aiolsp.linux.cached import NotCached
from aiolsp.linux.sendfile import FileSlice
from faults import wait_until

CONTENT = os.urandom(100_000)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory on a file system that can tell what is in memory."""
    directory = tmp_path / "site"
    (directory / "sub").mkdir(parents=True)
    (directory / "sub" / "file").write_bytes(CONTENT)
    (directory / "link").symlink_to("sub")
    os.mkfifo(directory / "fifo")
    with open(directory / "sub" / "file", "rb") as file:
        try:  # not by what is tested here: a false answer would skip it all
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except OSError:
            pytest.skip("the file system of temporary files knows no RWF_NOWAIT")
    return directory


@pytest.fixture
def root(site: Path) -> Iterator[int]:
    fd = os.open(site, os.O_RDONLY | os.O_DIRECTORY)
    before = os.listdir("/proc/self/fd")
    yield fd
    assert os.listdir("/proc/self/fd") == before
    os.close(fd)


@pytest.fixture
def file(site: Path) -> Iterator[int]:
    fd = os.open(site / "sub" / "file", os.O_RDONLY)
    yield fd
    os.close(fd)


def find(root: int, *segments: bytes, follow_symlinks: bool = False) -> bytes:
    """What is read of the file or directory of that name: its content or its entries."""
    opened = open_beneath(root, segments, follow_symlinks=follow_symlinks, look_up=cached.look_up)
    try:
        if opened.is_directory:
            return b" ".join(sorted(os.fsencode(name) for name in os.listdir(opened.fd)))
        return cached.read(opened.fd, opened.status.st_size, 0)
    finally:
        os.close(opened.fd)


def evict(fd: int) -> None:
    """Have the kernel drop the pages of a file."""
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def evicted(fd: int) -> bool:
    """Whether the kernel dropped the pages; it passes over one that another processor is still adding to its list."""
    evict(fd)
    try:
        return not cached.read(fd, 1000, 50_000)
    except NotCached:
        return True


def test_a_name_that_was_looked_up_before_is_found(root: int, site: Path) -> None:
    assert (site / "sub" / "file").exists()
    assert find(root, b"sub", b"file") == CONTENT
    assert find(root, b"sub") == b"file"
    assert find(root) == b"fifo link sub"


def test_a_name_that_nobody_has_asked_for_is_left_to_others_and_then_known_to_be_missing(root: int, site: Path) -> None:
    with pytest.raises(NotCached):
        find(root, b"unheard-of")
    assert not (site / "unheard-of").exists()
    with pytest.raises(FileNotFoundError):
        find(root, b"unheard-of")


@pytest.mark.parametrize("segments", [(b"link", b"file"), (b"sub", b"file", b"x"), (b"x" * 300,)])
def test_what_is_no_plain_answer_is_left_to_others(root: int, site: Path, segments: tuple[bytes, ...]) -> None:
    with pytest.raises(OSError):
        open_beneath(root, segments)
    with pytest.raises(NotCached):
        find(root, *segments)


def test_a_link_is_followed_if_that_is_allowed_but_not_to_another_mount(root: int, site: Path) -> None:
    assert (site / "link" / "file").exists()
    assert find(root, b"link", b"file", follow_symlinks=True) == CONTENT
    (site / "away").symlink_to("/proc/self/status")
    assert (site / "away").exists()
    with pytest.raises(NotCached):
        find(root, b"away", follow_symlinks=True)


@pytest.mark.parametrize("name", ["fifo", "link"])
def test_what_is_neither_file_nor_directory_is_not_opened(root: int, site: Path, name: str) -> None:
    assert os.lstat(site / name)
    with pytest.raises(FileNotFoundError):
        find(root, name.encode())


def test_a_kernel_without_the_call_is_asked_in_the_other_way(root: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "_OPENAT2", 100_000)
    with pytest.raises(NotCached):
        find(root, b"sub", b"file")


def test_pages_that_are_not_in_memory_are_not_read(file: int) -> None:
    assert cached.read(file, 1000, 50_000) == CONTENT[50_000:51_000]
    wait_until(lambda: evicted(file), "pages that are not in memory")
    assert cached.knows_nowait(file)
    os.pread(file, len(CONTENT), 0)
    assert cached.knows_nowait(file)
    assert cached.read(file, 1000, 50_000) == CONTENT[50_000:51_000]


def test_less_than_was_asked_for_is_nothing(file: int) -> None:
    with pytest.raises(NotCached):
        cached.read(file, len(CONTENT) + 1, 0)
    assert cached.read(file, 0, 0) == b""


def test_a_slice_of_a_file_that_has_changed_is_not_read(file: int, site: Path) -> None:
    status = os.fstat(file)
    piece = FileSlice(file, 10, 100, status.st_size, status.st_mtime_ns)
    assert cached.read_slice(piece) == CONTENT[10:110]
    os.utime(site / "sub" / "file", ns=(0, status.st_mtime_ns + 1))
    with pytest.raises(NotCached):
        cached.read_slice(piece)
    os.truncate(site / "sub" / "file", status.st_size - 1)
    os.utime(site / "sub" / "file", ns=(0, status.st_mtime_ns))
    with pytest.raises(NotCached):
        cached.read_slice(piece)


def test_a_file_system_without_the_flag_says_so(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr("os.preadv", refuse)
    assert not cached.knows_nowait(file)
    with pytest.raises(NotCached):
        cached.read(file, 1, 0)


def test_a_file_that_was_found_before_is_opened_by_its_name(root: int, site: Path) -> None:
    place = os.lstat(site / "sub" / "file")
    assert cached.status(root, b"sub/file", False) == place
    fd = cached.reopen(root, b"sub/file", False)
    try:
        assert cached.read(fd, len(CONTENT), 0) == CONTENT
        assert os.fstat(fd).st_ino == place.st_ino
    finally:
        os.close(fd)


@pytest.mark.parametrize("path", [b"link", b"link/file", b"../site/sub/file", b"away", b"unheard-of"])
def test_no_link_and_no_way_out_is_opened_by_its_name(root: int, site: Path, path: bytes) -> None:
    (site / "away").symlink_to("/proc/self/status")
    assert not (site / "unheard-of").exists()
    with pytest.raises(NotCached):
        cached.reopen(root, path, False)
    if path in (b"link", b"away"):
        assert stat.S_ISLNK(cached.status(root, path, False).st_mode), "the link itself"
    else:
        with pytest.raises(NotCached):
            cached.status(root, path, False)


def test_another_mount_is_not_opened_by_its_name(root: int, site: Path) -> None:
    (site / "away").symlink_to("/proc/self/status")
    assert (site / "away").exists()
    with pytest.raises(NotCached):
        cached.reopen(root, b"away", True)


def test_a_fifo_that_took_the_place_of_a_file_is_not_waited_for_and_not_read(root: int) -> None:
    fd = cached.reopen(root, b"fifo", False)
    writer = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        os.write(writer, b"for somebody else")
        with pytest.raises(NotCached):
            cached.read(fd, 8, 0)
        assert os.read(fd, 100) == b"for somebody else"
    finally:
        os.close(writer)
        os.close(fd)


def test_only_what_is_known_to_be_missing_is_missing(root: int, site: Path) -> None:
    assert not (site / "gone").exists()
    assert cached.is_missing(root, b"gone", False)
    assert not cached.is_missing(root, b"unheard-of", False)
    for there in (b"sub", b"sub/file", b"fifo", b"link"):
        assert not cached.is_missing(root, there, False)


def test_the_identity_is_that_of_stat_and_unknown_where_the_c_library_has_no_statx(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.stat(site)
    assert cached.identity(os.fsencode(site)) == (status.st_dev, status.st_ino)
    with pytest.raises(NotCached):
        cached.identity(os.fsencode(site / "nothing"))
    monkeypatch.setattr(cached, "_statx", None)
    with pytest.raises(NotCached):
        cached.identity(os.fsencode(site))
