"""Regular expressions that are compiled when they are first needed: a server starts sooner, and never needs most."""

from __future__ import annotations

import re
from typing import Any, cast


class _Expression:
    """Has the methods of a compiled *pattern*, which it is once one of them is called."""

    def __init__(self, pattern: bytes, flags: int) -> None:
        self.pattern = pattern
        self._flags = flags

    def __getattr__(self, name: str) -> Any:
        # Only what is not there yet is asked for here: from now on it is.
        found = getattr(re.compile(self.pattern, self._flags), name)
        setattr(self, name, found)
        return found


def expression(pattern: bytes, flags: int = 0) -> re.Pattern[bytes]:
    """As ``re.compile``, but later; a *pattern* that is none raises ``re.error`` only then."""
    return cast("re.Pattern[bytes]", _Expression(pattern, flags))
