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


class Orphans:
    """The children of this process that it has not started: descendants whose own parent has ended (`adopt_orphans`).

    For a process of one thread; to be closed at the end. Raises OSError when made, and not for want of a descriptor
    later.
    """

    def __init__(self) -> None:
        adopt_orphans()
        self._table = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Look after them no longer. May be called again."""
        table, self._table = self._table, -1
        if table >= 0:
            os.close(table)

    def children(self) -> list[int]:
        """The process ids of all children, those that were started and the dead included (proc(5))."""
        pids = b""
        while more := os.pread(self._table, 1 << 16, len(pids)):
            pids += more
        return [int(pid) for pid in pids.split()]

    def kill(self, known: Container[int]) -> list[int]:
        """Kill what dead children had started, each with its process group; their process ids, which are to be reaped.

        What the children that are *known* have started is left alone: ``(work &)`` in a shell makes an orphan, and its
        group is that of the shell. So an orphan is killed if the leader of its session is one as well, or no more. What
        has become another user's (setuid) cannot be killed, and is not returned.
        """
        killed: list[int] = []
        ours = self.children()
        for pid in ours:
            leader = os.getsid(pid)
            led_by_others = leader not in (os.getsid(0), *ours) and _exists(leader)
            if pid in known or leader in known or led_by_others:
                continue
            with suppress(PermissionError):
                group = os.getpgid(pid)
                if group != os.getpgrp():
                    os.killpg(group, signal.SIGKILL)
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
        return killed

    def reap(self, known: Container[int]) -> None:
        """Reap the children that have ended and are not *known*."""
        for pid in self.children():
            if pid not in known:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def _exists(pid: int) -> bool:
    try:
        os.getpgid(pid)
    except ProcessLookupError:
        return False
    return True


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def no_action(number: int, frame: object) -> None:
    """A handler for a signal that somebody else acts on; no program inherits it through exec, as it would SIG_IGN."""
