"""What would lose a long run at its end is said before it, in one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import compare
import greedy
import soak
from harness import DEADLINE
from load.options import check_writable, make_directory

RUNS = pytest.mark.parametrize(
    ("main", "words"),
    [
        (soak.main, ["--duration", "1s", "--json", "/proc/nowhere/soak.json"]),
        (greedy.main, ["idle", "--output", "/proc/nowhere"]),
        (compare.main, ["trigger", "--quick", "--output", "/proc/nowhere"]),
    ],
    ids=["soak", "greedy", "compare"],
)


@RUNS
def test_results_that_could_not_be_written_are_refused_before_the_run(
    main: Callable[[list[str]], int], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and "cannot write" in err and "/proc/nowhere" in err and err.count("\n") == 1


WITHOUT_PSUTIL = """
import runpy, sys

sys.modules["psutil"] = None
del sys.argv[0]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("words", ["soak.py --duration 1s", "greedy.py idle", "compare.py trigger --quick"])
def test_a_package_that_is_missing_is_named_before_the_run(words: str) -> None:
    script, *options = words.split()
    command = [sys.executable, "-c", WITHOUT_PSUTIL, str(Path(soak.__file__).with_name(script)), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.endswith("psutil is not installed: pip install 'aiolsp[bench]'\n")


def test_the_directory_of_the_results_is_made_and_left_empty(tmp_path: Path) -> None:
    check_writable(str(tmp_path / "soak.json"))
    make_directory(tmp_path / "a" / "b")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["a", "a/b"]
