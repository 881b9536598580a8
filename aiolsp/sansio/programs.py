"""What the CGI server makes of a request, and what it says: the words of aiolsp/cgisrv.py and its twin.

Book p. 298, listing 15-2. A request is one line, the plain name of a program; what follows it is read and forgotten.
A refusal is one line as well, and it is all that the client gets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiolsp.sansio.lines import LineSplitter, LineStatus

LONGEST_NAME = 255
"""Bytes of a file name that any file system of Linux takes (NAME_MAX)."""

FRESH = 0.5
"""Seconds that a connection without a request has when its process ends: the request may be on its way."""

_NAME = re.compile(rb"[^\x00-\x1f\x7f/]+")
"""A plain name without control characters: it is printed in the log."""


@dataclass(frozen=True, slots=True)
class Run:
    """Run the program of this name, if there is one."""

    name: bytes


@dataclass(frozen=True, slots=True)
class Refuse:
    """Send this text, a line, and close."""

    text: bytes


class ProgramRequest:
    """The request of one connection: ``feed* -> Run | Refuse``, once; nothing comes of what follows."""

    def __init__(self) -> None:
        self._lines = LineSplitter(LONGEST_NAME + 1)  # one byte more proves a line too long
        self.complete = False

    def feed(self, data: bytes) -> Run | Refuse | None:
        """What to do now that *data* has come; None for nothing yet, or nothing more."""
        if self.complete:
            return None
        self._lines.feed(data)
        status, line = self._lines.next_line()
        if status is LineStatus.OPEN:
            return None
        self.complete = True
        if len(line) > LONGEST_NAME or _NAME.fullmatch(line) is None or line in (b".", b".."):
            return NO_REQUEST
        return Run(line)


def refusal(reason: str) -> Refuse:
    """The line that tells a client why it gets nothing."""
    return Refuse(f"cgisrv: {reason}\r\n".encode())


NO_REQUEST = refusal("a request is the plain name of a program, and CR LF")
NO_PROGRAM = refusal("no such program")
NOT_EXECUTABLE = refusal("that is not executable")
NOT_STARTED = refusal("the program cannot be started")
TOO_MANY = refusal("too many programs run: try again later")
"""For a request past ``--max-children``."""


def timed_out(seconds: float) -> Refuse:
    """The last line for a client whose program ran too long, or who sent no request."""
    return refusal(f"timed out after {seconds:g} s")


def clean_environment(peer: str) -> dict[str, str]:
    """All that a program gets of an environment: where to find others, a locale, and who asks."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "REMOTE_ADDR": peer}


def ended(name: bytes, status: int) -> str:
    """How a program ended, for the log; a negative *status* is the number of the signal that killed it."""
    how = f"exited {status}" if status >= 0 else f"killed by signal {-status}"
    return f"{name.decode(errors='backslashreplace')} {how}"
