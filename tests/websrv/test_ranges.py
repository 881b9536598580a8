"""Ranges of files as a client meets them: one, many, touching, wrong, and on a condition."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from harness import Server
from plainfiles import BODY, EARLY, LARGE, LATE, make_plain_files
from webclient import ask, exchange, read_reply, request

# Ranges


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ranges")
    make_plain_files(root)
    (root / "archive.tar.gz").write_text("archive.tar.gz")
    return root


def expected(spec: str, body: bytes) -> bytes | int:
    """What a range of one spec must bring, in plain arithmetic: the part, 416, or 200 if it is to be ignored."""
    first, _, last = spec.partition("-")
    if not first:
        part = body[-int(last) :] if int(last) else b""
    elif last and int(last) < int(first):
        return 200
    else:
        part = body[int(first) : int(last) + 1 if last else None]
    return part or 416


@pytest.mark.parametrize(("target", "body"), [("/data.bin", BODY), ("/large.bin", LARGE)])
def test_any_range_is_what_plain_arithmetic_says(server: Server, target: str, body: bytes) -> None:
    rng = random.Random(2)
    edges = [0, 1, 2, len(body) - 2, len(body) - 1, len(body), len(body) + 1, 2**63 - 1, 2**63, 2**64, 10**30]
    numbers = [*edges, *(rng.randrange(len(body)) for _ in range(10))]
    specs = [f"{rng.choice(['', *numbers])}-{rng.choice(numbers)}" for _ in range(60)]
    specs += [f"{number}-" for number in numbers]
    with server.connect() as peer:
        for spec in specs:
            reply, wanted = exchange(peer, target, f"Range: bytes={spec}"), expected(spec, body)
            if isinstance(wanted, bytes):
                assert (reply.status, reply.body) == (206, wanted), spec
            else:
                assert reply.status == wanted, spec
                assert reply.fields.get("content-range") == (f"bytes */{len(body)}" if wanted == 416 else None)
                assert len(reply.body) == (0 if wanted == 416 else len(body))


@pytest.mark.parametrize(
    "value",
    [
        "bytes=-",
        "bytes=",
        "bytes=,",
        "bytes",
        "bytes=a-b",
        "bytes=0-1,x",
        "bytes=--1",
        "bytes=+0-1",
        "bytes=0x0-0x1",
        "bytes=1_0-2_0",
        "bytes =0-1",
        "bytes=0 -1",
        "bytes=1-0, 0-1",
        "octets=0-1",
        "bytes=" + ", ".join(f"{start}-{start}" for start in range(0, 34, 2)),
        "bytes=" + "9" * 5000 + "-8",
        "bytes=" + "0-," * 5000,
    ],
)
def test_a_range_that_cannot_be_read_is_ignored(server: Server, value: str) -> None:
    reply = ask(server, "/data.bin", f"Range: {value}")
    assert (reply.status, reply.body) == (200, BODY) and "content-range" not in reply.fields


@pytest.mark.parametrize(("target", "body"), [("/data.bin", BODY), ("/large.bin", LARGE)])
def test_parts_stand_in_the_order_asked_for_and_each_names_its_place(server: Server, target: str, body: bytes) -> None:
    with server.connect() as peer:
        peer.sendall(request(target, "Range: BYTES=500-509 ,-5,, 0-9,9-12,13-20,99999999-") + request("/empty.txt"))
        reply = read_reply(peer)
        # The length was right, else this would not be an answer.
        assert read_reply(peer).status == 200
    size = len(body)
    boundary = reply.fields["content-type"].removeprefix("multipart/byteranges; boundary=").encode()
    kind = b"Content-Type: application/octet-stream"
    parts = [(500, 509), (size - 5, size - 1), (0, 20)]
    ranges = [b"Content-Range: bytes %d-%d/%d" % (first, last, size) for first, last in parts]
    assert reply.status == 206 and "content-range" not in reply.fields
    assert reply.body == b"\r\n".join(
        [
            line
            for told, (first, last) in zip(ranges, parts, strict=True)
            for line in (b"--" + boundary, kind, told, b"", body[first : last + 1])
        ]
        + [b"--" + boundary + b"--", b""]
    )


def test_sixteen_ranges_are_sent_and_seventeen_are_not(server: Server) -> None:
    for count, status in ((16, 206), (17, 200)):
        specs = ",".join(f"{start}-{start}" for start in range(0, 2 * count, 2))
        assert ask(server, "/data.bin", f"Range: bytes={specs}").status == status


def test_ranges_that_touch_come_as_one_part_without_multipart(server: Server) -> None:
    reply = ask(server, "/data.bin", "Range: bytes=10-19,0-9,5-14")
    assert (reply.status, reply.body) == (206, BODY[:20])
    assert reply.fields["content-range"] == f"bytes 0-19/{len(BODY)}"


def test_a_range_is_for_get_and_for_a_file(server: Server) -> None:
    head = ask(server, "/data.bin", "Range: bytes=0-1", method="HEAD")
    assert (head.status, head.fields["content-length"]) == (200, str(len(BODY)))
    for target, status in (("/", 200), ("/missing", 404), ("/sub", 308)):
        reply = ask(server, target, "Range: bytes=0-1")
        assert reply.status == status and len(reply.body) > 2 and "accept-ranges" not in reply.fields


def test_if_range_takes_the_date_of_the_file_and_no_other(server: Server) -> None:
    with server.connect() as peer:
        modified = exchange(peer, "/archive.tar.gz").fields["last-modified"]
        old = exchange(peer, "/old.txt").fields["last-modified"]
        # A date is strong only if it is well in the past (RFC 9110 8.8.2.2), which that of a new file is not.
        assert exchange(peer, "/old.txt", "Range: bytes=0-1", f"If-Range: {old}").body == b"ol"
        assert exchange(peer, "/archive.tar.gz", "Range: bytes=0-1", f"If-Range: {modified}").status in (200, 206)
        for date in (EARLY, LATE, "yesterday", ""):
            assert exchange(peer, "/data.bin", "Range: bytes=0-1", f"If-Range: {date}").status == 200


def test_an_empty_file_has_no_parts(server: Server) -> None:
    with server.connect() as peer:
        for spec, status in (("0-0", 416), ("0-", 416), ("-1", 200), ("-0", 416)):
            assert exchange(peer, "/empty.txt", f"Range: bytes={spec}").status == status
