"""TCP and UDP on one port, book p. 171: a stream has no borders, a datagram has; a slow reader gets back-pressure."""

from __future__ import annotations

from aiolsp.catalog import PROGRAMS
from aiolsp.lab.broken.servers import ANSWER
from aiolsp.lab.model import Run
from aiolsp.lab.scenario import Lab, Scenario, mistake
from aiolsp.lab.stage import Stage

LARGEST = 65507
"""Bytes of a UDP datagram over IPv4: 65,535 less the heads (RFC 768, RFC 791)."""


def script(stage: Stage) -> None:
    """The same port in both protocols, with the largest and the smallest datagram."""
    stream = stage.client("stream")
    stream.send(b"one ")
    stream.send(b"stream\n")
    stream.receive(len(b"one stream\n"))
    stream.shut_down(why="half-close: the echo is still owed")
    stream.receive_to_end()
    datagrams = stage.client("datagrams", udp=True)
    for data in (b"a datagram", b"", bytes(LARGEST)):
        datagrams.send(data)
        datagrams.receive_datagram()


def finding(run: Run) -> str:
    """How large a datagram came back, and what the stream got."""
    back = [event.size for event in run.client("datagrams", "recvfrom")]
    stream = sum(event.size for event in run.client("stream", "recv"))
    if len(back) != 3 or back[-1] != LARGEST or stream != 11:
        return ""
    sizes = ", ".join(f"{size:,}" for size in back)
    return f"the stream's {stream} bytes came back, and datagrams of {sizes} bytes: borders are kept, also of nothing"


def script_late(stage: Stage) -> None:
    """A client that asks for much and reads late."""
    client = stage.client("late reader")
    client.send(b"all of it\n", why="it will read later")
    stage.wait_for("send EAGAIN")
    client.receive_to_end()


def got(run: Run) -> int:
    """Bytes that the late reader has got."""
    return sum(event.size for event in run.client("late reader", "recv"))


def finding_cut(run: Run) -> str:
    """How much was lost."""
    if got(run) >= len(ANSWER) or not run.server("send EAGAIN"):
        return ""
    return f"the client got {got(run):,} of {len(ANSWER):,} bytes, and an end of stream that looks as if it were all"


def finding_whole(run: Run) -> str:
    """Nothing was."""
    if got(run) != len(ANSWER):
        return ""
    return f"the client got all {got(run):,} bytes; EAGAIN on the way: {len(run.server('send EAGAIN'))}"


LAB = Lab(
    PROGRAMS["echo"],
    shown=(
        Scenario(
            "echo",
            "TCP and UDP on one port",
            "Two sockets, one port number. A stream has no borders; a datagram comes whole or not at all.",
            script,
            finding,
        ),
    ),
    broken=mistake(
        Scenario(
            "broken.eagain",
            "EAGAIN taken for an error",
            "The kernel's buffer is full, send says EAGAIN, and the server closes: the client gets a part.",
            script_late,
            finding_cut,
            mend="EAGAIN says: not now. Keep the rest, watch for EPOLLOUT, and go on from there.",
        ),
        "EAGAIN understood",
        "At EAGAIN the server keeps the rest and waits for EPOLLOUT.",
        finding_whole,
    ),
)
