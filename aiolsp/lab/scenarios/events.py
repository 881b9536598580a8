"""The unified event source, book p. 184: signals come as events among the socket events."""

from __future__ import annotations

import signal

from aiolsp.catalog import PROGRAMS
from aiolsp.lab.model import Run
from aiolsp.lab.scenario import Lab, Scenario, mistake
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


def script_unreaped(stage: Stage) -> None:
    """Children that end."""
    client = stage.client("client")
    client.send(b"child\n" * CHILDREN, why=f"start {CHILDREN} children, which end one after the other")
    stage.wait_for("started", count=CHILDREN)
    mended = "--mended" in stage.command
    if mended:
        stage.wait_for("waitid", count=CHILDREN)
    elif "counted" in stage.command:
        stage.wait_for("waitid", count=CHILDREN - 1)
    left = stage.unreaped()
    stage.remark("= zombies" if left == 0 else "! zombies", f"{left} of {CHILDREN} children are in state Z of /proc")


def finding_zombies(run: Run) -> str:
    """Children that are dead and still there."""
    told = sum(event.flags == "SIGCHLD" for event in run.server("signal"))
    [found] = run.client("the lab", "zombies")
    if found.sign != "!":
        return ""
    return f"SIGCHLD came {told} time{'s' * (told > 1)}, {len(run.server('waitid'))} children were reaped; {found.why}"


def finding_reaped(run: Run) -> str:
    """None left."""
    told = sum(event.flags == "SIGCHLD" for event in run.server("signal"))
    [found] = run.client("the lab", "zombies")
    return f"SIGCHLD came {told} time{'s' * (told > 1)}; {found.why}" if found.sign == "=" else ""


LAB = Lab(
    PROGRAMS["events"],
    shown=(
        Scenario(
            "events",
            "signals among the socket events",
            "SIGHUP and SIGCHLD are reports like any other. One SIGCHLD may stand for several children.",
            script,
            finding,
        ),
    ),
    broken=(
        *mistake(
            Scenario(
                "broken.unreaped",
                "a child that nobody reaps",
                "SIGCHLD only says that there is something to wait for: without a wait the child stays as a zombie.",
                script_unreaped,
                finding_zombies,
                mend="waitpid(pid, WNOHANG) for each child, or a pidfd for each, readable when the child ends.",
            ),
            "children reaped",
            "Each SIGCHLD asks until nobody is left.",
            finding_reaped,
        ),
        *mistake(
            Scenario(
                "broken.counted",
                "a signal lost to a busy handler",
                "While the handler works its signal is blocked; the kernel keeps one pending bit, not a count.",
                script_unreaped,
                finding_zombies,
                mend="Take a signal as at least one: ask (waitpid, WNOHANG) until nothing is left, whatever woke you.",
            ),
            "a signal that means at least one",
            "The handler is as busy, but asks for every child.",
            finding_reaped,
        ),
    ),
)
