"""One checked request before the load: no run against a wrong URL, a login page or a server that is not there."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

from load.client import explain, resolve, tls_context
from load.framing import Answer, AnswerFramer
from load.plan import Plan
from load.units import SECOND

SHOWN = 600
"""Bytes of a bad answer that are shown."""


@dataclass(frozen=True)
class Probe:
    """What the probe request met."""

    answer: Answer | None
    raw: bytes
    """The first bytes as they came."""
    trouble: str
    """Why no load should be sent, in a few words; empty when the answer is good."""

    def shown(self) -> list[str]:
        """The beginning of the answer, a line each, for a person."""
        text = self.raw[:SHOWN].decode("utf-8", "backslashreplace")
        more = ["..."] if len(self.raw) > SHOWN else []
        return [line.rstrip("\r") for line in text.split("\n")] + more


async def probe(plan: Plan) -> Probe:
    """Send one request of *plan* on a connection of its own and judge the answer. Raises socket.gaierror."""
    seen = bytearray()
    try:
        async with asyncio.timeout(plan.timeout / SECOND):
            answer = await _exchange(plan, seen)
    except TimeoutError:
        return Probe(None, bytes(seen), f"no whole answer within {plan.timeout / SECOND:g} s")
    except socket.gaierror:
        raise
    except OSError as error:
        return Probe(
            None, bytes(seen), f"cannot connect to {plan.target}: {explain(error)}" if not seen else explain(error)
        )
    return Probe(answer, bytes(seen), _judge(answer, plan))


async def _exchange(plan: Plan, seen: bytearray) -> Answer | None:
    reader, writer = await _connect(plan)
    framer = AnswerFramer({}, to_head=plan.method == "HEAD", keep_content=plan.expect is not None)
    try:
        writer.write(plan.request_bytes(plan.paths[0]))
        while True:
            data = await reader.read(1 << 16)
            seen += data[: SHOWN + 1 - len(seen)] if len(seen) <= SHOWN else b""
            answers = framer.feed(data) if data else [framer.feed_eof()]
            if answers:
                return answers[0]
    except ConnectionError:
        return None
    finally:
        writer.transport.abort()


async def _connect(plan: Plan) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address, tls = await resolve(plan.target), tls_context(plan)
    name = plan.target.host if tls else None
    if plan.target.unix is not None:
        return await asyncio.open_unix_connection(address, ssl=tls, server_hostname=name)
    return await asyncio.open_connection(address, plan.target.port, ssl=tls, server_hostname=name)


def _judge(answer: Answer | None, plan: Plan) -> str:
    if answer is None:
        return "the connection was closed before an answer"
    if answer.failure is not None:
        return answer.example
    if answer.status not in plan.good_statuses:
        return f"status {answer.status} (--good-status {answer.status} takes it for good)"
    if plan.expect is not None and answer.content != plan.expect:
        return f"the content ({answer.octets:,} bytes) is not the expected one ({len(plan.expect):,} bytes)"
    return ""
