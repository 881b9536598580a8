"""What must never leave: all that is outside the root, hidden, special, or not to be read; and where the files are."""

from __future__ import annotations

import os
import random
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Server, Shell
from webclient import ask, exchange, read_reply, request

BODY = b"what may leave"
SECRET = b"this must never leave"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("outside")
    root = base / "site-of-the-test"
    (base / "secret.txt").write_bytes(SECRET)
    make_files(root)
    make_links(root)
    make_special_files(root)
    return root


def make_files(root: Path) -> None:
    for name in ("sub", ".git", ".well-known"):
        (root / name).mkdir(parents=True)
    (root / "data.bin").write_bytes(BODY)
    (root / "%41").write_text("a percent sign")
    (root / ".hidden").write_bytes(SECRET)
    (root / ".git" / "config").write_bytes(SECRET)
    (root / ".well-known" / "security.txt").write_text("Contact: us")
    for name in ("stale.js", "own.js"):
        (root / name).write_text("plain")
    (root / "stale.js.gz").write_text("older")
    os.utime(root / "stale.js.gz", (1, 1))
    os.utime(root / "own.js", (1, 1))


def make_links(root: Path) -> None:
    (root / "file-link").symlink_to("../secret.txt")
    (root / "inner-link").symlink_to("data.bin")
    (root / "up").symlink_to("..")
    (root / "loop").symlink_to("loop")
    (root / "own.js.gz").symlink_to("../secret.txt")


def make_special_files(root: Path) -> None:
    os.mkfifo(root / "fifo")
    os.mkfifo(root / "stale.js.br")
    (root / "own.js.br").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    if os.geteuid() == 0:
        os.mknod(root / "console", stat.S_IFCHR | 0o666, os.makedev(5, 1))
        os.mknod(root / "disk", stat.S_IFBLK | 0o666, os.makedev(7, 0))


TO_THE_ROOT = ("/%2e%2e", "/..", "/..?/../secret.txt")

OUTSIDE = [
    "/../secret.txt",
    "/sub/../../secret.txt",
    "/sub/../%2e./secret.txt",
    "/.%2e/secret.txt",
    "/%2E%2E/secret.txt",
    "/%2e%2e%2fsecret.txt",
    "/..%2Fsecret.txt",
    "/sub%2f..%2f..%2fsecret.txt",
    "/.%252e/secret.txt",
    "/%252e%252e%252fsecret.txt",
    "/%25252e%25252e/secret.txt",
    "/..%c0%afsecret.txt",
    "/%c0%ae%c0%ae/secret.txt",
    "/%e0%80%ae%e0%80%ae/secret.txt",
    "/%uff0e%uff0e/secret.txt",
    "/..\\secret.txt",
    "/..%5csecret.txt",
    "/sub\\..\\..\\secret.txt",
    "/..;/secret.txt",
    "/..;a=b/secret.txt",
    "/.../secret.txt",
    "/..../secret.txt",
    "//../secret.txt",
    "/.//..//../secret.txt",
    "/./../secret.txt",
    "/sub/./.././../secret.txt",
    "/..?/../secret.txt",
    "/..%00/secret.txt",
    "/data.bin%00/../../secret.txt",
    "/..%0d%0a/secret.txt",
    "/%2e%2e",
    "/..",
    "http://a/../secret.txt",
    "http://a/%2e%2e/secret.txt",
    "/{base}/secret.txt",
    "//{base}/secret.txt",
    "/%2f{base}/secret.txt",
    "/file:%2f%2f{base}/secret.txt",
    "/~root/secret.txt",
    "/file-link",
    "/inner-link",
    "/inner-link/",
    "/up",
    "/up/",
    "/up/secret.txt",
    "/up/site-of-the-test/data.bin",
    "/sub/../up/secret.txt",
    "/loop",
    "/loop/data.bin",
    "/own.js.gz",
    "/proc/self/environ",
    "/.hidden",
    "/%2ehidden",
    "/.git",
    "/.git/",
    "/.git/config",
    "/sub/../.git/config",
    "/.well-known/../.hidden",
    "/.well-known/.hidden",
    "/A",
    "/" + "n" * 256,
    "/" + "n/" * 3000,
    "/data.bin/../.hidden",
]


def test_nothing_outside_the_root_and_nothing_hidden_leaves(server: Server, site: Path) -> None:
    base = str(site.parent).strip("/")
    for target in OUTSIDE:
        reply = ask(server, target.replace("{base}", base))
        assert reply.status == (400 if "%00" in target or "%u" in target else 200 if target in TO_THE_ROOT else 404), (
            target
        )
        assert SECRET not in reply.body and reply.body != BODY


def test_no_path_made_of_such_pieces_leads_out(server: Server) -> None:
    pieces = [
        "/",
        "/",
        "//",
        "..",
        "%2e%2e",
        ".",
        "%2e",
        "%2f",
        "%5c",
        "\\",
        ";",
        "%252e",
        "sub",
        "up",
        "file-link",
        "?",
    ]
    rng = random.Random(3)
    with server.connect() as peer:
        for _ in range(20):
            paths = ("/" + "".join(rng.choices(pieces, k=rng.randrange(1, 12))) for _ in range(50))
            targets = [path + rng.choice(["/secret.txt", "/.hidden", "secret.txt", "%2fsecret.txt"]) for path in paths]
            peer.sendall(b"".join(map(request, targets)))
            for target in targets:
                reply = read_reply(peer)
                assert SECRET not in reply.body and reply.status in (200, 308, 404), target


def test_no_answer_tells_where_the_files_are(server: Server, site: Path) -> None:
    names = [os.fsencode(name) for name in (site.name, site.parent.name, os.getcwd())]
    targets = ["/", "/sub", "/sub/", "/data.bin", "/data.bin/", "/missing", "/fifo", "/socket", "/loop", "/file-link"]
    for method in ("GET", "POST", "OPTIONS", "BREW"):
        with server.connect() as peer:
            peer.sendall(b"".join(request(target, method=method) for target in targets) + b"bad\r\n\r\n")
            received = b"".join(iter(lambda: peer.recv(65536), b""))
        assert received.count(b"HTTP/1.1 ") == len(targets) + 1
        assert not [name for name in names if name in received]


def test_followed_links_lead_out_but_dots_do_not_and_siblings_follow_too(shell: Shell, site: Path) -> None:
    with shell.server("websrv", site, "--follow-symlinks", role="") as server, server.connect() as peer:
        assert exchange(peer, "/inner-link").body == BODY
        assert exchange(peer, "/file-link").body == SECRET
        assert exchange(peer, "/up/secret.txt").body == SECRET
        assert exchange(peer, "/own.js", "Accept-Encoding: gzip").body == SECRET
        # Dot segments are removed before any link is followed: this is the root's own, not that of what "up" means.
        assert exchange(peer, "/up/../data.bin").body == BODY
        for target in ("/../secret.txt", "/up/../secret.txt", "/up/%2e%2e/secret.txt", "/loop", "/fifo", "/.hidden"):
            assert exchange(peer, target).status == 404


def test_dotfiles_are_served_when_allowed_and_well_known_ones_always(shell: Shell, site: Path) -> None:
    with shell.server("websrv", site, "--dotfiles", role="") as server, server.connect() as peer:
        for target in ("/.hidden", "/.git/config", "/%2ehidden"):
            assert exchange(peer, target).body == SECRET
        assert exchange(peer, "/file-link").status == 404
    with shell.server("websrv", site, role="") as server:
        assert ask(server, "/.well-known/security.txt").body == b"Contact: us"


def test_an_escape_is_decoded_once(server: Server) -> None:
    with server.connect() as peer:
        assert exchange(peer, "/%2541").body == b"a percent sign"
        assert exchange(peer, "/%41").status == 404
        assert exchange(peer, "/%64ata.bin?a=%2f..%2f").body == BODY
        assert exchange(peer, "/data.bin%3Fa=b").status == 404


@pytest.mark.parametrize("name", ["fifo", "socket", "console", "disk"])
def test_what_is_no_regular_file_is_missing_at_once(server: Server, site: Path, name: str) -> None:
    if not os.path.lexists(site / name):
        pytest.skip("only root can make a device")
    with server.connect() as peer:
        for method in ("GET", "HEAD"):
            peer.sendall(b"".join(request(f"/{name}?{number}", method=method) for number in range(20)))
            assert {read_reply(peer, head=method == "HEAD").status for _ in range(20)} == {404}
        assert exchange(peer, "/data.bin").body == BODY


SPECIAL: dict[str, Callable[[Path], None]] = {
    "fifo": os.mkfifo,
    "directory": Path.mkdir,
    "link": lambda path: path.symlink_to("../secret.txt"),
}


def test_pages_of_the_root_that_are_no_regular_files_are_none(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_bytes(SECRET)
    for name, make in SPECIAL.items():
        root = tmp_path / name
        root.mkdir()
        for page in ("index.html", "404.html"):
            make(root / page)
        with shell.server("websrv", root, "--spa", role="") as server:
            listing = ask(server, "/")
            assert listing.status == 200 and listing.body.startswith(b"<!DOCTYPE html>")
            missing = ask(server, "/missing", "Accept: text/html")
            assert missing.status == 404 and SECRET not in missing.body


def test_a_sibling_that_is_stale_or_no_file_or_a_link_out_is_none(server: Server) -> None:
    with server.connect() as peer:
        for target in ("/stale.js", "/own.js"):
            reply = exchange(peer, target, "Accept-Encoding: gzip, br, zstd")
            assert reply.body == b"plain" and "content-encoding" not in reply.fields


# Permissions


def start_as_nobody(shell: Shell, root: Path, *options: str) -> Server:
    """A server that may read what everybody may; everything is imported while it still may read the interpreter."""
    module, *words = shell.command("websrv", "", root, "--port", 0, *options)[2:]
    script = (
        f"import os, sys, {module}.__main__ as web, encodings.idna\n"
        "from aiolsp.mechanisms.loop import loop_factory; loop_factory()\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); sys.exit(web.main(sys.argv[1:]))"
    )
    return Server([sys.executable, "-c", script, *words])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a server as somebody else")
def test_what_may_not_be_read_is_forbidden_whatever_it_is(shell: Shell, tmp_path: Path) -> None:
    root = tmp_path / "site"
    for name in ("closed", "unlisted", "indexed"):
        (root / name).mkdir(parents=True)
        (root / name / "file.txt").write_bytes(SECRET)
    (root / "indexed" / "index.html").write_bytes(SECRET)
    (root / "page.js").write_text("plain")
    (root / "page.js.gz").write_bytes(SECRET)
    for path in (root / "indexed" / "index.html", root / "page.js.gz", root / "closed"):
        path.chmod(0o600)
    (root / "unlisted").chmod(0o711)
    for parent in root.parents:
        if not parent.stat().st_mode & stat.S_IXOTH:
            parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    server = start_as_nobody(shell, root, "--cache-valid", "0")
    try:
        for target in ("/closed/", "/closed/file.txt", "/closed/missing", "/unlisted/", "/indexed/", "/page.js.gz"):
            reply = ask(server, target)
            assert reply.status == 403 and SECRET not in reply.body and b"site" not in reply.body
        assert ask(server, "/unlisted/file.txt").body == SECRET
        assert ask(server, "/page.js", "Accept-Encoding: gzip").body == b"plain"
        (root / "page.js").chmod(0)
        assert ask(server, "/page.js").status == 403
        server.stop()
    finally:
        server.kill()
