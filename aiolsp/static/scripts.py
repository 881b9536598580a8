"""Which targets run a program, and which program that is: ``/cgi-bin/NAME[/PATH_INFO]`` (RFC 3875 section 3.3).

`Scripts.route` decides by the name alone, on any thread; `Scripts.start` may wait for the disk, in a pool's thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

from aiolsp.http1.cgi import Ends, ScriptPath, meta_variables
from aiolsp.http1.messages import ProtocolError, Request
from aiolsp.http1.target import parse_target
from aiolsp.linux.programs import ProgramDirectory, RunningProgram
from aiolsp.static.policy import ScriptDirectoryError

DIRECTORIES = (b"cgi-bin", b"htbin")
"""The directories whose files ``python -m http.server --cgi`` runs."""

TOO_MANY = ProtocolError(503, "as many programs run as may")

ANSWERED = b"killed: it answered, and did not end"
"""What is remarked of a program that was silent for too long, but owed nothing any more."""

DYING = 2.0
"""Seconds that a closing server waits for programs that it killed; only one that is stuck in the kernel needs more."""

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
"""No file has such a name but by accident, and a script that repeats its PATH_INFO in a field would send two."""

_BUSY = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class Launched(NamedTuple):
    """A program that runs, and our ends of its standard streams, which do not block; *stdin* is -1 if it gets none.

    Whoever holds it closes them, and calls ``program.finish`` when it has ended.
    """

    program: RunningProgram
    stdin: int
    stdout: int
    stderr: int


class Scripts:
    """The programs of a site whose files stand in *root*: those of *directory*, as ``/cgi-bin/``, or of *root* itself.

    Raises ScriptDirectoryError, and OSError if *root* is not there.
    """

    def __init__(self, root: str, directory: str | None = None) -> None:
        self._root = os.fsencode(os.path.abspath(root)).rstrip(b"/")
        self._directories: dict[bytes, ProgramDirectory] = {}
        self.names = DIRECTORIES if directory is None else DIRECTORIES[:1]
        """The first names of targets that mean programs, and never files, whether their directory is there or not."""
        for name in self.names:
            path = os.path.join(root, os.fsdecode(name)) if directory is None else directory
            try:
                self._directories[name] = ProgramDirectory(path)
            except (FileNotFoundError, NotADirectoryError) as error:
                if directory is not None:
                    raise ScriptDirectoryError(f"cannot run programs of {path}: {_reason(error)}") from None
            except OSError as error:
                self.close()
                raise ScriptDirectoryError(f"cannot run programs of {path}: {_reason(error)}") from None
        try:
            self._check(root)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the directories; programs that run are not touched. May be called again."""
        for directory in self._directories.values():
            directory.close()

    def hold(self, fd: int) -> bool:
        """Whether the open file *fd* is one of theirs, by whatever name it was reached."""
        return any(directory.holds(fd) for directory in self._directories.values())

    def route(self, raw: bytes) -> ScriptPath | ProtocolError | None:
        """The program that the target *raw* means, or why it means none; None if it means a file. Does not wait."""
        target = parse_target(raw)
        if target is None or not target.segments or target.segments[0] not in self.names:
            return None
        if len(target.segments) == 1 or target.segments[1].startswith(b".") or not target.nameable:
            return ProtocolError(404, "")
        directory, program, *info = target.segments
        if program.startswith(b"nph-"):
            return ProtocolError(403, "programs that write whole responses (nph-) are not run")
        if target.is_directory:
            info.append(b"")
        path_info = b"".join(b"/" + segment for segment in info)
        if _CONTROL.search(path_info):
            return ProtocolError(404, "")
        return ScriptPath(directory, program, path_info)

    def start(self, path: ScriptPath, request: Request, ends: Ends, length: int) -> Launched | ProtocolError:
        """Run the program of *path*; or why that cannot be. *length* is that of the request's body.

        Waits for the disk and for the fork; never raises OSError.
        """
        directory = self._directories.get(path.directory)
        if directory is None:
            return ProtocolError(404, "")
        try:
            directory.find(path.program)
        except FileNotFoundError:
            return ProtocolError(404, "")
        except PermissionError:
            return ProtocolError(403, "this file may not be run")
        except OSError:
            return ProtocolError(500, "")
        variables = meta_variables(request, path, ends, length=length, root=self._root)
        try:
            return _launch(directory, path.program, _environment(variables), takes_input=bool(length))
        except OSError as error:
            if error.errno in _BUSY:
                return ProtocolError(503, "the server is busy")
            return ProtocolError(500, f"this program cannot be run: {_reason(error)}")

    def _check(self, root: str) -> None:
        """A directory of programs that holds the whole site would leave no file to serve."""
        fd = os.open(root, os.O_PATH | os.O_CLOEXEC)
        try:
            if self.hold(fd):
                raise ScriptDirectoryError(f"the directory of programs holds {root}, whose files are to be served")
        finally:
            os.close(fd)


def _launch(directory: ProgramDirectory, name: bytes, environment: Mapping[str, str], *, takes_input: bool) -> Launched:
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:

        def pipe(mine: int) -> tuple[int, int]:
            """Our end, which does not block, and the program's; *mine* is 0 to read and 1 to write."""
            ends = os.pipe()
            ours.callback(os.close, ends[mine])
            theirs.callback(os.close, ends[1 - mine])
            os.set_blocking(ends[mine], False)
            return ends[mine], ends[1 - mine]

        stdin, their_stdin = pipe(1) if takes_input else (-1, subprocess.DEVNULL)
        stdout, their_stdout = pipe(0)
        stderr, their_stderr = pipe(0)
        program = directory.start(name, environment, stdin=their_stdin, stdout=their_stdout, stderr=their_stderr)
        ours.pop_all()
    return Launched(program, stdin, stdout, stderr)


def _environment(variables: Mapping[bytes, bytes]) -> dict[str, str]:
    """*variables*, and of the server's own environment where programs are found, and nothing else."""
    told = {os.fsdecode(name): os.fsdecode(value) for name, value in variables.items()}
    return {"PATH": os.environ.get("PATH", os.defpath)} | told


def _reason(error: OSError) -> str:
    return (error.strerror or "").lower()
