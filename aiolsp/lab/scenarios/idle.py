"""The sorted timer list, book p. 196 and 200: what is silent for too long is closed, what speaks is not."""

from __future__ import annotations

from aiolsp.lab.model import Run
from aiolsp.lab.scenario import Lab, Scenario
from aiolsp.lab.stage import Stage

TIMESLOT = 0.2
TIMEOUT = 3 * TIMESLOT
"""Seconds of silence that are too many."""


def script(stage: Stage) -> None:
    """One that never speaks, and one that speaks twice before it falls silent."""
    silent, active = stage.client("silent"), stage.client("active")
    for _ in range(2):
        stage.pause(TIMEOUT * 2 / 3)
        active.send(b"still here\n")
    silent.receive_to_end(why="it never spoke")
    active.receive_to_end(why="it fell silent")


def finding(run: Run) -> str:
    """How long each lived."""
    closed = run.server("idle")
    lines = run.client("active", "send")
    if [run.lanes[event.connection].name for event in closed] != ["connection of silent", "connection of active"]:
        return ""
    silence = (closed[1].t_us - lines[-1].t_us) / 1e6
    late = " and ".join(event.args["late"] for event in closed)
    return (
        f"the silent one was closed {closed[0].t_us / 1e6:.2f} s after the start, the active one {silence:.2f} s after"
        f" its last line; the timers fired {late} late"
    )


LAB = Lab(
    "idle",
    "196, 200",
    "sorted timer list",
    shown=(
        Scenario(
            "idle",
            "a silent and an active connection",
            "Activity moves a connection's timer to the end of the list; one alarm for the head of it is enough.",
            script,
            finding,
            options=("--timeslot", f"{TIMESLOT:g}"),
        ),
    ),
    broken=(),
)
