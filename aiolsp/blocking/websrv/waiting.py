"""How long a connection waits for its client, whatever it waits for: the twin of websrv/waiting.py.

Decision: one timer, whose deadline `Patience` reckons, stands for all that the client may be slow in, and activity only
stores the time. While a thread holds the connection it is the client who waits, so no deadline counts.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from aiolsp.blocking.websrv.held import HeldSocket
from aiolsp.blocking.websrv.transfer import Output
from aiolsp.http1.messages import ProtocolError
from aiolsp.linux.listener import Address, format_address
from aiolsp.linux.unsent import untaken
from aiolsp.sansio.timers import IdleTimer
from aiolsp.static.phases import Patience, Phase
from aiolsp.tracing import trace

if TYPE_CHECKING:
    from aiolsp.blocking.websrv.service import Service
    from aiolsp.http1.parser import RequestParser


class Waiting(HeldSocket):
    """The part of a connection that knows its client, and for how long to wait for it."""

    _parser: RequestParser

    def __init__(self, service: Service, sock: socket.socket, peer: Address) -> None:
        super().__init__(service, sock, peer)
        self.output = Output(sock)
        self._time = service.timers.time
        now = self._time()
        self._patience = Patience(service.settings.limits, now)
        self._timer = IdleTimer(self._patience.deadline(now), self._timed_out, self._deadline)

    # The other parts

    def refuse(self, fault: ProtocolError) -> None:
        """Answer what cannot be understood, or not be served, and close."""
        raise NotImplementedError

    # On the thread of the readiness loop

    def _timed_out(self) -> None:
        """The phase has lasted too long; nobody holds the connection, since a held one has no deadline."""
        if not self.take():
            return
        phase = self._patience.phase
        if trace.on:
            trace.event("-", "timed out", why=f"waited for {phase.value}", peer=format_address(self.peer or ""))
        if phase in (Phase.HEAD, Phase.BODY):
            self._service.timers.add(self._timer)
            self.refuse(self._parser.refusal(408, f"waited too long for {phase.value}"))
            self.work(busy=True)
        elif phase is Phase.IDLE:
            self._service.timers.add(self._timer)
            self.part("timed out")
        else:
            self.close("timed out")

    # On whichever thread holds the connection

    def deadline_of(self, phase: Phase) -> float:
        """Until when *phase* may last, which begins now unless it has; for who holds the connection and waits."""
        if self._patience.phase is not phase:
            self._enter(phase)
        return self._patience.deadline(self._time(), self._untaken(phase))

    def _enter(self, phase: Phase) -> None:
        self._patience.enter(phase, self._time(), self._untaken(phase))

    def _deadline(self) -> float:
        """Until when the client may take; while a thread holds the connection, it is the client who waits."""
        now = self._time()
        if self._held:
            return now + self._service.settings.limits.idle_timeout
        return self._patience.deadline(now, self._untaken(self._patience.phase))

    def _untaken(self, phase: Phase) -> int:
        """What the kernel holds, less all that it was given: it has room for more only when much of that is taken."""
        return untaken(self._socket) - self.output.sent if phase is Phase.SENDING else 0
