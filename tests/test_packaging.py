"""What is given to others: a wheel has what runs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from aiolsp import __version__

ROOT = Path(__file__).parent.parent

BUILD = "from setuptools import build_meta; build_meta.build_wheel('dist')"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, of another version, in which a wheel was built."""
    pytest.importorskip("setuptools", minversion="77")
    tree = tmp_path_factory.mktemp("wheel") / "aiolsp"
    unwanted = ignore_patterns("__pycache__", ".*_cache", ".git", ".hypothesis", ".venv", "*.egg-info", "build", "dist")
    copytree(ROOT, tree, ignore=unwanted)
    module = tree / "aiolsp" / "__init__.py"
    module.write_text(module.read_text().replace(__version__, "12.3"))
    subprocess.run([sys.executable, "-c", BUILD], cwd=tree, check=True, capture_output=True)
    return tree


def test_a_wheel_has_the_package_and_nothing_else(tree: Path) -> None:
    with zipfile.ZipFile(next(tree.glob("dist/*.whl"))) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = {str(path.relative_to(tree)) for path in (tree / "aiolsp").rglob("*") if path.is_file()}
    assert all(name.endswith(".svg") for name in package - names), "the README's pictures stay in the repository"
    assert names <= package


def test_a_wheel_is_of_the_version_that_the_programs_tell(tree: Path) -> None:
    assert [path.name for path in tree.glob("dist/*.whl")] == ["aiolsp-12.3-py3-none-any.whl"]
