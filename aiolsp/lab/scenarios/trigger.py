"""Level and edge triggering, book p. 154: what wakes the server, and how often."""

from __future__ import annotations

from aiolsp.catalog import PROGRAMS
from aiolsp.lab.model import Run
from aiolsp.lab.scenario import Lab, Scenario
from aiolsp.lab.stage import Stage

SENT = b"abcdefghij" * 5 + b"last"
"""More than the server's buffer of 10 bytes holds."""

MORE = b"more"
"""A second segment, which shows what an edge is."""


def script(stage: Stage) -> None:
    """A segment, and then the end of the stream, each an event of its own."""
    client = stage.client("client")
    client.send(SENT, why=f"{len(SENT)} bytes in one segment")
    stage.wait_for("recv", count=6)
    if "--mode et" in stage.command:
        stage.wait_for("recv EAGAIN")
    client.shut_down()
    client.receive_to_end()


def script_stuck(stage: Stage) -> None:
    """A segment that is read only in part, and a second that shows what an edge is."""
    client = stage.client("client")
    client.send(SENT, why=f"{len(SENT)} bytes in one segment")
    stage.wait_for("recv")
    stage.pause(0.5)
    client.send(MORE, why="a new segment is a new edge")
    stage.wait_for("recv", count=2)
    stage.pause(0.3)


def finding(run: Run) -> str:
    """Wake-ups and calls until all bytes were read."""
    reads = [event for event in run.server("recv") if event.size > 0]
    if sum(event.size for event in reads) != len(SENT):
        return ""
    wake_ups = sum(event.t_us < reads[-1].t_us for event in run.server("add_reader", "epoll_wait"))
    eagain = len(run.server("recv EAGAIN"))
    return f"{len(SENT)} bytes: {wake_ups} wake-up{'s' * (wake_ups > 1)}, {len(reads)} recv, {eagain} EAGAIN"


def finding_stuck(run: Run) -> str:
    """What was left unread, and for how long."""
    reads = run.server("recv")
    if len(reads) < 2 or sum(event.size for event in reads) >= len(SENT + MORE):
        return ""
    silence = (reads[1].t_us - reads[0].t_us) / 1000
    return (
        f"{len(SENT) - reads[0].size} bytes lay in the kernel for {silence:.0f} ms and the server slept; a new segment"
        f" of {len(MORE)} bytes was a new edge, for {reads[1].size} bytes more"
    )


LAB = Lab(
    PROGRAMS["trigger"],
    shown=(
        Scenario(
            "trigger",
            "level triggered",
            "While bytes wait, the socket is reported again: one recv a wake-up is enough, and no EAGAIN is needed.",
            script,
            finding,
            options=("--mode", "lt"),
        ),
        Scenario(
            "trigger",
            "edge triggered",
            "One report for all bytes that came before it: the server must recv until EAGAIN.",
            script,
            finding,
            options=("--mode", "et"),
        ),
    ),
    broken=(
        Scenario(
            "trigger",
            "edge triggered, and not drained",
            "One recv for the one report: the rest is stuck, though the kernel has it, until more bytes come.",
            script_stuck,
            finding_stuck,
            options=("--mode", "et", "--broken"),
            variant="broken",
            mend="recv until EAGAIN (BlockingIOError), with a budget, so that a peer that floods lets the others in.",
        ),
        Scenario(
            "trigger",
            "edge triggered, and drained",
            "The same bytes, the same mode, read until EAGAIN: nothing is left behind.",
            script,
            finding,
            options=("--mode", "et"),
            variant="mended",
        ),
    ),
)
