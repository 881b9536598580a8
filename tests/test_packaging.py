"""What is given to others: a wheel has what runs, a source distribution also what tests and measures it."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

ROOT = Path(__file__).parent.parent

BUILD = "from setuptools import build_meta as b; print(b.build_sdist('dist')); print(b.build_wheel('dist'))"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, with both distributions in its ``dist``."""
    pytest.importorskip("setuptools", minversion="77")
    copy = tmp_path_factory.mktemp("packaging") / "aiolsp"
    copytree(
        ROOT, copy, ignore=ignore_patterns("__pycache__", ".*_cache", ".git", ".hypothesis", ".venv", "*.egg-info")
    )
    subprocess.run([sys.executable, "-c", BUILD], cwd=copy, check=True, capture_output=True)
    return copy


def files_of(tree: Path, *folders: str) -> set[str]:
    """The names of all files in *folders*, from the top of the repository down."""
    return {str(path.relative_to(tree)) for folder in folders for path in (tree / folder).rglob("*") if path.is_file()}


def test_a_source_distribution_has_all_that_the_tests_need(tree: Path) -> None:
    with tarfile.open(next(tree.glob("dist/*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert files_of(tree, "aiolsp", "tests", "bench") - names == set()
    assert {"README.md", "pyproject.toml", ".ci/run"} <= names


def test_a_wheel_has_the_package_and_nothing_else(tree: Path) -> None:
    with zipfile.ZipFile(next(tree.glob("dist/*.whl"))) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    missing = files_of(tree, "aiolsp") - names
    assert all(name.endswith(".svg") for name in missing), "the README's pictures stay in the repository"
    assert names <= files_of(tree, "aiolsp")
