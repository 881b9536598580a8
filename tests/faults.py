"""Bad input and faults that every server must survive: one function a fault, for any program on any shell.

Each takes the running *server* and *check*, a function that asserts that the server does its work for one well-behaved
peer. The check runs before the fault, where it can during it, and after it; the memory must not have grown. That the
server then stops with status 0 and without a traceback is asserted by ``Shell.server`` at the end of its block.
"""

from __future__ import annotations

import os
import random
import resource
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import TypeAlias

from harness import DEADLINE, Server, Shell

Check: TypeAlias = Callable[[Server], None]

MIB = 1 << 20
GROWTH = 16 * MIB
"""Bytes by which a server may be larger after a fault: what allocators keep of a burst, and far below a leak of it."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of 0: close sends RST instead of FIN (socket(7))."""


@contextmanager
def unharmed(server: Server, check: Check, *, growth: int = GROWTH) -> Iterator[None]:
    """The server works before and after the block, with the same process and no more memory than before."""
    check(server)
    before = server.rss()
    yield
    check(server)
    assert server.popen.poll() is None, "the server ended"
    grown = server.rss() - before
    assert grown < growth, f"the server grew by {grown / MIB:.1f} MiB"


def reset(peer: socket.socket) -> None:
    """Close with RST, as a peer does that crashed or was cut off."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    peer.close()


def resets_in_the_middle(server: Server, check: Check, *, opening: bytes = b"half a li", count: int = 20) -> None:
    """Peers that send *opening*, the beginning of something, and reset the connection; some say nothing at all."""
    with unharmed(server, check):
        for number in range(count):
            peer = server.connect()
            if number % 2:
                peer.sendall(opening)
            reset(peer)


def data_without_newline(server: Server, check: Check, *, size: int = 10 * MIB) -> None:
    """A peer that sends 10 MiB without a newline, as fast as the server takes it, and reads nothing back."""
    with unharmed(server, check):
        flood(server, [b"x" * MIB] * (size // MIB))


def binary_garbage(server: Server, check: Check, *, size: int = MIB, seed: int = 20130501) -> None:
    """Random bytes: every value, NUL included, in every order."""
    with unharmed(server, check):
        flood(server, [random.Random(seed).randbytes(size)])


def flood(server: Server, pieces: list[bytes]) -> None:
    """Send all *pieces* on one connection and reset it; a server that takes no more may end it or let it wait."""
    with server.connect() as peer:
        peer.settimeout(1.0)
        with suppress(TimeoutError, ConnectionResetError, BrokenPipeError):
            for piece in pieces:
                peer.sendall(piece)
        reset(peer)


def connections_dropped_at_once(server: Server, check: Check, *, count: int = 500) -> None:
    """Many connections opened together and dropped together, half of them by RST."""
    with unharmed(server, check):
        peers = [server.connect() for _ in range(count)]
        for number, peer in enumerate(peers):
            if number % 2:
                reset(peer)
            else:
                peer.close()


def descriptors_exhausted(server: Server, check: Check, *, count: int = 40) -> None:
    """The server has no descriptor left, connections wait in its backlog; it serves again when they return.

    The limit is lowered under the running process by prlimit(2), to a few above what it has open.
    """
    check(server)
    soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    cpu = server.cpu_seconds()
    with unharmed(server, check), ExitStack() as peers:
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (open_descriptors(server) + count // 4, hard))
        for _ in range(count):
            peers.enter_context(server.connect())
        server.stderr.wait_for("too many open files")
        peers.close()
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert server.cpu_seconds() - cpu < 5, "the server spun while it had no descriptor"


def stopped_client(server: Server, check: Check, shell: Shell, program: str) -> None:
    """The program's own client, connected and then stopped: it neither reads nor closes."""
    with unharmed(server, check), shell.client(program, server, stdin=-1) as client:
        await_connections(server, 1)
        client.send_signal(signal.SIGSTOP)
        check(server)


def stopped_server(server: Server, check: Check) -> None:
    """The server itself is stopped (SIGSTOP) and goes on: what came meanwhile is waiting in the kernel."""
    with unharmed(server, check), ThreadPoolExecutor(1) as peer:
        with stopped(server):
            before = held(server.port)
            waiting = peer.submit(check, server)
            wait_until(lambda: held(server.port) > before, "a peer that waits")
        waiting.result(DEADLINE)


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """The server takes nothing while the block runs; all that its peers do there has come when it goes on."""
    server.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: state(server.pid) == "T", "the server stopped")
        yield
    finally:
        server.send_signal(signal.SIGCONT)


def state(pid: int) -> str:
    """What the process does: R, S, D, T, Z (proc_pid_stat(5))."""
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0]


def signal_storm(server: Server, check: Check, *, number: int = signal.SIGWINCH, count: int = 10_000) -> None:
    """10,000 signals as fast as they can be sent, of a *number* that does not end the server; it answers meanwhile."""
    with unharmed(server, check):
        for sent in range(count):
            os.kill(server.pid, number)
            if sent == count // 2:
                check(server)


def open_descriptors(server: Server) -> int:
    """How many descriptors the server has open."""
    return len(os.listdir(f"/proc/{server.pid}/fd"))


def sockets_of(server: Server) -> int:
    """How many sockets the server has open, its listeners included."""
    folder = f"/proc/{server.pid}/fd"
    count = 0
    for name in os.listdir(folder):
        with suppress(FileNotFoundError):
            count += os.readlink(f"{folder}/{name}").startswith("socket:")
    return count


def await_connections(server: Server, count: int) -> None:
    """Wait until there are *count* TCP connections to the server on its side, in its backlog or out of it."""
    wait_until(lambda: held(server.port) >= count, f"{count} connections to port {server.port}")


def held(port: int) -> int:
    """TCP connections of 127.0.0.1 that whoever has the local *port* has not closed (proc_net_tcp.txt).

    ESTABLISHED, or CLOSE_WAIT: a client may have sent all that it has to say, and half-closed, before anyone looks.
    """
    local, states = f":{port:04X}", ("01", "08")
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    return sum(row[1].endswith(local) and row[3] in states for row in rows)


def wait_until(holds: Callable[[], bool], what: str, *, timeout: float = DEADLINE) -> None:
    """Wait for what no descriptor reports: state that the kernel shows in /proc. AssertionError after *timeout* s."""
    end = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < end, f"never seen: {what}"
        time.sleep(0.01)


def await_end(pid: int) -> None:
    """Wait until the process *pid* has ended, ours or not; one that nobody has reaped yet counts as ended."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([process], [], [], DEADLINE)[0], f"process {pid} still runs"
    finally:
        os.close(process)


def descendants(pid: int) -> list[int]:
    """The processes that *pid* has started, and these, and so on (proc(5))."""
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as table:
                for child in map(int, table.read().split()):
                    found += [child, *descendants(child)]
    return found


def shared_memory() -> set[str]:
    """Names in /dev/shm and System V segments that nothing will remove."""
    with open("/proc/sysvipc/shm") as table:
        rows = [line.split() for line in table][1:]
    ours = {name for name in os.listdir("/dev/shm") if name.startswith("aiolsp")}
    return ours | {row[1] for row in rows if not int(row[2], 8) & 0o1000}
