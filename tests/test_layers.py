"""Imports go down only, and every program has a shell, a twin, a test and the same options on both."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aiolsp.catalog import PROGRAMS
from aiolsp.cli import program_parser
from aiolsp.websettings import web_parser

PACKAGE = Path(__file__).parent.parent / "aiolsp"

MODULES = {
    ".".join(("aiolsp", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

BELOW = {
    "sansio": {"sansio"},
    "http1": {"http1", "sansio"},
    "tracing": {"tracing"},
    "linux": {"linux", "tracing"},
    "static": {"static", "http1", "sansio", "linux", "tracing"},
    "catalog": {"catalog"},
    "cli": {"cli", "catalog", "linux", "tracing"},
    "mechanisms": {"mechanisms", "sansio", "http1", "linux", "static", "tracing"},
    "websettings": {"websettings", "cli", "http1", "linux", "static"},
    "website": {"website", "websettings", "linux", "static"},
}
"""What each layer may import from aiolsp; a program may import all of it."""

NO_IO = frozenset({"asyncio", "socket", "select", "threading", "time", "os", "subprocess", "signal", "uvloop"})


def imports(path: Path) -> set[str]:
    """The modules that a file imports when it runs, not only for the type checker."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.unparse(test.test)
        for node in ast.walk(test)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add(node.module or "")
            found.update(
                f"{node.module}.{alias.name}" for alias in node.names if f"{node.module}.{alias.name}" in MODULES
            )
    return found


def layer(module: str) -> str:
    """The part of aiolsp that a module belongs to."""
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_below(module: str) -> None:
    own = layer(module)
    used = {layer(name) for name in imports(MODULES[module]) if name.startswith("aiolsp.")}
    if own in BELOW:
        assert used <= BELOW[own]
    elif own == "blocking":
        assert used <= {*BELOW, "blocking"} - {"mechanisms"}
    elif own not in ("", "__main__"):
        assert used <= {*BELOW, own}


@pytest.mark.parametrize("readme", ["README.md", "aiolsp/README.zh.md"])
def test_the_readme_lists_a_layer_below_all_that_it_imports(readme: str) -> None:
    listed: list[str] = []
    for line in re.findall(r"^    ((?:[\w*]+(?:/|\.py) *)+) ", (PACKAGE.parent / readme).read_text(), re.M):
        listed += re.findall(r"(\w+)(?:/|\.py)", line)
        assert all(BELOW.get(name, set()) <= {*listed} for name in listed), line
    assert {*listed} >= {*BELOW, "websrv", "blocking", "lab"}


@pytest.mark.parametrize("module", [name for name in MODULES if layer(name) in ("sansio", "http1")])
def test_decisions_do_no_io_and_know_no_clock(module: str) -> None:
    assert not {name.split(".")[0] for name in imports(MODULES[module])} & NO_IO


def test_a_twin_never_imports_asyncio_not_even_through_others() -> None:
    twins = [name for name in MODULES if layer(name) == "blocking"]
    script = f"import importlib, sys\nfor name in {twins}: importlib.import_module(name)\n"
    script += "assert 'asyncio' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=PACKAGE.parent)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_has_a_shell_a_twin_a_test_and_the_same_options(name: str) -> None:
    assert (PACKAGE / f"{name}.py").exists() and (PACKAGE / "blocking" / f"{name}.py").exists()
    assert (Path(__file__).parent / f"test_{name}.py").exists()
    for role in PROGRAMS[name].roles:
        shell = vars(program_parser(name).parse_args([role]))
        twin = vars(program_parser(name, blocking=True).parse_args([role]))
        assert shell.pop("loop") == "auto" and shell == twin


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_and_its_twin_play_every_role_that_the_catalog_lists(name: str) -> None:
    for module in (f"aiolsp.{name}", f"aiolsp.blocking.{name}"):
        assert list(importlib.import_module(module).ROLES) == list(PROGRAMS[name].roles)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_class_of_a_twin_has_its_namesake_in_the_program(name: str) -> None:
    shell, twin = (
        {node.name for node in ast.parse(MODULES[module].read_text()).body if isinstance(node, ast.ClassDef)}
        for module in (f"aiolsp.{name}", f"aiolsp.blocking.{name}")
    )
    assert twin <= shell  # a protocol that only transports need may come on top


def test_the_web_server_and_its_twin_have_the_same_options() -> None:
    shell, twin = vars(web_parser().parse_args([])), vars(web_parser(blocking=True).parse_args([]))
    assert shell.pop("loop") == "auto" and shell == twin


TWIN_ONLY = {"aiolsp.blocking.websrv.held", "aiolsp.blocking.websrv.readiness"}
"""What the loop is to the other shell: that nobody else is on the connection, and the one that waits."""


@pytest.mark.parametrize(
    "module", [name for name in MODULES if name.startswith("aiolsp.blocking.websrv.") and name not in TWIN_ONLY]
)
def test_a_module_of_the_web_servers_twin_has_its_namesake_and_so_have_its_classes(module: str) -> None:
    shell, twin = (
        {node.name for node in ast.parse(MODULES[name].read_text()).body if isinstance(node, ast.ClassDef)}
        for name in (module.replace(".blocking", ""), module)
    )
    # A transport has its buffer inside; and what is raised on a thread is told to a callback on a loop.
    assert twin - {"Output", "ProgramFault", "ClientFault"} <= shell


def test_nothing_imports_a_twin() -> None:
    for module, path in MODULES.items():
        assert layer(module) == "blocking" or not any(layer(name) == "blocking" for name in imports(path))
