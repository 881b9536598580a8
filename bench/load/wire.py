"""The wire client: ready requests out, framed answers in, nothing between; for servers that outrun a full HTTP client.

Each connection is a lane: one protocol object that lives for the whole run and is used by one transport after another.
The hot path is ``data_received``: frame, record, take the next request, write; no task, no future, and no clock but one
reading.

Calling sequence: open? -> (run: [due -> connect -> connection_made -> [data_received | wake]* -> connection_lost]*)* ->
abort. A connection that is idle at the end of a run is kept for the next one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic_ns
from typing import Self, cast

from load.client import PAUSE_AFTER_REFUSAL, explain, resolve, tls_context
from load.dispatch import Dispatcher
from load.framing import Answer, AnswerFramer, Head
from load.plan import Plan
from load.record import Failure, Record
from load.units import SECOND

TIMEOUT_CHECKS = 20
"""Looks at each connection's oldest request per time-out: a timer for each would cost more than the request."""

OPENING_AT_ONCE = 64
"""Connections opened together; below the usual listen backlog of 128, so that none waits for a second SYN."""

Sent = tuple[int, int, bytes, bool]
"""A request under way: intended start, start, its bytes, whether it has been sent before."""


class WireClient:
    """A fixed number of lanes over one target."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.requests = plan.requests()
        self.known_heads: dict[bytes, Head] = {}
        self._tls = tls_context(plan)

    async def __aenter__(self) -> Self:
        self._address = await resolve(self.plan.target)
        self._lanes = [WireLane(self) for _ in range(self.plan.connections)]
        if not self.plan.churn:
            for first in range(0, len(self._lanes), OPENING_AT_ONCE):
                await asyncio.gather(*(lane.open() for lane in self._lanes[first : first + OPENING_AT_ONCE]))
        return self

    async def __aexit__(self, *_: object) -> None:
        for lane in self._lanes:
            lane.abort()
        # Transports close on the next turn of the loop, TLS ones on the one after.
        await asyncio.sleep(0)

    async def run(self, dispatcher: Dispatcher, record: Record) -> None:
        """See ``client.Client``."""
        checking = asyncio.create_task(self._check_timeouts())
        try:
            async with asyncio.TaskGroup() as lanes:
                for lane in self._lanes:
                    lanes.create_task(lane.run(dispatcher, record))
        finally:
            checking.cancel()
            for lane in self._lanes:
                lane.cut()

    async def _check_timeouts(self) -> None:
        while True:
            await asyncio.sleep(self.plan.timeout / TIMEOUT_CHECKS / SECOND)
            oldest = monotonic_ns() - self.plan.timeout
            for lane in self._lanes:
                lane.check_timeout(oldest)

    async def connect(self, lane: WireLane) -> None:
        """Connect *lane*. Raises OSError (ssl.SSLError and TimeoutError are such)."""
        loop = asyncio.get_running_loop()
        target = self.plan.target
        name = target.host if self._tls else None
        async with asyncio.timeout(self.plan.timeout / SECOND):
            if target.unix is not None:
                await loop.create_unix_connection(lambda: lane, self._address, ssl=self._tls, server_hostname=name)
            else:
                await loop.create_connection(
                    lambda: lane, self._address, target.port, ssl=self._tls, server_hostname=name
                )


class WireLane(asyncio.Protocol):
    """One connection's worth of load."""

    def __init__(self, client: WireClient) -> None:
        # Run
        self._client = client
        self._plan = client.plan
        self._requests = client.requests
        self._depth = client.plan.pipeline
        self._parked = False
        self._woken: asyncio.Future[None] | None = None
        self._waiting: deque[Sent] = deque()
        """Requests to be sent as soon as there is a connection."""
        # Connection
        self._transport: asyncio.Transport | None = None
        self._uncounted = False
        """Opened before the first run."""
        self._in_flight: deque[Sent] = deque()
        self._answered = 0
        self._framer = self._new_framer()

    def _new_framer(self) -> AnswerFramer:
        plan = self._plan
        return AnswerFramer(
            self._client.known_heads, to_head=plan.method == "HEAD", keep_content=plan.expect is not None
        )

    async def open(self) -> None:
        """Connect before the run; a failure shows when the lane tries again within it."""
        try:
            await self._client.connect(self)
            self._uncounted = True
        except OSError:
            self._transport = None

    async def run(self, dispatcher: Dispatcher, record: Record) -> None:
        """Send and receive until the run is over."""
        self._dispatcher = dispatcher
        self._take = dispatcher.take
        self._record = record
        record.connections += self._uncounted
        self._uncounted = False
        while True:
            if self._transport is None:
                if not self._waiting and not await self._due():
                    return
                if not await self._connected():
                    continue
            self._released = asyncio.get_running_loop().create_future()
            self._send_waiting()
            await self._released
            if self._transport is not None:
                return

    async def _due(self) -> bool:
        """Wait for a request that may be sent; False when the run is over."""
        self._woken = asyncio.get_running_loop().create_future()
        if not self._parked:
            now = monotonic_ns()
            intended = self._take(now)
            if intended is not None:
                self._waiting.append((intended, now, next(self._requests), False))
                return True
            self._park()
        await self._woken
        return bool(self._waiting)

    async def _connected(self) -> bool:
        try:
            await self._client.connect(self)
        except OSError as error:
            kind = Failure.TIMEOUT if isinstance(error, TimeoutError) else Failure.CONNECT
            while self._waiting:
                self._record.fail(self._waiting.popleft()[0], kind, explain(error))
            await asyncio.sleep(PAUSE_AFTER_REFUSAL)
            return False
        self._record.connections += 1
        return True

    # Protocol interface

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A new connection: nothing of the old one is left."""
        self._transport = cast(asyncio.Transport, transport)
        self._framer = self._new_framer()
        self._answered = 0

    def data_received(self, data: bytes) -> None:
        """Frame, record, send the next."""
        now = monotonic_ns()
        answers = self._framer.feed(data)
        if not answers:
            return
        in_flight = self._in_flight
        if len(answers) > len(in_flight) or (len(answers) == len(in_flight) and self._framer.surplus):
            answers = self._with_surplus(answers[: len(in_flight)])
            if not answers:
                return
        for answer in answers:
            intended, started, _, _ = in_flight.popleft()
            self._settle(answer, intended, started, now)
        if answer.last or self._plan.churn:
            self._close()
        else:
            self._fill(now)

    def connection_lost(self, error: Exception | None) -> None:
        """Settle what was under way; ``run`` goes on with a new connection."""
        self._transport = None
        if not hasattr(self, "_released"):
            return
        end = self._framer.feed_eof() if error is None else None
        if end is not None and self._in_flight:
            intended, started, _, _ = self._in_flight.popleft()
            self._settle(end, intended, started, monotonic_ns())
        untouched = self._framer.between
        while self._in_flight:
            intended, started, request, repeated = self._in_flight.popleft()
            if untouched and self._answered and not repeated and self._plan.may_repeat:
                self._record.repeated += 1
                self._waiting.append((intended, started, request, True))
            else:
                example = "closed before the answer" if error is None else explain(error)
                self._record.fail(intended, Failure.RESET, example)
        self._release()

    def _release(self) -> None:
        """Let ``run`` go on: the connection is lost, or idle after the end of the run."""
        if not self._released.done():
            self._released.set_result(None)

    # Sending

    def _send_waiting(self) -> None:
        if self._transport is None:
            self._release()
            return
        if self._waiting:
            self._in_flight.extend(self._waiting)
            self._transport.write(b"".join(request for _, _, request, _ in self._waiting))
            self._waiting.clear()
        if not self._plan.churn:
            self._fill(monotonic_ns())

    def _fill(self, now: int) -> None:
        in_flight = self._in_flight
        batch = b""
        while len(in_flight) < self._depth:
            intended = self._take(now)
            if intended is None:
                if not self._parked:
                    self._park()
                break
            request = next(self._requests)
            in_flight.append((intended, now, request, False))
            batch = batch + request if batch else request
        if batch and self._transport is not None:
            self._transport.write(batch)

    def _park(self) -> None:
        self._parked = True
        self._dispatcher.park(self._wake)

    def _wake(self, intended: int | None) -> None:
        self._parked = False
        if intended is not None:
            sent = (intended, monotonic_ns(), next(self._requests), False)
            if self._transport is None or self._transport.is_closing():
                self._waiting.append(sent)
            else:
                self._in_flight.append(sent)
                self._transport.write(sent[2])
                self._fill(sent[1])
        elif not self._in_flight and self._transport is not None and not self._transport.is_closing():
            self._release()
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    # Receiving

    def _settle(self, answer: Answer, intended: int, started: int, now: int) -> None:
        self._answered += 1
        expect = self._plan.expect
        if answer.failure is not None:
            self._record.fail(intended, answer.failure, answer.example)
        elif expect is not None and answer.content != expect and answer.status in self._plan.good_statuses:
            self._record.statuses[answer.status] += intended >= self._record.begin
            self._record.fail(
                intended, Failure.CONTENT, f"{answer.octets:,} bytes that are not the {len(expect):,} expected"
            )
        else:
            self._record.answer(intended, started, now, answer.status, answer.octets)

    def _with_surplus(self, answers: list[Answer]) -> list[Answer]:
        # Nobody asked for more than these: the last one was longer than it said, or the server talks on its own.
        if not answers:
            self.abort()
        return [*answers[:-1], Answer(0, 0, True, Failure.LENGTH, "more bytes than announced")] if answers else []

    # Ending

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection, if there is one."""
        if self._transport is not None:
            self._transport.abort()

    def cut(self) -> None:
        """The run has ended: nothing is under way any more."""
        for intended, _, _, _ in (*self._in_flight, *self._waiting):
            self._record.leave(intended)
        if self._in_flight:
            # Its answers would be taken for those of the next run.
            self.abort()
        self._in_flight.clear()
        self._waiting.clear()

    def check_timeout(self, oldest: int) -> None:
        """Give up a connection whose first request was sent before *oldest*: late answers could not be told apart."""
        if self._in_flight and self._in_flight[0][1] < oldest and self._transport is not None:
            while self._in_flight:
                self._record.fail(self._in_flight.popleft()[0], Failure.TIMEOUT, "no whole answer in time")
            self.abort()
