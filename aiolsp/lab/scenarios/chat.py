"""The chat room, book p. 165: one process serves all; the client moves bytes without seeing them."""

from __future__ import annotations

from aiolsp.catalog import PROGRAMS
from aiolsp.lab.model import Run
from aiolsp.lab.scenario import Lab, Scenario
from aiolsp.lab.stage import Stage

SPLICED = b"from a pipe to a socket\n"


def script(stage: Stage) -> None:
    """Two members, and a third that is the program's own client with a pipe as its input."""
    alice, bob = stage.client("alice"), stage.client("bob")
    bob.send(b"hello\n")  # who has spoken is a member, and so is who connected before
    alice.receive_line()
    stage.play("chat", said=SPLICED)
    alice.receive_line()
    bob.receive_line()


def finding(run: Run) -> str:
    """Who heard what, and what the client copied."""
    heard = [sum(event.size for event in run.client(name, "recv")) for name in ("alice", "bob")]
    spliced = [event for event in run.events if event.call == "splice"]
    moved = sum(event.size for event in spliced if event.sign == ">")
    if heard != [len(b"hello\n" + SPLICED), len(SPLICED)] or moved != len(SPLICED):
        return ""
    return (
        f"each line went to all but its sender; the third client moved {moved} bytes by {len(spliced)} splice(2) calls"
        " and never had them in its own memory"
    )


LAB = Lab(
    PROGRAMS["chat"],
    shown=(
        Scenario(
            "chat",
            "three members, one by splice",
            "One report of the line, then a write to each other member. The third client's lane has only splice.",
            script,
            finding,
        ),
    ),
)
