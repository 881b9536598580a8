"""What an event loop does, and what is done to it: blocking calls, pools, forks, signals."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from aiolsp.lab.model import Run
from aiolsp.lab.questions.question import Figures, Question
from aiolsp.lab.runner import SHELLS, perform
from aiolsp.lab.scenarios import websrv
from aiolsp.mechanisms.loop import run

OPERATIONS = 2000
SLEEPS = 16
SLEEP = 0.01
"""Seconds that a call blocks, as a disk's seek does."""

POOL = 8
SIGNALS = 50
WATCHED = 0.2
"""Seconds to wait for a report that may not come."""


def blocked() -> Figures:
    """A quick request beside work that blocks: on the loop, and in a thread."""
    rows: Figures = []
    for scenario in websrv.LAB.broken:
        runs = [perform(websrv.LAB, scenario, shell) for shell in SHELLS]
        rows.append((scenario.title, [figure for run in runs for figure in (waited(run), late(run))]))
    return rows


def waited(run: Run) -> str:
    """How long the quick client waited."""
    return f"{websrv.waited_ms(run):.1f} ms"


def late(run: Run) -> str:
    """How late the loop's tick was."""
    lag = run.server("lag")
    return str(lag[0].args["late"]) if lag else "-"


def nothing() -> None:
    """As little work as there is."""


def stat() -> None:
    """A system call that does not block, since the kernel has the answer."""
    os.stat(".")


def block() -> None:
    """A system call that does."""
    time.sleep(SLEEP)


def each_asyncio(job: Callable[[], None], times: int, *, pool: bool) -> float:
    """Seconds for *times* jobs at once on a loop, or in a pool behind it."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(POOL) as threads:
            await loop.run_in_executor(threads, nothing)
            begun = time.perf_counter()
            if pool:
                await asyncio.gather(*(loop.run_in_executor(threads, job) for _ in range(times)))
            else:
                for _ in range(times):
                    job()
            return time.perf_counter() - begun

    return run(main())


def each_blocking(job: Callable[[], None], times: int, *, pool: bool) -> float:
    """Seconds for *times* jobs on one thread, or in a pool."""
    with ThreadPoolExecutor(POOL) as threads:
        threads.submit(nothing).result()
        begun = time.perf_counter()
        if pool:
            for future in [threads.submit(job) for _ in range(times)]:
                future.result()
        else:
            for _ in range(times):
                job()
        return time.perf_counter() - begun


def pools() -> Figures:
    """Work that blocks and work that does not, with and without a pool."""
    rows: Figures = []
    for label, job, times in (("stat(2) of a known file", stat, OPERATIONS), ("10 ms in the kernel", block, SLEEPS)):
        for pool in (False, True):
            where = f"by a pool of {POOL}" if pool else "on one thread"
            figures = [way(job, times, pool=pool) / times * 1e6 for way in (each_asyncio, each_blocking)]
            rows.append((f"{label}, {where}", [f"{figure:,.1f} us" for figure in figures]))
    return rows


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets that do not block."""
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        yield ours, peer


def in_child(job: Callable[[], object]) -> None:
    """Fork, run *job* in the child, and wait for its end."""
    pid = os.fork()
    if pid == 0:
        try:
            job()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def forked_asyncio(job: Callable[[asyncio.AbstractEventLoop, int], object]) -> str:
    """Whether a loop still reports a socket after a child has done *job* with its copy of the loop."""

    async def main() -> str:
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        with pair() as (ours, peer):
            loop.add_reader(ours.fileno(), told.set)
            in_child(lambda: job(loop, ours.fileno()))
            peer.send(b"x")
            try:
                async with asyncio.timeout(WATCHED):
                    await told.wait()
            except TimeoutError:
                return "not told"
            finally:
                loop.remove_reader(ours.fileno())
        return "told"

    return run(main(), loop="asyncio")


def forked_blocking(job: Callable[[select.epoll, int], object]) -> str:
    """The same with a bare epoll."""
    with pair() as (ours, peer), select.epoll() as epoll:
        epoll.register(ours, select.EPOLLIN)
        in_child(lambda: job(epoll, ours.fileno()))
        peer.send(b"x")
        return "told" if epoll.poll(WATCHED) else "not told"


def forks() -> Figures:
    """What a child does to the loop of its parent."""
    return [
        ("the child leaves by _exit", (forked_asyncio(lambda *_: None), forked_blocking(lambda *_: None))),
        (
            "the child removes the socket from its copy",
            (
                forked_asyncio(lambda loop, fd: loop.remove_reader(fd)),
                forked_blocking(lambda epoll, fd: epoll.unregister(fd)),
            ),
        ),
    ]


def one_by_one() -> None:
    """Signals that each come when the last has been taken."""
    for _ in range(SIGNALS):
        os.kill(os.getpid(), signal.SIGUSR1)


def while_blocked() -> None:
    """Signals that come while none can be taken."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    one_by_one()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})


def signals_asyncio(send: Callable[[], None]) -> tuple[str, str]:
    """How often a loop calls its handler, and where the number of a signal is written to."""
    told: list[int] = []

    async def main() -> str:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, told.append, 1)
        fd = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
        send()
        await asyncio.sleep(WATCHED)
        loop.remove_signal_handler(signal.SIGUSR1)
        return os.readlink(f"/proc/self/fd/{fd}").partition(":")[0]

    return run(main(), loop="asyncio"), f"{len(told)}"


def signals_blocking(send: Callable[[], None]) -> tuple[str, str]:
    """The same by hand: bytes in a self-pipe."""
    with pair() as (ours, peer):
        peer.setblocking(False)
        before = signal.set_wakeup_fd(peer.fileno(), warn_on_full_buffer=False)
        handler = signal.signal(signal.SIGUSR1, lambda number, frame: None)
        try:
            send()
        finally:
            signal.set_wakeup_fd(before)
            signal.signal(signal.SIGUSR1, handler)
        return "socket", f"{len(ours.recv(10 * SIGNALS))}"


def signals() -> Figures:
    """Signals one by one, and while blocked."""
    return [
        (f"{SIGNALS} signals, {name}", (*signals_asyncio(send), *signals_blocking(send)))
        for name, send in (("one by one", one_by_one), ("while it is blocked", while_blocked))
    ]


QUESTIONS = (
    Question(
        "block",
        "Why does my reactor block?",
        ("asyncio: quick waited", "loop late", "blocking: quick waited", "loop late"),
        blocked,
        "Because something it called did: a reactor looks at the next event when the callback of the last has "
        "returned, and no sooner. A disk, a resolver, a lock, a long computation or a worker that is waited for "
        "all do that, in asyncio as under a bare epoll. Hand it to a thread or a process and let its end be one "
        "more event.",
    ),
    Question(
        "pool",
        "When is a thread pool behind a loop worth it?",
        ("asyncio: each", "blocking: each"),
        pools,
        "When the call may block: then the others go on, and as many blocked calls as there are threads wait at "
        "one time. For a call that does not block it costs two changes of thread, many times what the call itself "
        "takes. Python's lock lets only one thread compute, so that a pool of threads does not speed up what "
        "keeps the processor busy.",
    ),
    Question(
        "fork",
        "May a program fork while its event loop runs?",
        ("asyncio", "blocking"),
        forks,
        "Only to leave by exec or _exit at once: the child's epoll is not a copy but the same one, so what the "
        "child removes there its parent is no longer told of. The child also holds every connection open, and any "
        "lock that another thread had. Fork before the loop, or ask a process that was forked before it and does "
        "nothing else.",
    ),
    Question(
        "signal",
        "What does loop.add_signal_handler do?",
        ("asyncio: woken by a", "told", "blocking: woken by a", "told"),
        signals,
        "It has the number written into a socket that the loop watches (signal.set_wakeup_fd), the book's self-"
        "pipe: the handler runs later, as a callback among others, and may do anything. While a signal is blocked "
        "the kernel keeps one bit of it, however often it comes. So a signal says that something happened, never "
        "how often.",
    ),
)
