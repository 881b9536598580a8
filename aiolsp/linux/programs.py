"""Programs of one directory, started for strangers: which may run, with what, and how all of one is ended.

Book p. 298, listing 15-2: cgi_conn, which forks, points stdout at the socket and runs whatever path it was sent.

Facts (setsid(2), kill(2), waitid(2), fork(2); tried on this kernel)
    - A program starts others. They belong to its process group unless they leave it; kill(2) reaches all of a group.
    - A group's number is its leader's process id, which may be given to another once the leader was reaped, not before.
    - When the leader has ended, others of its group may live on, and hold the pipe that its output came by.
    - A child has what its parent had: ignored and blocked signals, descriptors that are not close-on-exec.
    - Between fork and exec in a process with threads, only a few calls are safe; subprocess makes them in C.
    - /proc/self/fd/N names the directory of a descriptor for a child too, until the exec that closes it.
Consequence
    A program gets a session of its own; it is over when its leader ends, and then its whole group is killed *before*
    the leader is reaped. It is waited for by a pidfd: SIGCHLD and waitpid(-1) would take the children of others.
Decision
    `ProgramDirectory.find` takes a plain name of an executable regular file; `start` runs it by that name in that
    directory, which a descriptor holds: whatever becomes of the path, it is the same directory. subprocess does the
    rest. Starting takes 1 to 3 ms: an event loop calls it in a thread.
Price
    A program that leaves its group (setsid twice, as daemons do) lives on, without a pipe that anybody reads; in a pool
    of processes until one of them ends, since nobody can tell then whose it was. One that has become another user's
    (setuid) cannot be killed, and runs to its end. Whoever may write to the directory may exchange a program between
    `find` and `start`; he could have put it there at once.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import IO, TypeAlias

from aiolsp.linux.pidfd import PidFd
from aiolsp.linux.process_control import die_with_parent

Stream: TypeAlias = "int | IO[bytes]"
"""A descriptor or file that a program gets as one of its standard streams, or subprocess.DEVNULL."""

STDERR = 2


class ProgramDirectory:
    """The executable regular files of the directory *path*: ``find -> start``; ``close`` at the end.

    Raises OSError if *path* is not a directory.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> ProgramDirectory:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Its descriptor, for a child that closes all it does not know; -1 once closed."""
        return self._fd

    def close(self) -> None:
        """Let go of the directory; programs that run are not touched. May be called again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def find(self, name: bytes) -> bytes:
        """*name*, if it is the plain name of an executable regular file here, and no symbolic link.

        Raises FileNotFoundError if there is no such file, PermissionError if this process may not execute it, OSError
        for a broken disk. May wait for the disk.
        """
        if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        try:
            status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
            raise
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if not status.st_mode & 0o111 or not os.access(name, os.X_OK, dir_fd=self._fd, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return name

    def holds(self, fd: int) -> bool:
        """Whether the open file *fd* stands in this directory or below it, by whatever name it was reached."""
        own, other = (os.readlink(f"/proc/self/fd/{number}") for number in (self._fd, fd))
        return f"{other}/".startswith(own.rstrip("/") + "/")

    def start(
        self,
        name: bytes,
        environment: Mapping[str, str],
        *,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = subprocess.DEVNULL,
        stderr: Stream = subprocess.DEVNULL,
        bound: bool = False,
    ) -> RunningProgram:
        """Run *name*, which `find` gave, in this directory, with no argument and *environment* alone.

        With *bound*, its leader is killed when this process ends; only for a process of one thread, since it takes a
        call between fork and exec, and the kernel looks at the thread that forked. The streams stay the caller's, to
        close. Raises OSError if it cannot be started: ENOEXEC for a file that is no program, ENOENT for an interpreter
        that is missing, EAGAIN for a want of processes, EMFILE.
        """
        popen = subprocess.Popen(
            [name],
            executable=b"./" + name,
            cwd=f"/proc/self/fd/{self._fd}",
            env=environment,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, os.getpid()) if bound else None,
        )
        return RunningProgram(popen)

    def start_piped(
        self, name: bytes, environment: Mapping[str, str], *, bound: bool = False
    ) -> tuple[RunningProgram, int]:
        """As `start`, with a pipe for its output and our own stderr: the program, and the pipe's end to read from."""
        read, write = os.pipe()
        try:
            return self.start(name, environment, stdout=write, stderr=STDERR, bound=bound), read
        except OSError:
            os.close(read)
            raise
        finally:
            os.close(write)


class RunningProgram:
    """A program and its process group: ``(kill)* -> finish`` once its `fileno`, a pidfd, is readable: it has ended.

    Raises OSError for want of a descriptor; the program is dead then.
    """

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.pid = popen.pid
        self._popen = popen
        try:
            self._pidfd = PidFd(popen.pid)
        except OSError:
            self.kill()
            popen.wait()
            raise

    def fileno(self) -> int:
        """A descriptor that is readable when the leader has ended."""
        return self._pidfd.fileno()

    def kill(self) -> None:
        """SIGKILL to all of its group that are ours to kill; nothing once it was finished."""
        if self._popen.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def finish(self) -> int:
        """Kill what is left of the group, reap the leader, close the pidfd; its exit status, or -N for signal N.

        Waits for the leader if it has not ended yet. May be called again.
        """
        if self._popen.returncode is None:
            # Not P_PIDFD: uvloop makes the descriptors that it watches non-blocking, and waitid then says EAGAIN.
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            self.kill()  # while nobody has reaped the leader, its number is no other group's
            self._popen.wait()
            self._pidfd.close()
        return self._popen.returncode
