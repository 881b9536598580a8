"""What is given to others: a wheel has what runs, a source distribution also what tests and measures it."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

ROOT = Path(__file__).parent.parent

BUILD = "import backend; backend.build_sdist('dist'); backend.build_wheel('dist')"

TOP = {".ci", "README.md", "aiolsp", "bench", "pyproject.toml", "tests"}
"""What stands at the top of the repository, dot files aside."""

ADDED = {"PKG-INFO", "aiolsp.egg-info", "setup.cfg"}
"""What setuptools adds to that."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, with both distributions in its ``dist``."""
    pytest.importorskip("setuptools", minversion="77")
    copy = tmp_path_factory.mktemp("packaging") / "aiolsp"
    copytree(
        ROOT, copy, ignore=ignore_patterns("__pycache__", ".*_cache", ".git", ".hypothesis", ".venv", "*.egg-info")
    )
    environment = os.environ | {"PYTHONPATH": str(copy / ".ci")}
    subprocess.run([sys.executable, "-c", BUILD], cwd=copy, env=environment, check=True, capture_output=True)
    return copy


def files_of(tree: Path, *folders: str) -> set[str]:
    """The names of all files in *folders*, from the top of the repository down."""
    return {str(path.relative_to(tree)) for folder in folders for path in (tree / folder).rglob("*") if path.is_file()}


def source_names(tree: Path) -> set[str]:
    """The names of the source distribution's files and folders, from its top down."""
    with tarfile.open(next(tree.glob("dist/*.tar.gz"))) as archive:
        return {name.partition("/")[2] for name in archive.getnames()} - {""}


def test_a_source_distribution_has_all_that_the_tests_need(tree: Path) -> None:
    names = source_names(tree)
    assert files_of(tree, "aiolsp", "tests", "bench", ".ci") - names == set()
    assert {"README.md", "pyproject.toml"} <= names


def test_a_source_distribution_has_nothing_else_at_its_top(tree: Path) -> None:
    assert {name.partition("/")[0] for name in source_names(tree)} == TOP | ADDED


def test_a_wheel_has_the_package_and_nothing_else(tree: Path) -> None:
    with zipfile.ZipFile(next(tree.glob("dist/*.whl"))) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    missing = files_of(tree, "aiolsp") - names
    assert all(name.endswith(".svg") for name in missing), "the README's pictures stay in the repository"
    assert names <= files_of(tree, "aiolsp")
