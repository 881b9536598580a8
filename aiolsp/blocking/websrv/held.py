"""A socket that one thread at a time holds: EPOLLONESHOT, a queue of jobs, and one lock.

Book p. 157, listing 9-4 (EPOLLONESHOT); p. 301, listing 15-3 (threadpool).

Facts
    - EPOLLONESHOT takes a socket's events away as it reports one, and EPOLL_CTL_MOD gives them back, from any thread;
      what came meanwhile is reported at once. So one thread at a time has the socket, and nothing is lost.
    - The re-armed socket can be with another thread before the call that re-armed it has returned.
    - Time-outs and the server's end come from a thread that epoll did not give the socket to.
Consequence
    Re-arming must be the last thing that a holder does; and it must be possible to say: nobody has it, so it is mine.
Decision
    A flag under a lock: `take` sets it, and a turn that ends clears it, in one with the re-arming. Only who holds the
    socket closes it. The readiness loop takes it before it hands it to the pool, times it out or drains it. What a
    worker holds, the worker closes: `abort` only has it noticed.
    When the pool's queue is full, the readiness loop does a worker's work itself, but for the disk.
Price
    A lock for each turn, which nobody ever waits for longer than an epoll_ctl.

State line: watch -> (ready -> work, which lets go)* -> closed by who holds it.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
from typing import TYPE_CHECKING

from aiolsp.blocking.mechanisms.threads import QueueFull
from aiolsp.linux.epoll_flags import flag_names
from aiolsp.linux.listener import Address
from aiolsp.linux.sendfile import FileChanged
from aiolsp.linux.unsent import untaken
from aiolsp.sansio.crowd import host_of
from aiolsp.tracing import trace

if TYPE_CHECKING:
    from aiolsp.blocking.websrv.service import Service

log = logging.getLogger("aiolsp.websrv")


class HeldSocket:
    """The socket *sock* of a connection; what the connection does in a turn is for the class derived from it."""

    def __init__(self, service: Service, sock: socket.socket, peer: Address) -> None:
        self.fd = sock.fileno()
        self.peer = peer
        self.host = host_of(peer)
        self._service = service
        self._socket = sock
        self._lock = threading.Lock()
        self._held = self._cut = False

    @property
    def local(self) -> Address:
        """The server's end."""
        address: Address = self._socket.getsockname()
        return address

    # For the class derived from it to define

    @property
    def half_sent(self) -> bool:
        """Whether what is to be done now was admitted before: to refuse it would throw work away."""
        raise NotImplementedError

    def turn(self, *, busy: bool) -> None:
        """Do all that can be done without waiting for the client, then let go or close; *busy*: without the disk."""
        raise NotImplementedError

    def finish(self) -> None:
        """No answer follows: the next turn half-closes, and reads on until the client closes."""
        raise NotImplementedError

    def close(self, why: str) -> None:
        """The connection is over; whoever calls this holds it, and nobody ever does again."""
        raise NotImplementedError

    # On the thread of the readiness loop

    def watch(self) -> None:
        """Have it reported when something comes. Raises OSError for want of memory."""
        self._service.poller.register(self.fd, select.EPOLLIN | select.EPOLLONESHOT)

    def ready(self, events: int) -> None:
        """What epoll reported: a job for a worker, or for this thread if the queue is full."""
        if trace.on:
            trace.event("<", "epoll_wait", fd=self.fd, flags=flag_names(events))
        if not self.take():
            return
        pool = self._service.pool
        if trace.on:
            trace.event("=", "submit", fd=self.fd, queued=pool.queued, why="a worker thread serves it")
        try:
            (pool.resume if self.half_sent else pool.submit)(self.work)
        except QueueFull:
            self.work(busy=True)

    def abort(self) -> None:
        """Close at once, whatever is in flight; a worker that holds it does so when it comes back from the disk."""
        with self._lock:
            self._cut = True
            if self._held:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
                return
            self._held = True
        self.close("cut")

    def take(self) -> bool:
        """Hold the connection, unless a worker does."""
        with self._lock:
            taken = not self._held
            self._held = True
        return taken

    def give_back(self) -> None:
        """Let go of what was taken for a look: its event is armed as before."""
        self._held = False

    # On whichever thread holds it

    def work(self, *, busy: bool = False) -> None:
        """A job of the pool's, or with *busy* the readiness loop's: one turn, whatever it raises."""
        try:
            self.turn(busy=busy)
        except Exception as error:
            self.fail(error)

    def part(self, why: str) -> None:
        """Nothing is owed any more: close, but not so that a request on its way resets what the client still reads."""
        if untaken(self._socket):
            self.finish()
            self.work(busy=True)
        else:
            self.close(why)

    def fail(self, error: Exception) -> None:
        """The client has gone, the disk is broken, or the file is another: the answer ends here."""
        if isinstance(error, (OSError, FileChanged)):
            self.close(str(error))
        else:
            log.error("serving a connection failed", exc_info=error)
            self.close("cut")
