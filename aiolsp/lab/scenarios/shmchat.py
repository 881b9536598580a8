"""Shared-memory chat, book p. 255: a process for each member; lines are not sent between them, but read in place."""

from __future__ import annotations

from aiolsp.catalog import PROGRAMS
from aiolsp.lab.model import Run
from aiolsp.lab.scenario import Lab, Scenario
from aiolsp.lab.stage import Stage


def script(stage: Stage) -> None:
    """Three members, each a process of the server."""
    members = [stage.client(name) for name in ("alice", "bob", "carol")]
    stage.wait_for("fork", count=3)
    for speaker in members:
        speaker.send(f"hello from {speaker.name}\n".encode())
        for listener in members:
            if listener is not speaker:
                listener.receive_line()


def finding(run: Run) -> str:
    """Which process did what."""
    wrote = run.server("write", "send")
    rings = run.server("eventfd_read")
    processes = len({event.pid for event in wrote})
    if processes != 3 or len(wrote) < 6 or not rings:
        return ""
    return (
        f"{processes} processes sent {len(wrote)} lines to their own clients; between them went {len(rings)} rings of"
        " an eventfd and not a byte: the lines lie in memory that all of them see"
    )


LAB = Lab(
    PROGRAMS["shmchat"],
    shown=(
        Scenario(
            "shmchat",
            "three members in three processes",
            "A child writes its client's line into its slot and rings the others' bells; they read it where it lies.",
            script,
            finding,
        ),
    ),
)
