"""Files and directories over real sockets, on both loops."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Server, Shell
from webclient import ask, read_reply, request

BODY = bytes(range(256)) * 40
LARGE = os.urandom(3_000_000)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("serving")
    root = base / "site"
    (root / "sub").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "data.bin").write_bytes(BODY)
    (root / "large.bin").write_bytes(LARGE)
    (root / "nothing.txt").write_bytes(b"")
    (root / "sub" / "index.html").write_text("<p>index")
    (root / "page.js").write_text("plain();" * 100)
    (root / "page.js.gz").write_bytes(gzip.compress(b"plain();" * 100))
    (root / "page.js.br").write_bytes(b"as if brotli")
    for sibling in ("page.js.gz", "page.js.br"):
        shutil.copystat(root / "page.js", root / sibling)
    (root / ".hidden").write_text("hidden")
    (base / "secret.txt").write_text("outside")
    (root / "link.txt").symlink_to(base / "secret.txt")
    (root / "up").symlink_to(base)
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    return root


@pytest.fixture(scope="module", params=("asyncio", "uvloop"))
def server(request: pytest.FixtureRequest, site: Path) -> Iterator[Server]:
    with Shell(request.param).server("websrv", site, role="") as running:
        yield running


def test_a_file_comes_whole_with_its_validators(server: Server) -> None:
    reply = ask(server, "/data.bin")
    assert (reply.status, reply.body) == (200, BODY)
    assert reply.fields["content-type"] == "application/octet-stream"
    assert reply.fields["accept-ranges"] == "bytes"
    assert re.fullmatch(r'"[^"]+"', reply.fields["etag"])
    assert "GMT" in reply.fields["last-modified"] and "connection" not in reply.fields


def test_a_large_file_comes_by_sendfile_and_the_connection_lives_on(server: Server) -> None:
    with server.connect() as peer:
        for _ in range(3):
            peer.sendall(request("/large.bin") + request("/data.bin"))
            assert read_reply(peer).body == LARGE
            assert read_reply(peer).body == BODY


def test_head_says_what_get_would(server: Server) -> None:
    for target in ("/data.bin", "/large.bin", "/missing"):
        got, told = ask(server, target), ask(server, target, method="HEAD")
        assert told.status == got.status and int(told.fields["content-length"]) == len(got.body)


def test_an_empty_file_is_a_whole_answer(server: Server) -> None:
    assert ask(server, "/nothing.txt").body == b""
    assert ask(server, "/nothing.txt", "Range: bytes=0-").status == 416


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


@pytest.mark.parametrize(("target", "body"), [("/data.bin", BODY), ("/large.bin", LARGE)])
def test_a_range_is_cut_from_the_file(server: Server, target: str, body: bytes) -> None:
    size = len(body)
    for asked, first, last in (("5-9", 5, 9), ("0-0", 0, 0), ("100-", 100, size - 1), ("-7", size - 7, size - 1)):
        reply = ask(server, target, f"Range: bytes={asked}")
        assert (reply.status, reply.body) == (206, body[first : last + 1])
        assert reply.fields["content-range"] == f"bytes {first}-{last}/{size}"
    beyond = ask(server, target, f"Range: bytes={size}-")
    assert beyond.status == 416 and beyond.fields["content-range"] == f"bytes */{size}"
    assert ask(server, target, "Range: bytes=9-5").status == 200
    assert ask(server, target, "Range: lines=1-2").status == 200
    assert ask(server, target, "Range: bytes=" + ",".join("0-0" for _ in range(5000))).status == 200


@pytest.mark.parametrize(("target", "body"), [("/data.bin", BODY), ("/large.bin", LARGE)])
def test_several_ranges_come_in_parts_and_overlapping_ones_as_one(server: Server, target: str, body: bytes) -> None:
    reply = ask(server, target, "Range: bytes=0-9, 100-199,5-20")
    assert reply.status == 206
    kind, _, boundary = reply.fields["content-type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    parts = reply.body.split(b"--" + boundary.strip('"').encode())
    assert [part.partition(b"\r\n\r\n")[2][:-2] for part in parts[1:-1]] == [body[0:21], body[100:200]]
    assert parts[-1].strip() == b"--"


def test_if_range_sends_the_part_only_of_the_same_file(server: Server) -> None:
    etag = ask(server, "/data.bin").fields["etag"]
    assert ask(server, "/data.bin", "Range: bytes=0-1", f"If-Range: {etag}").status == 206
    assert ask(server, "/data.bin", "Range: bytes=0-1", 'If-Range: "old"').status == 200
    assert ask(server, "/data.bin", "Range: bytes=0-1", f"If-Range: W/{etag}").status == 200


def test_a_directory_is_redirected_to_its_slash_with_the_query_kept(server: Server) -> None:
    reply = ask(server, "/sub?a=b%20c")
    assert (reply.status, reply.fields["location"]) == (308, "/sub/?a=b%20c")
    assert ask(server, "//sub").fields["location"] == "/sub/"
    assert ask(server, "/sub/").body == b"<p>index"
    assert ask(server, "/data.bin/").status == 404


def test_a_listing_names_everything_in_order_and_nothing_hidden(server: Server) -> None:
    page = ask(server, "/").body.decode()
    names = re.findall(r'<a href="([^"]+)"', page)
    assert names == ["empty/", "sub/", "data.bin", "large.bin", "nothing.txt", "page.js", "page.js.br", "page.js.gz"]
    assert '<a href="../">' in ask(server, "/empty/").body.decode()


def test_every_name_in_a_listing_leads_to_its_file(loop_name: str, tmp_path: Path) -> None:
    names = [
        b"plain",
        b"a b",
        b"<i>&\"'",
        b"new\nline",
        b"\xff\xfe",
        b"%41",
        b"q?x#y",
        b"back\\slash",
        "ü雪".encode(),
        b"a:b",
    ]
    for index, name in enumerate(names):
        (tmp_path / os.fsdecode(name)).write_text(str(index))
    with Shell(loop_name).server("websrv", tmp_path, role="") as server:
        page = ask(server, "/").body.decode()
        assert "<i>" not in page
        links = re.findall(r'<a href="([^"]+)"', page)
        assert sorted(ask(server, "/" + link).body for link in links) == sorted(
            str(i).encode() for i in range(len(names))
        )


def test_the_best_sibling_is_sent_with_its_own_length_and_tag(server: Server) -> None:
    plain = ask(server, "/page.js")
    zipped = ask(server, "/page.js", "Accept-Encoding: gzip")
    best = ask(server, "/page.js", "Accept-Encoding: gzip, br")
    assert (plain.fields.get("content-encoding"), zipped.fields["content-encoding"]) == (None, "gzip")
    assert best.fields["content-encoding"] == "br" and best.body == b"as if brotli"
    assert gzip.decompress(zipped.body) == plain.body
    assert len({reply.fields["etag"] for reply in (plain, zipped, best)}) == 3
    for reply in (plain, zipped, best):
        assert reply.fields["vary"] == "Accept-Encoding"
        assert reply.fields["content-type"].startswith("text/javascript")
    for refused in ("gzip;q=0", "identity", "*;q=0"):
        assert "content-encoding" not in ask(server, "/page.js", f"Accept-Encoding: {refused}").fields
    assert ask(server, "/page.js", "Accept-Encoding: br;q=0.1, gzip;q=0.9").fields["content-encoding"] == "gzip"


def test_a_compressed_file_asked_for_by_name_is_what_it_is(server: Server) -> None:
    reply = ask(server, "/page.js.gz", "Accept-Encoding: gzip")
    assert reply.fields["content-type"] == "application/gzip" and "content-encoding" not in reply.fields


@pytest.mark.parametrize(
    "target",
    [
        "/../secret.txt",
        "/sub/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%252e%252e/secret.txt",
        "/..\\secret.txt",
        "/..%5csecret.txt",
        "/link.txt",
        "/up/secret.txt",
        "/.hidden",
        "/fifo",
        "/socket",
        "//etc/passwd",
        "/dev/null",
        "/" + "n" * 300,
        "/missing",
    ],
)
def test_nothing_outside_and_nothing_special_is_served(server: Server, site: Path, target: str) -> None:
    reply = ask(server, target)
    assert reply.status == 404
    assert b"outside" not in reply.body and str(site.parent).encode() not in reply.body


def test_an_encoded_nul_is_a_bad_request(server: Server) -> None:
    assert ask(server, "/data.bin%00.txt").status == 400


def test_methods_that_files_do_not_know(server: Server) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE"):
        reply = ask(server, "/data.bin", method=method)
        assert (reply.status, reply.fields["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert ask(server, "/data.bin", method="BREW").status == 501
    for target in ("*", "/data.bin"):
        reply = ask(server, target, method="OPTIONS")
        assert (reply.status, reply.fields["allow"]) == (204, "GET, HEAD, OPTIONS")


def test_what_is_hidden_can_be_allowed(loop_name: str, site: Path) -> None:
    with Shell(loop_name).server("websrv", site, "--dotfiles", "--follow-symlinks", "--no-listing", role="") as server:
        assert ask(server, "/.hidden").body == b"hidden"
        assert ask(server, "/link.txt").body == b"outside"
        assert ask(server, "/up/secret.txt").body == b"outside"
        assert ask(server, "/empty/").status == 404
        assert ask(server, "/../secret.txt").status == 404
        assert ask(server, "/fifo").status == 404


def test_an_application_answers_unknown_pages_and_only_pages(loop_name: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("app")
    (tmp_path / "404.html").write_text("own page")
    with Shell(loop_name).server("websrv", tmp_path, "--spa", role="") as server:
        page = ask(server, "/some/path", "Accept: text/html")
        assert (page.status, page.body) == (200, b"app")
        missing = ask(server, "/some/path", "Accept: application/json")
        assert (missing.status, missing.body) == (404, b"own page")


def test_fields_of_ones_own_go_out_with_every_answer(loop_name: str, site: Path) -> None:
    options = ["--header", "X-Frame-Options: DENY", "--cache-control", "max-age=60", "--cors"]
    with Shell(loop_name).server("websrv", site, *options, role="") as server:
        for target in ("/data.bin", "/missing", "/"):
            fields = ask(server, target).fields
            assert fields["x-frame-options"] == "DENY" and fields["access-control-allow-origin"] == "*"
        assert ask(server, "/data.bin").fields["cache-control"] == "max-age=60"
        preflight = ask(server, "/data.bin", "Access-Control-Request-Method: GET", method="OPTIONS")
        assert "Range" in preflight.fields["access-control-allow-headers"]


def test_a_unix_socket_serves_as_well(loop_name: str, site: Path, tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    command = [*Shell(loop_name).command("websrv", "", site), "--unix", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"listening on {path}\n".encode()
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(10)
            peer.connect(str(path))
            peer.sendall(request("/data.bin"))
            assert read_reply(peer).body == BODY
        process.terminate()
        assert process.wait(10) == 0 and not path.exists()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def test_ipv6_and_dual_stack(loop_name: str, site: Path) -> None:
    with Shell(loop_name).server("websrv", site, "-b", "::1", role="") as server:
        assert ask(server, "/data.bin").body == BODY
    with Shell(loop_name).server("websrv", site, "-b", "::", role="") as server:
        with socket.create_connection(("127.0.0.1", server.port), 10) as peer:
            peer.sendall(request("/data.bin"))
            assert read_reply(peer).body == BODY
