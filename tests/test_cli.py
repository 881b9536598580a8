"""The command line as a person meets it: one line for an error, an exit status that scripts can test, no traceback."""

from __future__ import annotations

import argparse
import codecs
import errno
import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiolsp.cli import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    UsageError,
    execute,
    host_name,
    loop_name,
    port_number,
    program_parser,
    ready,
)
from aiolsp.mechanisms.loop import LOOPS
from aiolsp.tracing import trace
from harness import DEADLINE

FULL = "/dev/full"
"""Every write to it fails for want of room (full(4))."""


def run_cli(
    capsys: pytest.CaptureFixture[str],
    run: Callable[[argparse.Namespace], int | None],
    argv: Sequence[str] = ("client",),
) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a program whose work is *run*."""
    status = execute(program_parser("echo"), argv, run)
    written = capsys.readouterr()
    return status, written.out, written.err


def run_script(code: str, *argv: str, **settings: object) -> subprocess.CompletedProcess[bytes]:
    """Run *code* as the work of the echo client, in a process of its own."""
    lines = [
        "import os, socket, sys, time",
        "from aiolsp.cli import execute, program_parser, ready, say",
        "from aiolsp.tracing import trace",
        "def run(options):",
        *(f"    {line}" for line in code.splitlines()),
        "sys.exit(execute(program_parser('echo'), sys.argv[1:], run))",
    ]
    command = [sys.executable, "-c", "\n".join(lines), "client", *argv]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(command, env=env, timeout=DEADLINE, **settings)  # type: ignore[call-overload,no-any-return]


def run_unread(code: str, *argv: str) -> subprocess.CompletedProcess[bytes]:
    """Run *code* with a stdout whose reader has left, as with ``| head``."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return run_script(code, *argv, stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)


def fail_with(error: BaseException) -> Callable[[argparse.Namespace], int | None]:
    """A program that is stopped by *error*."""

    def run(options: argparse.Namespace) -> int | None:
        raise error

    return run


# Exit statuses


@pytest.mark.parametrize(("result", "status"), [(None, EXIT_OK), (0, EXIT_OK), (3, 3)])
def test_what_the_program_returns_is_its_status(
    capsys: pytest.CaptureFixture[str], result: int | None, status: int
) -> None:
    assert run_cli(capsys, lambda options: result) == (status, "", "")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UsageError("--a needs --b"), EXIT_USAGE, "--a needs --b"),
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            EXIT_USAGE,
            "unknown host 127.0.0.1:8171: name or service not known",
        ),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 8171)"),
            EXIT_FAILURE,
            "127.0.0.1:8171: connection refused",
        ),
        (ConnectionResetError("Connection lost"), EXIT_FAILURE, "127.0.0.1:8171: connection lost"),
        (BrokenPipeError(errno.EPIPE, "x"), EXIT_FAILURE, "127.0.0.1:8171: broken pipe"),
        (TimeoutError(), EXIT_FAILURE, "timed out"),
        (FileNotFoundError(errno.ENOENT, "x", "f.txt"), EXIT_FAILURE, "f.txt: no such file or directory"),
        (OSError("Multiple exceptions: a, b"), EXIT_FAILURE, "multiple exceptions: a, b"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_stops_a_program_is_one_line_and_a_status(
    capsys: pytest.CaptureFixture[str], error: Exception, status: int, line: str
) -> None:
    assert run_cli(capsys, fail_with(error)) == (status, "", f"python -m aiolsp.echo: {line}\n")


def test_ctrl_c_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(capsys, fail_with(KeyboardInterrupt())) == (EXIT_INTERRUPTED, "", "")


def test_ctrl_c_is_quiet_while_the_end_is_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before_and_after = iter((None, KeyboardInterrupt()))

    def close() -> None:
        if came := next(before_and_after):
            raise came

    monkeypatch.setattr(trace, "close", close)
    assert run_cli(capsys, lambda options: None) == (EXIT_INTERRUPTED, "", "")


def test_a_fault_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        execute(program_parser("echo"), ["client"], lambda options: 1 // 0)


# Options


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["listen"],
        ["server", "--port", "65536"],
        ["server", "--port", "-1"],
        ["server", "--port", "\N{ARABIC-INDIC DIGIT ONE}"],
        ["server", "--nothing"],
        ["server", "--loop", "trio"],
        ["client", "--host", "a..b"],
        ["client", "--host", "x" * 64],
        ["client", "extra"],
    ],
    ids=" ".join,
)
def test_a_bad_command_line_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        execute(program_parser("echo"), argv, lambda options: None)
    written = capsys.readouterr()
    assert caught.value.code == EXIT_USAGE
    assert written.out == ""
    assert written.err.startswith("python -m aiolsp.echo") and written.err.count("\n") == 1


def test_the_twin_takes_no_loop(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program_parser("echo", blocking=True).parse_args(["server", "--loop", "asyncio"])
    assert "--loop" in capsys.readouterr().err


def test_each_loop_that_can_be_run_can_be_asked_for() -> None:
    for name in LOOPS:
        assert program_parser("echo").parse_args(["server", "--loop", name]).loop == name


def test_uvloop_is_refused_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert loop_name("asyncio") == "asyncio"
    with pytest.raises(argparse.ArgumentTypeError, match="uvloop is not installed"):
        loop_name("uvloop")


@pytest.mark.parametrize("text", ["0", "80", "65535"])
def test_a_port_is_read(text: str) -> None:
    assert port_number(text) == int(text)


@pytest.mark.parametrize("text", ["", "x", "-1", "65536", "1.5", " 80", "²", "9" * 5000])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        port_number(text)


def taken_by(codec: Callable[[str], object], text: str) -> bool:
    """Whether *codec* takes *text*."""
    try:
        codec(text)
    except (UnicodeError, argparse.ArgumentTypeError):
        return False
    return True


@given(st.lists(st.sampled_from(["", "a", "b-9", "x" * 63, "x" * 64, "b\xfc", "%:"]), max_size=4).map(".".join))
def test_a_host_is_what_the_codec_takes(text: str) -> None:
    assert taken_by(host_name, text) == taken_by(codecs.getencoder("idna"), text)


@pytest.mark.parametrize("text", ["127.0.0.1", "::1", "::", "localhost", "", "bücher.example", "fe80::1%lo"])
def test_a_host_is_taken_as_it_is(text: str) -> None:
    assert host_name(text) == text


# The ready line


def test_the_ready_line_names_every_address(capsys: pytest.CaptureFixture[str]) -> None:
    ready([("127.0.0.1", 80), ("::1", 80, 0, 0), "/run/s"])
    assert capsys.readouterr().out == "listening on 127.0.0.1:80, [::1]:80, /run/s\n"


def test_the_ready_line_is_written_at_once() -> None:
    done = run_script("ready([('127.0.0.1', 80)])\nos._exit(0)", stdout=subprocess.PIPE)
    assert done.stdout == b"listening on 127.0.0.1:80\n"


# stdout that is not read, full, or closed


@pytest.mark.parametrize("code", ["print('x')", "print('x', flush=True)", "ready([])"])
def test_a_reader_that_left_is_no_traceback(code: str) -> None:
    done = run_unread(code)
    assert done.stderr == b""
    assert done.returncode in (EXIT_OK, EXIT_FAILURE)


def test_help_to_a_reader_that_left_is_no_traceback() -> None:
    assert run_unread("pass", "--help").stderr == b""


def test_a_broken_connection_is_told_though_stdout_is_a_pipe() -> None:
    code = "a, b = socket.socketpair()\nb.close()\na.send(b'x')"
    done = run_script(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.stderr == b"python -m aiolsp.echo: 127.0.0.1:8171: broken pipe\n"
    assert done.returncode == EXIT_FAILURE


def test_a_line_said_to_nobody_ends_the_program_as_ctrl_c_does() -> None:
    done = run_unread("say('x')\ntime.sleep(60)")
    assert (done.returncode, done.stderr) == (EXIT_INTERRUPTED, b"")


def test_a_full_disk_is_told_in_one_line() -> None:
    with open(FULL, "wb") as full:
        done = run_script("say('x')", stdout=full, stderr=subprocess.PIPE)
    assert done.stderr == b"python -m aiolsp.echo: no space left on device\n"
    assert done.returncode == EXIT_FAILURE


@pytest.mark.parametrize("code", ["print('x')", "say('x')"])
def test_a_closed_stdout_is_no_traceback(code: str) -> None:
    done = run_script(code, preexec_fn=lambda: os.close(1), stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (EXIT_OK, b"")


# The trace options


@pytest.mark.parametrize("path", [FULL, "/nowhere/t.json", "/"])
def test_a_trace_that_cannot_be_written_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str], path: str) -> None:
    status, out, err = run_cli(capsys, lambda options: None, ["client", "--trace", path])
    assert (status, out) == (EXIT_USAGE, "")
    assert err.startswith(f"python -m aiolsp.echo: cannot write the trace {path}: ") and err.count("\n") == 1


def test_verbose_traces_on_stderr() -> None:
    done = run_script("trace.event('<', 'recv', size=1)", "-v", stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (EXIT_OK, b"< recv 1 B\n")


def test_without_options_the_trace_is_silent() -> None:
    assert run_script("return trace.on", stderr=subprocess.PIPE).returncode == EXIT_OK
