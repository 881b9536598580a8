"""Urgent data, book p. 148: one byte out of band, and a mark where in the stream it stood."""

from __future__ import annotations

from aiolsp.catalog import PROGRAMS
from aiolsp.lab.model import Run
from aiolsp.lab.scenario import Lab, Scenario
from aiolsp.lab.stage import Stage


def script(stage: Stage) -> None:
    """The book's own client: ``123``, ``abc`` urgent, ``123``."""
    client = stage.client("client")
    client.send(b"123")
    stage.wait_for("recv")
    client.send_urgent(b"abc")
    stage.wait_for("recv MSG_OOB", size=1)
    client.send(b"123")
    client.shut_down()
    client.receive_to_end()


def finding(run: Run) -> str:
    """What came in which way."""
    urgent = [event for event in run.server("recv MSG_OOB") if event.size == 1]
    normal = [event.size for event in run.server("recv") if event.size > 0]
    at_mark = [event for event in run.server("recv") if "mark" in event.why]
    if len(urgent) != 1 or sum(normal) != 8 or not at_mark:
        return ""
    sizes = ", ".join(map(str, normal))
    return f"the c came out of band, the other {sum(normal)} bytes in order, in reads of {sizes}: one ends at the mark"


LAB = Lab(
    PROGRAMS["oob"],
    shown=(
        Scenario(
            "oob",
            "told by EPOLLPRI",
            "Of abc only the c is urgent. It is read apart, and the normal read stops at the mark where it stood.",
            script,
            finding,
            options=("--notify", "pri"),
        ),
        Scenario(
            "oob",
            "told by SIGURG",
            "The same bytes; a signal says that something is urgent, but not on which socket.",
            script,
            finding,
            options=("--notify", "sigurg"),
        ),
    ),
)
