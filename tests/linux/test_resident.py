"""What is said to be in memory is there, and nobody is believed who may not be told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiolsp.linux import resident
from aiolsp.linux.cached import knows_nowait
from aiolsp.linux.resident import BLOCK, Looks, OwnFile, is_resident, own_file
from faults import wait_until

PAGE = os.sysconf("SC_PAGE_SIZE")

SIZE = 64 * PAGE + 100


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """A file of our own, none of which is in memory, on a file system that can tell."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    fd = os.open(path, os.O_RDONLY)
    if not knows_nowait(fd):
        pytest.skip("the file system of temporary files knows no RWF_NOWAIT")
    os.fsync(fd)
    evict(fd, range(SIZE // PAGE + 1))
    yield fd
    os.close(fd)


def evict(fd: int, pages: range) -> None:
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)  # what is read brings nothing else with it

    def gone() -> bool:
        os.posix_fadvise(fd, pages[0] * PAGE, len(pages) * PAGE, os.POSIX_FADV_DONTNEED)
        return not any(is_resident(fd, page * PAGE, 1) for page in pages)

    wait_until(gone, "the file out of memory")


def test_what_was_read_is_in_memory_and_what_was_not_is_not(file: int) -> None:
    assert not is_resident(file, 0, SIZE) and not is_resident(file, 0, 1)
    assert own_file(file, 0)  # which has the kernel begin to read
    os.pread(file, SIZE, 0)
    assert is_resident(file, 0, SIZE) and is_resident(file, SIZE - 1, 1)


def test_one_page_that_is_missing_counts_wherever_it_is(file: int) -> None:
    for missing in (0, 31, 63):
        os.pread(file, SIZE, 0)
        evict(file, range(missing, missing + 1))
        assert not is_resident(file, 0, SIZE)
        assert not is_resident(file, missing * PAGE + PAGE - 1, 2)
        os.pread(file, PAGE, missing * PAGE)
        assert is_resident(file, 0, SIZE)


def test_a_part_is_judged_by_the_pages_that_it_touches(file: int) -> None:
    os.pread(file, SIZE, 0)
    evict(file, range(32, 33))
    assert is_resident(file, 0, 32 * PAGE) and not is_resident(file, 0, 32 * PAGE + 1)
    assert is_resident(file, 33 * PAGE, SIZE - 33 * PAGE) and not is_resident(file, 33 * PAGE - 1, 100)


def test_what_is_behind_the_end_is_not_in_memory(file: int) -> None:
    os.pread(file, SIZE, 0)
    assert not is_resident(file, 0, SIZE + PAGE)


def test_what_cannot_be_mapped_is_not_in_memory(file: int) -> None:
    ours, theirs = os.pipe()
    assert not is_resident(ours, 0, 1)
    os.close(ours)
    os.close(theirs)


def test_of_a_file_of_somebody_else_nothing_is_believed(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert own_file(file, 0) is None


def test_where_the_kernel_knows_no_nowait_nothing_is_believed(monkeypatch: pytest.MonkeyPatch, file: int) -> None:
    monkeypatch.setattr(resident, "knows_nowait", lambda fd, offset: False)
    assert own_file(file, 0) is None


def test_what_was_seen_is_believed_until_it_is_forgotten_and_what_was_not_is_looked_at(
    tmp_path: Path, file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[int] = []

    def noted(fd: int, offset: int, length: int) -> bool:
        looked_at.append(offset)
        return is_resident(fd, offset, length)

    monkeypatch.setattr(resident, "is_resident", noted)
    looks = Looks()
    os.pread(file, SIZE, 0)
    known = own_file(file, 0)
    assert known is not None and known == (os.fstat(file).st_dev, os.fstat(file).st_ino, SIZE)
    for _ in range(2):
        assert looks.find(known, file, 0, SIZE) and looks.find(known, file, PAGE, 1)
    assert looked_at == [0]
    evict(file, range(3, 4))
    assert looks.find(known, file, 0, SIZE)
    looks.forget()
    assert not looks.find(known, file, 0, SIZE) and not looks.find(known, file, 3 * PAGE, 1)
    assert looks.find(known, file, 0, 3 * PAGE), "the block is not all there, but all that is asked for"
    os.pread(file, PAGE, 3 * PAGE)
    assert looks.find(known, file, 0, SIZE), "a block that was not there is looked at again"


def test_blocks_are_looked_at_once_together_and_not_remembered_without_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[tuple[int, int]] = []

    def noted(fd: int, offset: int, length: int) -> bool:
        looked_at.append((offset, length))
        return True

    monkeypatch.setattr(resident, "is_resident", noted)
    monkeypatch.setattr(resident, "MOST", 3)
    looks = Looks()
    known = OwnFile(1, 2, 4 * BLOCK + 5)
    assert looks.find(known, -1, BLOCK - 1, 2)
    assert looks.find(known, -1, BLOCK, 3 * BLOCK + 5)
    assert looked_at == [(0, 2 * BLOCK), (2 * BLOCK, 2 * BLOCK + 5)]
    assert looks._seen == {known: {0, 1}}
    assert looks.find(known, -1, 3 * BLOCK, 1) and looked_at.pop() == (3 * BLOCK, BLOCK)
    assert looks.find(OwnFile(1, 3, BLOCK), -1, 0, 1) and looked_at[-1] == (0, BLOCK)
    assert looks._seen == {known: {0, 1, 3}}


def test_no_mapping_stays(file: int) -> None:
    before = Path("/proc/self/maps").read_text().count("/file\n")
    for _ in range(3):
        is_resident(file, 0, SIZE)
    assert Path("/proc/self/maps").read_text().count("/file\n") == before
