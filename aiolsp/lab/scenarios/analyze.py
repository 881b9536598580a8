"""The state machine, book p. 137: a request in pieces, analysed as it comes."""

from __future__ import annotations

from aiolsp.catalog import PROGRAMS
from aiolsp.lab.model import Run
from aiolsp.lab.scenario import Lab, Scenario
from aiolsp.lab.stage import Stage

PIECES = (b"GET /index.ht", b"ml HTTP/1.1\r\nHo", b"st: example.com\r\n\r", b"\n")
"""None of them ends where a line does: the second holds the end of one and the beginning of another."""

WRONG = b"GET / HTTP/1.1\r\nno colon\r\n\r\n"


def script(stage: Stage) -> None:
    """A good request in four pieces, and a bad one in one."""
    good = stage.client("good")
    for number, piece in enumerate(PIECES, 1):
        good.send(piece)
        stage.wait_for(("data_received", "recv"), count=number)
    good.receive_line()
    good.close()
    bad = stage.client("bad")
    bad.send(WRONG)
    bad.receive_line()


def finding(run: Run) -> str:
    """Reads and answers."""
    reads = [event for event in run.server("data_received", "recv") if event.size > 0]
    answers = run.server("write", "send")
    if len(reads) != len(PIECES) + 1 or len(answers) != 2:
        return ""
    return (
        f"the good request was answered once, after the last of its {len(PIECES)} pieces, since the machine keeps its"
        " state between reads; the bad one at once"
    )


LAB = Lab(
    PROGRAMS["analyze"],
    shown=(
        Scenario(
            "analyze",
            "a request in pieces",
            "Each read moves the machine as far as its bytes reach (OPEN); only the end of the head brings the answer.",
            script,
            finding,
        ),
    ),
)
