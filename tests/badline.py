"""Two hosts and a bad line between them: packets are lost, delayed, doubled and overtake each other.

Each host is a network namespace in which one thread lives (unshare(2) parts that thread alone); what is to happen there
is called there, and sockets that it opens stay there. The line is two TUN devices whose packets this process carries
over. netem(8) does the same inside the kernel, where the kernel has it.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import TypeVar

from harness import DEADLINE

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000

LOSS, DOUBLED = 0.02, 0.01
"""Shares of the packets."""

DELAY = 0.004
"""Seconds that a packet takes at the most: as each takes another time, many overtake others."""

ADDRESSES = ("10.77.0.1", "10.77.0.2")


class Host:
    """A network namespace with one end of a line; raises OSError where none may be made."""

    def __init__(self, address: str, peer: str) -> None:
        self.address = address
        self._thread = ThreadPoolExecutor(1)
        try:
            self.line = self.call(lambda: self._enter(peer))
        except BaseException:
            self._thread.shutdown()
            raise

    def call(self, function: Callable[[], T]) -> T:
        """The result of *function*, called on this host; processes that it starts live here too."""
        return self._thread.submit(function).result(2 * DEADLINE)

    def close(self) -> None:
        """Take the host away, once nobody has a socket on it any more."""
        os.close(self.line)
        self._thread.shutdown()

    def _enter(self, peer: str) -> int:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        line = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(line, TUNSETIFF, struct.pack("16sH", b"line", IFF_TUN | IFF_NO_PI))
            for words in (f"addr add {self.address} peer {peer} dev line", "link set line up", "link set lo up"):
                subprocess.run(["ip", *words.split()], check=True, capture_output=True)
        except BaseException:
            os.close(line)
            raise
        return line


def why_not() -> str:
    """Why there can be no bad line here; "" if there can."""
    if shutil.which("ip") is None:
        return "ip(8) is not installed"
    try:
        Host(*ADDRESSES).close()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no network namespace with a TUN device can be had: {error}"
    return ""


@contextmanager
def bad_line(seed: int = 20130501) -> Iterator[tuple[Host, Host]]:
    """Two hosts, until the end of the block."""
    with ExitStack() as stack:
        hosts = []
        for address, peer in (ADDRESSES, ADDRESSES[::-1]):
            hosts.append(Host(address, peer))
            stack.callback(hosts[-1].close)
        stop, stopped = os.pipe()
        seen: Counter[str] = Counter()
        carrier = threading.Thread(target=_carry, args=(hosts[0].line, hosts[1].line, stop, random.Random(seed), seen))
        carrier.start()
        try:
            yield hosts[0], hosts[1]
        finally:
            os.close(stopped)
            carrier.join(DEADLINE)
            os.close(stop)
        assert seen["lost"] and seen["doubled"] and seen["overtaken"], f"the line was not bad: {seen}"


def _carry(first: int, second: int, stop: int, chance: random.Random, seen: Counter[str]) -> None:
    other = {first: second, second: first}
    on_their_way: list[tuple[float, int, int, bytes]] = []
    number = 0
    while True:
        timeout = max(0.0, on_their_way[0][0] - time.monotonic()) if on_their_way else None
        readable, _, _ = select.select([first, second, stop], [], [], timeout)
        if stop in readable:
            return
        for line in readable:
            packet = os.read(line, 65536)
            copies = 0 if chance.random() < LOSS else 2 if chance.random() < DOUBLED else 1
            seen[("lost", "passed", "doubled")[copies]] += 1
            for _ in range(copies):
                number += 1
                due = time.monotonic() + chance.random() * DELAY
                heapq.heappush(on_their_way, (due, number, other[line], packet))
        while on_their_way and on_their_way[0][0] <= time.monotonic():
            _, mine, line, packet = heapq.heappop(on_their_way)
            seen["overtaken"] += any(earlier < mine for _, earlier, _, _ in on_their_way)
            with suppress(OSError):  # a queue that is full loses the packet as well
                os.write(line, packet)
