"""TCP and UDP on one port, book p. 171: a stream has no borders, a datagram has; a slow reader gets back-pressure."""

from __future__ import annotations

from aiolsp.lab.model import Run
from aiolsp.lab.scenario import Lab, Scenario
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


LAB = Lab(
    "echo",
    "171",
    "TCP and UDP on one port",
    shown=(
        Scenario(
            "echo",
            "TCP and UDP on one port",
            "Two sockets, one port number. A stream has no borders; a datagram comes whole or not at all.",
            script,
            finding,
        ),
    ),
    broken=(),
)
