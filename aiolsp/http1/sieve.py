"""What is left of a request's head without the fields that decide nothing: equal rests have equal answers.

Facts
    - Clients send a dozen fields with each request (User-Agent, Cookie, Referer, Accept-Language ...), and most of them
      do not change what a server of files answers.
    - A field line is right or wrong by itself, whatever stands around it (RFC 9112 5); only the lines whose meaning the
      server looks at can contradict one another.
    - One substitution by a compiled expression takes 1.5 us for a browser's head; to read it and make its
      answer, ten times that.
Consequence
    A head without some right lines that nobody looks at is understood, or refused, as the whole head is.
Decision
    `Sieve.rest` drops the lines that are right and decide nothing, and leaves all else as it came: request-line, lines
    that decide, lines that are wrong, empty lines. It judges nothing. Who knows the answer to a head that was
    dropped to the same rest, because the machine has read that one, may give the same answer.
Price
    The names that decide have to be known beforehand: those that `parser` asks for are FRAMING below, and who answers
    must name all that it asks for itself.

Why a rest without its lines cannot hide what they were part of: lines are only dropped whole, and never an empty one.
So a rest that has one empty line, at its end, comes from bytes that have one empty line: if they end with it too, they
are one head, and nothing follows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from itertools import groupby

from aiolsp.http1.grammar import tchar

FRAMING = (b"host", b"connection", b"content-length", b"transfer-encoding", b"expect")
"""The fields by which a request is delimited, refused, or kept alive: all that the request machine asks for."""

END = b"\r\n\r\n"
"""The end of a head."""


class Sieve:
    """Holds back the fields that *decide*, by their names in lower case."""

    def __init__(self, decide: Iterable[bytes]) -> None:
        self._decide = tuple(decide)

    @cached_property
    def _expression(self) -> re.Pattern[bytes]:
        """Made when it is first needed: that takes a millisecond, for which the start of a server need not wait."""
        # Possessive, since no line can match in two ways. Whole runs of lines, because to begin and end a match costs
        # as much as a line; with the CR LF before them, because what starts with bytes is found quickly.
        line = rb"(?!(?:" + _any_of(self._decide) + rb"):)" + tchar + rb"++:[\t -~\x80-\xff]*+\r\n"
        return re.compile(rb"\r\n(?:" + line + rb")++")

    def rest(self, head: bytes) -> bytes:
        """What *head* is without the lines that decide nothing."""
        return self._expression.sub(b"\r\n", head)


def _any_of(names: Iterable[bytes]) -> bytes:
    """An expression for one of *names*, in any case; by first letters, since most lines have none of these."""
    return b"|".join(
        _any_case(first) + rb"(?:" + b"|".join(_any_case(name[1:]) for name in same) + rb")"
        for first, same in groupby(sorted(names), key=lambda name: name[:1])
    )


def _any_case(name: bytes) -> bytes:
    """An expression for *name* in any case; as sets of two letters it is twice as fast as with the flag."""
    return b"".join(b"[%c%c]" % (code, code - 32) if chr(code).islower() else re.escape(bytes([code])) for code in name)
