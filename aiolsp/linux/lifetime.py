"""What a signal to stop does to a process that runs a program of ours, from its first module to its last instruction.

Facts (tried on CPython 3.11 to 3.13)
    - Python raises KeyboardInterrupt for SIGINT from its own start on: in the middle of an import that is a traceback.
      Until it has come to the first file of ours, a few dozen milliseconds, nothing of ours can help that.
    - While ``python -m`` looks for a module, sys.argv[0] is ``-m``. The package of the module is imported first.
    - When Python ends, it first gives signals that have a handler the default action again, and then goes on for 10 ms
      and more: the status is no longer what was due. A signal that is ignored stays so.
    - Who stops a program often sends the signal twice at one moment (sansio/stopping.py).
Decision
    While modules are loaded the kernel ends the process: quietly, and with status 130 in a shell, which is right as
    long as there is nothing to be ended cleanly. `hear` has KeyboardInterrupt raised for what a program does. After
    that, and after what a server took for events (`handler_after`), nothing is left that could wait for long: signals
    to stop are ignored, and the status is what was due.
Price
    One more module to load, 0.1 ms. Who has SIGINT ignored (nohup(1), a shell's background) keeps it so; and for who
    imports the package, or calls ``main`` of a program, all of this does nothing.

Calling sequence: ``begin -> hear -> end``; without ``begin``, signals are as they were.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # is in the interpreter; signal.py might be a file of the site
import sys

TYPE_CHECKING = False
"""As in `typing`, which is not to be looked for so early."""

if TYPE_CHECKING:
    from typing import Any

STOP = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP)

_begun = False


def is_program(package: str) -> bool:
    """Whether ``python -m`` is looking for a module of *package*, to run it."""
    return sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)].removeprefix("-m").split(".")[0] == package


def begin() -> None:
    """Let Ctrl-C end the process without a word from now on: it is a program of ours, and loads its modules."""
    global _begun
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    _begun = True


def hear() -> None:
    """Have Ctrl-C raise KeyboardInterrupt again, as Python does, for who can do something about it."""
    if _begun and _signal.getsignal(_signal.SIGINT) == _signal.SIG_DFL:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)


def end() -> None:
    """Ignore signals to stop from now on: the program has ended, and its status is known."""
    if _begun:
        for number in STOP:
            _signal.signal(number, _signal.SIG_IGN)


def handler_after(number: int, before: Any) -> Any:
    """The handler of *number* for after the time in which it was an event: the one *before*.

    In a program of ours that time was its serving. What is left then is its end, which a signal to stop must not cut.
    """
    return _signal.SIG_IGN if _begun and number in STOP else before
