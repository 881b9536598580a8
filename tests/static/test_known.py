"""What a document root answers without waiting for a disk, and what it finds again of what it knows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from aiolsp.http1.target import parse_target
from aiolsp.linux import cached, directories
from aiolsp.linux.cached import NotCached
from aiolsp.static import resource as resource_module
from aiolsp.static.policy import Policy
from aiolsp.static.representation import Outline, Resource, Wanted
from aiolsp.static.resource import DocumentRoot
from faults import wait_until
from loading import HTML, wanted

pytestmark = pytest.mark.usefixtures("no_descriptor_leaks")


def parts(resource: Resource) -> list[object]:
    """All that there is to *resource*."""
    whole = (resource, Resource.__slots__), (resource.outline, Outline.__slots__)
    return [getattr(part, name) for part, names in whole for name in names if name != "outline"]


@pytest.mark.parametrize("small", [2, 1 << 20])
@pytest.mark.parametrize(
    "raw", [b"/file.txt", b"/sub/page.html", b"/sub", b"/missing", b"/sub/", b"/link", b"/file.txt/", b"/.x", b"/%2F"]
)
def test_without_waiting_the_answer_is_the_same_or_none(site: Path, raw: bytes, small: int) -> None:
    (site / "sub" / "index.html").write_bytes(b"index")
    (site / "sub" / "page.html.br").write_bytes(b"brotli")
    (site / "404.html").write_bytes(b"not here")
    (site / "link").symlink_to("file.txt")
    target = parse_target(raw)
    assert target is not None
    wanted = Wanted(target, b"gzip, br")
    root = DocumentRoot(str(site), Policy(), small=small)
    try:
        assert root.load_cached(wanted) is None, "nothing is known of the file system yet"
        waited, other, at_once = root.load(wanted), root.load(Wanted(target)), root.load_cached(wanted)
        for resource in (waited, other, at_once):
            if resource is not None:
                resource.close()
        assert at_once is None or parts(at_once) == parts(waited)
    finally:
        root.close()


def test_the_first_file_tells_whether_the_next_is_answered_without_waiting(site: Path) -> None:
    with open(site / "file.txt") as file:
        can = cached.knows_nowait(file.fileno())
    root = DocumentRoot(str(site), Policy(), small=1 << 20)
    root.load(wanted(b"/file.txt")).close()
    if can:
        wait_until(lambda: root.load_cached(wanted(b"/file.txt")) is not None, "an answer without a wait")
    else:
        assert root.load_cached(wanted(b"/file.txt")) is None
    root.close()


@pytest.mark.parametrize("look_always", [False, True])
def test_a_site_that_is_made_anew_is_the_one_that_is_served_when_what_is_known_is_forgotten(
    site: Path, look_always: bool
) -> None:
    root = DocumentRoot(str(site), Policy(), small=100, look_always=look_always)
    before = root.load(wanted(b"/file.txt")).body
    site.rename(site.with_name("kept"))
    site.mkdir()
    (site / "file.txt").write_bytes(b"of the new site")
    if not look_always:
        assert root.load(wanted(b"/file.txt")).body == before
        root.forget()
        assert root.load_cached(wanted(b"/file.txt")) is None
    assert root.load(wanted(b"/file.txt")).body == b"of the new site"
    root.close()


def test_without_waiting_no_directory_is_listed(site: Path) -> None:
    target = parse_target(b"/sub/")
    assert target is not None
    root = DocumentRoot(str(site), Policy(listing=True))
    assert root.load(Wanted(target)).outline.status == 200
    assert root.load_cached(Wanted(target)) is None
    root.close()


@pytest.mark.parametrize("name", [b"page.html", b"page.html.br", b"page.html.zst"])
def test_whatever_is_not_in_memory_nothing_is_answered_and_nothing_stays_open(
    site: Path, monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    for suffix in (".gz", ".br"):
        (site / "sub" / f"page.html{suffix}").write_bytes(b"short")
    target = parse_target(b"/sub/page.html")
    assert target is not None
    wanted = Wanted(target, b"gzip, br, zstd")
    root = DocumentRoot(str(site), Policy(), small=100)
    known = root.load(wanted)
    look_up, is_missing = cached.look_up, cached.is_missing

    def look(fd: int, path: bytes, follow_symlinks: bool) -> int:
        if path.endswith(b"/" + name):
            raise NotCached
        return look_up(fd, path, follow_symlinks)

    with monkeypatch.context() as patched:
        patched.setattr(resource_module._CachedRoot, "_look_up", staticmethod(look))
        patched.setattr(cached, "is_missing", lambda fd, path, _: not path.endswith(name) and is_missing(fd, path, _))
        assert root.load_cached(wanted, known) is None
    if root._cached is not None:
        assert root.load_cached(wanted, known) is known
    root.close()


def load_again(root: DocumentRoot, wanted: Wanted, known: Resource) -> list[Resource]:
    """What is loaded, knowing *known*: where waiting is allowed and, if the disk can do without, where it is not."""
    loaded = [root.load(wanted, known), root.load_cached(wanted, known)]
    return [resource for resource in loaded if resource is not None]


@pytest.mark.parametrize("accept_encoding", [None, b"gzip", b"br", b"identity, gzip;q=0.5"])
def test_what_is_known_and_unchanged_is_not_opened_again(
    site: Path, monkeypatch: pytest.MonkeyPatch, accept_encoding: bytes | None
) -> None:
    (site / "sub" / "page.html.gz").write_bytes(b"gzip")
    target = parse_target(b"/sub/page.html")
    assert target is not None
    wanted = Wanted(target, accept_encoding)
    root = DocumentRoot(str(site), Policy(), small=100)
    known = root.load(wanted)
    opened: list[Path] = []
    open_file = os.open

    def watched(path: str | bytes, flags: int, **more: int) -> int:
        fd = open_file(path, flags, **more)
        if not flags & os.O_PATH:
            opened.append(Path(os.readlink(f"/proc/self/fd/{fd}")))
        return fd

    monkeypatch.setattr("os.open", watched)
    assert all(resource is known for resource in load_again(root, wanted, known))
    assert site / "sub" / ("page.html.gz" if accept_encoding == b"gzip" else "page.html") not in opened
    other = Wanted(target, b"gzip" if accept_encoding != b"gzip" else None)
    for resource in load_again(root, other, known):
        assert resource.body == (b"gzip" if accept_encoding != b"gzip" else b"<p>")
    root.close()


@pytest.mark.parametrize("change", ["mode", "written", "rewritten", "replaced", "given a second name"])
def test_what_has_changed_in_any_way_is_looked_at_again(site: Path, change: str) -> None:
    target = parse_target(b"/file.txt")
    assert target is not None
    wanted = Wanted(target)
    root = DocumentRoot(str(site), Policy(), small=100)
    known = root.load(wanted)
    path = site / "file.txt"
    was = path.stat()
    while path.stat().st_ctime_ns == was.st_ctime_ns:  # the clock of a file system has coarse ticks
        match change:
            case "mode":
                path.chmod(0o600)
            case "written":
                path.write_bytes(b"longer than before")
            case "rewritten":
                path.write_bytes(b"edisni")
                os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
            case "replaced":
                (site / "new").write_bytes(b"edisni")
                (site / "new").rename(path)
            case _:
                (site / "second").unlink(missing_ok=True)
                (site / "second").hardlink_to(path)
    for resource in load_again(root, wanted, known):
        assert resource is not known and resource.body == path.read_bytes()
    root.close()


@pytest.fixture
def known_root(site: Path) -> Iterator[DocumentRoot]:
    """A root that knows of its file system."""
    root = DocumentRoot(str(site), Policy(), small=100)
    root.load(wanted(b"/file.txt"))
    if root._cached is None:
        root.close()
        pytest.skip("the file system of temporary files knows no RWF_NOWAIT")
    yield root
    root.close()


@pytest.mark.parametrize("accept_encoding", [None, b"gzip, br"])
@pytest.mark.parametrize("raw", [b"/file.txt", b"/sub/", b"/large"])
def test_what_is_known_is_found_again_by_its_name_alone(
    site: Path, known_root: DocumentRoot, raw: bytes, accept_encoding: bytes | None
) -> None:
    (site / "sub" / "index.html").write_bytes(b"index")
    (site / "large").write_bytes(bytes(101))
    found = known_root.load(wanted(raw, accept_encoding))
    if found.body is not None:
        assert known_root.still_has(found.outline)
    again = known_root.load_again(found.outline)
    assert again is not None and again.outline is found.outline
    assert (again.body, again.keepable) == (found.body, found.keepable)
    assert (again.fd >= 0) == (found.fd >= 0) == (raw == b"/large")
    again.close()
    found.close()


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("change", ["written", "replaced", "gone", "fifo", "directory", "link", "mode", "compressed"])
def test_what_has_changed_since_is_not_found_again(
    site: Path, known_root: DocumentRoot, change: str, small: bool
) -> None:
    path = site / "file.txt"
    if not small:
        path.write_bytes(bytes(101))
    found = known_root.load(wanted(b"/file.txt", b"gzip"))
    found.close()
    if change == "compressed":
        (site / "file.txt.gz").write_bytes(b"gzip")
    elif change == "mode":
        path.chmod(0o600)
    elif change == "written":
        with open(path, "r+b") as file:
            file.write(b"INSIDE")
    else:
        path.unlink()
        became: dict[str, Callable[[], object]] = {
            "replaced": lambda: path.write_bytes(bytes(found.outline.size)),
            "gone": lambda: None,
            "fifo": lambda: os.mkfifo(path),
            "directory": path.mkdir,
            "link": lambda: path.symlink_to("../secret"),
        }
        became[change]()
    assert not known_root.still_has(found.outline)
    assert known_root.load_again(found.outline) is None


def test_a_file_that_changes_while_it_is_read_again_is_not_sent(
    site: Path, known_root: DocumentRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    outline = known_root.load(wanted(b"/file.txt")).outline
    real = cached.read

    def read(fd: int, size: int, offset: int) -> bytes:
        data = real(fd, size, offset)
        (site / "file.txt").write_bytes(b"INSIDE")
        return data

    monkeypatch.setattr(cached, "read", read)
    assert known_root.load_again(outline) is None


def test_a_page_that_stands_in_for_another_is_not_found_again(site: Path) -> None:
    (site / "index.html").write_bytes(b"app")
    root = DocumentRoot(str(site), Policy(spa=True), small=100)
    target = parse_target(b"/deep/link")
    assert target is not None
    page = root.load(Wanted(target, None, HTML))
    assert page.body == b"app" and root.load_again(page.outline) is None
    assert not root.still_has(page.outline)
    root.close()


@pytest.mark.parametrize("look_always", [False, True])
@pytest.mark.parametrize("follow", [False, True])
def test_a_sibling_may_be_missed_until_the_looks_at_directories_are_forgotten(
    site: Path, monkeypatch: pytest.MonkeyPatch, look_always: bool, follow: bool
) -> None:
    monkeypatch.setattr(directories, "SETTLED", 50_000_000)
    (site / "sub" / "page.html.br").symlink_to("../nothing")
    root = DocumentRoot(str(site), Policy(follow_symlinks=follow), small=100, look_always=look_always)
    asked = wanted(b"/sub/page.html", b"gzip, br" if follow else b"gzip")
    outline = root.load(asked).outline
    if root._cached is None:
        root.close()
        pytest.skip("the file system of temporary files knows no RWF_NOWAIT")

    def has_again() -> bool:
        return root.load_again(outline) is not None

    def looks() -> bool:
        root.forget()
        wait_until(has_again, "an answer without a wait")
        return outline.alone_in is not None

    shared = not look_always and not follow
    if shared:
        wait_until(looks, "a settled directory")
    assert looks() is shared
    sibling = "page.html.gz" if not follow else "../nothing"
    (site / "sub" / sibling).write_bytes(b"compressed")
    for known in (has_again, partial(root.still_has, outline)):
        if shared:
            wait_until(known, "an answer without a wait")
        else:
            assert not known()
    root.forget()
    assert root.load_again(outline) is None
    assert not root.still_has(outline)
    assert root.load(asked).body == b"compressed"
    root.close()
