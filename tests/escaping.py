"""What tries to lead out of a directory: targets made of every encoding, and a site with all that could let them.

Beside the site lie files whose contents and whose names must never leave; no target holds the one or the other.
"""

from __future__ import annotations

import ctypes
import os
import random
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SECRET = b"this must never leave"
"""What stands in each file that is outside of the site, or hidden."""

ELSEWHERE = b"a-name-from-outside"
"""What a listing of a directory outside of the site would show."""

MAY_LEAVE = b"may leave"

PIECES = [
    *(b"/", b"//", b"/../", b"/./", b"..", b".", b"...", b"\\", b";", b";a=b", b"?", b"~", b":", b"@"),
    *(b"%2e", b"%2E", b"%2e%2e", b"%252e", b"%252e%252e", b"%2f", b"%2F", b"%252f", b"%5c", b"%255c"),
    *(b"%c0%ae", b"%c0%af", b"%e0%80%ae", b"%e0%80%af", b"%f0%80%80%ae", b"%c0%2e", b"%25uff0e"),
    *(b"%0d%0a", b"%0a", b"%09", b"%20", b"\xc0\xae", b"\xef\xbc\x8e", b"http://a/"),
]
"""Pieces of targets that a server has to understand."""

NAMES = (b"sub", b"SUB", b"up", b"link", b"out", b"secret.txt", b"%73ecret.txt", b".hidden", b"file", b"site")
"""And those that lead somewhere in `make_site`, or would."""

BROKEN = [b"%00", b"%", b"%2", b"%%32e", b"%uff0e", b"\x01", b"#"]
"""Pieces that make a target malformed: after that answer the connection is over."""


PAUSE = 1e-5
"""Seconds between two exchanges: without them, whoever else runs in this process would hardly get a turn."""

AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Of renameat2(2)."""


def make_site(base: Path, *, links_out: bool = True) -> Path:
    """The directory to serve, in *base*, which is what must not be seen; it may have links that lead out."""
    site = base / "site"
    (site / "sub").mkdir(parents=True)
    (base / "secret.txt").write_bytes(SECRET)
    (base / ELSEWHERE.decode()).write_bytes(SECRET)
    (site / "file").write_bytes(MAY_LEAVE)
    (site / "sub" / "file").write_bytes(MAY_LEAVE)
    (site / ".hidden").write_bytes(SECRET)
    (site / "link").symlink_to("../secret.txt" if links_out else "file")
    (site / "out").symlink_to(base / "secret.txt" if links_out else "sub/file")
    (site / "up").symlink_to(".." if links_out else "sub")
    return site


PROGRAM_NAMES = (b"cgi-bin", b"htbin", b"inside", b"outside", b"%6futside", b"link", b"up", b"folder")
"""Pieces of targets that lead somewhere in `make_programs`, or would."""


def make_programs(base: Path) -> Path:
    """The directory of programs to run, in *base*; all but "inside" leave a file there, *ran*, if they are run."""
    folder = base / "programs"
    for path in (base / "outside", folder / "folder" / "outside"):
        _make_program(path, f"echo ran >{base}/ran; ")
    _make_program(folder / "inside", "")
    (folder / "link").symlink_to("../outside")
    (folder / "up").symlink_to("..")
    subprocess.run([base / "outside"], check=True, stdout=subprocess.DEVNULL)
    (base / "ran").unlink()  # it works
    return folder


def _make_program(path: Path, deed: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    output = f"Status: 200\\nContent-Length: {len(path.name)}\\n\\n{path.name}"
    path.write_text(f"#!/bin/sh\n{deed}printf '{output}'\n")
    path.chmod(0o755)


def targets(
    seed: int, count: int, *, broken: float = 0.0, names: Sequence[bytes] = NAMES, start: bytes = b"/"
) -> Iterator[bytes]:
    """*count* targets, the same for one *seed*; about that part of them has a piece that is *broken*.

    The most of them begin with *start*, and a piece of five or so is one of *names*.
    """
    rng = random.Random(seed)
    for _ in range(count):
        pieces = rng.choices([*PIECES, *names], k=rng.randrange(1, 9))
        if rng.random() < broken:
            pieces.insert(rng.randrange(len(pieces) + 1), rng.choice(BROKEN))
        first = rng.choices([start, b"//", b"http://a/", b""], [90, 5, 3, 2])
        yield b"".join(first + pieces + rng.choices([b"", b"/"], [3, 1]))


@contextmanager
def exchanging(*pairs: tuple[Path, Path]) -> Iterator[None]:
    """Each pair of names changes places again and again, each time at once: there is never a moment without them."""
    libc = ctypes.CDLL(None, use_errno=True)
    stop = threading.Event()

    def exchange() -> None:
        while not stop.wait(PAUSE):
            for one, other in pairs:
                names = os.fsencode(one), os.fsencode(other)
                assert libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
