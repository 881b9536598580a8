"""Doorbells between processes: eventfd(2), one for each who may be woken.

Facts (eventfd(2), tried on this kernel)
    - A write adds to a counter and wakes who polls; a read takes it all: many rings are one. Neither carries a message
      nor says who rang. A counter takes 2**64 - 2 rings, so with O_NONBLOCK ringing never waits.
    - Both take the counter's lock: what the ringer stored in shared memory before, the woken one sees after.
    - A ring for one who is gone stays, and wakes its successor for nothing.
Consequence
    A ring means "look at the memory"; who is woken must find out by itself whether there is anything.
Decision
    All are made before the processes that use them, who have them by fork and ring each other directly.
Price
    Each process holds a descriptor for each of the others: n * n entries in descriptor tables for n eventfds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable


class Doorbells:
    """*count* doorbells, numbered from 0: ``(fileno | ring | clear)* -> close``. Raises OSError as eventfd(2)."""

    def __init__(self, count: int) -> None:
        self.descriptors: list[int] = []
        try:
            for _ in range(count):
                self.descriptors.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        except OSError:
            self.close()
            raise

    def fileno(self, number: int) -> int:
        """The descriptor of doorbell *number*: readable when it has been rung."""
        return self.descriptors[number]

    def ring(self, numbers: Iterable[int]) -> None:
        """Wake those who watch the doorbells *numbers*."""
        for number in numbers:
            os.eventfd_write(self.descriptors[number], 1)

    def clear(self, number: int) -> None:
        """Take all rings of doorbell *number* so far; before looking at what they are for."""
        try:
            os.eventfd_read(self.descriptors[number])
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close them in this process. May be called again."""
        for fd in self.descriptors:
            os.close(fd)
        self.descriptors.clear()
