"""fork(2) whose child dies with its parent, takes no signal for it and holds none of its descriptors.

Facts (fork(2), prctl(2), signal(7), tried on this kernel)
    - A child outlives its parent, unless it asks for a signal at the parent's death (process_control.py).
    - A child has its parent's signal handlers and its wake-up descriptor (a copy of the same socket): a SIGTERM for the
      child, handled in Python, arrives in the parent's loop.
    - A child has a copy of every descriptor, close-on-exec or not. Sockets that were accepted in one go are all open in
      the child that is forked for the first of them: as long as it runs, nobody sees the others end.
    - Ctrl-C sends SIGINT to all processes of the terminal's foreground group.
    - A signal that is ignored stays so through exec; one that has a handler gets the default action.
Consequence
    No handler may run in the child before it is reset, and the child must close what it was not given by name.
Decision
    All signals are blocked from before the fork until the child has reset its handlers. SIGINT has one that does
    nothing: whether Ctrl-C ends the children is for the parent to say, and programs that they run have the default.
Price
    Five system calls for each fork, and one for each descriptor that is closed. Objects that own a closed descriptor
    must not be used in the child, and not be freed: it ends by os._exit. Threads are the caller's to avoid.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress

from aiolsp.linux.process_control import die_with_parent, no_action
from aiolsp.tracing import trace


def fork(keep: Iterable[int]) -> int:
    """As os.fork: 0 in the child, where nothing comes of SIGINT and the other handlers are the default ones.

    Open in the child are *keep*, the standard streams and the trace. It gets SIGKILL when its parent ends. Raises
    OSError as fork(2): EAGAIN past RLIMIT_NPROC; and EMFILE.
    """
    parent, held = os.getpid(), set(map(int, os.listdir("/proc/self/fd")))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _begin(parent, held - {0, 1, 2, *keep, *trace.descriptors()})
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _begin(parent: int, foreign: set[int]) -> None:
    try:
        die_with_parent(parent)
        _reset_signals()
        for fd in foreign:
            with suppress(OSError):  # the one that listed them is closed already
                os.close(fd)
    except BaseException:
        os._exit(1)  # whatever it is, the child must not go on as its parent


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, no_action)
