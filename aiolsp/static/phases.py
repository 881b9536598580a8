"""What a connection waits for, and how long it may: the rules against clients that are slow on purpose.

A client that trickles its head, its body or its reading holds a connection for nothing (slowloris and its kin). A fixed
time for a whole body would cut the honest slow one as well: so a rate is asked for, after a grace.
"""

from __future__ import annotations

import enum

from aiolsp.http1.limits import Limits

LINGER = 2.0
"""Seconds to go on reading after the last answer, lest a reset overtake it (RFC 9112 9.6); nginx has 5 s."""


class Phase(enum.Enum):
    """What a connection waits for."""

    IDLE = "a request"
    HEAD = "the rest of a head"
    BODY = "the rest of a body"
    ANSWER = "our own disk"
    SENDING = "the client to read"
    LINGER = "the client to close"


def seconds_for(phase: Phase, limits: Limits, progress: int) -> float:
    """How long *phase* may last if *progress* bytes have come, or were taken, since it began.

    IDLE counts from the last activity. ANSWER is no fault of the client's: who asks is to count from now.
    """
    match phase:
        case Phase.IDLE | Phase.ANSWER:
            return limits.idle_timeout
        case Phase.HEAD:
            return limits.head_timeout
        case Phase.BODY:
            return limits.body_grace + progress / limits.body_rate
        case Phase.SENDING:
            return limits.response_grace + progress / limits.response_rate
        case Phase.LINGER:
            return LINGER


class Patience:
    """What one connection waits for, since when, and what has moved meanwhile: so, until when it may wait.

    Times are seconds on any one clock. *untaken* is what the client's side has not taken yet of the bytes that were
    written; ``received`` and ``written`` are to be added to as bytes come and go.
    """

    __slots__ = ("_limits", "last_activity", "phase", "received", "since", "written")

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self.phase = Phase.IDLE
        self.since = self.last_activity = now
        self.received = self.written = 0

    def enter(self, phase: Phase, now: float, untaken: int = 0) -> None:
        """*phase* begins, and with it a time of its own."""
        self.phase = phase
        self.since = self.last_activity = now
        self.received = 0
        self.written = untaken

    def progress(self, untaken: int) -> int:
        """Bytes that came, or that the client's side has taken, since the phase began."""
        return self.written - untaken if self.phase is Phase.SENDING else self.received

    def deadline(self, now: float, untaken: int = 0) -> float:
        """Until when the present phase may last, as far as is known now."""
        phase = self.phase
        begin = self.since
        if phase is Phase.ANSWER:
            begin = now
        elif phase is Phase.IDLE:
            begin = self.last_activity
        return begin + seconds_for(phase, self._limits, self.progress(untaken))
