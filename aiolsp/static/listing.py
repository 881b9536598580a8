"""A directory as a page: names that round-trip byte for byte, sizes and times.

Facts: a page of MAX_ENTRIES names is a tenth of a second of Python on a thread. Whoever else wants the interpreter gets
it from a thread that makes no system call after 5 ms (sys.getswitchinterval), and wants it again after each of its own
system calls: three times for an answer.
Decision: to read the directory is a system call for each name. When its rows are written, the thread sleeps after each
AT_ONCE of them, for as short a time as the kernel can: with a time of 0, nobody would wake up before it goes on.
Price: 0.06 ms for each sleep, 5 ms for the longest page.
"""

import math
import os
import stat
import time
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from aiolsp.http1.response import escape
from aiolsp.http1.target import encode_segment
from aiolsp.static.policy import Policy

MAX_ENTRIES = 10_000
"""Names that a page shows, as in caddy; more would take a browser longer than a person waits."""

DAY = 24 * 60 * 60

SHORTEST = 0.000_001
"""Seconds: what the kernel makes of it is 50 us more (PR_SET_TIMERSLACK(2const))."""

AT_ONCE = 128
"""Rows that are written without a pause, in less than half a millisecond."""

_STYLE = """
:root { color-scheme: light dark }
body { font: 1rem/1.6 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
td { padding: .1rem .8rem .1rem 0; border-bottom: 1px solid color-mix(in srgb, currentColor 15%, transparent) }
td:nth-child(n+2) { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
a { text-decoration: none; overflow-wrap: anywhere }
""".strip()


class Item(NamedTuple):
    """A name in a directory that can be asked for."""

    name: bytes
    is_directory: bool
    size: int
    mtime: float


def read_directory(fd: int, policy: Policy) -> tuple[list[Item], bool]:
    """What a client may ask for in the directory *fd*, directories first, then by name; whether that is not all.

    Of too many it takes those that come first from the disk, in no order: to see them all would take seconds for each
    million.
    """
    with os.scandir(fd) as entries:
        shown = (item for entry in entries if (item := _item(entry, policy)) is not None)
        seen = list(islice(shown, MAX_ENTRIES + 1))
    seen.sort(key=attrgetter("name"))
    seen.sort(key=attrgetter("is_directory"), reverse=True)
    return seen[:MAX_ENTRIES], len(seen) > MAX_ENTRIES


def page(segments: Iterable[bytes], items: Iterable[Item], *, more: bool = False) -> bytes:
    """The page that lists *items*, which stand in the directory that *segments* name."""
    path = "/" + "".join(f"{_shown(segment)}/" for segment in segments)
    rows = [] if path == "/" else ['<tr><td><a href="../">../</a></td><td></td><td></td></tr>']
    left = iter(items)
    while some := [_row(item) for item in islice(left, AT_ONCE)]:
        rows += some
        time.sleep(SHORTEST)
    note = (
        f"<p>It has more names than these {MAX_ENTRIES}, which are those that the disk gave first.</p>\n"
        if more
        else ""
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{path}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{path}</h1>\n<table>\n" + "\n".join(rows) + f"\n</table>\n{note}</body>\n</html>\n"
    ).encode()


def _item(entry: os.DirEntry[str], policy: Policy) -> Item | None:
    name = os.fsencode(entry.name)
    if name.startswith(b".") and not policy.dotfiles:
        return None
    try:
        status = entry.stat(follow_symlinks=policy.follow_symlinks)
    except OSError:
        return None
    if stat.S_ISDIR(status.st_mode):
        return Item(name, True, 0, status.st_mtime)
    return Item(name, False, status.st_size, status.st_mtime) if stat.S_ISREG(status.st_mode) else None


def _row(item: Item) -> str:
    slash = "/" if item.is_directory else ""
    size = "" if item.is_directory else _size(item.size)
    link = encode_segment(item.name)
    # Where nothing had to be encoded, there is nothing to be escaped, or that cannot be shown.
    shown = link if len(link) == len(item.name) else _shown(item.name)
    return f'<tr><td><a href="{link}{slash}">{shown}{slash}</a></td><td>{size}</td><td>{_time(item.mtime)}</td></tr>'


def _shown(name: bytes) -> str:
    text = name.decode("utf-8", "replace")
    if not text.isprintable():
        text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return escape(text)


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def _time(mtime: float) -> str:
    number, second = divmod(math.floor(mtime), DAY)
    day = _day(number)
    return day and f"{day} {second // 3600:02}:{second // 60 % 60:02}"


@lru_cache(maxsize=1024)
def _day(number: int) -> str:
    """The date of the day *number* since the epoch; nothing if it has none."""
    try:
        return time.strftime("%Y-%m-%d", time.gmtime(number * DAY))
    except (OverflowError, OSError, ValueError):
        return ""
