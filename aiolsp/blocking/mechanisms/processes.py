"""Half-sync/half-async: a pool of processes, each with a readiness loop of its own.

Book p. 289, listing 15-1: processpool<T>. The blocking twin of mechanisms/processes.py, over the same `PoolPlan`.

Facts (fork(2), tried on this kernel)
    - A parent without threads and without an event loop may fork at any time. Its child has a copy of each descriptor:
      the other children's channels, the parent's epoll, connections that were accepted and are not handed out yet.
    - A connection whose descriptor a third process holds does not end for its client.
    - Only the parent may reap, and a pidfd says when.
Consequence
    No zygote is needed, where the child closes all that was not meant for it. What a child that is killed had started
    falls to this process if it asks for it, and only if it has no other children can it tell which these are.
Decision
    The parent forks by linux/forking.py and serves nobody: one epoll for its channels, pidfds, signals and listeners.
    A child runs *serve* with an `Intake`.
Price
    A fork takes the parent's time. When the parent itself is killed, nobody is left to kill what its children had
    started; the zygote of the other shell would.

The C++ original sends the child a byte and lets it accept: when another was quicker, or the child dies, nobody rings
again for the connection that waits. It forks no child a second time.

Parent: new -> enter -> (serving | reload)* -> run -> exit. Child: *serve* -> Intake.start -> return.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aiolsp.blocking.mechanisms.acceptor import Acceptor
from aiolsp.blocking.mechanisms.epoll import EpollWatcher
from aiolsp.blocking.mechanisms.intake import Intake, Serve, live
from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.blocking.mechanisms.timers import seconds_until
from aiolsp.linux.channel import CONNECTION, DRAIN, LEAVING, READY, REFUSED, TAKEN, UNANSWERED, Channel
from aiolsp.linux.forking import fork
from aiolsp.linux.listener import Address, listen_again
from aiolsp.linux.pidfd import PidFd
from aiolsp.linux.process_control import Orphans
from aiolsp.linux.signals import STOP
from aiolsp.sansio.handing import AGAIN, Handing
from aiolsp.sansio.pool import ACCEPT, Decision, Drain, Fork, Kill, PoolPlan, State, Worker
from aiolsp.sansio.stopping import ECHO
from aiolsp.tracing import trace

log = logging.getLogger("aiolsp.processes")


@dataclass(eq=False, slots=True)
class _Child:
    """A worker's process."""

    worker: Worker
    channel: Channel
    process: PidFd


class ProcessPool:
    """*processes* children that run *serve*, at most *max_processes* at once while some drain, in *grace* seconds.

    ``with`` starts and ends it; *listeners* are its own from then on. With ``accept="reuseport"`` they must have been
    made with *reuse_port*. In a child all descriptors are closed but *shared*. With *adopt*, for a process that has no
    other children, what a child had started is killed when that child is dead. Raises ValueError for numbers or an
    *accept* that cannot be, OSError. For one thread, in a process that has no other.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        serve: Serve,
        *,
        processes: int = 8,
        max_processes: int = 16,
        accept: str = "parent",
        grace: float = 10.0,
        shared: Iterable[int] = (),
        adopt: bool = False,
    ) -> None:
        if accept not in ACCEPT:
            raise ValueError(f"accept is one of {', '.join(ACCEPT)}, not {accept}")
        self.plan = PoolPlan(processes, max_processes, grace)
        self.addresses: list[Address] = [listener.getsockname() for listener in listeners]
        self._serve = serve
        self._shared = tuple(shared)
        self._accept = accept
        self._adopt = adopt
        self._listeners = [list(listeners)]
        if accept == "reuseport":
            self._listeners += [listen_again(listeners) for _ in range(processes - 1)]

    @property
    def workers(self) -> list[Worker]:
        """The processes that live, draining ones included."""
        return list(self.plan.workers)

    @property
    def pids(self) -> dict[int, int]:
        """The process id of each slot's serving worker."""
        serving = [child for child in self._children.values() if child.worker.state is State.READY]
        return {child.worker.index: child.process.pid for child in serving}

    def __enter__(self) -> ProcessPool:
        self._orphans = Orphans() if self._adopt else None
        self._watcher = EpollWatcher()
        self._children: dict[Worker, _Child] = {}
        self._handing = Handing(self.plan, self._send, UNANSWERED)
        self._retry: float | None = None
        self._stopping = False
        self._asked = 0.0
        self._closed = False
        by_parent = self._listeners[0] if self._accept == "parent" else []
        self._acceptor = Acceptor(by_parent, self._watcher.poller, self._hand_out)
        self._follow(self.plan.start(time.monotonic()))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def serving(self) -> None:
        """Work until all processes are ready."""
        while len(self.pids) < self.plan.processes:
            self._turn()

    def run(self, signals: SelfPipe) -> None:
        """Until SIGINT or SIGTERM: reload at SIGHUP. A second of them kills what still drains.

        Raises ValueError if there is no SIGCHLD among *signals* for a pool that adopts: it would not reap what ends.
        """
        if self._adopt and signal.SIGCHLD not in signals.numbers:
            raise ValueError("SIGCHLD is not among the signals of a pool that adopts")
        self._watcher.watch(signals.fileno(), select.EPOLLIN, lambda _: self._signalled(signals))
        while not self._stopping:
            self._turn()
        self.close()

    def reload(self) -> None:
        """Begin to replace all processes one after the other; none goes before its successor serves."""
        if trace.on:
            trace.event("=", "reload", why="replace the processes one by one")
        self._follow(self.plan.reload(time.monotonic()))

    def close(self) -> None:
        """Accept no more, let all finish within the grace, kill who does not, reap all. May be called again."""
        if self._closed:
            return
        self._closed = True
        self._acceptor.finish()
        self._close_listeners()  # each child has its own copy, and takes what waits there
        end = time.monotonic() + self.plan.grace
        while self._handing.waiting and self.pids and time.monotonic() < end:
            self._turn(end)
        self._follow(self.plan.close(time.monotonic()))
        while self._children:
            self._turn()
        for connection in self._handing.waiting:
            connection.close()
        self._watcher.close()
        if self._orphans:
            self._orphans.close()

    def _signalled(self, signals: SelfPipe) -> None:
        for number in signals.receive():
            if number == signal.SIGCHLD:
                self._bury()
            elif number == signal.SIGHUP:
                self.reload()
            elif number in STOP and not self._stopping:
                self._stopping, self._asked = True, signals.came(number)
            elif number in STOP and signals.came(number) - self._asked > ECHO:
                self._follow(self.plan.kill())

    # The loop

    def _turn(self, end: float | None = None) -> None:
        timeout = seconds_until(end, self.plan.next_deadline(), self._acceptor.next_deadline(), self._retry)
        self._watcher.turn(timeout, self._acceptor)
        now = time.monotonic()
        self._acceptor.tick(now)
        self._follow(self.plan.tick(now))
        if self._retry is not None and self._retry <= now:
            self._retry = None
        self._hand_out_waiting()

    # The plan

    def _follow(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Fork(worker):
                    self._fork(worker)
                case Drain(worker):
                    self._drain(self._children[worker])
                case Kill(worker):
                    self._kill(self._children[worker])

    def _fork(self, worker: Worker) -> None:
        try:
            ours, theirs = Channel.pair()
        except OSError as error:
            self._not_forked(worker, error)
            return
        group = self._listeners[worker.index if self._accept == "reuseport" else 0]
        listeners = [] if self._accept == "parent" else group
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid = fork({theirs.fileno(), *self._shared, *(listener.fileno() for listener in listeners)})
            if pid == 0:
                live(self._serve, Intake(theirs, listeners, worker.index, worker.generation, worker.place))
            process = PidFd.of_child(pid)
        except OSError as error:
            ours.close()
            self._not_forked(worker, error)
            return
        finally:
            theirs.close()
        self._children[worker] = child = _Child(worker, ours, process)
        self._watcher.watch(ours.fileno(), select.EPOLLIN, lambda _: self._listen(child))
        self._watcher.watch(process.fileno(), select.EPOLLIN, lambda _: self._ended(child))
        if trace.on:
            trace.event("=", "fork", worker=worker.index, generation=worker.generation, pid=pid)

    def _not_forked(self, worker: Worker, error: OSError) -> None:
        log.warning("worker %d was not forked: %s", worker.index, (error.strerror or "").lower())
        self._follow(self.plan.gone(worker, time.monotonic()))

    def _drain(self, child: _Child) -> None:
        if trace.on:
            trace.event("=", "drain", pid=child.process.pid, worker=child.worker.index, why="finish, then end")
        # A full channel: it has not read for long. SIGTERM has it say that it is leaving, and then it is told.
        if not child.channel.send(DRAIN):
            child.process.send(signal.SIGTERM)

    def _kill(self, child: _Child) -> None:
        log.warning("worker %d (pid %d) had not ended: killed", child.worker.index, child.process.pid)
        child.process.send(signal.SIGKILL)

    # What the children say

    def _listen(self, child: _Child) -> bool:
        """Hear what it has said; whether it had said something."""
        heard = child.channel.receive()
        for word, _ in heard:
            self._said(child, word)
        if child.channel.ended:  # its pidfd will say so as well
            self._watcher.unwatch(child.channel.fileno())
        return bool(heard)

    def _said(self, child: _Child, word: bytes) -> None:
        now = time.monotonic()
        if word == TAKEN:
            connection = self._handing.taken(child.worker)
            if trace.on:
                trace.event("<", "taken", fd=connection.fileno(), worker=child.worker.index, why="close our copy")
            connection.close()
        elif word == REFUSED:
            self._handing.refused(child.worker, now)
            self._retry = now + AGAIN
        elif word == READY:
            if trace.on:
                trace.event("<", "ready", pid=child.process.pid, worker=child.worker.index)
            self._follow(self.plan.ready(child.worker, now))
        elif word == LEAVING:
            decisions = self.plan.leaving(child.worker, now)
            self._follow(decisions) if decisions else self._drain(child)

    def _ended(self, child: _Child) -> None:
        if trace.on:
            trace.event("<", "pidfd", pid=child.process.pid, worker=child.worker.index, why="it has ended")
        status = child.process.wait()
        assert status is not None, "a blocking wait returns a status"
        how = f"exited {status}" if status >= 0 else f"was killed by {signal.Signals(-status).name}"
        if status or not self.plan.closing:
            log.log(logging.WARNING if status else logging.INFO, "worker with pid %d %s", child.process.pid, how)
        while self._listen(child):  # to its last word
            pass
        for fd in (child.process.fileno(), child.channel.fileno()):
            self._watcher.unwatch(fd)
        child.process.close()
        child.channel.close()
        del self._children[child.worker]
        self._end_orphans()
        untaken = self._handing.gone(child.worker)
        if untaken and trace.on:
            trace.event("=", "hand over", why=f"{untaken} connections that it had not taken go to others")
        self._follow(self.plan.gone(child.worker, time.monotonic()))

    def _end_orphans(self) -> None:
        """Kill and reap what the dead child had started, and what that had."""
        while self._orphans and (killed := self._orphans.kill(self._living())):
            for pid in killed:
                os.waitpid(pid, 0)

    def _bury(self) -> None:
        if self._orphans:
            self._orphans.reap(self._living())

    def _living(self) -> set[int]:
        return {child.process.pid for child in self._children.values()}

    # Connections, when the parent accepts

    def _hand_out(self, connection: socket.socket, peer: Address) -> None:
        if not self._handing.hand_out(connection, time.monotonic()):
            self._acceptor.pause()
            if trace.on:
                trace.event("=", "pause", why="no process takes a connection: leave the next in the backlog")

    def _send(self, worker: Worker, connection: socket.socket) -> bool:
        told = self._children[worker].channel.send(CONNECTION, [connection.fileno()])
        if told and trace.on:
            trace.event(">", "sendmsg", fd=connection.fileno(), flags="SCM_RIGHTS", worker=worker.index)
        return told

    def _hand_out_waiting(self) -> None:
        self._handing.hand_out_waiting(time.monotonic())
        if not self._handing.waiting and self.pids and self._acceptor.next_deadline() is None:
            self._acceptor.start()

    def _close_listeners(self) -> None:
        for group in self._listeners:
            for listener in group:
                listener.close()
