"""What the events server says of each event, and what it makes of a line; the words of aiolsp/events.py and its twin.

A line ``child [N]`` asks for a child that exits with status N (0 to 255); any other line is only reported.
"""

from __future__ import annotations

import re

LONGEST_LINE = 1023
"""Bytes of a line that are one event; what is longer is several. The book's buffers have 1,024 bytes and a NUL."""

MAX_CHILDREN = 32
"""Children at once: a peer may ask for as many as it likes."""

SHOWN = 60
"""Bytes of a line that are printed: a screen has 80 columns."""

_CHILD = re.compile(rb"child(?: ([0-9]{1,3}))?")


def child_wanted(line: bytes) -> int | None:
    """The exit status of the child that *line* asks for, or None if it asks for none."""
    found = _CHILD.fullmatch(line)
    status = int(found[1] or 0) if found else 256
    return status if status < 256 else None


def line_came(peer: str, line: bytes) -> str:
    """A peer sent a line."""
    shown = repr(line[:SHOWN])[1:] + ("..." if len(line) > SHOWN else "")
    return f"event: line {shown} from {peer}"


def child_ended(pid: int, status: int) -> str:
    """A child was reaped; a negative *status* is the number of the signal that killed it."""
    return f"event: child {pid} exited {status}" if status >= 0 else f"event: child {pid} killed by signal {-status}"
