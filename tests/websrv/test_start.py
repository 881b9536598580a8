"""What is loaded until the first answer: a server that starts often, in tests and behind a socket, must start soon."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import aiolsp.websrv
from faults import wait_until
from harness import Server, Shell
from webclient import ask, exchange

DEAR = {
    # Of the standard library, what takes a millisecond or so, and a few bytes of which would be used.
    "dataclasses": "as long for one class as for five named tuples",
    "encodings.idna": "the tables of international names, for an address in digits",
    "hashlib": "libcrypto",
    "html": "2,231 names of characters, to escape five",
    "http": "enumerations of all statuses and methods, for a table of bytes",
    "http.client": "the parser of e-mail",
    "ipaddress": "tables of networks",
    "json": "most servers write none",
    "mmap": "only several workers share memory",
    "multiprocessing": "our processes are our own",
    "pathlib": "it loads urllib.parse, and that loads ipaddress",
    "random": "it loads hashlib",
    "secrets": "it loads hmac, hashlib and random",
    "tempfile": "it loads random and shutil",
    "urllib.parse": "it loads ipaddress",
    # Of our own, what a plain server of one process does not do.
    "aiolsp.catalog": "the options of the other programs",
    "aiolsp.linux.shm": "only several workers share memory",
    "aiolsp.sansio.exposition": "only with --status",
    "aiolsp.static.access_log": "only with --log",
    "aiolsp.static.pages": "only with --status or --health",
    "aiolsp.static.scripts": "only with --cgi",
}
"""Modules that a plain server does without, and why."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("start")
    (root / "index.html").write_bytes(b"hello")
    return root


def loaded(errors: str) -> set[str]:
    """The modules that Python has named on stderr as it loaded them (PYTHONPROFILEIMPORTTIME)."""
    return {line.rpartition("|")[2].strip() for line in errors.splitlines() if line.startswith("import time:")}


def test_the_first_answer_waits_for_nothing_that_it_does_not_need(shell: Shell, site: Path) -> None:
    env = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    bare = subprocess.run([sys.executable, "-c", ""], check=True, env=env, stderr=subprocess.PIPE, text=True).stderr
    with shell.server("websrv", site, role="", env=env) as server:
        with server.connect() as peer:
            assert exchange(peer, "/").body == b"hello"
    # Python itself may load some of them, as the finder of an editable installation does.
    modules = loaded(server.stderr.whole()) - loaded(bare)
    assert "aiolsp.static.resource" in modules
    assert not {name: why for name, why in DEAR.items() if name in modules}


def run(script: str) -> None:
    """Run *script* in an interpreter of its own."""
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("words", ["aiolsp.websrv", "aiolsp.blocking.websrv", "aiolsp websrv"])
def test_no_file_of_the_site_stands_for_a_module_of_python(words: str, tmp_path: Path) -> None:
    for name in ("argparse", "asyncio", "runpy", "typing"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the site was run')")
    command = [sys.executable, "-m", *words.split(), "--version"]
    subprocess.run(command, check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)


def test_the_garbage_collector_is_at_work_once_all_is_loaded() -> None:
    run(
        "import contextlib, gc, runpy, sys\n"
        "sys.argv[1:] = ['--version']; frozen = gc.get_freeze_count()\n"
        "with contextlib.suppress(SystemExit):\n"
        "    runpy.run_module('aiolsp.websrv', run_name='__main__', alter_sys=True)\n"
        "assert 'aiolsp.websrv.server' in sys.modules and gc.isenabled() and gc.get_freeze_count() > frozen\n"
        "new, young, rounds = gc.get_threshold()\n"
        "assert new > 1_000, 'connections of a burst are no garbage'\n"
        "assert new * (young + 1) <= 15_000, 'what is looked at in one go, unless it is everything'\n"
        "assert new * (young + 1) * rounds >= 10_000_000, 'and that is rare'"
    )


def test_no_module_has_the_types_of_its_named_tuples_compiled_one_by_one() -> None:
    run(
        "import sys, aiolsp.websrv.server\n"
        "modules = [module for name, module in sys.modules.items() if name.startswith('aiolsp.')]\n"
        "made = {kind.__module__ for module in modules for kind in vars(module).values() if hasattr(kind, '_fields')}\n"
        "assert 'aiolsp.http1.messages' in made\n"
        "late = [name for name in made if hasattr(sys.modules[name], 'annotations')]  # from __future__\n"
        "assert not late, late"
    )


def test_who_takes_the_program_for_a_module_keeps_his_garbage_collector_as_it_is() -> None:
    run(
        "import gc; gc.disable(); before = gc.get_freeze_count(), gc.get_threshold()\n"
        "import aiolsp.websrv.__main__\n"
        "assert not gc.isenabled() and (gc.get_freeze_count(), gc.get_threshold()) == before"
    )


def test_the_package_loads_its_server_when_it_is_asked_for_it() -> None:
    run("import sys, aiolsp.websrv; assert 'asyncio' not in sys.modules; aiolsp.websrv.WebServer")
    with pytest.raises(AttributeError, match=r"'aiolsp\.websrv' has no attribute 'Webserver'"):
        _ = aiolsp.websrv.Webserver  # type: ignore[attr-defined]


def serving(server: Server) -> set[int]:
    """The process ids of the workers that serve."""
    workers = json.loads(ask(server, "/status?format=json").body)["workers"].values()
    return {worker["pid"] for worker in workers if worker["pid"] and not worker["draining"]}


def test_a_worker_needs_no_file_of_the_program_after_its_start(shell: Shell, site: Path, tmp_path: Path) -> None:
    # Which may be another version by then, or be gone, as when a release's directory is.
    package = shutil.copytree(Path(aiolsp.websrv.__file__).parents[1], tmp_path / "aiolsp")
    (tmp_path / "cgi").mkdir()
    options = ("--workers", 2, "--status", "/status", "--cgi-dir", tmp_path / "cgi", "--log", "json")
    with shell.server("websrv", site, *options, role="", cwd=tmp_path) as server:
        wait_until(lambda: len(serving(server)) == 2, "two workers")
        old = serving(server)
        shutil.rmtree(package)
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: len(new := serving(server)) == 2 and not new & old, "two new workers")
        assert ask(server, "/").body == b"hello"
