"""A directory as a page: every name a file can have comes back through its link."""

from __future__ import annotations

import html
import os
import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.http1.target import parse_target
from aiolsp.static import listing
from aiolsp.static.listing import AT_ONCE, Item, page, read_directory
from aiolsp.static.policy import Policy

FILE_NAME = st.binary(min_size=1, max_size=40).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)


class Links(HTMLParser):
    """The links of a page with their texts, and each element that is not one of ours."""

    EXPECTED = frozenset("html head meta title style body h1 table tr td a p".split())

    def __init__(self, text: str) -> None:
        super().__init__()
        self.hrefs: list[str] = []
        self.strange: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.EXPECTED:
            self.strange.append(tag)
        self.hrefs += [value for name, value in attrs if name == "href" and value is not None]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def names(fd: int, policy: Policy | None = None) -> list[bytes]:
    return [item.name for item in read_directory(fd, policy or Policy())[0]]


@settings(max_examples=300, deadline=None)
@given(FILE_NAME, FILE_NAME, st.booleans())
def test_a_link_leads_to_the_name_it_stands_for(parent: bytes, name: bytes, is_directory: bool) -> None:
    text = page((parent,), [Item(name, is_directory, 1, 0.0)]).decode()
    links = Links(text)
    assert not links.strange
    up, link = links.hrefs
    # As a browser does it, from the page's own address.
    base = "http://host" + urljoin("/", "".join(f"%{byte:02X}" for byte in parent)) + "/"
    resolved = urlsplit(urljoin(base, link))
    assert resolved.netloc == "host"
    target = parse_target(resolved.path.encode("ascii"))
    assert target is not None
    assert target.segments == (parent, name)
    assert target.is_directory is is_directory
    assert urlsplit(urljoin(base, up)).path == "/"


def test_each_byte_a_name_can_hold_round_trips_from_the_disk(tmp_path: Path, directory: int) -> None:
    there = {b"a" + bytes([byte]) + b"b" for byte in range(1, 256) if byte != ord("/")}
    for name in there:
        with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
            pass
    items, more = read_directory(directory, Policy())
    assert not more
    links = Links(page((), items).decode())
    targets = [parse_target(b"/" + href.encode("ascii")) for href in links.hrefs]
    assert {target.segments[0] for target in targets if target is not None} == there


def test_a_name_cannot_become_a_part_of_the_page() -> None:
    evil = b"\"><script>alert('x')</script>&amp;\r\n\x1b[2J\xe2\x80\xae"
    text = page((evil,), [Item(evil, False, 1, 0.0)]).decode()
    assert "<script" not in text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
    assert html.escape("&amp;") in text


def test_directories_come_first_and_each_kind_is_sorted(tmp_path: Path, directory: int) -> None:
    for name in ("b", "a", "C"):
        (tmp_path / name).write_bytes(b"")
    for name in ("z", "y"):
        (tmp_path / name).mkdir()
    assert names(directory) == [b"y", b"z", b"C", b"a", b"b"]


def test_only_what_would_be_served_is_shown(tmp_path: Path, directory: int) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / ".hidden").write_bytes(b"")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "broken").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    assert names(directory) == [b"file"]
    assert names(directory, Policy(follow_symlinks=True)) == [b"file", b"link"]
    assert names(directory, Policy(dotfiles=True)) == [b".hidden", b"file"]


def test_sizes_and_times_are_shown_for_people() -> None:
    sizes = {1023: b"1023 B", 1024: b"1.0 KiB", 1536: b"1.5 KiB", 5 << 40: b"5.0 TiB", 5 << 50: b"5120.0 TiB"}
    text = page((), [Item(b"a", False, size, 86400.0) for size in sizes])
    for shown in (*sizes.values(), b"1970-01-02 00:00"):
        assert b">" + shown + b"<" in text
    directory = page((), [Item(b"d", True, 1, 0.0)])
    assert b" B<" not in directory, "what a directory takes says nothing"
    assert b"1970-01-01 00:00" in directory


@settings(max_examples=300, deadline=None)
@given(st.floats(-(2.0**40), 2.0**40))
def test_a_time_is_that_of_the_calendar_to_the_minute(mtime: float) -> None:
    try:
        expected = time.strftime("%Y-%m-%d %H:%M", time.gmtime(mtime))
    except (OverflowError, OSError, ValueError):
        expected = ""
    assert f"<td>{expected}</td></tr>".encode() in page((), [Item(b"name", False, 0, mtime)])


@settings(max_examples=300, deadline=None)
@given(FILE_NAME | st.from_regex(rb"[0-9A-Za-z._~-]+", fullmatch=True))
def test_a_name_is_shown_as_it_is_but_for_what_cannot_be(name: bytes) -> None:
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name.decode("utf-8", "replace"))
    assert f'">{html.escape(text)}</a></td>' in page((), [Item(name, False, 0, 0.0)]).decode()


def test_others_may_have_the_interpreter_after_each_few_of_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    rows = [0]

    def counted(item: Item) -> str:
        rows[-1] += 1
        return row(item)

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        rows.append(0)

    row = listing._row
    monkeypatch.setattr(listing, "_row", counted)
    monkeypatch.setattr(time, "sleep", pause)
    page((), [Item(b"%d" % number, False, 0, 0.0) for number in range(1000)])
    assert sum(rows) == 1000 and max(rows) <= AT_ONCE
    assert all(0 < seconds < 0.001 for seconds in pauses), "with 0, nobody would wake up in time to take it"


@pytest.mark.parametrize("mtime", [-1.0, -(2.0**62), 2.0**62, 1e300])
def test_no_time_of_a_file_is_too_strange(mtime: float) -> None:
    assert b"name" in page((), [Item(b"name", False, 0, mtime)])


def test_the_root_has_no_parent() -> None:
    assert b"../" not in page((), [])


def test_the_page_is_complete_in_itself_and_in_dark_mode_too() -> None:
    text = page((), []).decode()
    assert text.startswith("<!DOCTYPE html>")
    assert "color-scheme: light dark" in text
    assert not re.search(r"<script|<link|src=|url\(", text)


def test_a_page_of_too_many_names_says_so(tmp_path: Path, directory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_ENTRIES", 3)
    for number in range(3):
        (tmp_path / f"{number}").write_bytes(b"")
    assert read_directory(directory, Policy())[1] is False
    (tmp_path / "3").write_bytes(b"")
    items, more = read_directory(directory, Policy())
    assert (len(items), more) == (3, True)
    assert b"<p>It has more names than these 3, which" in page((), items, more=more)
    assert b"<p>" not in page((), items)


def test_names_not_shown_take_no_place_on_the_page(
    tmp_path: Path, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_ENTRIES", 3)
    for number in range(50):
        (tmp_path / f".{number}").write_bytes(b"")
    for number in range(3):
        (tmp_path / f"{number}").write_bytes(b"")
    items, more = read_directory(directory, Policy())
    assert (len(items), more) == (3, False)
