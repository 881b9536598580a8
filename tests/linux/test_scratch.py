"""A directory for the time being: whenever a signal comes, it is gone afterwards."""

from __future__ import annotations

import signal
import tempfile
from operator import attrgetter
from pathlib import Path

import pytest

from aiolsp.linux.scratch import scratch


@pytest.mark.parametrize("function", ["mkdtemp", "_shutil.rmtree"])
def test_a_signal_while_a_directory_is_made_or_removed_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    # Where Python may act on the signal: after mkdir(2), of which nobody knows yet, and before what rmdir(2) removes.
    real = attrgetter(function)(tempfile)

    def interrupted(*args: object, **options: object) -> object:
        made = real(*args, **options) if function == "mkdtemp" else None
        signal.raise_signal(signal.SIGINT)
        return made or real(*args, **options)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(f"tempfile.{function}", interrupted)
    with pytest.raises(KeyboardInterrupt), scratch("aiolsp-lab-") as home:
        (home / "file").touch()
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
