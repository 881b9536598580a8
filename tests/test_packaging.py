"""What is given to others: a wheel has what runs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

ROOT = Path(__file__).parent.parent

BUILD = "from setuptools import build_meta; build_meta.build_wheel('dist')"


def test_a_wheel_has_the_package_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    tree = tmp_path / "aiolsp"
    unwanted = ignore_patterns("__pycache__", ".*_cache", ".git", ".hypothesis", ".venv", "*.egg-info", "build")
    copytree(ROOT, tree, ignore=unwanted)
    subprocess.run([sys.executable, "-c", BUILD], cwd=tree, check=True, capture_output=True)
    with zipfile.ZipFile(next(tree.glob("dist/*.whl"))) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = {str(path.relative_to(tree)) for path in (tree / "aiolsp").rglob("*") if path.is_file()}
    assert all(name.endswith(".svg") for name in package - names), "the README's pictures stay in the repository"
    assert names <= package
