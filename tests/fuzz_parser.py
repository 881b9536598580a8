"""Hunts for inputs that break the request machine, led by the branches that they reach. Not a test of the suite: it
runs for as long as it is let.

    pip install atheris
    mkdir -p /tmp/found && PYTHONPATH=.:tests python tests/fuzz_parser.py -runs=10000000 -max_len=512 /tmp/found

The corpus is in the directory named: the messages of ``ambiguous`` and ``refused``, and all inputs that reached
something new, so that a second run goes on from the first. All options are libFuzzer's. A fault is written to
./crash-..., a hang (of ``-timeout=1`` second) to ./timeout-...; a file's name in place of the directory's tries it
alone.

The first byte of an input says how the rest is cut: 255 into single bytes, n in two after n of 255 parts of it. What
must hold is in ``parsing.check``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

from ambiguous import TAKEN
from parsing import LIMITS, check, in_pieces
from refused import REFUSED

# The parser once more, as a copy that tells the fuzzer where it goes. What must hold is tried on the other: it is
# three times as fast.
for name in [name for name in sys.modules if name.startswith("aiolsp")]:
    del sys.modules[name]
with atheris.instrument_imports(include=["aiolsp"]):
    from aiolsp.http1.parser import RequestParser


def try_one(data: bytes) -> None:
    """One input of the fuzzer's."""
    part, data = data[0] if data else 0, data[1:]
    place = part * len(data) // 255
    pieces = in_pieces(data, 1) if part == 255 else [data[:place], data[place:]]
    parser = RequestParser(LIMITS)
    for piece in pieces:
        parser.feed(piece)
    check(*pieces)


def write_seeds(corpus: Path) -> None:
    """What the fuzzer begins with."""
    for number, (_, data) in enumerate((*REFUSED.values(), *TAKEN.values())):
        (corpus / f"seed-{number}").write_bytes(b"\x80" + data)


if __name__ == "__main__":
    if Path(sys.argv[-1]).is_dir():
        write_seeds(Path(sys.argv[-1]))
    atheris.Setup(sys.argv, try_one)
    atheris.Fuzz()
