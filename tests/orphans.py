"""Processes that outlive the program that started them: adopted by the test, as else by init, which nobody asks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import faults
import leaks
from aiolsp.linux import process_control


@contextmanager
def adopting_orphans() -> Iterator[Callable[[], None]]:
    """Gives a function that waits until all orphans have ended and reaps them; AssertionError if one stays.

    It is for a moment when the test has no children of its own that it did not have before the block.
    """
    before = set(leaks.children())
    process_control.adopt_orphans()
    try:
        yield lambda: _await_orphans(before)
    finally:
        process_control._prctl(process_control._PR_SET_CHILD_SUBREAPER, 0)


def _await_orphans(before: set[str]) -> None:
    while orphans := set(leaks.children()) - before:  # the end of one may make orphans of others
        child = orphans.pop()
        faults.await_end(int(child))
        with suppress(ChildProcessError):
            os.waitpid(int(child), 0)
