"""Directories as a client meets them: redirects, indexes, and listings whose every name leads to its file."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest

from harness import DEADLINE, Server, Shell
from webclient import ask, exchange, read_reply, request

ODD_NAMES = [
    b"plain",
    b" leading and trailing ",
    b"<script>alert(1)<b>",
    b"\"quotes'&amp;",
    b"new\nline\r\n\ttab",
    b"\x01\x1b[31m\x7f",
    b"\xff\xfe not utf-8",
    "ü雪😀\u202e".encode(),
    b"%41",
    b"%2e%2e",
    b"q?x#y;z",
    b"back\\slash",
    b"javascript:alert(1)",
    b"http:example",
    b"-rf",
    b"*",
    b"~",
    b"x..",
    b"n" * 255,
    bytes(byte for byte in range(1, 256) if byte not in b"/."),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("directories")
    root = base / "site"
    for name in (b"sub/inner", b"empty", b"indexed", b"odd", b"index-is-a-directory/index.html", *ODD_DIRECTORIES):
        os.makedirs(os.fsencode(root) + b"/" + name)
    (root / "indexed" / "index.html").write_text("<p>index")
    (root / "indexed" / "other.txt").write_text("other")
    (root / "sub" / "file.txt").write_text("file")
    for number, name in enumerate(ODD_NAMES):
        (root / "odd" / os.fsdecode(name)).write_text(str(number))
        (root / "sub" / "inner" / os.fsdecode(name)).mkdir()
        (root / "sub" / "inner" / os.fsdecode(name) / "file").write_text(str(number))
    (root / "sub" / ".hidden").write_text("hidden")
    os.mkfifo(root / "sub" / "fifo")
    (root / "sub" / "link").symlink_to("file.txt")
    (root / "sub" / "link-to-directory").symlink_to("inner")
    (root / "sub" / "broken").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "sub" / "socket"))
    return root


ODD_DIRECTORIES = (b"evil.example", b"a b?c%41", b"\r\nSet-Cookie: x", b"\\evil.example", b"http:")


class Links(HTMLParser):
    """The links of a page, as a browser reads them, and the text of each."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self.tags: set[str] = set()
        self._href: str | None = None
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a link."""
        self.tags.add(tag)
        self._href = dict(attrs).get("href") if tag == "a" else None
        if self._href is not None:
            self.found[self._href] = ""

    def handle_data(self, data: str) -> None:
        """Note the text of a link."""
        if self._href is not None:
            self.found[self._href] += data

    def handle_endtag(self, tag: str) -> None:
        """The end of a link."""
        self._href = None


# Redirects


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/sub", "/sub/"),
        ("/sub?", "/sub/?"),
        ("/sub?a=b%20c&d=/../?e", "/sub/?a=b%20c&d=/../?e"),
        ("/sub/inner", "/sub/inner/"),
        ("/%73ub", "/sub/"),
        ("/empty/../sub", "/sub/"),
        ("http://elsewhere.example/sub?q", "/sub/?q"),
        ("//evil.example", "/evil.example/"),
        ("///evil.example?x", "/evil.example/?x"),
        ("/.//evil.example", "/evil.example/"),
        ("/%2e/%2fevil.example", None),
        ("/\\evil.example", "/%5Cevil.example/"),
        ("/%5cevil.example", "/%5Cevil.example/"),
        ("/http:", "/http%3A/"),
        ("/a%20b%3fc%2541", "/a%20b%3Fc%2541/"),
        ("/%0d%0aSet-Cookie:%20x", "/%0D%0ASet-Cookie%3A%20x/"),
        ('/sub?\\"<>|{}', "/sub/?%5C%22%3C%3E%7C%7B%7D"),
    ],
)
def test_a_directory_without_its_slash_is_redirected_within_the_site(
    server: Server, target: str, location: str | None
) -> None:
    with server.connect() as peer:
        for method in ("GET", "HEAD"):
            reply = exchange(peer, target, method=method)
            assert (reply.status, reply.fields.get("location")) == (308 if location else 404, location)


def test_only_the_name_of_a_directory_may_end_in_a_slash(server: Server) -> None:
    with server.connect() as peer:
        for target in ("/sub/file.txt/", "/sub/file.txt/.", "/sub/file.txt/../file.txt/", "/sub/file.txt//"):
            assert exchange(peer, target).status == 404
        for target in ("/sub/.", "/sub/inner/..", "/sub//", "/indexed/other.txt/.."):
            assert exchange(peer, target).status == 200


# Index and listing


def test_an_index_is_what_its_directory_says(server: Server) -> None:
    with server.connect() as peer:
        index = exchange(peer, "/indexed/")
        assert (index.body, index.fields["content-type"]) == (b"<p>index", "text/html; charset=utf-8")
        assert exchange(peer, "/indexed/", f"If-None-Match: {index.fields['etag']}").status == 304
        assert exchange(peer, "/indexed/", "Range: bytes=0-2").body == b"<p>"
        assert exchange(peer, "/index-is-a-directory/").body.startswith(b"<!DOCTYPE html>")


def test_a_listing_shows_what_would_be_served_and_no_more(server: Server) -> None:
    assert list(Links(ask(server, "/sub/").body).found) == ["../", "inner/", "file.txt"]
    assert list(Links(ask(server, "/empty/").body).found) == ["../"]
    assert "../" not in Links(ask(server, "/").body).found


def test_a_listing_is_never_old_and_claims_no_validator(shell: Shell, tmp_path: Path) -> None:
    with shell.server("websrv", tmp_path, role="") as server, server.connect() as peer:
        for number in range(5):
            (tmp_path / f"{number}.txt").write_text("")
            page = exchange(peer, "/", 'If-None-Match: "x"', "Range: bytes=0-0", "Accept-Encoding: gzip")
            assert page.status == 200 and len(Links(page.body).found) == number + 1
            assert not {"etag", "last-modified", "accept-ranges", "content-encoding"} & page.fields.keys()
            told = exchange(peer, "/", method="HEAD")
            assert told.fields["content-length"] == str(len(page.body))


@pytest.mark.parametrize("directory", ["/odd/", "/sub/inner/"])
def test_every_name_leads_where_it_says_and_is_shown_as_text(server: Server, directory: str) -> None:
    with server.connect() as peer:
        page = exchange(peer, directory).body
        links = Links(page)
        found = {href: text for href, text in links.found.items() if href != "../"}
        assert "script" not in links.tags and len(found) == len(ODD_NAMES)
        bodies = set()
        for href, text in found.items():
            url = urlsplit(urljoin(f"http://localhost{directory}", href))
            assert url.netloc == "localhost" and not url.query and not url.fragment
            assert text.isprintable() and "\u202e" not in text
            bodies.add(exchange(peer, url.path + ("file" if directory == "/sub/inner/" else "")).body)
    assert bodies == {str(number).encode() for number in range(len(ODD_NAMES))}


def test_the_title_of_a_listing_is_text_too(server: Server) -> None:
    with server.connect() as peer:
        for href in Links(exchange(peer, "/sub/inner/").body).found.keys() - {"../"}:
            links = Links(exchange(peer, f"/sub/inner/{href}").body)
            assert list(links.found) == ["../", "file"] and not links.tags & {"script", "b"}


def test_without_listings_only_an_index_is_shown(shell: Shell, site: Path) -> None:
    with shell.server("websrv", site, "--no-listing", role="") as server, server.connect() as peer:
        assert exchange(peer, "/indexed/").body == b"<p>index"
        assert exchange(peer, "/sub").status == 308
        for target in ("/", "/sub/", "/empty/", "/index-is-a-directory/"):
            missing = exchange(peer, target)
            assert missing.status == 404 and b"href" not in missing.body
        assert exchange(peer, "/sub/file.txt").body == b"file"


def test_a_listing_shows_links_and_dotfiles_where_they_are_served(shell: Shell, site: Path) -> None:
    options = ("--follow-symlinks", "--dotfiles")
    with shell.server("websrv", site, *options, role="") as server, server.connect() as peer:
        links = list(Links(exchange(peer, "/sub/").body).found)
        assert links == ["../", "inner/", "link-to-directory/", ".hidden", "file.txt", "link"]
        assert {exchange(peer, f"/sub/{link}").status for link in links} == {200}
        assert exchange(peer, "/sub/link-to-directory").fields["location"] == "/sub/link-to-directory/"


def test_many_listings_and_files_in_one_packet_keep_their_order(server: Server) -> None:
    targets = ["/sub/", "/sub/file.txt", "/sub", "/missing", "/empty/", "/indexed/"] * 10
    with server.connect() as peer:
        peer.sendall(b"".join(map(request, targets)))
        assert [read_reply(peer).status for _ in targets] == [200, 200, 308, 404, 200, 200] * 10


@pytest.mark.skipif(shutil.which("wget") is None, reason="wget is not installed")
def test_wget_mirrors_a_tree_byte_for_byte(shell: Shell, tmp_path: Path) -> None:
    tree, copy = tmp_path / "tree", tmp_path / "copy"
    files = {"a.bin": os.urandom(700_000), "one/b c.txt": b"text", "one/two/ü ?.html": b"<p>", "one/empty": b""}
    for name, body in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(body)
    with shell.server("websrv", tree, role="") as server:
        url = f"http://{server.host}:{server.port}/"
        options = ["-q", "-r", "-nH", "--no-parent", "--restrict-file-names=nocontrol", "-P", str(copy)]
        settings = {**os.environ, "LC_ALL": "C.UTF-8"}
        subprocess.run(["wget", *options, url], check=True, timeout=DEADLINE, env=settings)
    assert {name: (copy / name).read_bytes() for name in files} == files
