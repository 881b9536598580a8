"""Files as the tests of the web server ask for them: their content, and a directory of them."""

from __future__ import annotations

import os
import random
from pathlib import Path

BODY = bytes(range(256)) * 40
LARGE = random.Random(1).randbytes(1_500_000)
EARLY, LATE = "Thu, 01 Jan 1970 00:00:01 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"


def make_plain_files(root: Path) -> None:
    """``data.bin``, which is BODY, and ``large.bin``, LARGE; an empty one, one of EARLY, and a directory."""
    (root / "sub").mkdir()
    (root / "data.bin").write_bytes(BODY)
    (root / "large.bin").write_bytes(LARGE)
    (root / "empty.txt").write_bytes(b"")
    (root / "old.txt").write_text("older")
    os.utime(root / "old.txt", (1, 1))
