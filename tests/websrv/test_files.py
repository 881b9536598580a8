"""Files as a client meets them: types, conditions, variants, pages of the site's own."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

import pytest

from harness import Server, Shell, receive_until
from plainfiles import BODY, LARGE, LATE, make_plain_files
from webclient import ask, exchange, read_reply, request

TYPES = {
    "page.html": "text/html; charset=utf-8",
    "page.HTM": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "code.mjs": "text/javascript; charset=utf-8",
    "data.json": "application/json",
    "image.svg": "image/svg+xml",
    "photo.webp": "image/webp",
    "film.mp4": "video/mp4",
    "font.woff2": "font/woff2",
    "module.wasm": "application/wasm",
    "notes.txt": "text/plain; charset=utf-8",
    "archive.tar.gz": "application/gzip",
    "no-suffix": "application/octet-stream",
    "odd.unheard-of": "application/octet-stream",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    make_plain_files(root)
    for name in TYPES:
        (root / name).write_text(name)
    for name, plain in (("short.js", b"short"), ("long.js", LARGE)):
        (root / name).write_bytes(plain)
        for suffix in (".br", ".zst", ".gz"):
            (root / (name + suffix)).write_bytes(suffix.encode() * 100_000)
            shutil.copystat(root / name, root / (name + suffix))
    return root


# Whole


def test_a_file_comes_whole_with_its_validators(server: Server) -> None:
    reply = ask(server, "/data.bin")
    assert (reply.status, reply.body) == (200, BODY)
    assert reply.fields["content-type"] == "application/octet-stream"
    assert reply.fields["accept-ranges"] == "bytes"
    assert re.fullmatch(r'"[^"]+"', reply.fields["etag"])
    assert "GMT" in reply.fields["last-modified"] and "connection" not in reply.fields


def test_head_says_what_get_would(server: Server) -> None:
    for target in ("/data.bin", "/large.bin", "/missing"):
        got, told = ask(server, target), ask(server, target, method="HEAD")
        assert told.status == got.status and int(told.fields["content-length"]) == len(got.body)


def test_a_large_file_comes_by_sendfile_and_the_connection_lives_on(server: Server) -> None:
    with server.connect() as peer:
        for _ in range(3):
            peer.sendall(request("/large.bin") + request("/empty.txt") + request("/data.bin"))
            assert [read_reply(peer).body for _ in range(3)] == [LARGE, b"", BODY]


# Types


def test_the_type_of_a_file_is_that_of_our_table(server: Server) -> None:
    with server.connect() as peer:
        for name, kind in TYPES.items():
            reply = exchange(peer, f"/{name}")
            assert (reply.body, reply.fields["content-type"]) == (name.encode(), kind)


def test_it_answers_the_same_from_disk_and_from_memory(server: Server) -> None:
    with server.connect() as peer:
        replies = [exchange(peer, "/data.bin") for _ in range(5)]
    described = [{name: value for name, value in reply.fields.items() if name != "date"} for reply in replies]
    assert all(reply.body == BODY for reply in replies) and all(fields == described[0] for fields in described)


# Conditions


@pytest.mark.parametrize("target", ["/data.bin", "/large.bin"])
def test_conditions_are_judged_in_the_order_of_the_rfc(server: Server, target: str) -> None:
    whole = ask(server, target)
    etag, modified = whole.fields["etag"], whole.fields["last-modified"]
    early, late = "Thu, 01 Jan 1970 00:00:01 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"

    def status(*fields: str) -> int:
        return ask(server, target, *fields).status

    assert status(f"If-None-Match: {etag}") == 304
    assert status(f"If-None-Match: W/{etag}") == 304
    assert status('If-None-Match: "other"', f"If-Modified-Since: {late}") == 200
    assert status(f"If-Modified-Since: {modified}") == 304
    assert status(f"If-Modified-Since: {early}") == 200
    assert status(f"If-Match: {etag}") == 200
    assert status('If-Match: "other"') == 412
    assert status(f"If-Match: W/{etag}") == 412
    assert status(f"If-Unmodified-Since: {early}") == 412
    assert status(f"If-Match: {etag}", f"If-Unmodified-Since: {early}", f"If-None-Match: {etag}") == 304
    unchanged = ask(server, target, f"If-None-Match: {etag}")
    assert unchanged.fields["etag"] == etag and "content-length" not in unchanged.fields


def test_three_forms_of_date_are_understood_and_others_ignored(server: Server) -> None:
    with server.connect() as peer:
        for date in ("Sun, 01 Jan 1995 00:00:02 GMT", "Sunday, 01-Jan-95 00:00:02 GMT", "Sun Jan  1 00:00:02 1995"):
            assert exchange(peer, "/old.txt", f"If-Modified-Since: {date}").status == 304
            assert exchange(peer, "/data.bin", f"If-Modified-Since: {date}").status == 200
            assert exchange(peer, "/data.bin", f"If-Unmodified-Since: {date}").status == 412
        for date in ("", "0", "yesterday", "Thu, 32 Jan 1970 00:00:02 GMT", "1970-01-01T00:00:02Z"):
            assert exchange(peer, "/old.txt", f"If-Modified-Since: {date}").status == 200
            assert exchange(peer, "/data.bin", f"If-Unmodified-Since: {date}").status == 200


def test_conditions_hold_for_head_and_in_lists_and_not_for_what_is_missing(server: Server) -> None:
    with server.connect() as peer:
        etag = exchange(peer, "/data.bin").fields["etag"]
        known = f'If-None-Match: "a,b", W/"c" , {etag}'
        assert exchange(peer, "/data.bin", known, method="HEAD").status == 304
        assert exchange(peer, "/data.bin", 'If-None-Match: "a"', f"If-None-Match: {etag}").status == 304
        assert exchange(peer, "/data.bin", "If-None-Match: *").status == 304
        assert exchange(peer, "/data.bin", "If-Match: *").status == 200
        assert exchange(peer, "/data.bin", f"If-None-Match: {etag}", "Range: bytes=0-1").status == 304
        assert exchange(peer, "/data.bin", 'If-Match: "a"', "Range: bytes=0-1", method="HEAD").status == 412
        for fields in ("If-None-Match: *", "If-Match: *", f"If-Modified-Since: {LATE}"):
            assert exchange(peer, "/missing", fields).status == 404


def test_a_new_file_has_a_new_tag_though_size_and_time_are_the_same(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with shell.server("websrv", tmp_path, "--cache-valid", 0, role="") as server:
        tags = set()
        for _ in range(2):
            other = tmp_path / "other"
            other.write_text("same size")
            os.utime(other, ns=(10**18, 10**18))
            # The old file is kept under another name, so that its inode is not taken again.
            if path.exists():
                path.rename(tmp_path / "old")
            other.rename(path)
            tags.add(ask(server, "/file.txt").fields["etag"])
    assert len(tags) == 2


@pytest.mark.parametrize("seconds", [-(2**31), -1, 0, 2**31, 2**33])
def test_no_time_of_a_file_is_too_strange(shell: Shell, tmp_path: Path, seconds: int) -> None:
    (tmp_path / "file.txt").write_text("old or new")
    os.utime(tmp_path / "file.txt", (seconds, seconds))
    with shell.server("websrv", tmp_path, role="") as server, server.connect() as peer:
        reply = exchange(peer, "/file.txt")
        assert reply.body == b"old or new"
        # A time in the future must not be sent (RFC 9110 8.8.2.1).
        assert ("last-modified" in reply.fields) == (seconds < 2**31)
        assert exchange(peer, "/file.txt", f"If-None-Match: {reply.fields['etag']}").status == 304
        assert b"file.txt" in exchange(peer, "/").body


# Variants


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("gzip, zstd", "zstd"),
        ("x-gzip", "gzip"),
        ("GZIP", "gzip"),
        ("br;q=0.5, zstd;q=0.501, gzip;q=0.499", "zstd"),
        ("br;q=0, *", "zstd"),
        ("*", "br"),
        ("gzip;q=0.5, identity;q=0.6", None),
        ("gzip;q=0.000", None),
        ("deflate", None),
        ("identity;q=0", None),
        ("", None),
        ("br;q=2, gzip;q=abc", None),
    ],
)
@pytest.mark.parametrize(("name", "plain"), [("short.js", b"short"), ("long.js", LARGE)])
def test_the_client_chooses_the_coding(
    server: Server, name: str, plain: bytes, accepted: str, coding: str | None
) -> None:
    suffix = {"br": b".br", "zstd": b".zst", "gzip": b".gz"}
    with server.connect() as peer:
        for method in ("GET", "HEAD"):
            reply = exchange(peer, f"/{name}", f"Accept-Encoding: {accepted}", method=method)
            body = plain if coding is None else suffix[coding] * 100_000
            # Many a server cut the variant to the length of the file.
            assert reply.fields["content-length"] == str(len(body))
            assert reply.fields.get("content-encoding") == coding and reply.fields["vary"] == "Accept-Encoding"
            assert reply.fields["content-type"] == "text/javascript; charset=utf-8"
            assert method == "HEAD" or reply.body == body


def test_a_variant_has_conditions_and_ranges_of_its_own(server: Server) -> None:
    zipped = "Accept-Encoding: gzip"
    with server.connect() as peer:
        plain_tag = exchange(peer, "/short.js").fields["etag"]
        tag = exchange(peer, "/short.js", zipped).fields["etag"]
        assert exchange(peer, "/short.js", zipped, f"If-None-Match: {plain_tag}").status == 200
        unchanged = exchange(peer, "/short.js", zipped, f"If-None-Match: {tag}")
        assert (unchanged.status, unchanged.fields["vary"]) == (304, "Accept-Encoding")
        part = exchange(peer, "/short.js", zipped, "Range: bytes=3-6", f"If-Range: {tag}")
        assert (part.status, part.body, part.fields["content-encoding"]) == (206, b".gz.", "gzip")
        assert part.fields["content-range"] == "bytes 3-6/300000"
        assert exchange(peer, "/short.js", zipped, "Range: bytes=3-6", f"If-Range: {plain_tag}").status == 200


def test_vary_is_said_wherever_a_variant_could_come_to_be(server: Server) -> None:
    with server.connect() as peer:
        assert exchange(peer, "/data.bin", "Accept-Encoding: br").fields["vary"] == "Accept-Encoding"
        for name in ("short.js.br", "short.js.zst", "short.js.gz", "archive.tar.gz"):
            reply = exchange(peer, f"/{name}", "Accept-Encoding: br, zstd, gzip")
            assert "vary" not in reply.fields and "content-encoding" not in reply.fields
            assert reply.fields["content-type"].startswith("application/")


# Pages of the site's own


def test_a_page_of_the_sites_own_says_404(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "404.html").write_text("our own page")
    (tmp_path / "404.html.gz").write_text("zipped")
    with shell.server("websrv", tmp_path, role="") as server, server.connect() as peer:
        for target in ("/missing", "/.hidden", "/404.html/", "/missing/deep/"):
            reply = exchange(peer, target, "Range: bytes=0-1", "Accept-Encoding: gzip", "If-None-Match: *")
            assert (reply.status, reply.body) == (404, b"our own page")
            assert reply.fields["content-type"] == "text/html; charset=utf-8" and "etag" not in reply.fields
            assert exchange(peer, target, method="HEAD").fields["content-length"] == str(len(reply.body))
        assert exchange(peer, "/404.html").status == 200
        # It is read anew: what it says now counts.
        (tmp_path / "404.html").write_text("another page")
        assert exchange(peer, "/missing").body == b"another page"


def test_an_application_takes_pages_and_leaves_what_is_there(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("application")
    (tmp_path / "code.js").write_text("code")
    (tmp_path / "sub").mkdir()
    page = "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"
    with shell.server("websrv", tmp_path, "--spa", "--no-listing", role="") as server:
        with server.connect() as peer:
            for target in ("/", "/users/7?tab=1", "/users/7/", "/.hidden", "/code.js/", "/sub/"):
                reply = exchange(peer, target, page)
                assert (reply.status, reply.body) == (200, b"application")
            fields = exchange(peer, "/users/7", page).fields
            # To another Accept it is 404, so no cache may give this page for that.
            etag, vary = fields["etag"], fields["vary"]
            assert (vary, exchange(peer, "/", page).fields["vary"]) == ("Accept", "Accept-Encoding")
            assert exchange(peer, "/users/8", page, f"If-None-Match: {etag}").status == 304
            assert exchange(peer, "/code.js", page).body == b"code"
            for accept in ("Accept: */*", "Accept: text/html;q=0", "Accept: image/webp", "X-Accept: text/html"):
                reply = exchange(peer, "/users/7", accept)
                assert (reply.status, reply.fields["vary"]) == (404, "Accept")
            (tmp_path / "404.html").write_text("lost")
            reply = exchange(peer, "/users/7", "Accept: */*")
            assert (reply.body, reply.fields["vary"]) == (b"lost", "Accept")
            assert exchange(peer, "/users/7", page, method="POST").status == 405
            assert exchange(peer, "/users/7", page, method="HEAD").status == 200


# Many at once


def test_a_file_that_many_ask_for_at_the_same_time_comes_to_each(shell: Shell, site: Path) -> None:
    with shell.server("websrv", site, role="") as server:
        for target, body in (("/data.bin", BODY), ("/large.bin", LARGE), ("/missing", None)):
            peers = [server.connect() for _ in range(30)]
            try:
                for peer in peers:
                    peer.sendall(request(target))
                for peer in peers:
                    reply = read_reply(peer)
                    assert reply.status == 404 if body is None else reply.body == body
            finally:
                for peer in peers:
                    peer.close()


# Large


def test_a_large_file_costs_no_memory(shell: Shell, tmp_path: Path) -> None:
    size = 1 << 28
    with (tmp_path / "sparse.bin").open("wb") as file:
        file.truncate(size)
        file.seek(size // 2)
        file.write(b"middle")
    server = Server(shell.command("websrv", "", tmp_path, "--port", 0))
    try:
        before = server.rss()
        digest, left = hashlib.blake2b(), size
        with server.connect() as peer:
            peer.sendall(request("/sparse.bin"))
            receive_until(peer, b"\r\n\r\n")
            while left:
                data = peer.recv(1 << 20)
                assert data
                digest.update(data)
                left -= len(data)
        assert server.rss() - before < 8 << 20
        expected = hashlib.blake2b()
        with (tmp_path / "sparse.bin").open("rb") as file:
            while data := file.read(1 << 20):
                expected.update(data)
        assert digest.digest() == expected.digest()
        server.stop()
    finally:
        server.kill()
