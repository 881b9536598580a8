"""What is known of files whose content is not kept: bounded, and never believed without a look."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.linux import directories
from aiolsp.linux.cached import knows_nowait
from aiolsp.static.representation import Identity, Outline, Resource
from aiolsp.websettings import Settings
from aiolsp.websrv.cache import ENTRY_COST, OUTLINED, FileCache, Key
from aiolsp.websrv.outlines import OUTLINE_COST, Outlines
from faults import wait_until
from webclient import exchange
from webhost import hosted

MISSING = Outline(404, (), 0)

COST = OUTLINE_COST + 2
"""Bytes that the outline of a file with a short name takes."""


def key(name: str) -> Key:
    return name.encode(), None


def outline(name: str, version: int = 0, size: int = 10) -> Outline:
    found = Outline(200, (), size, Identity(1, ord(name), size, version, version, b""))
    found.path = name.encode()
    return found


def test_what_is_known_of_a_file_is_kept_until_it_is_another() -> None:
    outlines = Outlines(10 * COST)
    first, second = outline("a"), outline("a", version=1)
    for kept in (first, second):
        outlines.keep(key("a"), kept, newcomer=True)
        outlines.keep(key("a"), outline("a", version=kept is second), newcomer=True)
        assert outlines.get(key("a")) is kept
    assert outlines.used == COST


def test_a_newcomer_takes_nobodys_place_and_another_that_of_the_least_recently_used() -> None:
    outlines = Outlines(2 * COST)
    for name in "abc":
        outlines.keep(key(name), outline(name), newcomer=True)
    assert [bool(outlines.get(key(name))) for name in "cba"] == [False, True, True]
    outlines.keep(key("c"), outline("c"), newcomer=False)
    assert [bool(outlines.get(key(name))) for name in "abc"] == [True, False, True]
    outlines.keep(key("a"), outline("a", version=1), newcomer=True)
    changed = outlines.get(key("a"))
    assert changed is not None and changed.identity == outline("a", version=1).identity


def test_what_has_no_path_has_no_outline() -> None:
    outlines = Outlines(10 * COST)
    outlines.keep(key("a"), outline("a"), newcomer=True)
    outlines.keep(key("a"), MISSING, newcomer=True)
    assert outlines.get(key("a")) is None and outlines.used == len(outlines) == 0


def test_of_what_has_to_go_the_outline_stays() -> None:
    cache = FileCache((ENTRY_COST + 1000) * OUTLINED // (OUTLINED - 1))
    for name in "abb":  # a newcomer is let in when it comes again
        cache.put(key(name), Resource(outline(name, size=900), b"x" * 900), 0.0)
    assert cache.get(key("a")) is None and cache.get(key("b")) is not None
    assert cache.outline(key("a")) is not None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 9000), st.integers(0, 3)), max_size=60))
def test_contents_and_outlines_together_never_take_more_than_the_size(steps: list[tuple[str, int, int]]) -> None:
    size = 4 * ENTRY_COST * OUTLINED // (OUTLINED - 1)
    cache = FileCache(size)
    for name, length, step in steps:
        if step == 0:
            cache.remember(key(name), MISSING)
        elif step == 1:
            cache.remember(key(name), outline(name, size=length))
        else:
            known = outline(name, size=length)
            if cache.put(key(name), Resource(known, b"x" * length), 0.0) is None:
                cache.remember(key(name), known)
        assert not (cache.get(key(name)) and cache.outline(key(name))), "one or the other"
        outlines = [kept for other in "abcdefgh" if (kept := cache.outline(key(other)))]
        entries = [entry for other in "abcdefgh" if (entry := cache.get(key(other)))]
        assert cache.used == len(outlines) * COST + sum(entry.cost for entry in entries) <= size


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for number in range(40):
        (tmp_path / f"{number}.txt").write_bytes(b"%d" % number * 3000)
    (tmp_path / "large.bin").write_bytes(bytes(1_000_000))
    with open(tmp_path / "large.bin", "rb") as file:
        if not knows_nowait(file.fileno()):
            pytest.skip("the file system of temporary files knows no RWF_NOWAIT")
    return tmp_path


def test_files_of_a_site_larger_than_the_cache_are_what_is_on_the_disk(loop_name: str, site: Path) -> None:
    with hosted(loop_name, site, Settings(cache_size=80_000, cache_valid=0)) as host:
        peer, _ = host.connect()
        with peer:
            for turn in range(4):
                for number in range(40):
                    reply = exchange(peer, f"/{number}.txt")
                    assert reply.body == b"%d" % (number + 10 * (turn > 2)) * 3000
                if turn == 2:
                    assert host.call(lambda: len(host.service.files.cache._outlines)) > 5
                    for number in range(40):
                        (site / "new").write_bytes(b"%d" % (number + 10) * 3000)
                        (site / "new").rename(site / f"{number}.txt")
            (site / "9.txt").unlink()
            assert exchange(peer, "/9.txt").status == 404


@pytest.mark.parametrize("accept_encoding", [(), ("Accept-Encoding: br, gzip",)])
def test_a_part_of_a_large_file_is_of_the_file_that_is_there(
    loop_name: str, site: Path, accept_encoding: tuple[str, ...]
) -> None:
    with hosted(loop_name, site, Settings(cache_valid=0)) as host:
        peer, _ = host.connect()
        with peer:
            for start in range(5):
                reply = exchange(peer, "/large.bin", f"Range: bytes={start}-{start + 9}", *accept_encoding)
                assert (reply.status, reply.body) == (206, bytes(10))
            assert host.call(lambda: len(host.service.files.cache._outlines)) == 1
            (site / "large.bin").write_bytes(b"new" * 300_000)
            assert exchange(peer, "/large.bin", "Range: bytes=30-32", *accept_encoding).body == b"new"
            if accept_encoding:
                (site / "large.bin.gz").write_bytes(b"compressed")
                assert exchange(peer, "/large.bin", "Range: bytes=6-9", *accept_encoding).body == b"ssed"
            os.truncate(site / "large.bin", 0)
            assert exchange(peer, "/large.bin").body == b""


@pytest.mark.parametrize("size", [80_000, 1 << 26], ids=["outlined", "kept"])
def test_a_compressed_sibling_is_found_though_its_directory_was_looked_at_for_others(
    loop_name: str, site: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(directories, "SETTLED", 50_000_000)
    with hosted(loop_name, site, Settings(cache_size=size)) as host:
        peer, _ = host.connect()

        def codings() -> set[str | None]:
            replies = [exchange(peer, f"/{number}.txt", "Accept-Encoding: gzip") for number in range(40)]
            return {reply.fields.get("content-encoding") for reply in replies}

        with peer:
            looked_at = host.service.root._directories._states
            wait_until(lambda: codings() == {None} and looked_at.get(b"") is not None, "a settled directory")
            for number in range(40):
                (site / f"{number}.txt.gz").write_bytes(b"compressed")
            wait_until(lambda: codings() == {"gzip"}, "siblings")
