"""Slow clients, on purpose: how long a server holds them, and whether others are served meanwhile.

Facts. A client that sends a head byte by byte (slowloris), a body byte by byte, or reads the answer in drops costs the
attacker a socket and the server whatever it keeps for a connection: in one with a thread each, a thread. A good server
ends such connections after a while and serves the others all the time. Decision: hold connections, each for itself and
only once - a connection that the server has ended is not opened again - and meanwhile send ordinary requests over new
connections, whose latency is the figure that counts. Only against servers on this machine: it is a test of one's own.

Calling sequence of a lane: connect -> connection_made -> [tick | data_received]* -> connection_lost or end
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from time import monotonic_ns
from typing import cast

from load.client import resolve
from load.framing import AnswerFramer
from load.generator import LocalGenerator
from load.measurement import Measurement
from load.plan import Plan
from load.schedule import ConstantRate
from load.stop import StopRule
from load.units import SECOND
from load.wire import OPENING_AT_ONCE

KINDS = ("head", "body", "read")

PACE = 0.5
"""Seconds between two bytes, or two looks into the receive buffer: far below any time-out between two packets."""

SMALL_BUFFER = 2304
"""SO_RCVBUF for ``read``; the kernel's least value (socket(7)), so that the server cannot hand its answer over."""

BODY = 1 << 20
"""The announced length of a body that never comes whole."""

OTHERS_RATE = 10.0
"""Ordinary requests per second beside the slow ones: enough for percentiles, nothing for the server."""


class Ending(Enum):
    """What became of a slow connection."""

    HELD = "held to the end"
    ANSWERED = "answered"
    CLOSED = "closed without an answer"
    REFUSED = "not connected"


@dataclass(frozen=True)
class Slow:
    """One slow connection after its end."""

    ending: Ending
    held: int
    """Nanoseconds from its begin to its end."""
    status: int = 0


@dataclass(frozen=True)
class SlowResult:
    """All of them, and the requests beside."""

    kind: str
    slow: list[Slow]
    others: Measurement
    others_plan: Plan


async def load_slowly(plan: Plan, kind: str) -> SlowResult:
    """Hold the connections of *plan* by slow clients of *kind* for its duration, and send ordinary requests beside."""
    others = replace(
        plan,
        schedule=ConstantRate(OTHERS_RATE),
        stop=StopRule(duration=plan.stop.duration),
        warmup=0,
        client="wire",
        churn=True,
        pipeline=1,
        connections=4,
    )
    address = await resolve(plan.target)
    lanes = [SlowLane(plan, kind) for _ in range(plan.connections)]
    try:
        for first in range(0, len(lanes), OPENING_AT_ONCE):
            await asyncio.gather(*(lane.connect(address) for lane in lanes[first : first + OPENING_AT_ONCE]))
        async with LocalGenerator(others) as generator:
            measured = await generator.run(others)
    finally:
        for lane in lanes:
            lane.end()
        # Transports close on the next turn of the loop.
        await asyncio.sleep(0)
    return SlowResult(kind, [lane.result for lane in lanes if lane.result is not None], measured, others)


def slow_request(plan: Plan, kind: str) -> bytes:
    """What a slow client sends at once; the rest, if any, never comes whole."""
    if kind == "read":
        return plan.request_bytes(plan.paths[0])
    if kind == "body":
        announced = replace(plan, method="POST", fields=(*plan.fields, ("Content-Length", str(BODY))), body=b"")
        return announced.request_bytes(plan.paths[0])
    return plan.request_bytes(plan.paths[0]).partition(b"\r\n\r\n")[0] + b"\r\nX-Slow: "


class SlowLane(asyncio.Protocol):
    """One slow connection."""

    def __init__(self, plan: Plan, kind: str) -> None:
        self._plan = plan
        self._kind = kind
        self._begun = monotonic_ns()
        self._transport: asyncio.Transport | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._framer = AnswerFramer({})
        self.result: Slow | None = None

    async def connect(self, address: str) -> None:
        """Open the connection; that it cannot be is a result as well."""
        self._begun = monotonic_ns()
        target = self._plan.target
        family = socket.AF_UNIX if target.unix else socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        loop = asyncio.get_running_loop()
        try:
            sock.setblocking(False)
            if self._kind == "read":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            async with asyncio.timeout(self._plan.timeout / SECOND):
                await loop.sock_connect(sock, address if target.unix else (address, target.port))
        except OSError:
            sock.close()
            self._finish(Ending.REFUSED)
            return
        if target.unix:
            await loop.create_unix_connection(lambda: self, sock=sock)
        else:
            await loop.create_connection(lambda: self, sock=sock)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what comes at once, and begin to be slow."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(slow_request(self._plan, self._kind))
        if self._kind == "read":
            self._transport.pause_reading()
        self._wait()

    def _wait(self) -> None:
        self._ticking = asyncio.get_running_loop().call_later(PACE, self._tick)

    def _tick(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._kind == "read":
            self._transport.resume_reading()
        else:
            self._transport.write(b"x")
        self._wait()

    def data_received(self, data: bytes) -> None:
        """An answer ends it; an answer that is only read slowly may go on."""
        if self._kind == "read":
            assert self._transport is not None
            self._transport.pause_reading()
        for answer in self._framer.feed(data)[:1]:
            self._finish(Ending.ANSWERED, answer.status)

    def connection_lost(self, error: Exception | None) -> None:
        """The server has ended it."""
        answer = self._framer.feed_eof()
        self._finish(
            Ending.ANSWERED if answer and not answer.failure else Ending.CLOSED, answer.status if answer else 0
        )

    def end(self) -> None:
        """The run is over."""
        self._finish(Ending.HELD)

    def _finish(self, ending: Ending, status: int = 0) -> None:
        if self.result is None:
            self.result = Slow(ending, monotonic_ns() - self._begun, status)
        if self._ticking is not None:
            self._ticking.cancel()
        if self._transport is not None:
            self._transport.abort()


def count_endings(slow: Iterable[Slow]) -> dict[Ending, list[int]]:
    """How long the connections of each ending were held, ascending."""
    held: dict[Ending, list[int]] = {ending: [] for ending in Ending}
    for one in slow:
        held[one.ending].append(one.held)
    return {ending: sorted(times) for ending, times in held.items()}
