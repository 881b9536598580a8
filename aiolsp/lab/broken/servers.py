"""The mistakes: each server takes lines from its peers, and makes one unless it is *mended*."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable

from aiolsp.lab.broken.drivers import Driver
from aiolsp.linux.listener import accept_ready, format_address
from aiolsp.tracing import trace

ANSWER = bytes(8 << 20)
"""More than the buffers of both sockets hold: tcp_wmem ends at 4 MiB, and tcp_rmem begins far below (tcp(7))."""

TIMEOUT = 0.6
"""Seconds of silence after which `TwiceTimed` closes."""

BUSY = 0.5
"""Seconds of what keeps a server from everything else."""

TICK = 0.02
"""Seconds between two looks at how late the loop is."""


class Server:
    """Accepts on *listener* and reads; a mistake overrides what is done with the data."""

    flags = select.EPOLLIN

    def __init__(self, driver: Driver, listener: socket.socket, *, mended: bool) -> None:
        self.driver = driver
        self.mended = mended
        self.peers: dict[int, socket.socket] = {}
        self._listener = listener
        driver.watch(listener.fileno(), select.EPOLLIN, self._accept)

    def connected(self, fd: int) -> None:
        """A peer has connected."""

    def received(self, fd: int, data: bytes) -> None:
        """A peer has sent something."""

    def close(self, fd: int, why: str) -> None:
        """Close a connection, unless it is closed."""
        if fd in self.peers:
            self.driver.unwatch(fd)
            self.peers.pop(fd).close()
            trace.event("x", "close", fd=fd, why=why)

    def send(self, fd: int, data: bytes, why: str = "") -> None:
        """Send a short answer."""
        if fd not in self.peers:
            return
        try:
            self.peers[fd].send(data)
        except OSError as error:
            self.close(fd, _reason(error))
            return
        trace.event(">", "send", fd=fd, size=len(data), why=why)

    def _accept(self, fd: int, events: int) -> None:
        for peer, address in accept_ready(self._listener)[0]:
            self.peers[peer.fileno()] = peer
            trace.event("<", "accept", fd=peer.fileno(), peer=format_address(address))
            self.driver.watch(peer.fileno(), self.flags, self._ready)
            self.connected(peer.fileno())

    def _ready(self, fd: int, events: int) -> None:
        if events & ~select.EPOLLOUT:
            try:
                data = self.peers[fd].recv(4096)
            except OSError as error:
                self.close(fd, _reason(error))
                return
            trace.event("<", "recv", fd=fd, size=len(data), why="" if data else "end of stream")
            if not data:
                self.close(fd, "end of stream")
                return
            self.received(fd, data)
        if events & select.EPOLLOUT:
            self.writable(fd)

    def writable(self, fd: int) -> None:
        """There is room again for what is to be sent."""


def _reason(error: OSError) -> str:
    return (error.strerror or "broken").lower()


class EagainIsAnError(Server):
    """Sends a long answer, and takes EAGAIN for an error."""

    def __init__(self, driver: Driver, listener: socket.socket, *, mended: bool) -> None:
        super().__init__(driver, listener, mended=mended)
        self._unsent: dict[int, memoryview] = {}

    def received(self, fd: int, data: bytes) -> None:
        """Send the answer."""
        self._unsent[fd] = memoryview(ANSWER)
        self.writable(fd)

    def writable(self, fd: int) -> None:
        """Send on."""
        while self._unsent[fd]:
            try:
                sent = self.peers[fd].send(self._unsent[fd])
            except BlockingIOError:
                self._full(fd)
                return
            except OSError as error:
                self.close(fd, _reason(error))
                return
            trace.event(">", "send", fd=fd, size=sent, why=f"{len(self._unsent[fd]) - sent:,} B left")
            self._unsent[fd] = self._unsent[fd][sent:]
        self.close(fd, "all sent")

    def _full(self, fd: int) -> None:
        if self.mended:
            trace.event("=", "send EAGAIN", fd=fd, why="no room now: the rest when epoll says EPOLLOUT")
            self.driver.modify(fd, select.EPOLLOUT)
        else:
            trace.event("!", "send EAGAIN", fd=fd, why="taken for an error")
            self.close(fd, f"{len(self._unsent[fd]):,} B are not sent")


class NeverArmedAgain(Server):
    """Watches with EPOLLONESHOT, and forgets to arm again."""

    flags = select.EPOLLIN | select.EPOLLONESHOT

    def received(self, fd: int, data: bytes) -> None:
        """Answer, and give the socket's events back."""
        self.send(fd, data, "the answer")
        if self.mended and fd in self.peers:
            self.driver.modify(fd, self.flags)


class TwiceTimed(Server):
    """Closes who is silent, and on activity sets a second timer beside the first."""

    def __init__(self, driver: Driver, listener: socket.socket, *, mended: bool) -> None:
        super().__init__(driver, listener, mended=mended)
        self._cancel: dict[int, Callable[[], object]] = {}

    def connected(self, fd: int) -> None:
        """Set its timer."""
        self._set(fd, "close it unless it speaks before")

    def received(self, fd: int, data: bytes) -> None:
        """It is active."""
        if self.mended:
            self._cancel[fd]()
            self._set(fd, "moved: there is one timer")
        else:
            self._set(fd, "a second timer: the first goes on")

    def _set(self, fd: int, why: str) -> None:
        trace.event("%", "set", fd=fd, due_in=f"{TIMEOUT:g}s", why=why)
        self._cancel[fd] = self.driver.call_later(TIMEOUT, lambda: self._timed_out(fd))

    def _timed_out(self, fd: int) -> None:
        trace.event("-", "idle", fd=fd, why="its timer has fired")
        self.close(fd, "silent for too long, says the timer")


class BlockingCall(Server):
    """Answers at once, or after work that blocks: on the thread of the loop."""

    def __init__(self, driver: Driver, listener: socket.socket, *, mended: bool) -> None:
        super().__init__(driver, listener, mended=mended)
        self._due = time.monotonic() + TICK
        driver.call_later(TICK, self._tick)

    def received(self, fd: int, data: bytes) -> None:
        """Work, if that is asked for, and answer."""
        if not data.startswith(b"slow"):
            self.send(fd, b"quick\n", "nothing to wait for")
        elif self.mended:
            trace.event("=", "submit", fd=fd, why="it may block: in a thread, not here")
            self.driver.in_thread(self._work, lambda: self.send(fd, b"slow\n", "the thread has done it"))
        else:
            self._work()
            self.send(fd, b"slow\n", "and everybody waited")

    def _work(self) -> None:
        with trace.span("a call that blocks"):
            time.sleep(BUSY)

    def _tick(self) -> None:
        late = time.monotonic() - self._due
        if late > BUSY / 2:
            trace.event("!", "lag", late=f"{late * 1000:+.0f}ms", why="no event was looked at in this time")
        self._due = time.monotonic() + TICK
        self.driver.call_later(TICK, self._tick)


class Children(Server):
    """Starts a child for each line, and does what its subclass does when one ends."""

    def __init__(self, driver: Driver, listener: socket.socket, *, mended: bool) -> None:
        super().__init__(driver, listener, mended=mended)
        driver.on_signal(signal.SIGCHLD, self.child_ended)

    def received(self, fd: int, data: bytes) -> None:
        """Start the children, which end one after the other."""
        for number in range(data.count(b"\n")):
            pid = os.posix_spawn("/bin/sh", ["sh", "-c", f"sleep {0.05 + number / 10:.2f}"], os.environ)
            trace.event("=", "started", pid=pid)

    def child_ended(self) -> None:
        """SIGCHLD has come."""

    def reap(self) -> bool:
        """Take the status of one child that has ended; False if there is none."""
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid:
            trace.event("<", "waitid", flags="WNOHANG", pid=pid, status=status)
        return pid != 0


class Unreaped(Children):
    """Notes that a child has ended, and leaves it."""

    def child_ended(self) -> None:
        """Take the status of each that has ended, or leave them."""
        if not self.mended:
            trace.event("!", "SIGCHLD", why="noted, and no wait for the child")
            return
        while self.reap():
            pass


class SignalCounted(Children):
    """Takes one child for each SIGCHLD, with the signal blocked meanwhile, as it is in a handler of C."""

    def child_ended(self) -> None:
        """Be busy, then take one child, or all that have ended."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        with trace.span("a busy handler"):
            time.sleep(BUSY)
        self.reap()
        while self.mended and self.reap():
            pass
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


SERVERS: dict[str, type[Server]] = {
    "eagain": EagainIsAnError,
    "unarmed": NeverArmedAgain,
    "twice": TwiceTimed,
    "blocking": BlockingCall,
    "unreaped": Unreaped,
    "counted": SignalCounted,
}
"""By the name that the command line takes."""
