"""From a request target to what is on the disk, in trees that were built to trick it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
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

SECRET = b"outside"
HTML = b"text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    directory = tmp_path / "site"
    (directory / "sub").mkdir(parents=True)
    (directory / "file.txt").write_bytes(b"inside")
    (directory / "sub" / "page.html").write_bytes(b"<p>")
    (tmp_path / "secret").write_bytes(SECRET)
    return directory


@pytest.fixture(autouse=True)
def no_descriptor_leaks() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before


def load(
    site: Path,
    raw: bytes,
    policy: Policy | None = None,
    *,
    small: int = 1 << 20,
    accept_encoding: bytes | None = None,
    accept: bytes | None = None,
) -> Resource:
    """One load from a root of its own, with what it opened closed again."""
    target = parse_target(raw)
    assert target is not None
    root = DocumentRoot(str(site), policy or Policy(), small=small)
    try:
        resource = root.load(Wanted(target, accept_encoding, accept))
        resource.close()
        return resource
    finally:
        root.close()


def field(resource: Resource, name: bytes) -> bytes | None:
    values = [value for given, value in resource.outline.fields if given == name]
    assert len(values) <= 1
    return values[0] if values else None


def test_a_file_is_described_and_read(site: Path) -> None:
    resource = load(site, b"/file.txt?v=1")
    assert (resource.outline.status, resource.body, resource.keepable) == (200, b"inside", True)
    assert field(resource, b"Content-Type") == b"text/plain; charset=utf-8"
    assert field(resource, b"X-Content-Type-Options") == b"nosniff"
    assert field(resource, b"Accept-Ranges") == b"bytes"
    assert field(resource, b"Vary") == b"Accept-Encoding"
    assert field(resource, b"ETag") is not None
    assert field(resource, b"Last-Modified") is not None


def test_a_large_file_is_opened_and_not_read(site: Path) -> None:
    target = parse_target(b"/file.txt")
    assert target is not None
    root = DocumentRoot(str(site), Policy(), small=5)
    resource = root.load(Wanted(target))
    assert resource.body is None
    assert not resource.keepable
    assert os.pread(resource.fd, 10, 0) == b"inside"
    resource.close()
    root.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"/../secret",
        b"/sub/../../secret",
        b"/%2e%2e/secret",
        b"/%252e%252e/secret",
        b"/sub/%2e%2e%2f%2e%2e%2fsecret",
        b"/..%5csecret",
        b"/..\\secret",
        b"/%2fetc/passwd",
        b"/sub%2fpage.html",
        b"/file.txt/",
        b"/file.txt/.",
        b"/file.txt/x",
        b"/" + b"x" * 300,
        b"/link",
        b"/link-absolute",
        b"/link-inside",
        b"/link-directory/secret",
        b"/loop",
        b"/fifo",
        b"/socket",
        b"/.hidden",
        b"/.hidden-directory/file",
        b"/sub/.hidden",
    ],
)
def test_what_is_not_served_does_not_exist(site: Path, tmp_path: Path, raw: bytes) -> None:
    (site / "link").symlink_to("../secret")
    (site / "link-absolute").symlink_to(tmp_path / "secret")
    (site / "link-inside").symlink_to("file.txt")
    (site / "link-directory").symlink_to("..")
    (site / "loop").symlink_to("loop")
    os.mkfifo(site / "fifo")
    (site / ".hidden-directory").mkdir()
    for name in (".hidden", ".hidden-directory/file", "sub/.hidden"):
        (site / name).write_bytes(SECRET)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(site / "socket"))
        resource = load(site, raw)
    assert resource.outline.status == 404
    assert resource.body is not None
    assert SECRET not in resource.body
    assert os.fsencode(tmp_path) not in resource.body
    assert not resource.keepable


def test_dot_files_and_links_are_served_when_allowed(site: Path) -> None:
    (site / ".hidden").write_bytes(b"dot")
    (site / "link").symlink_to("../secret")
    assert load(site, b"/.hidden", Policy(dotfiles=True)).body == b"dot"
    assert load(site, b"/link", Policy(follow_symlinks=True)).body == SECRET


def test_well_known_files_are_served(site: Path) -> None:
    (site / ".well-known").mkdir()
    (site / ".well-known" / "security.txt").write_bytes(b"Contact:")
    assert load(site, b"/.well-known/security.txt").body == b"Contact:"


def test_a_directory_without_its_slash_is_redirected_with_its_query(site: Path) -> None:
    resource = load(site, b"/sub?a=b")
    assert resource.outline.status == 308
    assert field(resource, b"Location") == b"/sub/?a=b"


@pytest.mark.parametrize("raw", [b"//host", b"//host%2f..", b"/%2fhost", b"/\\host", b"/%0d%0aX:1"])
def test_a_redirect_never_leaves_the_site(site: Path, raw: bytes) -> None:
    for name in ("host", "\\host", "\r\nX:1"):
        (site / name).mkdir()
    resource = load(site, raw)
    location = field(resource, b"Location")
    assert resource.outline.status == (404 if b"%2f" in raw else 308)
    assert location is None or (not location.startswith((b"//", b"/\\")) and b"\r" not in location)


def test_only_a_page_that_its_target_alone_decides_may_be_repeated(site: Path) -> None:
    assert load(site, b"/nothing").repeatable and load(site, b"/sub").repeatable
    assert not load(site, b"/nothing", Policy(spa=True)).repeatable, "Accept decides too"
    assert not load(site, b"/sub/").repeatable and not load(site, b"/file.txt").repeatable


def test_a_directory_is_its_index_or_its_listing_or_nothing(site: Path) -> None:
    resource = load(site, b"/sub/")
    assert resource.outline.status == 200
    assert b'href="page.html"' in (resource.body or b"")
    assert field(resource, b"ETag") is None
    assert not resource.keepable
    assert load(site, b"/sub/", Policy(listing=False)).outline.status == 404
    (site / "sub" / "index.html").write_bytes(b"index")
    assert load(site, b"/sub/").body == b"index"
    assert load(site, b"/sub/", Policy(listing=False)).body == b"index"


@pytest.mark.parametrize("kind", ["directory", "fifo", "link"])
def test_an_index_that_is_no_file_is_none(site: Path, kind: str) -> None:
    index = site / "sub" / "index.html"
    if kind == "directory":
        index.mkdir()
    elif kind == "fifo":
        os.mkfifo(index)
    else:
        index.symlink_to("../../secret")
    resource = load(site, b"/sub/")
    assert b'href="page.html"' in (resource.body or b"")


@pytest.mark.parametrize(
    ("accept_encoding", "coding", "body"),
    [
        (None, None, b"inside"),
        (b"", None, b"inside"),
        (b"gzip", b"gzip", b"as gzip"),
        (b"gzip, br, zstd", b"br", b"as br"),
        (b"gzip, zstd", b"zstd", b"as zstd"),
        (b"gzip;q=1.0, br;q=0.5", b"gzip", b"as gzip"),
        (b"gzip;q=0, br;q=0, zstd;q=0", None, b"inside"),
        (b"*", b"br", b"as br"),
        (b"deflate", None, b"inside"),
        (b"identity;q=1, gzip;q=0.5", None, b"inside"),
    ],
)
def test_the_sibling_that_the_client_likes_best_is_served(
    site: Path, accept_encoding: bytes | None, coding: bytes | None, body: bytes
) -> None:
    for suffix, name in ((".gz", b"gzip"), (".br", b"br"), (".zst", b"zstd")):
        (site / f"file.txt{suffix}").write_bytes(b"as " + name)
    resource = load(site, b"/file.txt", accept_encoding=accept_encoding)
    assert resource.body == body
    assert resource.outline.size == len(body)
    assert field(resource, b"Content-Encoding") == coding
    assert field(resource, b"Content-Type") == b"text/plain; charset=utf-8"
    assert field(resource, b"Vary") == b"Accept-Encoding"


def test_each_variant_has_a_tag_of_its_own(site: Path) -> None:
    (site / "file.txt.gz").write_bytes(b"as gzip")
    plain, compressed = load(site, b"/file.txt"), load(site, b"/file.txt", accept_encoding=b"gzip")
    assert field(plain, b"ETag") != field(compressed, b"ETag")


def test_a_compressed_file_asked_for_by_name_is_a_file_like_any_other(site: Path) -> None:
    (site / "file.txt.gz").write_bytes(b"as gzip")
    resource = load(site, b"/file.txt.gz", accept_encoding=b"gzip")
    assert resource.body == b"as gzip"
    assert field(resource, b"Content-Type") == b"application/gzip"
    assert field(resource, b"Content-Encoding") is None
    assert field(resource, b"Vary") is None


@pytest.mark.parametrize("kind", ["link", "older", "directory", "fifo"])
def test_a_sibling_obeys_the_rules_of_the_root(site: Path, kind: str) -> None:
    sibling = site / "file.txt.gz"
    if kind == "link":
        sibling.symlink_to("../secret")
    elif kind == "directory":
        sibling.mkdir()
    elif kind == "fifo":
        os.mkfifo(sibling)
    else:
        sibling.write_bytes(b"of an earlier version")
        os.utime(sibling, (1, 1))
    assert load(site, b"/file.txt", accept_encoding=b"gzip").body == b"inside"


def test_a_page_of_the_sites_own_says_404(site: Path) -> None:
    (site / "404.html").write_bytes(b"lost")
    resource = load(site, b"/nothing")
    assert (resource.outline.status, resource.body) == (404, b"lost")
    assert field(resource, b"ETag") is None


def test_an_application_gets_its_page_for_unknown_paths_that_ask_for_html(site: Path) -> None:
    (site / "index.html").write_bytes(b"app")
    spa = Policy(spa=True)
    resource = load(site, b"/deep/link", spa, accept=HTML)
    assert (resource.outline.status, resource.body) == (200, b"app")
    assert load(site, b"/deep/script.js", spa, accept=b"*/*").outline.status == 404
    assert load(site, b"/deep/link", Policy(), accept=HTML).outline.status == 404


@pytest.mark.parametrize("seconds", [-1, 0, 2**33])
def test_no_time_of_a_file_is_too_strange(site: Path, seconds: int) -> None:
    os.utime(site / "file.txt", (seconds, seconds))
    resource = load(site, b"/file.txt")
    assert resource.outline.status == 200
    assert (field(resource, b"Last-Modified") is None) == (seconds > 2**32)
    assert load(site, b"/").outline.status == 200


def test_the_operators_fields_go_out_with_all_there_is(site: Path) -> None:
    policy = Policy(headers=((b"X-Frame-Options", b"DENY"),), cache_control=b"max-age=60", cors=True)
    for raw in (b"/file.txt", b"/nothing", b"/sub", b"/sub/"):
        resource = load(site, raw, policy)
        assert field(resource, b"X-Frame-Options") == b"DENY"
        assert field(resource, b"Access-Control-Allow-Origin") == b"*"
        assert field(resource, b"Cache-Control") == (b"max-age=60" if raw == b"/file.txt" else None)


def test_what_has_not_changed_is_given_back(site: Path) -> None:
    target = parse_target(b"/file.txt")
    assert target is not None
    root = DocumentRoot(str(site), Policy(), small=100)
    wanted = Wanted(target)
    first = root.load(wanted)
    assert root.load(wanted, first) is first
    (site / "new").write_bytes(b"a new one")
    (site / "new").rename(site / "file.txt")
    second = root.load(wanted, first)
    assert second.body == b"a new one"
    (site / "file.txt").unlink()
    assert root.load(wanted, second).outline.status == 404
    root.close()


def test_a_file_that_changes_while_it_is_read_is_not_kept(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pread

    def pread(fd: int, count: int, offset: int) -> bytes:
        os.truncate(site / "file.txt", 3)
        return real(fd, count, offset)

    monkeypatch.setattr("os.pread", pread)
    resource = load(site, b"/file.txt")
    assert resource.body is None
    assert not resource.keepable


def test_want_of_descriptors_is_503(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource as limits

    target = parse_target(b"/file.txt")
    assert target is not None
    root = DocumentRoot(str(site), Policy())
    soft, hard = limits.getrlimit(limits.RLIMIT_NOFILE)
    limits.setrlimit(limits.RLIMIT_NOFILE, (0, hard))
    try:
        assert root.load(Wanted(target)).outline.status == 503
    finally:
        limits.setrlimit(limits.RLIMIT_NOFILE, (soft, hard))
        root.close()


def test_what_may_not_be_read_is_403(site: Path) -> None:
    """In a process without root's rights: root may read everything."""
    (site / "file.txt").chmod(0)
    child = f"""
import os
from aiolsp.http1.target import parse_target
from aiolsp.linux import cached, directories
from aiolsp.linux.cached import NotCached
from aiolsp.static import resource as resource_module
from aiolsp.static.policy import Policy
from aiolsp.static.representation import Wanted
from aiolsp.static.resource import DocumentRoot
root = DocumentRoot({str(site)!r}, Policy())
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(root.load(Wanted(parse_target(b"/file.txt"))).outline.status)
"""
    ran = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert ran.stdout == "403\n"


def test_the_page_of_an_application_is_not_kept_for_a_path_that_may_ask_otherwise(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_bytes(b"app")
    assert not load(tmp_path, b"/unknown.js", Policy(spa=True), accept=b"text/html").keepable
    assert load(tmp_path, b"/", Policy(spa=True), accept=b"text/html").keepable


def test_well_known_counts_in_the_root_only(tmp_path: Path) -> None:
    (tmp_path / "sub" / ".well-known").mkdir(parents=True)
    (tmp_path / "sub" / ".well-known" / "file").write_bytes(b"")
    (tmp_path / ".well-known" / ".git").mkdir(parents=True)
    (tmp_path / ".well-known" / ".git" / "config").write_bytes(b"")
    assert load(tmp_path, b"/sub/.well-known/file", Policy()).outline.status == 404
    assert load(tmp_path, b"/.well-known/.git/config", Policy()).outline.status == 404


@pytest.mark.parametrize("name", ["file", "404.html"])
def test_a_broken_disk_is_an_answer_and_leaks_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).write_bytes(b"x" * (2000 if name == "404.html" else 1))
    before = os.listdir("/proc/self/fd")

    def pread(fd: int, count: int, offset: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.pread", pread)
    assert load(tmp_path, b"/file", Policy()).outline.status == (500 if name == "file" else 404)
    assert os.listdir("/proc/self/fd") == before


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


def wanted(raw: bytes, accept_encoding: bytes | None = None) -> Wanted:
    target = parse_target(raw)
    assert target is not None
    return Wanted(target, accept_encoding)


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

    def looks() -> bool:
        root.forget()
        assert root.load_again(outline) is not None
        return outline.alone_in is not None

    shared = not look_always and not follow
    if shared:
        wait_until(looks, "a settled directory")
    assert looks() is shared
    sibling = "page.html.gz" if not follow else "../nothing"
    (site / "sub" / sibling).write_bytes(b"compressed")
    assert (root.load_again(outline) is not None) is root.still_has(outline) is shared
    root.forget()
    assert root.load_again(outline) is None
    assert not root.still_has(outline)
    assert root.load(asked).body == b"compressed"
    root.close()
