"""The directory that the web servers serve. The same bytes for all of them, made once for a comparison."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

KIB, MIB = 1 << 10, 1 << 20

SMALL, MIDDLE, LARGE, HUGE = "small.html", "middle.bin", "large.bin", "huge.bin"
"""1 KiB, 16 KiB, 1 MiB and 64 MiB."""

SIZES = {SMALL: KIB, MIDDLE: 16 * KIB, LARGE: MIB, HUGE: 64 * MIB}

MISSING = "missing.html"

COLD_FILES, COLD_SIZE = 20_000, 8 * KIB
"""160 MB in all, far over the 64 MiB that websrv's cache holds; asked for in turn, none is there when wanted."""

IN_ONE_DIRECTORY = 200


def make_site(directory: Path) -> None:
    """The files of known sizes."""
    random = Random(0)
    for name, size in SIZES.items():
        # The large ones repeat a piece: nobody looks at their content, and random bytes would take a while.
        piece = random.randbytes(min(size, MIB))
        with Path(directory, name).open("wb") as file:
            for _ in range(size // len(piece)):
                file.write(piece)


def make_cold_set(directory: Path) -> tuple[str, ...]:
    """The many files; their paths, in an order that is no directory's."""
    content = Random(1).randbytes(COLD_SIZE)
    paths = []
    for number in range(COLD_FILES):
        path = Path(directory, "cold", str(number // IN_ONE_DIRECTORY), f"{number}.bin")
        if number % IN_ONE_DIRECTORY == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        paths.append(f"/{path.relative_to(directory)}")
    Random(2).shuffle(paths)
    return tuple(paths)


def make_names(directory: Path, name: str) -> tuple[str, ...]:
    """As many names (hard links) of one file; their paths."""
    links = Path(directory, "names")
    if not links.exists():
        links.mkdir()
        for number in range(COLD_FILES):
            os.link(Path(directory, name), links / f"{number}.bin")
    return tuple(f"/names/{number}.bin" for number in range(COLD_FILES))
