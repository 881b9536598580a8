"""``python -m aiolsp``: the table of programs, and any of them by its name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aiolsp.__main__ import HEADINGS, table
from aiolsp.catalog import PROGRAMS
from aiolsp.cli import EXIT_FAILURE, EXIT_OK, EXIT_USAGE
from harness import DEADLINE, READY, Process


def aiolsp(*argv: str) -> subprocess.CompletedProcess[str]:
    """The whole run of a command."""
    command = [sys.executable, "-m", "aiolsp", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)


@pytest.mark.parametrize("argv", [(), ("-h",), ("--help",)])
def test_it_prints_the_table_of_programs(argv: tuple[str, ...]) -> None:
    done = aiolsp(*argv)
    assert (done.returncode, done.stdout, done.stderr) == (EXIT_OK, table() + "\n", "")


def test_the_table_has_a_line_for_each_program_with_its_mechanism_page_and_command() -> None:
    heading, *lines = table().splitlines()
    assert heading.split("  ")[0] == HEADINGS[0]
    for program in PROGRAMS.values():
        [line] = [line for line in lines if line.startswith(program.name + " ")]
        for cell in (program.mechanism, program.pages, f"python -m aiolsp {program.name} "):
            assert cell in line
    assert any(line.startswith("websrv ") for line in lines)


def test_the_table_fits_a_screen() -> None:
    lines = table().splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 120
    assert all(line == line.rstrip() for line in lines)


def test_an_unknown_program_is_one_line_and_status_2() -> None:
    done = aiolsp("nothing")
    assert (done.returncode, done.stdout) == (EXIT_USAGE, "")
    assert done.stderr == "python -m aiolsp: there is no program 'nothing' (python -m aiolsp lists them)\n"


def test_a_module_that_is_no_program_is_not_run() -> None:
    assert aiolsp("cli").returncode == EXIT_USAGE


def test_a_reader_that_left_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "aiolsp"]
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=env, timeout=DEADLINE)
    finally:
        os.close(writing)
    assert done.stderr == b""
    assert done.returncode in (EXIT_OK, EXIT_FAILURE)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_is_run_by_its_name_with_its_options(program: str, tmp_path: Path) -> None:
    (tmp_path / "cgi-bin").mkdir()
    server = Process([sys.executable, "-m", "aiolsp", program, "server", "--port", "0"], cwd=tmp_path)
    try:
        server.stdout.wait_for(READY.pattern)
        server.popen.terminate()
        assert server.wait() == EXIT_OK
        assert server.stderr.whole() == ""
    finally:
        server.kill()


def test_the_status_of_a_program_is_passed_on() -> None:
    done = aiolsp("analyze", "server", "--nothing")
    assert done.returncode == EXIT_USAGE
    assert done.stderr.startswith("python -m aiolsp.analyze: ") and done.stderr.count("\n") == 1
