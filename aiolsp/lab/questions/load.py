"""Why load generators disagree: the same server, the same file, asked in their different ways. Book p. 329."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable

from aiolsp.lab.actors import PATIENCE
from aiolsp.lab.model import Shell
from aiolsp.lab.questions.question import Figures, Question
from aiolsp.lab.runner import SHELLS
from aiolsp.lab.scenarios import websrv
from aiolsp.lab.stage import Address, Stage
from aiolsp.linux.scratch import scratch

SECONDS = 0.4
"""Of each way to ask."""

CONNECTIONS = 10
HTTP_1_0 = b"GET /small.txt HTTP/1.0\r\nHost: lab\r\n\r\n"
HTTP_1_1 = b"GET /small.txt HTTP/1.1\r\nHost: lab\r\n\r\n"


def connect(address: Address) -> socket.socket:
    """A connection to the server."""
    return socket.create_connection(address, PATIENCE)


def afresh(address: Address) -> int:
    """A connection for each request, read to its end, as webbench does, and ab without ``-k``."""
    with connect(address) as client:
        client.sendall(HTTP_1_0)
        while client.recv(1 << 16):
            pass
    return 1


class Kept:
    """Connections that are kept: *batch* requests at once on each of *count* of them, then all answers."""

    def __init__(self, address: Address, count: int, batch: int) -> None:
        self._clients = [connect(address) for _ in range(count)]
        self._batch = batch
        self._clients[0].sendall(HTTP_1_1)
        self._size = len(self._clients[0].recv(1 << 16))

    def __call__(self, address: Address) -> int:
        """Ask once on each; how many answers came."""
        for client in self._clients:
            client.sendall(HTTP_1_1 * self._batch)
        for client in self._clients:
            left = self._size * self._batch
            while left > 0:
                left -= len(client.recv(1 << 16))
        return len(self._clients) * self._batch

    def close(self) -> None:
        """Close all."""
        for client in self._clients:
            client.close()


def rate(ask: Callable[[Address], int], address: Address) -> str:
    """Answers per second."""
    answers, begun = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begun) < SECONDS:
        answers += ask(address)
    return f"{answers / elapsed:,.0f}/s"


def rates(shell: Shell) -> list[str]:
    """Of every way to ask, before the web server of *shell*."""
    [scenario] = websrv.LAB.shown
    with scratch("aiolsp-lab-") as home:
        scenario.prepare(home)
        with Stage([sys.executable, *scenario.command(shell, home)], home, traced=False) as stage:
            found = [rate(afresh, stage.address)]
            for count, batch in ((1, 1), (CONNECTIONS, 1), (1, CONNECTIONS)):
                kept = Kept(stage.address, count, batch)
                found.append(rate(kept, stage.address))
                kept.close()
    return found


def measure() -> Figures:
    """Every way to ask, in both shells."""
    ways = (
        "a connection for each request (webbench, ab)",
        "one kept connection, one request at a time (ab -k)",
        f"{CONNECTIONS} kept connections (wrk -c {CONNECTIONS})",
        f"one kept connection, {CONNECTIONS} requests at once (pipelined)",
    )
    return list(zip(ways, zip(*map(rates, SHELLS), strict=True), strict=True))


QUESTIONS = (
    Question(
        "bench",
        "Why do webbench, ab and wrk disagree?",
        SHELLS,
        measure,
        "They ask different things: webbench, and ab without -k, pay for a new connection with each request, wrk "
        "and ab -k do not, and one that waits for each answer measures the round trip rather than the server. "
        "They also differ in what they count (webbench: bytes that came, whatever they say) and in how much they "
        "can send themselves. So compare by ratio, one tool, one machine, one run, and see that the generator was "
        "not the one at its limit.",
    ),
)
