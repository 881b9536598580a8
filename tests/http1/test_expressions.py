"""An expression does what the compiled one does, and is compiled when it is first used."""

from __future__ import annotations

import re
from unittest.mock import Mock

import pytest

from aiolsp.http1.expressions import expression


def test_it_does_what_the_compiled_one_does() -> None:
    late, early = expression(rb"(?P<a>x)y", re.IGNORECASE), re.compile(rb"(?P<a>x)y", re.IGNORECASE)
    for _ in range(2):
        assert late.sub(b"-", b"aXYb") == early.sub(b"-", b"aXYb") == b"a-b"
        assert late.findall(b"xyXY") == early.findall(b"xyXY") == [b"x", b"X"]
        assert late.search(b"-xy", 1) is not None and late.fullmatch(b"xyz") is None
    assert (late.pattern, late.flags, late.groupindex) == (early.pattern, early.flags, early.groupindex)


def test_it_is_compiled_when_it_is_first_used(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = Mock(side_effect=re.compile)
    monkeypatch.setattr(re, "compile", compiled)
    late = expression(rb"x")
    assert late.pattern == b"x" and not compiled.called
    assert late.match(b"x") and late.match(b"y") is None and compiled.call_count == 1
    with pytest.raises(re.error):
        expression(rb"(").match(b"")
