"""The unified event source, book p. 184: signals come as events among the socket events."""

from __future__ import annotations

import signal

from aiolsp.lab.model import Run
from aiolsp.lab.scenario import Lab, Scenario
from aiolsp.lab.stage import Stage

CHILDREN = 3


def script(stage: Stage) -> None:
    """A line, a signal, and children that end together."""
    client = stage.client("client")
    client.send(b"hello\n")
    stage.wait_for(("data_received", "recv"))
    stage.signal(signal.SIGHUP, why="it comes as an event, between two others")
    stage.wait_for("signal")
    client.send(b"child 3\n" * CHILDREN, why=f"start {CHILDREN} children that end at once")
    stage.wait_for("waitid", count=CHILDREN)
    client.shut_down()
    client.receive_to_end()


def finding(run: Run) -> str:
    """How many signals stood for how many children."""
    reaped = len(run.server("waitid"))
    told = sum(event.flags == "SIGCHLD" for event in run.server("signal"))
    if reaped != CHILDREN or not told:
        return ""
    return f"{reaped} children ended, SIGCHLD came {told} time{'s' * (told > 1)}, and all were reaped: it asks for each"


LAB = Lab(
    "events",
    "184",
    "signals as events",
    shown=(
        Scenario(
            "events",
            "signals among the socket events",
            "SIGHUP and SIGCHLD are reports like any other. One SIGCHLD may stand for several children.",
            script,
            finding,
        ),
    ),
    broken=(),
)
