"""The sorted timer list, book p. 196 and 200: what is silent for too long is closed, what speaks is not."""

from __future__ import annotations

from aiolsp.catalog import PROGRAMS
from aiolsp.lab.model import Run
from aiolsp.lab.scenario import Lab, Scenario, mistake
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


def script_once(stage: Stage) -> None:
    """A line shortly before the first timer is due."""
    client = stage.client("active")
    stage.pause(TIMEOUT * 2 / 3)
    client.send(b"still here\n")
    client.receive_to_end()


def silence(run: Run) -> float:
    """Seconds between the last line and the time-out."""
    return (run.server("idle")[0].t_us - run.server("recv")[0].t_us) / 1e6


def finding_early(run: Run) -> str:
    """Closed although active."""
    if not run.server("idle") or silence(run) > TIMEOUT * 2 / 3:
        return ""
    return (
        f"closed {silence(run):.2f} s after it spoke, though {TIMEOUT:g} s are allowed: the first timer was still there"
    )


def finding_in_time(run: Run) -> str:
    """Closed when silent."""
    if silence(run) < TIMEOUT * 0.9:
        return ""
    return f"closed {silence(run):.2f} s after it spoke last; {TIMEOUT:g} s are allowed"


LAB = Lab(
    PROGRAMS["idle"],
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
    broken=mistake(
        Scenario(
            "broken.twice",
            "a timer inserted twice",
            "Activity sets a second timer, and the first fires all the same: the book's listing 11-3 does that.",
            script_once,
            finding_early,
            mend="Move the one timer (adjust), or cancel it before another is set; a list must refuse a second insert.",
        ),
        "a timer moved",
        "Activity moves the one timer that there is.",
        finding_in_time,
    ),
)
