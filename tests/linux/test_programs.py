"""Programs of a directory: which are found, how they are started, and that nothing of one is left."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiolsp.linux.pidfd import PidFd
from aiolsp.linux.programs import ProgramDirectory, RunningProgram

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "programs"
    path.mkdir()
    return path


@pytest.fixture
def directory(folder: Path) -> Iterator[ProgramDirectory]:
    with ProgramDirectory(folder) as opened:
        yield opened


def write_program(folder: Path, name: str, text: str, mode: int = 0o755) -> bytes:
    (folder / name).write_text(text)
    (folder / name).chmod(mode)
    return name.encode()


def output_of(directory: ProgramDirectory, name: bytes, environment: dict[str, str] = ENVIRONMENT) -> bytes:
    read, write = os.pipe()
    program = directory.start(directory.find(name), environment, stdout=write)
    os.close(write)
    with open(read, "rb") as pipe:
        output = pipe.read()
    assert program.finish() == 0
    return output


def await_end(pidfd: PidFd | RunningProgram) -> None:
    assert select.select([pidfd], [], [], 20)[0], "still running"


def test_a_program_runs_in_its_directory_with_its_environment_alone(folder: Path, directory: ProgramDirectory) -> None:
    name = write_program(
        folder, "env.py", f"#!{sys.executable} -I\nimport os, sys\nprint(os.getcwd(), sys.argv[1:], dict(os.environ))\n"
    )
    words = output_of(directory, name, {"A": "1"}).decode()
    assert words.startswith(f"{folder} [] ") and "'A': '1'" in words and "PATH" not in words


def test_it_has_the_default_signals_a_session_of_its_own_and_three_descriptors(
    folder: Path, directory: ProgramDirectory
) -> None:
    # By the shell itself: dash blocks all signals while it makes a child, and that may look before it has them back.
    signals = "while read -r name value; do case $name in SigIgn:|SigBlk:) echo $name $value;; esac; done"
    script = f"#!/bin/sh\nps -o sid=,pid= -p $$ | tr -s ' '\n{signals} </proc/$$/status\nls /proc/$$/fd\n"
    lines = output_of(directory, write_program(folder, "state", script)).decode().split("\n")
    sid, pid = lines[0].split()
    assert sid == pid
    own = 1 << 31 | 1 << 32  # signals 32 and 33 are the C library's
    assert [int(line.split()[1], 16) & ~own for line in lines[1:3]] == [0, 0]
    assert [fd for fd in lines[3:] if fd] == ["0", "1", "10", "2"]  # 10: the shell's own, its script


@pytest.mark.parametrize("name", [b"", b".", b"..", b"../x", b"/bin/sh", b"a/b", b"a\0b", b"missing", b"x" * 300])
def test_what_is_no_plain_name_of_a_file_there_is_not_found(directory: ProgramDirectory, name: bytes) -> None:
    with pytest.raises(FileNotFoundError):
        directory.find(name)


def test_a_link_a_directory_and_a_fifo_are_not_found(folder: Path, directory: ProgramDirectory) -> None:
    (folder / "link").symlink_to("/bin/sh")
    (folder / "directory").mkdir(mode=0o755)
    os.mkfifo(folder / "fifo", 0o777)
    for name in (b"link", b"directory", b"fifo"):
        with pytest.raises(FileNotFoundError):
            directory.find(name)


def test_a_file_that_is_not_executable_is_refused_for_root_too(folder: Path, directory: ProgramDirectory) -> None:
    with pytest.raises(PermissionError):
        directory.find(write_program(folder, "text", "hello", mode=0o644))


def test_what_is_no_program_or_lacks_its_interpreter_does_not_start(folder: Path, directory: ProgramDirectory) -> None:
    for text, number in (("just text", errno.ENOEXEC), ("#!/no/such/interpreter\n", errno.ENOENT)):
        name = directory.find(write_program(folder, "bad", text))
        with pytest.raises(OSError) as caught:
            directory.start(name, ENVIRONMENT)
        assert caught.value.errno == number


def test_a_directory_that_was_renamed_is_still_the_same(folder: Path, directory: ProgramDirectory) -> None:
    name = write_program(folder, "hello", "#!/bin/sh\necho hello\n")
    folder.rename(folder.parent / "elsewhere")
    folder.mkdir()
    assert output_of(directory, name) == b"hello\n"


def test_the_exit_status_and_the_signal_are_told_apart(folder: Path, directory: ProgramDirectory) -> None:
    for script, status in (("exit 3", 3), ("kill -9 $$", -signal.SIGKILL)):
        program = directory.start(write_program(folder, "end", f"#!/bin/sh\n{script}\n"), ENVIRONMENT)
        await_end(program)
        assert program.finish() == status == program.finish()


def test_the_whole_group_is_killed_when_the_leader_has_ended(folder: Path, directory: ProgramDirectory) -> None:
    name = write_program(folder, "strays", "#!/bin/sh\nsleep 1000 &\necho $!\n")
    read, write = os.pipe()
    program = directory.start(name, ENVIRONMENT, stdout=write)
    os.close(write)
    with open(read, "rb") as pipe, PidFd(int(pipe.readline())) as stray:
        await_end(program)
        assert program.finish() == 0
        await_end(stray)
        assert pipe.read() == b""


def test_a_program_that_ignores_sigterm_is_killed_with_its_children(folder: Path, directory: ProgramDirectory) -> None:
    name = write_program(folder, "stubborn", "#!/bin/sh\ntrap '' TERM\nsleep 1000 &\necho $!\nwait\n")
    read, write = os.pipe()
    program = directory.start(name, ENVIRONMENT, stdout=write)
    os.close(write)
    with open(read, "rb") as pipe, PidFd(int(pipe.readline())) as child:
        program.kill()
        await_end(child)
        assert program.finish() == -signal.SIGKILL
    program.kill()  # finished: its number may be another's


def test_a_program_that_may_not_be_killed_is_waited_for(
    folder: Path, directory: ProgramDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another_users(group: int, number: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "killpg", another_users)
    program = directory.start(write_program(folder, "setuid", "#!/bin/sh\nexit 3\n"), ENVIRONMENT)
    program.kill()
    assert program.finish() == 3


def test_without_a_descriptor_to_hold_it_by_a_program_is_killed(
    folder: Path, directory: ProgramDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def no_descriptor(pid: int) -> PidFd:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def popen(*args: object, **settings: object) -> subprocess.Popen[bytes]:
        started.append(real(*args, **settings))  # type: ignore[call-overload]
        return started[-1]

    real = subprocess.Popen
    monkeypatch.setattr("aiolsp.linux.programs.PidFd", no_descriptor)
    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(OSError):
        directory.start(write_program(folder, "endless", "#!/bin/sh\nsleep 1000\n"), ENVIRONMENT)
    assert started[0].returncode == -signal.SIGKILL


def test_a_directory_that_is_none_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "missing"):
        with pytest.raises(OSError):
            ProgramDirectory(path)
