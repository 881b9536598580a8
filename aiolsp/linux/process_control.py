"""What a process may ask of the kernel about its parent and its descendants (prctl(2)); Python has no call for it.

Both are about not leaving a process behind: one that is killed runs no code of its own to tidy up.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Container
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process (SIGKILL) when *parent*, who has just forked it, ends.

    To be called by the child first of all. The kernel watches the *thread* that forked: it must live as long as its
    process. Raises OSError.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call, and nobody will tell
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent ends, instead of init. Raises OSError."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def kill_orphans(known: Container[int]) -> list[int]:
    """Kill what dead children of this process had started, each with its process group; their process ids.

    They are ours to reap (`adopt_orphans`). What the children that are *known* have started is left alone, as long as
    the leader of its session is a child of theirs: ``(work &)`` in a shell makes an orphan, and its group is that of
    the shell. What has left its session too might be anybody's, and is killed. What has become another user's (setuid)
    cannot be killed, and is not returned.
    """
    killed: list[int] = []
    strangers = [pid for pid in children() if pid not in known and _parent(os.getsid(pid)) not in known]
    for pid in strangers:
        with suppress(PermissionError):
            group = os.getpgid(pid)
            if group != os.getpgrp():
                os.killpg(group, signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
    return killed


def reap_orphans(known: Container[int]) -> None:
    """Reap the children of this process that have ended and are not *known* (`adopt_orphans`)."""
    for pid in children():
        if pid not in known:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def children() -> list[int]:
    """The process ids of this single-threaded process's children, adopted ones and the dead included (proc(5))."""
    with open(f"/proc/self/task/{os.getpid()}/children", "rb") as table:
        return [int(pid) for pid in table.read().split()]


def _parent(pid: int) -> int:
    """The process id of the parent of *pid*; 0 if there is no such process any more."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def no_action(number: int, frame: object) -> None:
    """A handler for a signal that somebody else acts on; no program inherits it through exec, as it would SIG_IGN."""
