"""Answers late by a known plan: 20 ms, and 100 ms for two of a hundred. ``python late_server.py PORT``.

Percentiles that two clients find of it must agree, for the server's share of each latency is far above any client's.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import cycle
from typing import cast

DELAYS = cycle((*[0.020] * 49, 0.100))
"""Seconds, request by request: the median is 20 ms, the 99th percentile 100 ms."""

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class LateProtocol(asyncio.Protocol):
    """Takes each piece that comes for one request, since its clients do not pipeline."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer on it later."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """The answer is due after the next delay of the plan."""
        asyncio.get_running_loop().call_later(next(DELAYS), self._transport.write, ANSWER)


async def serve(port: int) -> None:
    """Until a signal."""
    server = await asyncio.get_running_loop().create_server(LateProtocol, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
