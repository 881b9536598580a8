"""A process as a descriptor: readable when it ends, signalled without mistaking it for another.

Facts (pidfd_open(2), tried on this kernel)
    - A process id is given to another process once its owner has been reaped; a pidfd never changes its process.
    - A pidfd is readable (EPOLLIN) from the moment its process ends, for anybody who holds it, reaped or not.
    - Only the parent may reap: waitid(P_PIDFD) by anybody else, or a second time, fails with ECHILD.
    - SIGCHLD says that some child changed, once for several: whoever then calls waitpid(-1) takes the exit statuses of
      children that belong to others, such as the event loop's own subprocesses.
Consequence
    To wait for one child among many owners of children, watch its pidfd and reap that child alone.
Decision
    `PidFd` owns the descriptor: open, send, wait, close. It has a `fileno`, for select, epoll or ``add_reader``.
Price
    A descriptor for each child that is watched, and Linux 5.4 (P_PIDFD).
"""

from __future__ import annotations

import os
import signal


class PidFd:
    """A descriptor (close-on-exec) for the process *pid*: ``open -> (send | wait)* -> close``.

    *fd*, if given, is a pidfd of that process that was received from another, and ours from now on. Raises
    ProcessLookupError if there is no such process, or it was reaped already.
    """

    def __init__(self, pid: int, fd: int | None = None) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid) if fd is None else fd

    @classmethod
    def of_child(cls, pid: int) -> PidFd:
        """For a child of ours that nobody has reaped. Without a descriptor for it, it is killed: raises OSError."""
        try:
            return cls(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise

    def __enter__(self) -> PidFd:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor, readable when the process has ended; -1 once closed."""
        return self._fd

    def send(self, number: int) -> None:
        """Send a signal (pidfd_send_signal(2)). Raises ProcessLookupError if the process has been reaped."""
        signal.pidfd_send_signal(self._fd, number)

    def wait(self, *, block: bool = True) -> int | None:
        """Reap our child: its exit status, or -N if signal N ended it; None if it still runs and *block* is false.

        Raises ChildProcessError (ECHILD) if it is not a child of ours, was reaped already, or SIGCHLD is ignored.
        """
        result = os.waitid(os.P_PIDFD, self._fd, os.WEXITED | (0 if block else os.WNOHANG))
        if result is None:
            return None
        return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status

    def check_ours(self) -> None:
        """Raise ChildProcessError if it is not a child of ours, or was reaped already."""
        os.waitid(os.P_PIDFD, self._fd, os.WEXITED | os.WNOHANG | os.WNOWAIT)

    def close(self) -> None:
        """Close the descriptor; the process is not touched. May be called again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
