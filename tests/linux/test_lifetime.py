"""Ctrl-C and SIGTERM in the first and the last moments of a program, when it has no handlers of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import chatting
from aiolsp.cli import EXIT_INTERRUPTED
from harness import DEADLINE, Process, Shell

PROJECT = Path(__file__).parents[2]

PROGRAMS = (
    "-m aiolsp",
    "-m aiolsp chat",
    "-m aiolsp websrv",
    "-m aiolsp lab",
    "-maiolsp.chat",
    "-m aiolsp.chat",
    "-m aiolsp.blocking.chat",
    "-m aiolsp.websrv",
    "-m aiolsp.blocking.websrv",
    "-m aiolsp.lab.broken",
    *(str(path) for path in sorted((PROJECT / "bench").glob("*.py"))),
)

INTERRUPTED = "import os, signal; os.kill(os.getpid(), signal.SIGINT); raise SystemExit('it was not ended')"

ENDING = """
import atexit, os, signal
class Last:
    def __del__(self, kill=os.kill, pid=os.getpid(), numbers=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)):
        for number in numbers:
            kill(pid, number)
last = Last()  # goes with this module, when Python has taken its handlers back
atexit.register(Last)
"""

STOPPED = """
import importlib, os, signal, sys
from aiolsp import cli
from aiolsp.linux import lifetime
from aiolsp.tracing import trace
def signalled(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)
def ready(addresses):
    trace.close = lambda: signalled(signal.SIGTERM, signal.SIGINT)
    signalled(signal.SIGTERM)
lifetime.begin()
cli.ready = ready
sys.exit(importlib.import_module(sys.argv[2]).main(sys.argv[3:]))
"""


def python(*words: str, first: Path | str = "", ignoring: bool = False) -> tuple[int, str]:
    """The exit status of Python, and what it said on stderr, with the modules in *first* before all others."""
    paths = os.pathsep.join(map(str, filter(None, (first, PROJECT))))
    nohup = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"] if ignoring else []
    done = subprocess.run(
        [*nohup, sys.executable, *words],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=DEADLINE,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("words", PROGRAMS)
def test_ctrl_c_while_modules_are_loaded_ends_a_program_without_a_word(words: str, tmp_path: Path) -> None:
    (tmp_path / "argparse.py").write_text(INTERRUPTED)
    assert python(*words.split(), first=tmp_path) == (-signal.SIGINT, "")


@pytest.mark.parametrize("words", ["-m aiolsp.chat", str(PROJECT / "bench" / "stress.py")])
def test_ctrl_c_that_a_shell_has_ignored_stays_so(words: str, tmp_path: Path) -> None:
    (tmp_path / "argparse.py").write_text(INTERRUPTED)
    assert python(*words.split(), first=tmp_path, ignoring=True) == (1, "it was not ended\n")


def test_who_imports_the_package_keeps_the_handlers(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").write_text("import aiolsp.chat")
    (tmp_path / "theirs" / "__main__.py").write_text(
        "import contextlib, signal, aiolsp.chat\n"
        "with contextlib.suppress(SystemExit): aiolsp.chat.main(['--help'])\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL\n"
    )
    assert python("-m", "theirs", first=tmp_path) == (0, "")


def test_ctrl_c_interrupts_what_a_program_does(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE)
        client = Process(shell.command("echo", "client", "--port", listener.getsockname()[1]), stdin=subprocess.PIPE)
        try:
            with listener.accept()[0] as peer:
                chatting.write(client, b"x")
                peer.recv(1)
                client.send_signal(signal.SIGINT)
                assert client.wait() == EXIT_INTERRUPTED
        finally:
            client.kill()
    assert client.stderr.whole() == ""


@pytest.mark.parametrize("words", ["-m aiolsp.websrv --version", "-m aiolsp.blocking.websrv --version"])
def test_no_signal_changes_the_status_when_python_ends(words: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(ENDING)
    assert python(*words.split(), first=tmp_path) == (0, "")


def test_no_signal_changes_the_status_of_a_server_that_has_served(shell: Shell) -> None:
    command = shell.command("chat", "server", "--port", 0)
    assert python("-c", STOPPED, *command[1:]) == (0, "")
