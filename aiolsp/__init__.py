"""Linux high-performance server programming, asyncio-native: every mechanism of the book, beside its blocking twin."""

from __future__ import annotations

import os
import sys

from aiolsp.linux import lifetime

if lifetime.is_program(__name__):
    lifetime.begin()

__version__ = "0.1.0"


def look_here_last() -> None:
    """Look for modules in the working directory last, which ``-m`` puts first, and which is often the site.

    No file there is to be taken for a module of Python's, nor looked for a hundred times. To be called before others
    are imported, by what is run as ``__main__``.
    """
    try:
        here = os.getcwd()
    except OSError:  # it was removed: nothing is found there
        return
    if not sys.flags.safe_path and sys.path[0] in ("", here):
        sys.path.append(sys.path.pop(0))
