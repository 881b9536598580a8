"""Hunts for inputs that break the request machine, led by the branches that they reach. Not a test of the suite: it
runs for as long as it is let.

    pip install atheris
    mkdir -p /tmp/found && PYTHONPATH=.:tests python tests/fuzz_parser.py -runs=10000000 -max_len=512 /tmp/found

The corpus is in the directory named: the messages of ``ambiguous``, and all inputs that reached something new, so that
a second run goes on from the first. All options are libFuzzer's. A fault is written to ./crash-..., a hang (of
``-timeout=1`` second) to ./timeout-...; a file's name in place of the directory's tries it alone.

The first byte of an input says how the rest is cut: below 8, into single bytes; else in two, after n of 256 parts.
What must hold is in ``parsing.check``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["aiolsp"]):
    import aiolsp.http1.parser  # noqa: F401

from ambiguous import REFUSED, TAKEN
from parsing import check, in_pieces


def try_one(data: bytes) -> None:
    """One input of the fuzzer's."""
    part, data = data[0] if data else 0, data[1:]
    place = part * len(data) // 256
    check(*in_pieces(data, 1) if part < 8 else (data[:place], data[place:]))


def write_seeds(corpus: Path) -> None:
    """What the fuzzer begins with."""
    for number, (_, data) in enumerate((*REFUSED.values(), *TAKEN.values())):
        (corpus / f"seed-{number}").write_bytes(b"\x80" + data)


if __name__ == "__main__":
    if Path(sys.argv[-1]).is_dir():
        write_seeds(Path(sys.argv[-1]))
    atheris.Setup(sys.argv, try_one)
    atheris.Fuzz()
