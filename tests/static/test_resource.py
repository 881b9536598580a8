"""From a request target to what is on the disk, in trees that were built to trick it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from aiolsp.http1.target import parse_target
from aiolsp.static.policy import Policy
from aiolsp.static.representation import Wanted
from aiolsp.static.resource import DocumentRoot
from loading import HTML, SECRET, field, load

pytestmark = pytest.mark.usefixtures("no_descriptor_leaks")


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
