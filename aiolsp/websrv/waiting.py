"""How long a connection waits for its client, whatever it waits for.

Facts: whoever waits for a client must not do so for ever, and what the client owes depends on what it is to do next.
Decision: one timer, whose deadline `Patience` reckons, stands for all that the client may be slow in. Its phase says
what that is; what was written, and how much of it the client's side has taken, says how long sending may take.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from aiolsp.http1.messages import ProtocolError
from aiolsp.linux.listener import Address, format_address
from aiolsp.linux.unsent import untaken
from aiolsp.sansio.crowd import host_of
from aiolsp.sansio.timers import IdleTimer, Timer
from aiolsp.static.phases import Patience, Phase
from aiolsp.tracing import trace

if TYPE_CHECKING:
    from aiolsp.http1.parser import RequestParser
    from aiolsp.websrv.service import Service
    from aiolsp.websrv.transfer import Transfer

NO_TIMER = Timer(0.0, lambda: None)
"""Takes the place of a newcomer's timer (newcomers.py), and of a lost connection's.

The two know each other, and would be left to the garbage collector.
"""


class Waiting(asyncio.Protocol):
    """The part of a connection that knows its client, and for how long to wait for it."""

    transport: asyncio.Transport
    fd = -1
    """The socket's descriptor, for the trace only."""

    _parser: RequestParser
    _transfer: Transfer | None = None
    _timer = NO_TIMER

    def __init__(self, service: Service, sock: socket.socket, peer: Address) -> None:
        self._service = service
        self._socket = sock
        self.peer = peer
        self.host = host_of(peer)
        self._patience = Patience(service.settings.limits, service.timers.time())

    # The other parts

    @property
    def _owing(self) -> bool:
        """Whether an answer, or a part of one, is still owed to the client."""
        raise NotImplementedError

    def refuse(self, fault: ProtocolError) -> None:
        """Answer what cannot be understood, or not be served, and close."""
        raise NotImplementedError

    def _part(self) -> None:
        """Nothing is owed any more: close."""
        raise NotImplementedError

    # Time

    def watch(self) -> None:
        """It has stayed for a moment: from now on it may be timed out."""
        self._timer = IdleTimer(self._deadline(), self._timed_out, self._deadline)
        self._service.timers.add(self._timer)

    def _unwatch(self) -> None:
        """It is gone."""
        if self._timer is NO_TIMER:
            self._service.newcomers.discard(self)
        else:
            self._service.timers.cancel(self._timer)
            self._timer = NO_TIMER

    def _enter(self, phase: Phase) -> None:
        self._patience.enter(phase, self._service.timers.time(), self._untaken() if phase is Phase.SENDING else 0)
        if self._timer.active:
            deadline = self._deadline()
            if deadline < self._timer.deadline:
                self._service.timers.adjust(self._timer, deadline)

    def _deadline(self) -> float:
        left = self._untaken() if self._patience.phase is Phase.SENDING else 0
        return self._patience.deadline(self._service.timers.time(), left)

    def _untaken(self) -> int:
        """Bytes of what was written that the client's side has not taken; less what a transfer has sent by itself.

        What the kernel has is not taken yet: a client that reads nothing is not owed time for it.
        """
        sent = 0 if self._transfer is None else self._transfer.sent
        return self.transport.get_write_buffer_size() + untaken(self._socket) - sent

    def _timed_out(self) -> None:
        """The phase has lasted too long."""
        phase = self._patience.phase
        if trace.on:
            peer = format_address(self.peer)
            trace.event("-", "timed out", fd=self.fd, why=f"waited for {phase.value}", peer=peer)
        match phase:
            case Phase.HEAD | Phase.BODY:
                self._service.timers.add(self._timer)
                self.refuse(self._parser.refusal(408, f"waited too long for {phase.value}"))
            case Phase.IDLE if self._owing:  # it waits for its turn: that is no fault of the client's
                self._patience.last_activity = self._service.timers.time()
                self._service.timers.add(self._timer)
            case Phase.IDLE if not self.transport.get_write_buffer_size():
                self._service.timers.add(self._timer)
                self._part()
            case _:
                self.transport.abort()
