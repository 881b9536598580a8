"""The aiohttp client: a real HTTP client with its pool, the way an application would load a server.

Each connection is a task that takes a request, sends it and reads the whole answer. aiohttp checks the length and the
chunks; it sends a request of an idempotent method once again when its connection closes before an answer, and does not
say so: that shows in the connections that it asks its pool for.
"""

from __future__ import annotations

import asyncio
from itertools import cycle
from time import monotonic_ns
from typing import Any, Self

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from yarl import URL

from load.client import PAUSE_AFTER_REFUSAL, explain, tls_context
from load.dispatch import Dispatcher
from load.plan import Plan
from load.record import Failure, Record
from load.units import SECOND

_KINDS: tuple[tuple[type[Exception], Failure], ...] = (
    (aiohttp.ClientConnectorError, Failure.CONNECT),
    (TimeoutError, Failure.TIMEOUT),
    (aiohttp.ClientPayloadError, Failure.LENGTH),
    (aiohttp.ClientResponseError, Failure.PROTOCOL),
    (aiohttp.ClientConnectionError, Failure.RESET),
    (OSError, Failure.RESET),
    (aiohttp.ClientError, Failure.PROTOCOL),
)
"""The first that fits counts: several of aiohttp's exceptions are of more than one of these types."""


class _Counting(aiohttp.BaseConnector):
    """Counts the connections that a pool opens and is asked for; a TraceConfig would tell, for a tenth of the rate."""

    opened = 0
    asked = 0

    async def connect(self, *arguments: Any, **named: Any) -> Connection:
        self.asked += 1
        return await super().connect(*arguments, **named)

    async def _create_connection(self, *arguments: Any, **named: Any) -> ResponseHandler:
        connection = await super()._create_connection(*arguments, **named)
        self.opened += 1
        return connection


class _CountingConnector(_Counting, aiohttp.TCPConnector):
    pass


class _CountingUnixConnector(_Counting, aiohttp.UnixConnector):
    pass


class AiohttpClient:
    """A fixed number of tasks over one session."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._urls = cycle([URL(plan.target.origin + path, encoded=True) for path in plan.paths])

    async def __aenter__(self) -> Self:
        plan = self._plan
        context = tls_context(plan)
        tls = {} if context is None else {"ssl": context}
        connector: _CountingConnector | _CountingUnixConnector
        if plan.target.unix is not None:
            connector = _CountingUnixConnector(plan.target.unix, limit=plan.connections, force_close=plan.churn)
        else:
            connector = _CountingConnector(limit=plan.connections, force_close=plan.churn, ttl_dns_cache=None, **tls)  # type: ignore[arg-type]
        self._connector = connector
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=plan.timeout / SECOND),
            headers=plan.fields,
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def run(self, dispatcher: Dispatcher, record: Record) -> None:
        """See ``client.Client``."""
        self._record = record
        self._exchanges = 0
        opened, asked = self._connector.opened, self._connector.asked
        try:
            async with asyncio.TaskGroup() as lanes:
                for _ in range(self._plan.connections):
                    lanes.create_task(self._lane(dispatcher))
        finally:
            record.connections = self._connector.opened - opened
            record.repeated = self._connector.asked - asked - self._exchanges

    async def _lane(self, dispatcher: Dispatcher) -> None:
        while (intended := await dispatcher.next_start()) is not None:
            try:
                await self._exchange(intended)
            except asyncio.CancelledError:
                self._record.leave(intended)
                raise
            except (aiohttp.ClientError, OSError) as error:
                kind = next(kind for types, kind in _KINDS if isinstance(error, types))
                self._record.fail(intended, kind, explain(error))
                if kind is Failure.CONNECT:
                    await asyncio.sleep(PAUSE_AFTER_REFUSAL)

    async def _exchange(self, intended: int) -> None:
        plan = self._plan
        self._exchanges += 1
        started = monotonic_ns()
        request = self._session.request(plan.method, next(self._urls), data=plan.body or None, allow_redirects=False)
        async with request as response:
            content = await response.read()
            status = response.status
        ended = monotonic_ns()
        if plan.expect is not None and content != plan.expect and status in plan.good_statuses:
            self._record.statuses[status] += intended >= self._record.begin
            example = f"{len(content):,} bytes that are not the {len(plan.expect):,} expected"
            self._record.fail(intended, Failure.CONTENT, example)
        else:
            self._record.answer(intended, started, ended, status, len(content))
