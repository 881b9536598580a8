"""What a program writes to its stderr, as lines for a log: bounded, and cut where it has no end of line."""

from __future__ import annotations

from collections.abc import Callable

from aiolsp.sansio.lines import LineSplitter, LineStatus

MAX_LINE = 1000
"""Bytes of a program's complaint that make one line of the log; a longer one makes several."""

MAX_COMPLAINTS = 64 * 1024
"""Bytes of complaints of one run that are logged; those after them are read and dropped."""


class Complaints:
    """Calls *say* with each line: ``feed* -> receive_eof``."""

    def __init__(self, say: Callable[[bytes], None]) -> None:
        self._say = say
        self._lines = LineSplitter(MAX_LINE)
        self._left = MAX_COMPLAINTS
        self._cut = False

    def feed(self, data: bytes) -> None:
        """Take a piece of what was written."""
        taken, self._left = data[: self._left], max(0, self._left - len(data))
        self._lines.feed(taken)
        while (line := self._lines.next_line())[0] is LineStatus.OK:
            self._say(line[1])
        if len(taken) < len(data) and not self._cut:
            self._cut = True
            self._say(b"(more than %d bytes: the rest is not logged)" % MAX_COMPLAINTS)

    def receive_eof(self) -> None:
        """Nothing more was written: what has no end of line is a line too."""
        last = self._lines.rest()
        if last:
            self._say(last)
