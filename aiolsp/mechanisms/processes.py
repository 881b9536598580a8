"""Half-sync/half-async: a pool of processes, each with an event loop of its own.

Book p. 289, listing 15-1: processpool<T>.

Facts (tried on this kernel)
    - Python runs on one core of a process. A loop that is forked while it runs is shared (linux/zygote.py).
    - A connection may be accepted by the parent and sent to a child (SCM_RIGHTS), or by whichever child is quickest on
      one listener, or by the child whose SO_REUSEPORT listener the kernel chose by its hash.
    - A connection that was sent is in nobody's hands until the child has taken it; one that waits on a listener is lost
      with its last descriptor (RST), and with nothing else.
    - A process that dies tells nobody why; its pidfd tells that it has.
Consequence
    Who sends keeps a copy until the child says that it has it. Who lets children listen keeps the listeners open.
    A child that is replaced goes only when its successor serves.
Decision
    The parent serves nobody: it forks by a zygote, hands out (``accept="parent"``, the book's way) or lets accept
    (``"child"``, ``"reuseport"``), watches pidfds, and follows a `PoolPlan`. A child runs *serve* with an `Intake`.
Price (bench/accept_modes.py: 4 children, on a busy machine; latency and processor time as ratios to ``reuseport``)
    ``parent``     25 % for each child. 3 wake-ups a connection: the parent, the child, the parent for the answer; so
                   latency x 1.7, processor time x 2. No more than 64 wait for a child that is stuck.
    ``child``      0 to 50 %: who is quickest takes all that wait. 3.7 wake-ups: each connection wakes all that are
                   idle. Latency and processor time x 1, without a message.
    ``reuseport``  22 to 28 %, by the kernel's hash, whoever is busy: what waits for a stuck child waits for it alone,
                   until it or its successor serves. 1 wake-up. TCP only.

Parent: ``ProcessPool(...)`` before any loop -> ``async with`` -> (reload)* -> exit. Child: *serve* -> Intake.run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from aiolsp.linux.channel import BIRTH, CONNECTION, DRAIN, LEAVING, READY, REFUSED, TAKEN, UNANSWERED, Channel
from aiolsp.linux.listener import Address, listen_again
from aiolsp.linux.pidfd import PidFd
from aiolsp.linux.signals import STOP
from aiolsp.linux.zygote import Exited, Failed, Started, Zygote, ZygoteDied
from aiolsp.mechanisms.acceptor import Acceptor
from aiolsp.mechanisms.intake import Serve, be_child
from aiolsp.mechanisms.loop import loop_factory
from aiolsp.mechanisms.signals import SignalReceiver
from aiolsp.mechanisms.timers import SLACK
from aiolsp.sansio.handing import AGAIN, Handing
from aiolsp.sansio.pool import ACCEPT, Decision, Drain, Fork, Kill, PoolPlan, State, Worker
from aiolsp.tracing import trace

log = logging.getLogger("aiolsp.processes")

BROKEN = "the process that forks was killed: the pool ends"


class PoolFailed(ChildProcessError):
    """The zygote was killed: the pool cannot fork any more, and its children have died with it."""


@dataclass(eq=False, slots=True)
class _Child:
    """A worker's process, once it has one."""

    worker: Worker
    channel: Channel
    process: PidFd | None = None
    pid: int = 0
    doomed: bool = False


class ProcessPool:
    """*processes* children that run *serve*, at most *max_processes* at once while some drain, in *grace* seconds.

    Forks its zygote when made, which must be before any thread or loop. ``async with`` starts and ends it; who never
    gets there calls ``zygote.close``. *listeners* are its own from then on. With ``accept="reuseport"`` they must have
    been made with *reuse_port*. Raises ValueError for numbers or an *accept* that cannot be, RuntimeError beside
    threads, OSError.
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
        loop: str = "auto",
    ) -> None:
        if accept not in ACCEPT:
            raise ValueError(f"accept is one of {', '.join(ACCEPT)}, not {accept}")
        self.plan = PoolPlan(processes, max_processes, grace)
        self.addresses: list[Address] = [listener.getsockname() for listener in listeners]
        self._accept = accept
        self._listeners = [list(listeners)]
        if accept == "reuseport":
            self._listeners += [listen_again(listeners) for _ in range(processes - 1)]
        loop_factory(loop)  # imported before the fork, it need not be in each child
        held = [listener.fileno() for group in self._listeners for listener in group]
        self.zygote = Zygote(lambda payload, descriptors: be_child(serve, loop, payload, descriptors), but=held)

    @property
    def workers(self) -> list[Worker]:
        """The processes that live, draining ones included."""
        return list(self.plan.workers)

    @property
    def pids(self) -> dict[int, int]:
        """The process id of each slot's serving worker."""
        serving = [child for child in self._children.values() if child.worker.state is State.READY]
        return {child.worker.index: child.pid for child in serving}

    async def __aenter__(self) -> ProcessPool:
        self._loop = asyncio.get_running_loop()
        self._children: dict[Worker, _Child] = {}
        self._tokens: dict[int, _Child] = {}
        self._handing = Handing(self.plan, self._send, UNANSWERED)
        self._changed = asyncio.Event()
        self._broken = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._paused = True  # until somebody is ready
        self._acceptor: Acceptor | None = None
        if self._accept == "parent":
            self._acceptor = Acceptor(self._listeners[0], self._hand_out)
        self._loop.add_reader(self.zygote.fileno(), self._hear)
        self._follow(self.plan.start(self._loop.time()))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def serving(self) -> None:
        """Wait until all processes are ready. Raises PoolFailed, and RuntimeError once closed, also meanwhile."""
        while len(self.pids) < self.plan.processes:
            if self._broken.is_set():
                raise PoolFailed(BROKEN)
            if self.plan.closing:
                raise RuntimeError("the pool is closed")
            await self._change()

    async def run(self, signals: SignalReceiver) -> None:
        """Until SIGINT or SIGTERM: reload at SIGHUP. A second of them kills what still drains. Raises PoolFailed."""
        broken = asyncio.ensure_future(self._broken.wait())
        while True:
            number = asyncio.ensure_future(anext(signals))
            await asyncio.wait((number, broken), return_when=asyncio.FIRST_COMPLETED)
            if broken.done():
                number.cancel()
                raise PoolFailed(BROKEN)
            if number.result() in STOP:
                break
            self.reload()
        broken.cancel()
        closing = asyncio.ensure_future(self.close())
        again = asyncio.ensure_future(signals.again(*STOP))
        await asyncio.wait((closing, again), return_when=asyncio.FIRST_COMPLETED)
        if not closing.done():
            self._follow(self.plan.kill())
        again.cancel()
        await closing

    def reload(self) -> None:
        """Replace all processes one after the other; none goes before its successor serves."""
        if trace.on:
            trace.event("=", "reload", why="replace the processes one by one")
        self._follow(self.plan.reload(self._loop.time()))

    async def close(self) -> None:
        """Accept no more, let all finish within the grace, kill who does not, end the zygote. May be called again."""
        if self.zygote.fileno() < 0:
            return
        if self._acceptor is not None:
            await self._acceptor.finish()
        for listener in (listener for group in self._listeners for listener in group):
            listener.close()  # each child has its own copy, and takes what waits there
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.plan.grace):
                while self._handing.waiting and self.pids:
                    await self._change()
        self._follow(self.plan.close(self._loop.time()))
        while (self._children or self._tokens) and not self._broken.is_set():
            await self._change()
        self._loop.remove_reader(self.zygote.fileno())
        if self._timer is not None:
            self._timer.cancel()
        for child in list(self._children.values()):
            self._forget(child)
        for connection in self._handing.waiting:
            connection.close()
        self.zygote.close()

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
        if self._timer is not None:
            self._timer.cancel()
        deadline = self.plan.next_deadline()
        self._timer = None if deadline is None else self._loop.call_at(deadline, self._tick)
        self._changed.set()

    def _tick(self) -> None:
        self._follow(self.plan.tick(self._loop.time() + SLACK))

    def _fork(self, worker: Worker) -> None:
        group = self._listeners[worker.index if self._accept == "reuseport" else 0]
        listeners = [] if self._accept == "parent" else [listener.fileno() for listener in group]
        try:
            ours, theirs = Channel.pair()
            try:
                birth = BIRTH.pack(worker.index, worker.generation, worker.place)
                token = self.zygote.spawn(birth, [theirs.fileno(), *listeners])
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()
        except OSError as error:
            self._loop.call_soon(self._not_forked, worker, error)
            return
        except ZygoteDied:
            self._loop.call_soon(self._break)
            return
        self._children[worker] = self._tokens[token] = child = _Child(worker, ours)
        self._loop.add_reader(ours.fileno(), self._listen, child)
        if trace.on:
            trace.event("=", "fork", worker=worker.index, generation=worker.generation, why="by the zygote")

    def _not_forked(self, worker: Worker, error: OSError) -> None:
        log.warning("worker %d was not forked: %s", worker.index, (error.strerror or "").lower())
        self._lost(worker)

    def _drain(self, child: _Child) -> None:
        if trace.on:
            trace.event("=", "drain", pid=child.pid, worker=child.worker.index, why="finish what it has, then end")
        # A full channel: it has not read for long. SIGTERM has it say that it is leaving, and then it is told.
        if not child.channel.send(DRAIN):
            self._signal(child, signal.SIGTERM)

    def _kill(self, child: _Child) -> None:
        log.warning("worker %d (pid %d) had not ended: killed", child.worker.index, child.pid)
        child.doomed = True
        self._signal(child, signal.SIGKILL)

    def _signal(self, child: _Child, number: signal.Signals) -> None:
        if child.process is not None:
            with contextlib.suppress(ProcessLookupError):
                child.process.send(number)

    # What the zygote and the children say

    def _hear(self) -> None:
        try:
            for news in self.zygote.receive():
                match news:
                    case Started(token, process):
                        self._started(self._tokens[token], process)
                    case Failed(token, number):
                        child = self._tokens.pop(token)
                        self._forget(child)
                        self._not_forked(child.worker, OSError(number, os.strerror(number)))
                    case Exited(token, pid, status):
                        self._exited(self._tokens.pop(token), pid, status)
        except ZygoteDied:
            self._break()
        self._changed.set()

    def _break(self) -> None:
        """Nobody forks any more, and the children are dead or dying."""
        if not self._broken.is_set():
            self._broken.set()
            self._loop.remove_reader(self.zygote.fileno())
            self._follow(self.plan.close(self._loop.time()))

    def _started(self, child: _Child, process: PidFd) -> None:
        child.process, child.pid = process, process.pid
        self._loop.add_reader(process.fileno(), self._ended, child)
        if child.doomed:
            self._signal(child, signal.SIGKILL)

    def _exited(self, child: _Child, pid: int, status: int) -> None:
        how = f"exited {status}" if status >= 0 else f"was killed by {signal.Signals(-status).name}"
        if status or not self.plan.closing:
            log.log(logging.WARNING if status else logging.INFO, "worker with pid %d %s", pid, how)
        self._ended(child)  # if there was no descriptor for its pidfd, or this is heard first

    def _ended(self, child: _Child) -> None:
        if child.worker not in self._children:
            return
        if trace.on:
            trace.event("<", "pidfd", pid=child.pid, worker=child.worker.index, why="it has ended")
        while self._listen(child):  # to its last word
            pass
        self._forget(child)
        untaken = self._handing.gone(child.worker)
        if untaken and trace.on:
            trace.event("=", "hand over", why=f"{untaken} connections that it had not taken go to others")
        self._lost(child.worker)

    def _lost(self, worker: Worker) -> None:
        self._follow(self.plan.gone(worker, self._loop.time()))
        self._hand_out_waiting()

    def _forget(self, child: _Child) -> None:
        del self._children[child.worker]
        self._loop.remove_reader(child.channel.fileno())
        child.channel.close()
        if child.process is not None:
            self._loop.remove_reader(child.process.fileno())
            child.process.close()

    def _listen(self, child: _Child) -> bool:
        """Hear what it has said; whether it had said something."""
        heard = child.channel.receive()
        for word, _ in heard:
            self._said(child, word)
        if child.channel.ended:  # its pidfd will say so as well
            self._loop.remove_reader(child.channel.fileno())
        self._hand_out_waiting()
        return bool(heard)

    def _said(self, child: _Child, word: bytes) -> None:
        now = self._loop.time()
        if word == TAKEN:
            connection = self._handing.taken(child.worker)
            if trace.on:
                trace.event("<", "taken", fd=connection.fileno(), worker=child.worker.index, why="close our copy")
            connection.close()
        elif word == REFUSED:
            self._handing.refused(child.worker, now)
            self._loop.call_later(AGAIN, self._hand_out_waiting)
        elif word == READY:
            if trace.on:
                trace.event("<", "ready", pid=child.pid, worker=child.worker.index)
            self._follow(self.plan.ready(child.worker, now))
        elif word == LEAVING:
            decisions = self.plan.leaving(child.worker, now)
            self._follow(decisions) if decisions else self._drain(child)

    # Connections, when the parent accepts

    def _hand_out(self, connection: socket.socket, peer: Address) -> None:
        """What the acceptor asks before it makes a protocol, which happens in another process: never here."""
        family, kind, protocol = connection.family, connection.type, connection.proto
        ours = socket.socket(family, kind, protocol, fileno=connection.detach())
        if not self._handing.hand_out(ours, self._loop.time()):
            self._pause()

    def _send(self, worker: Worker, connection: socket.socket) -> bool:
        told = self._children[worker].channel.send(CONNECTION, [connection.fileno()])
        if told and trace.on:
            trace.event(">", "sendmsg", fd=connection.fileno(), flags="SCM_RIGHTS", worker=worker.index)
        return told

    def _hand_out_waiting(self) -> None:
        self._handing.hand_out_waiting(self._loop.time())
        if self._acceptor is not None and self._paused and not self._handing.waiting:
            self._paused = False
            self._acceptor.start()

    def _pause(self) -> None:
        if self._acceptor is not None and not self._paused:
            self._paused = True
            self._acceptor.pause()
            if trace.on:
                trace.event("=", "pause", why="no process takes a connection: leave the next in the backlog")

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
