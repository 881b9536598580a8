"""A directory for the time being, which no signal leaves behind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiolsp.linux.signals import uninterrupted


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """An empty directory for as long as the block runs: no signal comes between it and its removal."""
    directory = None
    try:
        with uninterrupted():
            directory = tempfile.TemporaryDirectory(prefix=prefix)
        yield Path(directory.name)
    finally:
        if directory is not None:
            with uninterrupted():
                directory.cleanup()
