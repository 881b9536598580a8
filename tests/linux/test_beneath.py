"""Names from strangers, on a disk that strangers may write to: nothing outside the root is ever opened."""

from __future__ import annotations

import errno
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiolsp.linux.beneath import Exhausted, open_beneath

SECRET = b"outside"
FILE_NAME = st.binary(min_size=1, max_size=255).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "secret").write_bytes(SECRET)
    return directory


@pytest.fixture
def site(tmp_path: Path, outside: Path) -> Path:
    directory = tmp_path / "site"
    (directory / "sub" / "deep").mkdir(parents=True)
    (directory / "file").write_bytes(b"inside")
    (directory / "sub" / "deep" / "file").write_bytes(b"deep inside")
    return directory


@pytest.fixture
def root(site: Path) -> Iterator[int]:
    fd = os.open(site, os.O_RDONLY | os.O_DIRECTORY)
    before = descriptors()
    yield fd
    assert descriptors() == before
    os.close(fd)


def descriptors() -> list[str]:
    return os.listdir("/proc/self/fd")


def content(root: int, *segments: bytes, follow_symlinks: bool = False) -> bytes:
    opened = open_beneath(root, segments, follow_symlinks=follow_symlinks)
    try:
        assert not opened.is_directory
        return os.pread(opened.fd, 100, 0)
    finally:
        os.close(opened.fd)


def test_what_is_known_by_its_status_is_looked_at_and_not_opened(root: int, site: Path) -> None:
    inode = (site / "file").stat().st_ino
    known = open_beneath(root, [b"file"], unless=lambda status: status.st_ino == inode)
    assert known.fd == -1 and known.status.st_ino == inode
    other = open_beneath(root, [b"sub", b"deep", b"file"], unless=lambda status: status.st_ino == inode)
    assert os.pread(other.fd, 100, 0) == b"deep inside"
    for opened in (known, other):
        opened.close()


@pytest.mark.parametrize("follow_symlinks", [False, True])
def test_a_file_is_opened_at_any_depth(root: int, follow_symlinks: bool) -> None:
    assert content(root, b"file", follow_symlinks=follow_symlinks) == b"inside"
    assert content(root, b"sub", b"deep", b"file", follow_symlinks=follow_symlinks) == b"deep inside"


@pytest.mark.parametrize("segments", [(), (b"sub",), (b"sub", b"deep")])
def test_a_directory_is_opened_to_be_listed(root: int, segments: tuple[bytes, ...]) -> None:
    opened = open_beneath(root, segments)
    assert opened.is_directory
    assert os.listdir(opened.fd)
    os.close(opened.fd)


def test_the_status_and_the_descriptor_are_of_one_file(root: int, site: Path) -> None:
    opened = open_beneath(root, (b"file",))
    assert os.path.samestat(opened.status, os.fstat(opened.fd))
    assert not os.get_inheritable(opened.fd)
    os.close(opened.fd)


@pytest.mark.parametrize("follow_symlinks", [False, True])
@pytest.mark.parametrize(
    "segments",
    [
        (b"nothing",),
        (b"nothing", b"file"),
        (b"file", b"file"),
        (b"..",),
        (b"..", b"outside", b"secret"),
        (b"sub", b"..", b"..", b"outside", b"secret"),
        (b".",),
        (b"",),
        (b"", b"file"),
        (b"../outside/secret",),
        (b"sub/../../outside/secret",),
        (b"/etc/passwd",),
        (b"..\\outside\\secret",),
        (b"file\0",),
        (b"%2e%2e", b"outside", b"secret"),
        (b"x" * 256,),
        (b"x" * 5000,),
        (b"sub",) * 3000,
    ],
)
def test_a_name_that_leads_nowhere_is_missing(root: int, segments: tuple[bytes, ...], follow_symlinks: bool) -> None:
    with pytest.raises(FileNotFoundError):
        open_beneath(root, segments, follow_symlinks=follow_symlinks)


@pytest.mark.parametrize(
    ("link", "leads_to", "segments", "followed"),
    [
        ("link", "file", (b"link",), b"inside"),
        ("link", "../outside/secret", (b"link",), SECRET),
        ("link", "{outside}/secret", (b"link",), SECRET),
        ("link", "sub", (b"link", b"deep", b"file"), b"deep inside"),
        ("sub/link", "../../outside", (b"sub", b"link", b"secret"), SECRET),
        ("link", ".", (b"link", b"file"), b"inside"),
    ],
)
def test_a_link_is_followed_only_if_allowed(
    root: int, site: Path, outside: Path, link: str, leads_to: str, segments: tuple[bytes, ...], followed: bytes
) -> None:
    (site / link).symlink_to(leads_to.format(outside=outside))
    with pytest.raises(FileNotFoundError):
        open_beneath(root, segments)
    assert content(root, *segments, follow_symlinks=True) == followed


@pytest.mark.parametrize("follow_symlinks", [False, True])
@pytest.mark.parametrize("leads_to", ["loop", "nothing", "/proc/self/fd/0/x"])
def test_a_link_in_a_circle_or_to_nothing_is_missing(
    root: int, site: Path, leads_to: str, follow_symlinks: bool
) -> None:
    (site / "loop").symlink_to(leads_to)
    for segments in ((b"loop",), (b"loop", b"file")):
        with pytest.raises(FileNotFoundError):
            open_beneath(root, segments, follow_symlinks=follow_symlinks)


@pytest.mark.parametrize("follow_symlinks", [False, True])
def test_what_is_no_file_is_not_opened(root: int, site: Path, follow_symlinks: bool) -> None:
    os.mkfifo(site / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(site / "socket"))
        names = [b"fifo", b"socket"]
        if os.geteuid() == 0:
            os.mknod(site / "null", 0o666 | 0o020000, os.makedev(1, 3))
            names.append(b"null")
        for name in names:
            with pytest.raises(FileNotFoundError):  # and at once: the fifo has no writer
                open_beneath(root, (name,), follow_symlinks=follow_symlinks)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILE_NAME)
def test_any_bytes_can_be_a_name(root: int, site: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(site / "sub"), name)
    if name == b"deep":
        return
    with open(path, "wb") as file:
        file.write(name)
    try:
        assert content(root, b"sub", name) == name[:100]
    finally:
        os.unlink(path)


@pytest.mark.parametrize("segments", [(b"swapped",), (b"swapped", b"secret")])
def test_a_swap_between_check_and_open_gives_nothing_away(
    root: int, site: Path, outside: Path, segments: tuple[bytes, ...]
) -> None:
    """A thread makes the name a file, then a link out of the root, as fast as it can."""
    inside = site / "sub"
    if len(segments) == 1:
        (inside / "good").write_bytes(b"inside")
        (inside / "evil").symlink_to(outside / "secret")
    else:
        (inside / "good").mkdir()
        (inside / "good" / "secret").write_bytes(b"inside")
        (inside / "evil").symlink_to(outside)
    swapped = site / "swapped"
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for name in ("good", "evil"):
                (inside / name).rename(swapped)
                swapped.rename(inside / name)

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen: set[bytes] = set()
    try:
        for attempt in range(200_000):
            if attempt >= 2000 and b"inside" in seen:
                break
            try:
                seen.add(content(root, *segments))
            except FileNotFoundError:
                continue
    finally:
        stop.set()
        swapper.join()
    assert seen == {b"inside"}


@pytest.fixture
def hogs() -> Iterator[list[int]]:
    """Descriptors that leave no other: close some to have as many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    taken: list[int] = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError as error:
        assert error.errno == errno.EMFILE
    try:
        yield taken
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_want_of_descriptors_is_told_apart_wherever_it_strikes(root: int, hogs: list[int]) -> None:
    # With each one more it strikes at a later call: the first directory, the second, the read.
    for _ in range(2):
        with pytest.raises(Exhausted):
            open_beneath(root, (b"sub", b"deep", b"file"))
        os.close(hogs.pop())
    assert content(root, b"sub", b"deep", b"file") == b"deep inside"


def test_what_may_not_be_read_is_refused(site: Path) -> None:
    """In a process without root's rights: root may read everything."""
    (site / "sub" / "file").write_bytes(b"")
    (site / "sub" / "file").chmod(0)
    (site / "sub" / "deep").chmod(0)
    child = f"""
import os
root = os.open({str(site)!r}, os.O_RDONLY)
from aiolsp.linux.beneath import open_beneath
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for segments in ((b"sub", b"file"), (b"sub", b"deep"), (b"sub", b"deep", b"file")):
    try:
        open_beneath(root, segments)
    except PermissionError as error:
        print("refused", error.filename)
"""
    ran = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["refused None"] * 3


def test_an_error_names_no_file(root: int) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        open_beneath(root, (b"nothing",))
    assert caught.value.filename is None
    assert "nothing" not in str(caught.value)
