"""What is kept in memory: the bounded table of files, the shared looks at the disk, and the answers kept ready."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.linux.cached import knows_nowait
from aiolsp.static.representation import Outline, Resource, Wanted
from aiolsp.static.resource import DocumentRoot
from aiolsp.websettings import Settings
from aiolsp.websrv.cache import ENTRY_COST, OUTLINED, REMEMBERED, FileCache, Key
from harness import DEADLINE, receive_to_end, receive_until
from webclient import exchange, read_reply, request
from webhost import Host, descriptors, hosted

SMALL = b"small" * 100

MISSING = Resource(Outline(404, (), 0), b"")


def key(name: str) -> Key:
    return name.encode(), None


def resource(size: int) -> Resource:
    return Resource(Outline(200, (), size), b"x" * size)


def for_contents(size: int) -> int:
    """The size of a cache that has *size* bytes for files with their content; the rest is for outlines."""
    return size * OUTLINED // (OUTLINED - 1)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "small.txt").write_bytes(SMALL)
    (tmp_path / "other.txt").write_bytes(b"other")
    (tmp_path / "large.bin").write_bytes(bytes(1_000_000))
    return tmp_path


def admitted(cache: FileCache, name: str) -> int:
    """How often *name* has to be asked for until it is in the cache."""
    for times in range(1, 4):
        cache.put(key(name), resource(50), 2.0)
        if cache.get(key(name)) is not None:
            return times
    raise AssertionError("a file that is asked for again and again is kept out")


def test_the_least_recently_used_goes_first() -> None:
    cache = FileCache(for_contents(3 * (ENTRY_COST + 100)))
    for name in "abc":
        assert admitted(cache, name) == 1, "while there is room"
    assert cache.get(key("a")) is not None
    assert admitted(cache, "d") == 2, "others have to go for it"
    assert cache.get(key("b")) is None
    assert all(cache.get(key(name)) for name in "acd")
    assert admitted(cache, "c") == 1, "it was there"
    assert admitted(cache, "b") == 2, "who had to go is a newcomer again"
    cache.remember(key("d"), MISSING.outline)
    cache.remember(key("d"), MISSING.outline)
    assert len(cache) == 2


def test_what_was_there_and_has_grown_takes_the_place_of_others() -> None:
    cache = FileCache(for_contents(3 * (ENTRY_COST + 100)))
    for name in "abc":
        assert admitted(cache, name) == 1
    grown = cache.put(key("a"), resource(300), 3.0)
    assert grown is not None and grown is cache.get(key("a"))
    assert [cache.get(key(name)) is None for name in "bc"] == [True, False]


def test_who_was_admitted_and_had_to_go_is_a_newcomer_again() -> None:
    cache = FileCache(for_contents(ENTRY_COST + 100))
    assert admitted(cache, "a") == 1
    for name in "bcbc":
        assert admitted(cache, name) == 2


def test_a_walk_through_all_files_leaves_what_was_kept() -> None:
    names = [f"hot{number}" for number in range(80)]
    cache = FileCache(for_contents(len(names) * (ENTRY_COST + 100)))
    for name in names:
        cache.put(key(name), resource(50), 1.0)
    for _ in range(2):
        for number in range(REMEMBERED + 9):
            cache.put(key(f"walk{number}"), resource(50), 1.0)
    assert all(cache.get(key(name)) for name in names)
    assert len(cache._turned_away) == REMEMBERED
    assert admitted(cache, f"walk{REMEMBERED + 8}") == 1, "it was asked for a moment ago"


def test_what_can_never_fit_is_not_kept_and_takes_nothing_else_away() -> None:
    cache = FileCache(2 * ENTRY_COST)
    cache.put(key("a"), resource(10), 1.0)
    for _ in range(3):
        assert cache.put(key("b"), resource(ENTRY_COST * 2), 1.0) is None
    assert cache.get(key("a")) is not None and cache.get(key("b")) is None
    cache.put(key("a"), resource(ENTRY_COST * 2), 1.0)
    assert cache.get(key("a")) is None and len(cache) == 0
    empty = FileCache(0)
    empty.put(key("a"), resource(0), 1.0)
    assert empty.get(key("a")) is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 4000), st.booleans()), max_size=40))
def test_it_never_holds_more_than_its_size(steps: list[tuple[str, int, bool]]) -> None:
    size = 3 * ENTRY_COST
    cache = FileCache(size)
    for name, length, kept in steps:
        if kept:
            cache.put(key(name), resource(length), 0.0)
        else:
            cache.remember(key(name), MISSING.outline)
        entries = [entry for name in "abcdef" if (entry := cache.get(key(name)))]
        assert len(entries) == len(cache)
        assert sum(entry.cost for entry in entries) == cache.used <= size


def test_who_asks_for_what_is_being_looked_at_shares_the_look(
    loop_name: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = counted_looks(monkeypatch)
    with hosted(loop_name, site) as host:
        peers = [host.connect()[0] for _ in range(5)]
        with host.held_threads():
            for peer in peers:
                peer.sendall(request("/small.txt"))
            host.wait_until(lambda: waiting(host) == [5], "five that wait")
            peers[-1].close()
        for peer in peers[:-1]:
            assert read_reply(peer).body == SMALL
            peer.close()
    assert looks == [b"small.txt"]


def waiting(host: Host) -> list[int]:
    return [len(look.waiters) for look in host.service.files.loading.values()]


def test_without_validity_each_request_has_a_look_of_its_own(
    loop_name: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = counted_looks(monkeypatch)
    with hosted(loop_name, site, Settings(threads=1, cache_valid=0)) as host:
        peers = [host.connect()[0] for _ in range(3)]
        with host.held_threads():
            for peer in peers:
                peer.sendall(request("/small.txt") * 2)
            host.wait_until(lambda: host.service.pool.queued == 3, "three jobs")
        for peer in peers:
            assert read_reply(peer).body == read_reply(peer).body == SMALL
            peer.close()
    assert looks == [b"small.txt"] * 6


def counted_looks(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    looks: list[bytes] = []
    load, load_again, still_has = DocumentRoot.load, DocumentRoot.load_again, DocumentRoot.still_has

    def counted(root: DocumentRoot, wanted: Wanted, known: Resource | None = None) -> Resource:
        looks.append(wanted.target.segments[-1])
        return load(root, wanted, known)

    def counted_again(root: DocumentRoot, outline: Outline) -> Resource | None:
        resource = load_again(root, outline)
        if resource is not None:
            looks.append(os.path.basename(outline.path))
        return resource

    def counted_still(root: DocumentRoot, outline: Outline) -> bool:
        still = still_has(root, outline)
        if still:
            looks.append(os.path.basename(outline.path))
        return still

    monkeypatch.setattr(DocumentRoot, "load", counted)
    monkeypatch.setattr(DocumentRoot, "load_again", counted_again)
    monkeypatch.setattr(DocumentRoot, "still_has", counted_still)
    return looks


def test_each_of_many_that_wait_for_one_large_file_gets_it_from_an_open_file_of_its_own(
    loop_name: str, site: Path
) -> None:
    with hosted(loop_name, site) as host:
        before = descriptors()
        peers = [host.connect()[0] for _ in range(6)]
        with host.held_threads():
            for peer in peers:
                peer.sendall(request("/large.bin"))
            host.wait_until(lambda: waiting(host) == [6], "six that wait")
            peers[0].close()
        for peer in peers[1:]:
            assert len(read_reply(peer).body) == 1_000_000
            peer.close()
        host.wait_until(lambda: descriptors() == before, "all files closed")


def test_a_look_that_fails_in_a_way_nobody_thought_of_is_500_for_all_who_wait_for_it(
    loop_name: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(root: DocumentRoot, wanted: Wanted, known: Resource | None = None) -> Resource:
        raise ZeroDivisionError

    with hosted(loop_name, site) as host:
        peers = [host.connect()[0] for _ in range(3)]
        with monkeypatch.context() as patched:
            patched.setattr(DocumentRoot, "load", fail)
            with host.held_threads():
                for peer in peers:
                    peer.sendall(request("/small.txt"))
                host.wait_until(lambda: waiting(host) == [3], "three that wait")
            for peer in peers:
                assert read_reply(peer).status == 500
        for peer in peers:
            assert exchange(peer, "/small.txt").body == SMALL
            peer.close()
        assert [type(fault["exception"]) for fault in host.faults] == [ZeroDivisionError] * 3
        host.faults.clear()


def test_an_answer_kept_ready_is_for_the_same_bytes_only(loop_name: str, site: Path) -> None:
    """Each is asked until its answer came from the table, with the others in the table as well."""
    expected = {
        request("/small.txt"): (200, 500, None),
        request("/small.txt", method="HEAD"): (200, 0, None),
        request("/small.txt", "Connection: keep-alive", version="1.0"): (200, 500, "keep-alive"),
        request("/small.txt", "Range: bytes=0-4"): (206, 5, None),
        request("/small.txt", "Range: bytes=0-4", method="HEAD"): (200, 0, None),
    }
    with hosted(loop_name, site) as host:
        peer, served = host.connect()
        with peer:
            left = set(expected)
            while left:
                ready = host.call(lambda: set(served._hot))
                for packet, (status, size, connection) in expected.items():
                    peer.sendall(packet)
                    reply = read_reply(peer, head=packet.startswith(b"HEAD"))
                    assert (reply.status, len(reply.body), reply.fields.get("connection")) == (status, size, connection)
                if len(ready) == len(expected):
                    left -= ready


def test_a_part_of_a_large_file_is_kept_ready_if_it_is_asked_for_twice_in_a_second(loop_name: str, site: Path) -> None:
    content = os.urandom(1_000_000)
    (site / "large.bin").write_bytes(content)
    with open(site / "large.bin", "rb") as file:
        if not knows_nowait(file.fileno()):
            pytest.skip("the file system of temporary files knows no RWF_NOWAIT")
    parts = {request("/large.bin", f"Range: bytes={start}-{start + 9}"): start for start in (0, 10, 999_990)}
    with hosted(loop_name, site) as host:
        peer, served = host.connect()
        with peer:
            left = set(parts)
            while left:
                ready = host.call(lambda: set(served._hot))
                for packet, start in parts.items():
                    peer.sendall(packet)
                    reply = read_reply(peer)
                    assert (reply.status, reply.body) == (206, content[start : start + 10])
                if len(ready) == len(parts):
                    left -= ready
            for method, fields in (("HEAD", ()), ("GET", ()), ("HEAD", ("Range: bytes=0-9",))):
                packet = request("/large.bin", *fields, method=method)
                for _ in range(3):
                    peer.sendall(packet)
                    assert len(read_reply(peer, head=method == "HEAD").body) == (1_000_000 if method == "GET" else 0)
                assert packet not in host.call(lambda: set(host.service.ready.table))


def test_a_part_of_a_large_file_that_was_replaced_is_soon_that_of_the_new_one(loop_name: str, site: Path) -> None:
    with hosted(loop_name, site) as host:
        peer, _ = host.connect()
        with peer:
            for _ in range(3):
                assert exchange(peer, "/large.bin", "Range: bytes=0-4").body == bytes(5)
            (site / "new").write_bytes(b"fresh" * 200_000)
            (site / "new").rename(site / "large.bin")
            since = time.monotonic()
            while exchange(peer, "/large.bin", "Range: bytes=0-4").body != b"fresh":
                assert time.monotonic() < since + DEADLINE
            for _ in range(3):
                assert exchange(peer, "/large.bin", "Range: bytes=0-4").body == b"fresh"


@pytest.mark.parametrize("last", ["HTTP/1.0", "Connection: close"])
@pytest.mark.parametrize("behind", [b"", request("/small.txt") * 3], ids=["alone", "more"])
def test_a_ready_answer_to_the_last_request_ends_the_connection(
    loop_name: str, site: Path, last: str, behind: bytes
) -> None:
    packet = request("/small.txt", version="1.0") if last == "HTTP/1.0" else request("/small.txt", last)
    with hosted(loop_name, site) as host:
        was_ready = False
        while not was_ready:
            peer, served = host.connect()
            with peer:
                assert exchange(peer, "/small.txt").body == SMALL
                was_ready = packet in host.call(partial(getattr, served, "_hot"))
                peer.sendall(packet + behind)
                reply = read_reply(peer)
                assert (reply.body, reply.fields["connection"]) == (SMALL, "close")
                assert receive_to_end(peer) == b""


def test_no_ready_answer_comes_while_another_is_owed_or_a_message_is_half_there(loop_name: str, site: Path) -> None:
    packet = request("/small.txt")
    with hosted(loop_name, site, Settings(threads=1, cache_valid=1000)) as host:
        peer, served = host.connect()
        with peer:
            assert exchange(peer, "/small.txt").body == SMALL
            with host.held_threads():
                peer.sendall(request("/other.txt"))
                host.wait_until(lambda: served._awaits_disk, "a wait for the disk")
                peer.sendall(packet)
                host.wait_until(lambda: served._input, "the next packet")
            assert read_reply(peer).body == b"other"
            assert read_reply(peer).body == SMALL
            # These bytes are the body of another request, whatever they look like.
            peer.sendall(request("/other.txt", f"Content-Length: {len(packet)}"))
            host.wait_until(lambda: served._request is not None, "the head")
            peer.sendall(packet)
            assert read_reply(peer).body == b"other"
            assert exchange(peer, "/small.txt").body == SMALL


def test_the_second_ends_what_was_kept_ready(loop_name: str, site: Path) -> None:
    path = site / "small.txt"
    with hosted(loop_name, site) as host:
        peer, _ = host.connect()
        with peer:
            first = exchange(peer, "/small.txt")
            path.write_bytes(b"changed")
            os.utime(path, ns=(0, 0))
            dates = {first.fields["date"]}
            while len(dates) <= 2:
                reply = exchange(peer, "/small.txt")
                dates.add(reply.fields["date"])
                if reply.fields["date"] != first.fields["date"]:
                    assert reply.body == b"changed"


def test_ready_answers_are_bounded(loop_name: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiolsp.websrv.ready.SIZE", 5000)
    with hosted(loop_name, site, Settings(threads=1, cache_valid=1000)) as host:
        peer, _ = host.connect()
        with peer:
            for number in range(100):
                peer.sendall(request(f"/small.txt?{number}"))
                receive_until(peer, SMALL)
        assert host.call(lambda: sum(len(a) + len(b.payload) for a, b in host.service.ready.table.items())) <= 5000
