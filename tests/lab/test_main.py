"""The lab's command line: what it prints, how it ends, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from aiolsp.http1.states import diagram
from aiolsp.lab.scenarios import LABS
from faults import wait_until
from harness import DEADLINE, Process

COMMAND = [sys.executable, "-m", "aiolsp", "lab"]


def lab(*options: object, columns: int = 80) -> subprocess.CompletedProcess[str]:
    """Run the lab to its end."""
    env = {**os.environ, "COLUMNS": str(columns)}
    command = [*COMMAND, *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE * 2, env=env)


def processes_with(word: str) -> list[int]:
    """The processes that have *word* in their command line."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


@contextmanager
def running(*options: object, home: Path) -> Iterator[Process]:
    """A lab that has begun to run, with its files in *home*."""
    env = {**os.environ, "TMPDIR": str(home), "PYTHONUNBUFFERED": "1"}
    process = Process([*COMMAND, *map(str, options)], env=env)
    try:
        yield process
    finally:
        process.kill()


def test_without_a_name_it_lists_the_labs() -> None:
    done = lab()
    assert (done.returncode, done.stderr) == (0, "")
    for name, found in LABS.items():
        assert re.search(rf"^{name} +{re.escape(found.pages)} ", done.stdout, re.M)


def test_a_lab_prints_both_shells_the_counts_and_what_was_found() -> None:
    done = lab("trigger", "--broken")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.index("asyncio: edge triggered") < done.stdout.index("blocking: edge triggered")
    assert "\x1b" not in done.stdout
    for said in ("the kernel reported", "the shell did, and why", "the mend: recv until EAGAIN", "wake-ups: told"):
        assert said in done.stdout


def test_a_wide_terminal_shows_the_shells_beside_each_other(tmp_path: Path) -> None:
    runs, page = tmp_path / "runs.json", tmp_path / "page.html"
    done = lab("analyze", "--json", runs, "--html", page, columns=200)
    assert re.search(r"^asyncio: .* \| blocking: ", done.stdout, re.M)
    document = json.loads(runs.read_text())
    assert [run["shell"] for run in document["runs"]] == ["asyncio", "blocking"]
    assert page.read_text().startswith("<!doctype html>")


def test_one_shell_may_be_asked_for() -> None:
    done = lab("analyze", "--shell", "blocking")
    assert "aiolsp.blocking.analyze" in done.stdout and "python -m aiolsp.analyze" not in done.stdout


def test_a_timeline_may_be_played_at_another_speed_and_is_the_same() -> None:
    done = lab("analyze", "--shell", "asyncio", "--speed", "50")
    assert (done.returncode, done.stderr) == (0, "")
    assert "accept fd=" in done.stdout and "signal SIGTERM" in done.stdout


def test_the_machine_is_printed_from_its_table() -> None:
    done = lab("analyze", "--diagram")
    assert (done.returncode, done.stdout) == (0, diagram().rstrip() + "\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["nothing"], "there is no lab 'nothing'"),
        (["oob", "--broken"], "oob has no --broken"),
        (["chat", "--diagram"], "chat has no state machine in a table"),
        (["trigger", "--speed", "0"], "not a number of seconds above 0"),
        (["trigger", "--shell", "fish"], "invalid choice"),
        (["analyze", "--json", "/nowhere/runs.json"], "cannot write /nowhere/runs.json"),
    ],
)
def test_what_cannot_be_had_is_one_line_and_status_2(options: list[str], said: str) -> None:
    done = lab(*options)
    assert done.returncode == 2
    assert said in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_lab_that_is_ended_leaves_no_process_and_no_file(tmp_path: Path, number: int) -> None:
    with running("idle", home=tmp_path) as process:
        wait_until(lambda: bool(processes_with(f"{tmp_path}/aiolsp-lab-")), "a server has been started")
        process.send_signal(number)
        assert process.wait() == (-number if number == signal.SIGKILL else 130)
        assert "Traceback" not in process.stderr.whole()
    wait_until(lambda: not processes_with(str(tmp_path)), "no process is left")
    if number != signal.SIGKILL:
        assert list(tmp_path.iterdir()) == []


def test_a_signal_before_a_lab_has_begun_is_no_traceback() -> None:
    script = (
        "import signal, sys; import aiolsp.lab.__main__ as lab\n"
        "lab.lab_parser = lambda: signal.raise_signal(signal.SIGTERM)\n"
        "sys.exit(lab.main([]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=DEADLINE)
    assert (done.returncode, done.stderr) == (130, "")
