"""The client: the third axis of a run, and what both kinds of client share."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import Protocol, Self

from load.dispatch import Dispatcher
from load.plan import Plan, Target
from load.record import Record

PAUSE_AFTER_REFUSAL = 0.05
"""Seconds a lane rests after a failed connection, so that a server that is gone is not asked 20,000 times a second."""


ADDRESS_PATIENCE = 1.0
"""Seconds for each of several addresses of a name, before the next one is tried."""


class Client(Protocol):
    """Sends the requests that a dispatcher hands out over a fixed number of connections and records the answers."""

    async def __aenter__(self) -> Self:
        """Make ready; a keep-alive client that can opens its connections here, outside the figures."""

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""

    async def run(self, dispatcher: Dispatcher, record: Record) -> None:
        """Work until the run is over and everything sent is answered or timed out; cancelled, count the rest as cut."""


def tls_context(plan: Plan) -> ssl.SSLContext | None:
    """The TLS settings of the plan; None for plain http."""
    if plan.target.scheme != "https":
        return None
    context = ssl.create_default_context()
    if not plan.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def resolve(target: Target) -> str:
    """The address to connect to, found once, so that no look-up is in the figures. Raises socket.gaierror.

    The first that can be connected to, if a name has several: ``localhost`` is often ::1 before 127.0.0.1.
    """
    if target.unix is not None:
        return target.unix
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    *others, last = dict.fromkeys(str(entry[4][0]) for entry in found)
    for address in others:
        with suppress(OSError):
            async with asyncio.timeout(ADDRESS_PATIENCE):
                _, writer = await asyncio.open_connection(address, target.port)
            writer.transport.abort()
            return address
    return last


def explain(error: BaseException) -> str:
    """An exception as a few words for a person."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
